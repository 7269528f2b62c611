"""The table `made_once`: a creation asked for twice with one Idempotency-Key makes one thing. No secret is kept.

Whether a creation is to be made once is said where the request begins (`only_once`); whatever creates something asks
in its own transaction, so that the thing and its row are there together or not at all.

    async with pool.acquire() as connection, connection.transaction(), claimed(connection) as claim:
        ...
        claim.object_id = key_id
"""

import contextlib
import contextvars
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from luntrex_proxy.store.database import Connection
from luntrex_proxy.store.errors import StoreError


class MadeAlreadyError(StoreError):
    """The same request was carried out before."""

    def __init__(self, object_id: str) -> None:
        super().__init__("This was made already, by the same request.")
        self.object_id = object_id


class ReusedKeyError(StoreError):
    """The Idempotency-Key came with another request before."""


@dataclass(frozen=True, slots=True)
class Once:
    """Whose request it is, and the hashes of its Idempotency-Key and of itself."""

    person_id: str
    key_hash: bytes
    request_hash: bytes


@dataclass(slots=True)
class Claim:
    """Set to the id of what was made before the transaction ends."""

    object_id: str = ""


_once: contextvars.ContextVar[Once | None] = contextvars.ContextVar("once", default=None)
# A second request with the key waits here for the end of the first one's transaction. Old rows count as gone.
_CLAIM = """
INSERT INTO made_once AS old (person_id, key_hash, request_hash) VALUES ($1, $2, $3)
ON CONFLICT (person_id, key_hash) DO UPDATE SET request_hash = $3, object_id = NULL, created_at = now()
    WHERE old.created_at < now() - interval '24 hours'
RETURNING true
"""


@contextlib.contextmanager
def only_once(once: Once | None) -> Iterator[None]:
    """What is created inside the block is made once; None: as often as asked."""
    token = _once.set(once)
    try:
        yield
    finally:
        _once.reset(token)


@contextlib.asynccontextmanager
async def claimed(connection: Connection) -> AsyncIterator[Claim]:
    """Raise MadeAlreadyError or ReusedKeyError, or keep the claim's `object_id` with what is made inside."""
    once, claim = _once.get(), Claim()
    if once is None:
        yield claim
        return
    place = (once.person_id, once.key_hash)
    if not await connection.fetchval(_CLAIM, *place, once.request_hash):
        (row,) = await connection.fetch(
            "SELECT request_hash, object_id FROM made_once WHERE person_id = $1 AND key_hash = $2", *place
        )
        if row["request_hash"] != once.request_hash:
            raise ReusedKeyError("The Idempotency-Key was used for another request.")
        raise MadeAlreadyError(row["object_id"])
    yield claim
    await connection.execute(
        "UPDATE made_once SET object_id = $3 WHERE person_id = $1 AND key_hash = $2", *place, claim.object_id
    )
