"""What the spool directories hold, for people: read without taking or changing anything."""

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.frames import Frame, Problem
from luntrex_proxy.store.quarantine import QUARANTINE
from luntrex_proxy.store.recovery import follow_openings
from luntrex_proxy.store.segments import (
    Position,
    directories,
    is_locked,
    next_sound,
    read_chunk,
    segment_numbers,
)
from luntrex_proxy.store.usage_rows import all_positions

_TRIES = 100


@dataclass(frozen=True, slots=True)
class DirectoryStatus:
    """One spool directory. `live`: a process holds it, to write or to ship."""

    boot_id: UUID
    live: bool
    segments: int
    bytes: int
    unsettled: int
    damaged: bool
    stored_segment: int | None
    stored_offset: int | None


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """All spool directories, and what was set aside because it could not be read or stored."""

    directories: list[DirectoryStatus]
    quarantine_files: int
    quarantine_bytes: int


async def database_now_us(pool: Pool) -> int:
    """The time of the database, in microseconds since 1970."""
    with store_errors("say what time it is"):
        now_us: int = await pool.fetchval("SELECT (extract(epoch FROM now()) * 1000000)::bigint")
    return now_us


async def status_of(pool: Pool, root: Path) -> LedgerStatus:
    """The state of every directory under `root`, with the position the database holds for it."""
    with store_errors("read the spool positions"):
        async with pool.acquire() as connection:
            positions = await all_positions(connection)
    try:
        found = [await asyncio.to_thread(_look, path, positions) for path in directories(root)]
        set_aside = [entry.stat().st_size for entry in (root / QUARANTINE).glob("*.seg")]
    except OSError as error:
        raise StoreError(
            f"The spool {root} cannot be read ({error.strerror}); run as the owner of the state directory."
        ) from None
    return LedgerStatus(found, len(set_aside), sum(set_aside))


def _look(path: Path, positions: dict[UUID, Position]) -> DirectoryStatus:
    boot_id = UUID(path.name)
    numbers = segment_numbers(path)
    unsettled, damaged = _unsettled(path)
    size = 0
    for number in numbers:
        with contextlib.suppress(FileNotFoundError):
            size += (path / f"{number:08d}.seg").stat().st_size
    stored = positions.get(boot_id)
    return DirectoryStatus(
        boot_id=boot_id,
        live=is_locked(path),
        segments=len(numbers),
        bytes=size,
        unsettled=unsettled,
        damaged=damaged,
        stored_segment=None if stored is None else stored.segment,
        stored_offset=None if stored is None else stored.offset,
    )


def _unsettled(path: Path) -> tuple[int, bool]:
    """Openings without a settle, and whether anything was unreadable. A segment shipped meanwhile is passed over."""
    waiting: dict[bytes, Frame] = {}
    at, damaged, tries = Position(0, 0), False, 0
    while True:
        try:
            chunk = read_chunk(path, at, 10_000)
        except FileNotFoundError:
            tries += 1
            if tries > _TRIES:  # no segment shipped meanwhile, but a name that leads nowhere
                return len(waiting), True
            continue
        follow_openings(waiting, chunk)
        at = chunk.after
        if chunk.at_end:
            return len(waiting), damaged or chunk.problem is not Problem.NONE
        if chunk.problem is not Problem.NONE:
            at, damaged = next_sound(path, at), True
