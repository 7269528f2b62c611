"""Upstreams as people see and switch them: those of the configuration file, in maintenance or not."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from luntrex_proxy.core.health import Condition
from luntrex_proxy.store import maintenance as table
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.maintenance import Maintained

ORIGIN = "file"  # where upstreams come from, all of them: the configuration file says what they are


@dataclass(frozen=True, slots=True)
class Seen:
    """An upstream, how one process sees it (None: none was asked), and its maintenance (None: it is in none)."""

    name: str
    condition: Condition | None
    maintained: Maintained | None


async def list_all(pool: Pool, names: Iterable[str], conditions: Iterable[Condition] | None) -> list[Seen]:
    """All upstreams of these names, in their order."""
    by_name = {condition.name: condition for condition in conditions or ()}
    maintained = await table.list_all(pool)
    return [Seen(name, by_name.get(name), maintained.get(name)) for name in names]


async def begin_maintenance(pool: Pool, names: Iterable[str], upstream: str, reason: str) -> None:
    """Let nothing new go to one of these. RefusedError: it is none of them, or the reason is too long."""
    known = list(names)
    if upstream not in known:
        raise unknown(upstream, known)
    await table.begin(pool, upstream, reason)


async def end_maintenance(pool: Pool, names: Iterable[str], upstream: str) -> bool:
    """Let requests go there again; False: it was not in maintenance. RefusedError: there never was such a one.

    One that has gone from the configuration meanwhile can still be ended.
    """
    known = list(names)
    if not await table.end(pool, upstream):
        if upstream not in known:
            raise unknown(upstream, known)
        return False
    return True


def unknown(upstream: str, known: list[str]) -> RefusedError:
    """The refusal of a name that is no upstream's."""
    close = difflib.get_close_matches(upstream, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else "`luntrex-proxy upstreams list` shows all."
    return RefusedError(f"The configuration has no upstream {upstream!r}; {hint}", "no_upstream")
