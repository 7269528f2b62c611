"""A spool directory on disk: its name, its lock, its segment files, reading them in order.

`<root>/<boot id>/NNNNNNNN.seg` plus `lock`, whose flock is held as long as somebody writes or ships the directory:
whoever can take it may adopt the directory.
"""

import contextlib
import fcntl
import os
import re
import time
import uuid
from pathlib import Path
from typing import NamedTuple, Self

from luntrex_proxy.store.frames import FRAME_BYTES_MAX, OPENING, Frame, Problem, find_frame, parse_frames
from luntrex_proxy.store.state import file_errors, make_private_directory, make_state_directory, open_private

LOCK = "lock"
SUFFIX = ".seg"
CLOSED_OFFSET = 1  # of the position of a finished directory: within every first frame
_SEGMENT = re.compile(r"[0-9]{8,}\.seg")
_BYTES_PER_FRAME = 256  # a guess, for how much to read at once
_FRAMES_PER_TURN = 256
_TURN_S = 1e-5


class Position(NamedTuple):
    """A place in a spool directory; compares in reading order. (0, 0) is before everything."""

    segment: int
    offset: int


class Chunk(NamedTuple):
    """Frames of one segment, the place after them, and what stopped the reading.

    An opening always precedes its settle, so they can be kept apart. What is no record of ours is among the settles.
    """

    segment: int
    openings: list[Frame]
    settles: list[Frame]
    after: Position
    problem: Problem
    at_end: bool  # nothing more to read now


class SpoolDirectory:
    """One locked spool directory. Get one from `create` or `adopt`."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self.boot_id = uuid.UUID(path.name)
        self._lock_fd = lock_fd

    @classmethod
    def create(cls, root: Path, boot_id: uuid.UUID) -> Self:
        """Make and lock the directory of a new process. A place that cannot be written raises StoreError."""
        path = root / str(boot_id)
        make_state_directory(root.parent)
        with file_errors(root):
            make_private_directory(root)
            lock_fd = _make_and_lock(path)
            sync_directory(root)
        if lock_fd is None:
            raise BlockingIOError(f"spool directory is in use: {boot_id}")
        directory = cls(path, lock_fd)
        if directory.segments():
            directory.unlock()
            raise FileExistsError(f"spool directory of another run: {boot_id}")
        return directory

    @classmethod
    def adopt(cls, path: Path) -> Self | None:
        """Lock a directory that nobody holds, or None when it is alive or gone."""
        try:
            lock_fd = _take_lock(path / LOCK, 0)
        except FileNotFoundError:
            # Its removal was cut short after the lock went, or it is just being made: only an empty one goes.
            with contextlib.suppress(OSError):
                path.rmdir()
                return None
            try:
                lock_fd = _take_lock(path / LOCK, os.O_CREAT)
            except FileNotFoundError:
                return None
        return None if lock_fd is None else cls(path, lock_fd)

    def segments(self) -> list[int]:
        """Numbers of the segment files, ascending."""
        return segment_numbers(self.path)

    def segment_path(self, number: int) -> Path:
        """The file of a segment."""
        return _segment_path(self.path, number)

    def size(self) -> int:
        """Bytes of all segments."""
        return self.size_and_age()[0]

    def size_and_age(self) -> tuple[int, float]:
        """Bytes of all segments, and when the first was last written to (unix time)."""
        found = [self.segment_path(number).stat() for number in self.segments()]
        return sum(each.st_size for each in found), min((each.st_mtime for each in found), default=0.0)

    def segment_size(self, number: int) -> int:
        """Bytes of a segment; 0 when it is gone."""
        try:
            return self.segment_path(number).stat().st_size
        except FileNotFoundError:
            return 0

    def segment_inode(self, number: int) -> int:
        """Which file a segment's name leads to; 0 when to none."""
        try:
            return self.segment_path(number).stat().st_ino
        except FileNotFoundError:
            return 0

    def delete_segment(self, number: int) -> int:
        """Delete a segment; its size."""
        size = self.segment_size(number)
        self.segment_path(number).unlink(missing_ok=True)
        return size

    def remove(self) -> None:
        """Remove the directory for good: segments first, then the lock, and the removal is on disk on return."""
        for number in self.segments():
            self.segment_path(number).unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            (self.path / LOCK).unlink()
            self.path.rmdir()
        sync_directory(self.path.parent)
        self.unlock()

    def unlock(self) -> None:
        """Let others adopt the directory. Does nothing the second time."""
        fd, self._lock_fd = self._lock_fd, -1  # before the close lets other threads run
        if fd >= 0:
            os.close(fd)


def segment_numbers(path: Path) -> list[int]:
    """Numbers of the segment files in a spool directory, ascending; empty when it is gone."""
    try:
        names = os.listdir(path)  # noqa: PTH208 -- runs ten times a second; Path objects are not needed
    except FileNotFoundError:
        return []
    return sorted(int(name[:-4]) for name in names if _SEGMENT.fullmatch(name))


