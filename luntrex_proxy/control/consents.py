"""Consents of an account: its owner gives and withdraws them; who may read them sees the whole history."""

from collections.abc import Collection
from datetime import datetime

from luntrex_proxy.control.accounts import get
from luntrex_proxy.core.consents import Purpose, text_of, version_of
from luntrex_proxy.store import consents as table
from luntrex_proxy.store.consents import Consent
from luntrex_proxy.store.database import Pool

__all__ = ["Consent", "Purpose", "give", "history", "member_requests_since", "text_of", "version_of", "withdraw"]


async def history(pool: Pool, account_id: int) -> list[Consent]:
    """Everything the account agreed to and withdrew, the newest first."""
    return await table.history(pool, (await get(pool, account_id)).account_id)


async def member_requests_since(pool: Pool, account_ids: Collection[int]) -> dict[int, datetime]:
    """Since when owners see members' single requests, of each of the accounts where they do. For all members."""
    return await table.since(pool, account_ids, Purpose.MEMBER_REQUESTS)


async def give(pool: Pool, account_id: int, purpose: Purpose) -> Consent:
    """Agree to the present text."""
    return await table.give(pool, (await get(pool, account_id)).name, purpose)


async def withdraw(pool: Pool, account_id: int, purpose: Purpose) -> Consent:
    """Take it back, everywhere within a second."""
    return await table.withdraw(pool, (await get(pool, account_id)).name, purpose)
