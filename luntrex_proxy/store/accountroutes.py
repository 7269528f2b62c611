"""The table `account_route`: which models accounts may use, and their own targets. Changed, listed, and followed."""

import asyncio
import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from luntrex_proxy.core.accountroutes import AccountRoutes, BadRoutesError, OwnTarget, check
from luntrex_proxy.store import accounts, audit
from luntrex_proxy.store.changes import next_version
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.silence import Silence

_BATCH_ROWS: Final = 500
_ANSWER_WAIT_S: Final = 2.0  # as store/book.py
_LIST: Final = """
SELECT account_id, a.name AS account, r.models, r.targets, r.changed_at FROM account_route r JOIN account a
    USING (account_id)
WHERE (r.models IS NOT NULL OR r.targets <> '{}') AND ($1::bigint IS NULL OR account_id = $1) ORDER BY a.name
"""
_PUT: Final = """
INSERT INTO account_route (account_id, models, targets, version) VALUES ($1, $2, $3, $4)
ON CONFLICT (account_id) DO UPDATE
SET models = excluded.models, targets = excluded.targets, version = excluded.version, changed_at = now()
"""
_read: Final = msgspec.json.Decoder(dict[str, tuple[OwnTarget, ...]])
_write: Final = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class Routed:
    """An account that has something of its own."""

    account_id: int
    account: str
    routes: AccountRoutes
    changed_at: datetime.datetime


async def list_all(pool: Pool, account_id: int | None = None) -> list[Routed]:
    """Of all accounts, or of one, by name."""
    with store_errors("list the routes"):
        rows = await pool.fetch(_LIST, account_id)
    return [Routed(row["account_id"], row["account"], _routes(row), row["changed_at"]) for row in rows]


async def change(pool: Pool, account: str, becomes: Callable[[AccountRoutes], AccountRoutes]) -> AccountRoutes:
    """Change what an account has of its own; what it has then. It holds in all processes within a second.

    RefusedError: there is no such account, or they cannot be its routes.
    """
    if accounts.NAME.fullmatch(account) is None:
        raise accounts.unknown(account)
    with store_errors("change the routes"):
        async with pool.acquire() as connection, connection.transaction():
            version = await next_version(connection)
            account_id = await connection.fetchval("SELECT account_id FROM account WHERE name = $1", account)
            if account_id is None:
                raise accounts.unknown(account)
            row = await connection.fetchrow(
                "SELECT models, targets FROM account_route WHERE account_id = $1", account_id
            )
            try:
                routes = becomes(AccountRoutes() if row is None else _routes(row))
                check(routes)
            except BadRoutesError as error:
                raise RefusedError(str(error), "bad_routes") from None
            models = None if routes.models is None else list(routes.models)
            await connection.execute(_PUT, account_id, models, _write(routes.targets).decode(), version)
            facts = {"models": routes.models, "targets": tuple(sorted(routes.targets))}
            await audit.record(connection, "routes.changed", str(account_id), account_id, facts)
    return routes


class RouteBook:
    """What accounts have of their own, as a process knows it: few have anything, and all of it is in memory."""

    def __init__(self, pool: Pool) -> None:
        self.routes: Mapping[int, AccountRoutes] = {}
        self._pool = pool
        self._seen: tuple[int, int, int] = (-1, 0, 0)

    async def refresh(self, readings: int = 1) -> bool:
        """Read what the table holds, if that has changed; whether it has. Raises StoreError, and changes nothing.

        `readings`: how often the ring has read all. Once more than before: the database may be an older one now.
        """
        with store_errors("read the routes"):
            async with self._pool.acquire(timeout=_ANSWER_WAIT_S) as connection:
                with Silence(connection, _ANSWER_WAIT_S) as silence:
                    async with connection.transaction(isolation="repeatable_read", readonly=True):
                        ((count, version),) = await connection.fetch(
                            "SELECT count(*), coalesce(max(version), 0) FROM account_route"
                        )
                        silence.broken()
                        if (readings, count, version) == self._seen:
                            return False
                        routes = await _read_all(connection, silence)
        self.routes, self._seen = routes, (readings, count, version)
        return True


async def _read_all(connection: Connection, silence: Silence) -> dict[int, AccountRoutes]:
    found: dict[int, AccountRoutes] = {}
    cursor = await connection.cursor("SELECT account_id, models, targets FROM account_route")
    while rows := await cursor.fetch(_BATCH_ROWS):
        silence.broken()
        for row in rows:
            routes = _routes(row)
            if not routes.is_nothing:
                found[row["account_id"]] = routes
        await asyncio.sleep(0)
    return found


def _routes(row: Any) -> AccountRoutes:
    """Of targets that only a later release can read, this one knows nothing: the configuration's hold."""
    try:
        targets = _read.decode(row["targets"])
    except msgspec.MsgspecError:
        targets = {}
    return AccountRoutes(None if row["models"] is None else tuple(row["models"]), targets)