def directories(root: Path) -> list[Path]:
    """All spool directories under the root, live or dead, in a stable order."""
    try:
        return sorted(entry for entry in root.iterdir() if _is_boot_id(entry.name) and entry.is_dir())
    except FileNotFoundError:
        return []


def is_locked(path: Path) -> bool:
    """Whether a process holds the directory. Takes the lock for an instant when nobody does."""
    try:
        lock_fd = _take_lock(path / LOCK, 0)
    except FileNotFoundError:
        return False
    if lock_fd is None:
        return True
    os.close(lock_fd)
    return False


def read_chunk(path: Path, at: Position, limit: int) -> Chunk:
    """The next frames at or after `at`. Blocking; a missing segment (shipped, deleted) is passed over."""
    following = [number for number in segment_numbers(path) if number >= at.segment]
    for index, number in enumerate(following):
        offset = at.offset if number == at.segment else 0
        # Listed before the read: a later segment proves that this one gets no more bytes.
        is_last = index == len(following) - 1
        data = _read_at(_segment_path(path, number), offset, max(limit * _BYTES_PER_FRAME, FRAME_BYTES_MAX))
        openings, settles, after, problem = _parse_in_turns(data, limit, number, offset)
        found = bool(openings or settles)
        if found:
            problem = Problem.NONE  # the next read, which starts at it, tells
        if found or problem is not Problem.NONE or is_last:
            done = not found and (problem is Problem.NONE or (problem is Problem.TORN and is_last))
            return Chunk(number, openings, settles, Position(number, after), problem, done)
    return Chunk(at.segment, [], [], at, Problem.NONE, at_end=True)


def _parse_in_turns(data: bytes, limit: int, segment: int, base: int) -> tuple[list[Frame], list[Frame], int, Problem]:
    """`parse_frames` in a thread, its frames sorted; sleeps now and then, so that the loop can run."""
    openings: list[Frame] = []
    settles: list[Frame] = []
    at = 0
    while True:
        frames, after, problem = parse_frames(data, at, min(limit, _FRAMES_PER_TURN), segment, base)
        for frame in frames:
            (openings if frame[0].startswith(OPENING) else settles).append(frame)
        at, limit = after - base, limit - len(frames)
        if not frames or not limit or problem is not Problem.NONE:
            return openings, settles, after, problem
        time.sleep(_TURN_S)


def next_sound(path: Path, damage: Position) -> Position:
    """Where reading goes on after damage: at a frame of the same segment, else at the next segment. Blocking."""
    data = _read_at(_segment_path(path, damage.segment), damage.offset, -1)
    found = find_frame(data, 1)
    return Position(damage.segment + 1, 0) if found < 0 else Position(damage.segment, damage.offset + found)


def closing_place(path: Path) -> Position:
    """The stored position of a finished directory: behind all of it, where no frame ends and nothing else stands."""
    return Position(max(segment_numbers(path), default=0) + 1, CLOSED_OFFSET)


def can_stand(path: Path, place: Position, *, closed: bool) -> bool:
    """Whether a stored position can be one that shipping left, as far as the segments tell. Blocking."""
    if closed or place.offset == CLOSED_OFFSET:
        return closed and place == closing_place(path)
    numbers = segment_numbers(path)
    if not numbers or place.segment < numbers[0]:
        return True  # nothing that is on disk is passed over
    if place.offset == 0 and place.segment - 1 == numbers[-1]:
        data = _read_at(_segment_path(path, numbers[-1]), 0, -1)
        return _ends(data)[-1] < len(data)  # its end was set aside
    if place.segment not in numbers:
        return False
    return place.offset in _ends(_read_at(_segment_path(path, place.segment), 0, -1))


def _ends(data: bytes) -> list[int]:
    """The places in a segment where a position can stand, but for unreadable bytes at its end."""
    ends, at = [0], 0
    while at >= 0:
        frames, after, problem = parse_frames(data, at)
        ends += [at, *(frame.end for frame in frames)]
        if problem is Problem.NONE:
            break
        at = find_frame(data, after + 1)
    return ends


def sync_directory(path: Path) -> None:
    """Make created and removed names in a directory survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _make_and_lock(path: Path) -> int | None:
    for _ in range(100):
        # An adopter that saw the directory before its lock existed may be removing it: then make it again.
        with contextlib.suppress(FileNotFoundError):
            make_private_directory(path)
            lock_fd = _take_lock(path / LOCK, os.O_CREAT)
            if lock_fd is not None:
                return lock_fd
        time.sleep(0.01)
    return None


def _take_lock(path: Path, flags: int) -> int | None:
    """The descriptor of the locked file, or None when another holds it or has removed it."""
    fd = open_private(path, os.O_RDWR | flags)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_ino == path.stat().st_ino:
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    return None


def _segment_path(path: Path, number: int) -> Path:
    return path / f"{number:08d}{SUFFIX}"


def _read_at(path: Path, offset: int, byte_count: int) -> bytes:
    with path.open("rb", buffering=0) as segment:
        segment.seek(offset)
        return segment.read(byte_count)


def _is_boot_id(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False
