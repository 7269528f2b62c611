"""Several of this room's acts in one transaction: all of them happen, or none.

Acts take a pool and begin a transaction of their own. Given this in its place, they take part in one that is open: what
would be their transaction is a savepoint in it.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

from luntrex_proxy.store.database import Connection, Pool


class _Joined:
    """What acts use of a pool."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        yield self._connection

    async def fetch(self, query: str, *values: Any) -> Any:
        return await self._connection.fetch(query, *values)

    async def fetchrow(self, query: str, *values: Any) -> Any:
        return await self._connection.fetchrow(query, *values)

    async def fetchval(self, query: str, *values: Any) -> Any:
        return await self._connection.fetchval(query, *values)

    async def execute(self, query: str, *values: Any) -> str:
        return await self._connection.execute(query, *values)


def joined(connection: Connection) -> Pool:
    """The connection, on which a transaction is open, as what acts take for a pool. One act at a time."""
    return cast("Pool", _Joined(connection))
