"""The table `upstream_maintenance`: upstreams that the operator lets nothing new go to. A row while that lasts."""

import datetime
from dataclasses import dataclass

from luntrex_proxy.core.audit import Fact
from luntrex_proxy.store import audit
from luntrex_proxy.store.changes import hold_changes, next_version
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.silence import Silence

_REASON_MAX = 200
# Less than the ring waits for a silent connection and another one (following.py).
_ANSWER_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Maintained:
    """An upstream in maintenance."""

    upstream: str
    reason: str  # in the operator's words
    since: datetime.datetime


async def list_all(pool: Pool) -> dict[str, Maintained]:
    """All that are in maintenance, by name."""
    with store_errors("list what is in maintenance"):
        rows = await pool.fetch("SELECT upstream, reason, since FROM upstream_maintenance ORDER BY upstream")
    return {row["upstream"]: Maintained(**row) for row in rows}


async def begin(pool: Pool, upstream: str, reason: str = "") -> None:
    """Let nothing new go to an upstream, in all processes within a second. Twice changes the reason alone.

    RefusedError: the reason is too long. Whether there is such an upstream the caller has to know.
    """
    if len(reason) > _REASON_MAX:
        raise RefusedError(f"A reason has at most {_REASON_MAX} characters.", "bad_text")
    with store_errors("begin the maintenance"):
        async with pool.acquire() as connection, connection.transaction():
            await next_version(connection)
            await connection.execute(
                "INSERT INTO upstream_maintenance (upstream, reason) VALUES ($1, $2)"
                " ON CONFLICT (upstream) DO UPDATE SET reason = excluded.reason",
                upstream,
                reason,
            )
            await _record(connection, "upstream.maintenance_began", upstream)


async def end(pool: Pool, upstream: str) -> bool:
    """Let requests go there again; False: it was not in maintenance."""
    with store_errors("end the maintenance"):
        async with pool.acquire() as connection, connection.transaction():
            await hold_changes(connection)
            done = await connection.execute("DELETE FROM upstream_maintenance WHERE upstream = $1", upstream)
            if done.endswith(" 0"):
                return False
            await next_version(connection)
            await _record(connection, "upstream.maintenance_ended", upstream)
            return True


async def _record(connection: Connection, act: str, upstream: str) -> None:
    facts: dict[str, Fact] = {"upstream": upstream}
    await audit.record(connection, act, upstream, facts=facts)


class MaintenanceBook:
    """What is in maintenance as a process knows it; `refresh` when something may have changed."""

    def __init__(self, pool: Pool) -> None:
        self.upstreams: frozenset[str] = frozenset()
        self._pool = pool

    async def refresh(self) -> None:
        """Read what the table holds. Raises StoreError, and changes nothing."""
        with store_errors("read what is in maintenance"):
            async with self._pool.acquire(timeout=_ANSWER_WAIT_S) as connection:
                with Silence(connection, _ANSWER_WAIT_S):
                    rows = await connection.fetch("SELECT upstream FROM upstream_maintenance")
        self.upstreams = frozenset(row["upstream"] for row in rows)
