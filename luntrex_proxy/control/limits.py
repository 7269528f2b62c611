"""Limits of an account and its keys: the account's own are the operator's to set, those of its keys the account's."""

from luntrex_proxy.control import accounts
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.core.limits import Amounts, Terms
from luntrex_proxy.store import apikeys
from luntrex_proxy.store import limits as table
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.limits import Limited, Used

__all__ = ["Limited", "Terms", "Used", "list_all", "set_of_account", "set_of_key", "used"]
used = table.used


async def list_all(pool: Pool, account_id: int) -> list[Limited]:
    """The limits of the account and of its keys."""
    return await table.list_all(pool, (await accounts.get(pool, account_id)).account_id)


async def set_of_account(
    pool: Pool, account_id: int, model: str, amounts: Amounts, when_away: str | None = None
) -> Terms:
    """Have exactly these limits of the account for a model ("": any); all its limits afterwards."""
    account = await accounts.get(pool, account_id)
    return await table.of_account(pool, account.name, model, amounts, cleared=None, when_away=when_away)


async def set_of_key(
    pool: Pool, account_id: int, key_id: str, model: str, amounts: Amounts, when_away: str | None = None
) -> Terms:
    """Have exactly these limits of a key of the account for a model ("": any); all its limits afterwards."""
    if await apikeys.find(pool, account_id, key_id) is None:
        raise NotFoundError
    return await table.of_key(pool, key_id, model, amounts, cleared=None, when_away=when_away)
