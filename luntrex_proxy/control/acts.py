"""How an act of a person begins, whether it is done once, and how it can fail: what every subject here shares."""

from contextlib import AbstractContextManager

from luntrex_proxy.store import audit
from luntrex_proxy.store.audit import Actor
from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.errors import ChangedError, RefusedError, StoreError, StoreUnavailableError
from luntrex_proxy.store.once import MadeAlreadyError, Once, ReusedKeyError, only_once

__all__ = [
    "ChangedError",
    "MadeAlreadyError",
    "Once",
    "RefusedError",
    "ReusedKeyError",
    "StoreError",
    "StoreUnavailableError",
    "acting_as",
    "only_once",
    "record",
    "record_read",
]
record = audit.record  # for what changes no table of its own


def acting_as(way: str) -> AbstractContextManager[None]:
    """Acts recorded inside the block are this person's (`Person.way`)."""
    return audit.acting_as(Actor(way))


async def record_read(pool: Pool, what: str, account_id: int | None = None, person_id: str | None = None) -> None:
    """Somebody who is no member looks at what an account has, or all of them, or at a person."""
    with store_errors("record the act"):
        async with pool.acquire() as connection, connection.transaction():
            facts = {} if person_id is None else {"person": person_id}
            await audit.record(connection, "operator.read", what, account_id, facts)
