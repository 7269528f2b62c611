"""The legal clocks that run now, and when the next of each is due: rights, incidents, erasures of children."""

from datetime import datetime

from luntrex_proxy.core.deadlines import nearest
from luntrex_proxy.store import childreports, incidents, rights
from luntrex_proxy.store.database import Pool

__all__ = ["next_due"]


async def next_due(pool: Pool) -> dict[str, datetime]:
    """By clock: gdpr, ccpa, lgpd, decision, authority, child_erasure; those that run nowhere are left out."""
    return nearest(
        [
            *await rights.open_clocks(pool, only_first=True),
            *await incidents.open_clocks(pool),
            *await childreports.open_clocks(pool),
        ]
    )
