"""What is kept, since when, and whether what is too old goes: to be shown to who runs the installation."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from luntrex_proxy.store import aging, idle, keeping
from luntrex_proxy.store import retention as table
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.idle import Idle
from luntrex_proxy.store.retention import Kept


@dataclass(frozen=True, slots=True)
class Retention:
    """How it stands. `oldest`: by class, when the time of its oldest row began."""

    kept: Kept
    oldest: Mapping[str, datetime]
    succeeded_at: datetime | None  # when a run was whole last; None: never
    idle: list[Idle]


async def look(pool: Pool, now: datetime, days: Mapping[str, int], idle_days: int) -> Retention:
    """How it stands now. `days`: of each class; `idle_days`: without use until an account counts as idle."""
    oldest = await aging.oldest(pool)
    return Retention(
        await table.kept(pool),
        {name: at for name, at in oldest.items() if name in days},
        await keeping.succeeded_at(pool),
        await idle.listed(pool, now, idle_days),
    )
