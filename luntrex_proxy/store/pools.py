"""The connections of a daemon: for what is written all the time, and those around a pooler for everything else."""

import contextlib
from dataclasses import dataclass
from typing import Final

from luntrex_proxy.settings.model import Database
from luntrex_proxy.store.database import Pool, opened_pool
from luntrex_proxy.store.following import check_listening

_DIRECT_CONNECTIONS: Final = 3  # when a pooler is in between: for what needs a session, now and then


@dataclass(frozen=True, slots=True)
class Pools:
    """`pool` and `direct` are the same where no pooler is in between."""

    pool: Pool
    direct: Pool
    direct_dsn: str

    async def expire(self) -> None:
        """Have every connection replaced before it is used again: something happened to one of them."""
        for each in {self.pool, self.direct}:
            await each.expire_connections()


async def opened_pools(stack: contextlib.AsyncExitStack, dsn: str, database: Database) -> Pools:
    """Open both, until `stack` ends. Raises StoreError when notifications would not be heard."""
    pooled = database.direct_url is not None
    pool = await stack.enter_async_context(opened_pool(dsn, max_size=database.pool_size, pooled=pooled))
    direct, direct_dsn = pool, dsn
    if database.direct_url is not None:
        direct_dsn = database.direct_url.reveal()
        direct = await stack.enter_async_context(opened_pool(direct_dsn, max_size=_DIRECT_CONNECTIONS))
    await check_listening(pool, direct_dsn, has_direct_url=pooled)
    return Pools(pool, direct, direct_dsn)
