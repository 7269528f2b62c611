"""Labels that an account declares, and what its keys carry. Whoever changes keys of others changes labels."""

import datetime
from collections.abc import Collection, Mapping

from luntrex_proxy.control import accounts
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.store import apikeys
from luntrex_proxy.store import labels as table
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.keyrows import KeyInfo
from luntrex_proxy.store.labels import Declaration

__all__ = ["Declaration", "declare", "list_declared", "of_key", "remove"]


async def list_declared(pool: Pool, account_id: int) -> list[Declaration]:
    """The labels of the account."""
    return await table.list_declared(pool, (await accounts.get(pool, account_id)).account_id)


async def declare(pool: Pool, account_id: int, name: str, values: Collection[str] | None) -> Declaration:
    """Let keys of the account carry a label, with one of these values; None: any."""
    return await table.declare(pool, (await accounts.get(pool, account_id)).name, name, values)


async def remove(pool: Pool, account_id: int, name: str) -> None:
    """Take a label back that no key carries."""
    account = await accounts.get(pool, account_id)
    if name not in {each.name for each in await table.list_declared(pool, account_id)}:
        raise NotFoundError
    await table.remove(pool, account.name, name)


async def of_key(
    pool: Pool, account_id: int, key_id: str, labels: Mapping[str, str | None], since: datetime.date | None
) -> KeyInfo:
    """Give a key of the account labels from a day on; None takes one away."""
    if await apikeys.find(pool, account_id, key_id) is None:
        raise NotFoundError
    return await table.of_key(pool, key_id, labels, since=since)
