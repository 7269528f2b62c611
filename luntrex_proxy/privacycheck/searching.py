"""The places a daemon can write to: searched for what was said, and for what was planted there.

What this program cannot read is a place as well, one that is not checked.
"""

import asyncio
import contextlib
import os
import re
import stat
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from luntrex_proxy.core.canaries import Hit, Marks
from luntrex_proxy.store import everything
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import StoreError

_PIECE_BYTES: Final = 8 << 20
_OVERLAP_BYTES: Final = 4_096  # longer than a mark in any form
_BYTES: Final = re.compile(rb"\\x((?:[0-9a-f]{2}){12,})")  # a column of bytes, as PostgreSQL writes it
NO_FIND: Final = "nothing planted"


@dataclass(slots=True)
class Place:
    """A place, what was found there, and whether the search proved itself there."""

    name: str
    hits: list[Hit] = field(default_factory=list)
    looked_at: int = 0  # bytes
    control: str = NO_FIND  # or: found, NOT FOUND
    not_checked: str = ""  # why


async def search_tables(pool: Pool, said: Marks, planted: Marks, since: datetime) -> AsyncIterator[Place]:
    """Every table of the database, and PostgreSQL's views."""
    place, found = Place("database tables"), False
    for table in await everything.tables(pool, since.date()):
        try:
            async for text in everything.texts(pool, table):
                place.looked_at += len(text)
                place.hits += said.search(f"table {table}", text)
                for packed in _BYTES.findall(text):
                    place.hits += said.search_deeply(f"table {table}", bytes.fromhex(packed.decode()))
                found = found or bool(planted.search(table, text))
        except StoreError:
            yield Place(f"table {table}", not_checked="this user may not read it, or it is gone")
    place.control = "found" if found else "NOT FOUND"
    yield place


def search_files(name: str, root: Path, said: Marks, planted: Marks | None, since: datetime) -> list[Place]:
    """Every file below `root` that was written since, by name and content; and those that cannot be read."""
    place, found, closed = Place(name), False, list[str]()
    for path in _written(root, since.timestamp(), closed):
        place.hits += said.search(f"name of {path}", os.fsencode(path))
        # PostgreSQL's pages hold too many bytes that look compressed.
        deep = "postgres" not in path.relative_to(root).parts
        try:
            for piece in _pieces(path):
                place.looked_at += len(piece)
                look = said.search_deeply if deep else said.search
                place.hits += look(str(path), piece)
                if planted is not None and not found:
                    found = bool((planted.search_deeply if deep else planted.search)(str(path), piece))
        except FileNotFoundError:
            continue
        except OSError:
            closed.append(str(path))
    if planted is not None:
        place.control = "found" if found else "NOT FOUND"
    if not closed:
        return [place]
    more = f" and {len(closed) - 1} more" if len(closed) > 1 else ""
    return [place, Place(f"{name}: {closed[0]}{more}", not_checked="this user may not read it")]


def search_text(name: str, text: bytes, said: Marks, must_hold: bytes) -> Place:
    """Something in memory, such as a log; `must_hold` is known to be in it."""
    place = Place(name, said.search_deeply(name, text), len(text))
    place.control = "found" if must_hold in text else "NOT FOUND"
    return place


async def search_files_beside(
    name: str, root: Path, said: Marks, planted: Marks | None, since: datetime
) -> list[Place]:
    """`search_files` in a thread."""
    return await asyncio.to_thread(search_files, name, root, said, planted, since)


def unreadable(*, embedded: bool, upstream: str) -> Iterator[Place]:
    """Places that no program like this can look into."""
    yield Place(
        "the journal of the installation's own daemon",
        not_checked="where its output goes is not known here; the check's daemon wrote into a file, which was searched",
    )
    if not embedded:
        yield Place("the database server's files, log and backups", not_checked="they are on the server")
    with contextlib.suppress(OSError):
        if len(Path("/proc/swaps").read_text().splitlines()) > 1:
            yield Place("swap", not_checked="memory may be written there; switch it off or encrypt it")
    if upstream:
        yield Place(f"what {upstream} keeps", not_checked="it is not ours to read")


def now() -> datetime:
    """The moment from which on files count."""
    return datetime.fromtimestamp(int(time.time()) - 2, UTC)


def _written(root: Path, since: float, closed: list[str]) -> Iterator[Path]:
    """Files that were written since; what cannot be looked at goes to `closed`. Links lead to what is no part of it."""

    def refused(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            closed.append(str(error.filename))

    for directory, _, names in os.walk(root, onerror=refused):
        for name in names:
            path = Path(directory, name)
            try:
                status = path.lstat()
            except OSError as error:
                refused(error)
                continue
            if stat.S_ISREG(status.st_mode) and status.st_mtime >= since:
                yield path


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        rest = b""
        while piece := file.read(_PIECE_BYTES):
            yield rest + piece
            rest = piece[-_OVERLAP_BYTES:]
