"""`<spool root>/quarantine/`: bytes of segments that could not be read or stored, and trying them once more.

A file `<boot id>-<segment>-<offset>.seg` is whole and on disk as soon as it has its name. `.clock.seg` holds records
whose time cannot be: their process believed in another year.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from msgspec.structs import replace

from luntrex_proxy.store.frames import Frame, encode_record, frame_bytes, parse_frames
from luntrex_proxy.store.segments import SUFFIX, Position, SpoolDirectory, sync_directory
from luntrex_proxy.store.state import make_private_directory, open_private

QUARANTINE = "quarantine"
WRONG_CLOCK = ".clock"


def set_aside(directory: SpoolDirectory, start: Position, end: int | None) -> None:
    """Copy bytes of a segment (to its end when `end` is None) into the quarantine. Doing it twice changes nothing."""
    with directory.segment_path(start.segment).open("rb") as segment:
        segment.seek(start.offset)
        data = segment.read() if end is None else segment.read(end - start.offset)
    _write(directory, start, SUFFIX, data)


def set_aside_wrong_clock(directory: SpoolDirectory, frames: Sequence[Frame]) -> None:
    """Keep records of one segment whose time cannot be, in one file."""
    start = Position(frames[0].segment, frames[0].start)
    _write(directory, start, WRONG_CLOCK + SUFFIX, b"".join(frame_bytes(frame.payload) for frame in frames))


def _write(directory: SpoolDirectory, start: Position, suffix: str, data: bytes) -> None:
    quarantine = directory.path.parent / QUARANTINE
    make_private_directory(quarantine)
    target = quarantine / f"{directory.boot_id}-{start.segment:08d}-{start.offset}{suffix}"
    replace_whole(target, data)


def replace_whole(target: Path, data: bytes) -> None:
    """Give a file its content whole or not at all; a disk without room keeps nothing of it."""
    partial = target.with_suffix(".partial")
    try:
        with open(open_private(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as copy:  # noqa: PTH123 -- wraps the descriptor, which carries the mode
            copy.write(data)
            copy.flush()
            os.fsync(copy.fileno())
        partial.rename(target)
        sync_directory(target.parent)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def retry_quarantined(root: Path, now_us: int) -> tuple[int, int]:
    """Put records that were refused back, each file as a dead directory; how many records, and how many files stay.

    What stays was unreadable. A record that is refused again comes back into the quarantine. Those of a wrong clock get
    the time `now_us`, in their order.
    """
    retried, left = 0, 0
    for path in sorted((root / QUARANTINE).glob(f"*{SUFFIX}")):
        data = path.read_bytes()
        frames, after, _ = parse_frames(data)
        if after < len(data) or not data:
            left += 1
            continue
        is_late = path.name.endswith(WRONG_CLOCK + SUFFIX)
        sound = _moved_in_time(path, frames, now_us) if is_late else path
        directory = SpoolDirectory.create(root, uuid4())
        sound.rename(directory.segment_path(1))
        sync_directory(directory.path)
        sync_directory(path.parent)
        directory.unlock()
        retried += len(frames)
    return retried, left


def _moved_in_time(path: Path, frames: list[Frame], now_us: int) -> Path:
    """The file with other times and, in the same step, another name: it is moved once, however often this is tried."""
    first_us = now_us - len(frames)
    moved = [
        frame_bytes(
            frame.payload if (record := frame.record) is None else encode_record(replace(record, started_us=us))
        )
        for us, frame in enumerate(frames, first_us)
    ]
    target = path.with_name(path.name.removesuffix(WRONG_CLOCK + SUFFIX) + SUFFIX)
    replace_whole(path, b"".join(moved))
    path.rename(target)
    sync_directory(path.parent)
    return target
