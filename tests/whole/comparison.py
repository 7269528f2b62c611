"""Run the same SDK calls directly and through the gateway, and gather the rows they left."""

import asyncio
import inspect
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.whole import calls
from tests.whole.calls import Seen
from tests.whole.daemon import Daemon

SHIP_SECONDS = 20


@dataclass
class Pair:
    """One call, twice, and what the ledger says of the second."""

    direct: Seen
    through: Seen
    row: dict[str, Any]  # of Postgres
    shown: dict[str, Any]  # of `usage --requests --json`


Job = tuple[str, Any, str, calls.Call, str]  # name, client maker, kind, call, model


def jobs(table: Iterable[calls.Call], maker: Any, model: str) -> list[Job]:
    """Each call with a sync and with an async client."""
    return [(f"{calls.name_of(call)}-{kind}", maker, kind, call, model) for call in table for kind in ("sync", "async")]


def names(*tables: Iterable[calls.Call]) -> list[str]:
    """The names of all jobs of these tables, for parametrize."""
    return [f"{calls.name_of(call)}-{kind}" for table in tables for call in table for kind in ("sync", "async")]


def compare(daemon: Daemon, direct_url: str, direct_key: str, work: list[Job]) -> dict[str, Pair | Exception]:
    """Run every job directly and through the daemon; an exception is kept for the test of that name."""
    seen = asyncio.run(_run(daemon, direct_url, direct_key, work))
    ids = [pair[1].request_id for pair in seen.values() if not isinstance(pair, Exception)]
    rows, shown = wait_for_rows(daemon, ids)
    return {
        name: pair
        if isinstance(pair, Exception)
        else Pair(*pair, rows.get(pair[1].request_id, {}), shown.get(pair[1].request_id, {}))
        for name, pair in seen.items()
    }


async def _run(
    daemon: Daemon, direct_url: str, direct_key: str, work: list[Job]
) -> dict[str, tuple[Seen, Seen] | Exception]:
    clients: dict[tuple[Any, str], tuple[Any, Any]] = {}
    found: dict[str, tuple[Seen, Seen] | Exception] = {}
    for name, maker, kind, call, model in work:
        if (maker, kind) not in clients:
            clients[maker, kind] = maker(direct_url, direct_key, kind), maker(daemon.url, daemon.key, kind)
        direct, through = clients[maker, kind]
        try:
            found[name] = await call(direct, model), await call(through, model)
        except Exception as error:
            found[name] = error
    for client in (client for both in clients.values() for client in both):
        closing = client.close()
        if inspect.isawaitable(closing):
            await closing
    return found


def wait_for_rows(daemon: Daemon, ids: list[str]) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Rows of Postgres and of the command line by request id, once all of `ids` have been shipped."""
    deadline = time.monotonic() + SHIP_SECONDS
    while True:
        rows = {row["id"]: row for row in daemon.query("SELECT *, request_id::text AS id FROM usage")}
        if set(ids) <= set(rows) or time.monotonic() > deadline:
            return rows, daemon.usage()
        time.sleep(0.1)


def pair_of(pairs: dict[str, Pair | Exception], name: str) -> Pair:
    """The pair of a job; raises what its call raised."""
    pair = pairs[name]
    if isinstance(pair, Exception):
        raise pair
    return pair
