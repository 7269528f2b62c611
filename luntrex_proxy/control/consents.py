"""Consents of an account: its owner gives and withdraws them; who may read them sees the whole history."""

from luntrex_proxy.control.accounts import get
from luntrex_proxy.core.consents import Purpose, text_of, version_of
from luntrex_proxy.store import consents as table
from luntrex_proxy.store.consents import Consent
from luntrex_proxy.store.database import Pool

__all__ = ["Consent", "Purpose", "give", "history", "text_of", "version_of", "withdraw"]


async def history(pool: Pool, account_id: int) -> list[Consent]:
    """Everything the account agreed to and withdrew, the newest first."""
    return await table.history(pool, (await get(pool, account_id)).account_id)


async def give(pool: Pool, account_id: int, purpose: Purpose) -> Consent:
    """Agree to the present text."""
    return await table.give(pool, (await get(pool, account_id)).name, purpose)


async def withdraw(pool: Pool, account_id: int, purpose: Purpose) -> Consent:
    """Take it back, everywhere within a second."""
    return await table.withdraw(pool, (await get(pool, account_id)).name, purpose)
