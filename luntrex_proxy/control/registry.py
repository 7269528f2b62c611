"""The register of sub-processors, by who runs the installation: every place that gets data, entries and their versions.

What everybody may see of it is in subprocessors.py.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.core.registry import BadEntryError, Entry, Register, checked
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.registry import SHIPPED, judge
from luntrex_proxy.store import registry as table
from luntrex_proxy.store.database import Pool

__all__ = ["BadEntryError", "Entry", "Place", "names", "places", "retire", "set_entry", "versions"]


@dataclass(frozen=True, slots=True)
class Place:
    """A remote place of the configuration, or an entry that nothing uses now, and what the register says of it."""

    place: str
    purpose: str
    subprocessor: str | None
    state: str
    used: bool
    why: str | None


async def places(pool: Pool, settings: Settings, now: datetime.datetime) -> list[Place]:
    """All of them: those of the configuration first."""
    register = Register(await table.entries(pool), SHIPPED)
    found = [
        Place(
            one.destination.place, one.destination.purpose, one.listing.name or None, one.listing.state.value,
            one.usable, one.listing.why or None,
        )
        for one in judge(settings, register, now)
    ]  # fmt: skip
    used = {one.subprocessor for one in found}
    return found + [
        Place(
            ", ".join(entry.hosts), "nothing now", entry.name, "retired" if entry.retired else "not in use", False, None
        )
        for entry in register.current(now)
        if entry.name not in used
    ]


async def names(pool: Pool) -> set[str]:
    """What has an entry."""
    return {entry.name for entry in await table.entries(pool)}


async def versions(pool: Pool, name: str) -> list[Entry]:
    """All versions of an entry, the oldest first; an unknown one raises NotFoundError."""
    found = await table.entries(pool, name)
    if not found:
        raise NotFoundError
    return found


async def set_entry(
    pool: Pool, name: str, changes: Mapping[str, Any], today: datetime.date, *, in_use: bool, is_known: bool
) -> Entry:
    """A new entry, or a new version of one that `is_known`: what is left out stays. BadEntryError, RefusedError."""
    return await table.change(pool, name, checked(changes, today), in_use=in_use, is_known=is_known)


async def retire(pool: Pool, name: str) -> Entry:
    """Let a sub-processor get nothing any more, within seconds. RefusedError: there is none, or it is retired."""
    return await table.change(pool, name, {"retired": True})
