"""Moving the embedded database to a newer PostgreSQL: from the old programs' server into a new one beside it.

    postgres            what counts
    postgres.upgrading  being filled; the next try throws it away
    postgres.upgraded   whole, about to be what counts
    postgres.old-N      what counted before; it stays until somebody deletes it

Killed at any moment, what counts is the old data or the new, whole. The one gap, when the old one has its new name and
the new one not yet, is closed by `finish_swap`, with which every start of the server begins.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from luntrex_proxy.store.backup import dump, load
from luntrex_proxy.store.binaries import Binaries, find_binaries, find_old_server
from luntrex_proxy.store.datadirectory import data_major, finish_swap
from luntrex_proxy.store.embedded import EmbeddedPostgres
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.state import StateLock, file_errors, make_state_directory

# What other verbs would write meanwhile would be left behind.
_READ_ONLY = {"default_transaction_read_only": "on"}


@dataclass(frozen=True, slots=True)
class Upgraded:
    """From which major version to which, and where the old data is."""

    old_major: int
    new_major: int
    old_data: Path


def upgrade(state: Path, old_programs: Path | None, show: Callable[[int], None]) -> Upgraded | None:
    """Move the data to the major version a new installation would have; None when it is there already.

    Main thread only, like every start of the server. `show` gets the bytes moved so far. Raises StoreError, and then
    the old data counts.
    """
    state = state.absolute()
    make_state_directory(state)
    lock = StateLock(state)
    lock.acquire("verb")
    try:
        with file_errors(state):
            return _upgrade(state, old_programs, show)
    finally:
        lock.release()


def _upgrade(state: Path, old_programs: Path | None, show: Callable[[int], None]) -> Upgraded | None:
    data, filling, filled = (state / name for name in ("postgres", "postgres.upgrading", "postgres.upgraded"))
    finish_swap(data)
    major, new = data_major(data), find_binaries(None)
    if major is None:
        raise RefusedError(f"There is no database in {state} yet; nothing to upgrade.")
    if new.major == major:
        return None
    if new.major < major:
        raise RefusedError(
            f"The data is of PostgreSQL {major}, the programs found are older ({new.major}, {new.directory}); "
            "there is no way back."
        )
    old = find_old_server(major, old_programs)
    kept = state / f"postgres.old-{major}"
    if kept.exists():
        raise RefusedError(f"{kept} is still there from an earlier upgrade; delete it or move it away first.")
    for leftover in (filling, filled):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        _move(state, old, new, filling.name, show)
    except BaseException:
        shutil.rmtree(filling, ignore_errors=True)
        raise
    for source, destination in ((filling, filled), (data, kept), (filled, data)):
        source.rename(destination)
        _sync(state)
    return Upgraded(major, new.major, kept)


def _move(state: Path, old: Binaries, new: Binaries, name: str, show: Callable[[int], None]) -> None:
    source = EmbeddedPostgres(state, binaries=old, holds_lock=False, options=_READ_ONLY)
    target = EmbeddedPostgres(state, name, binaries=new, holds_lock=False)
    try:
        script = _watched(dump(source.start(), new), show)
        load(target.start(), new, script, [])
    finally:
        source.stop()
        target.stop()  # the checkpoint at its end brings everything to disk


def _watched(script: Iterator[bytes], show: Callable[[int], None]) -> Iterator[bytes]:
    done = 0
    for piece in script:
        done += len(piece)
        show(done)
        yield piece


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
