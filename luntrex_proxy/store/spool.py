"""The spool of this process: openings and outcomes, appended to segment files. The only writer; fits the Ledger port.

What is promised. The death of the process loses nothing: each call returns after the bytes are in the page cache.
A power cut loses at most the last commit window (20 ms and one fdatasync). After a failed fdatasync the kernel may
have dropped pages of that segment, so it is never written again and the failure is counted; the shipper still stores
what can be read of it. A settle the disk refuses stays in memory, and new requests are refused, until it is written.

The first write to each segment begins with a copy of every opening that still waits for its settle. So once that is
synced, older segments can be deleted when they are shipped, however long a request runs; recovery needs none of them.
"""

import contextlib
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from luntrex_proxy.core.ledger import LedgerFullError
from luntrex_proxy.core.outcome import Opening, Outcome
from luntrex_proxy.store.frames import encode_frame
from luntrex_proxy.store.segments import Position, SpoolDirectory, sync_directory
from luntrex_proxy.store.state import open_private

_MIB = 1024 * 1024
# Kept free for each opening: its settle, and one more copy of itself when segments change.
_RESERVE_BYTES = 1536
_COMMIT_WINDOW_S = 0.02
_REFUSED_S = 5.0


class _End(NamedTuple):
    """Written from the start to the end of a segment that gets no more."""

    settles: int
    bytes: int


class Spool:
    """Appends to `<root>/<boot id>/`. All methods run on the loop's thread; a thread of its own only syncs."""

    def __init__(
        self, root: Path, boot_id: uuid.UUID, segment_bytes: int = 16 * _MIB, max_bytes: int = 4096 * _MIB
    ) -> None:
        self.directory = SpoolDirectory.create(root, boot_id)
        self.unrecorded = 0  # refusals (nothing was forwarded, nothing is owed) that came while the ledger was full
        self.write_errors = 0
        self.cut_segments = 0  # truncated or removed by somebody while they were written to
        self._left_at = 0  # what is there of a cut segment, before the next one begins
        self._begun_s = _boottime_s()
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._unsettled: dict[str, bytes] = {}  # request id -> frame of the opening
        self._waiting: dict[str, bytes] = {}  # settles the disk refused
        self._held = 0  # bytes on disk outside the present segment
        self._written = 0
        self._ends = {-1: _End(0, 0), 0: _End(0, 0)}  # by closed segment
        self._closed = False
        self._refused_until_s = 0.0  # monotonic
        self._segment = 0
        self._offset = 0
        self._rotate_at = 0
        self._fd = -1
        self._syncer = _Syncer(self.directory.path, self._sync_failed)

    @property
    def size_bytes(self) -> int:
        """On disk, what `hold` added included."""
        return self._held + self._offset

    @property
    def age_s(self) -> float:
        """How long this process writes, whatever the clock on the wall did meanwhile."""
        return _boottime_s() - self._begun_s

    @property
    def accepted(self) -> int:
        """Settles taken, those still waiting for the disk included."""
        return self._written + len(self._waiting)

    @property
    def unsettled(self) -> int:
        """Requests opened and not settled, on disk at least."""
        return len(self._unsettled)

    @property
    def waiting(self) -> int:
        """Settles in memory because the disk refused them."""
        return len(self._waiting)

    @property
    def fsync_errors(self) -> int:
        """How often the disk failed to confirm; after a power cut that segment may lack records."""
        return self._syncer.errors

    @property
    def takes_requests(self) -> bool:
        """Whether an opening would find room now. A disk that refused one is believed for some seconds."""
        refused = time.monotonic() < self._refused_until_s
        return not (self._closed or self._waiting or refused) and self._has_room(2 * _RESERVE_BYTES)

    @property
    def end(self) -> Position:
        """The place after the last written record."""
        return Position(self._segment, self._offset if self._fd >= 0 else self._left_at)

    @property
    def deletable_below(self) -> int:
        """Segments below this number are needed by the shipper only, also after a power cut."""
        return self._syncer.synced_segment

    def open(self, opening: Opening) -> None:
        """Append an opening. Raises LedgerFullError when there is no room: refuse the request."""
        if self._closed or (self._waiting and not self.write_waiting()):
            raise LedgerFullError
        frame = encode_frame(opening)
        unsettled = self._unsettled
        needed_bytes = (len(unsettled) + 1) * _RESERVE_BYTES + len(frame)  # as in _has_room, without the call
        if self._held + self._offset + needed_bytes > self._max_bytes:
            raise LedgerFullError
        try:
            self._write(frame)
        except OSError:
            self.write_errors += 1
            self._refused_until_s = time.monotonic() + _REFUSED_S
            raise LedgerFullError from None
        unsettled[opening.request_id] = frame

    def settle(self, outcome: Outcome) -> None:
        """Append the outcome. Room for it was reserved by `open`; never raises for lack of it."""
        if outcome.account_id == 0:
            return
        request_id = outcome.request_id
        frame = encode_frame(outcome)
        if request_id not in self._unsettled and (self._closed or self._waiting or not self._has_room(len(frame))):
            # A refusal of ours: without this a flood of refused requests would outgrow the bound.
            self.unrecorded += 1
            return
        try:
            self._write(frame)
        except OSError:
            self.write_errors += 1
            self._waiting[request_id] = frame
            return
        self._unsettled.pop(request_id, None)
        self._written += 1

    def write_waiting(self) -> bool:
        """Try again to write settles the disk refused; whether none is left."""
        while self._waiting:
            request_id, frame = next(iter(self._waiting.items()))
            try:
                self._write(frame)
            except OSError:
                self.write_errors += 1
                return False
            del self._waiting[request_id]
            self._unsettled.pop(request_id, None)
            self._written += 1
        return True

    def start_segment(self) -> None:
        """Let the next record begin a new segment: the shipper found the present one damaged."""
        self._rotate_at = 0

    def leave_segment(self) -> None:
        """Begin a new segment now, so that the present one goes as soon as it is stored: it names somebody erased."""
        self.start_segment()
        if self._fd >= 0 and self._offset and not (self._unsettled or self._waiting or self._closed):
            with contextlib.suppress(OSError):  # the next record tries again
                self._rotate()
                self._syncer.begin(self._fd, self._segment)

    def written_through(self, segment: int) -> int:
        """Settles written from the start to the end of a segment that is not the present one."""
        return self._ends[segment].settles if segment in self._ends else self._written

    def bytes_of(self, segment: int) -> int:
        """Bytes written to a segment."""
        if segment == self._segment and self._fd >= 0:
            return self._offset
        return self._ends[segment].bytes - self._ends[segment - 1].bytes

    def leave_cut_segment(self, *, by_name: bool = False) -> bool:
        """Whether somebody truncated or removed the present segment; then no more is written to it.

        `by_name`: also whether its name still leads to it.
        """
        if self._fd < 0:
            return False
        there = os.fstat(self._fd)
        left_at = there.st_size if there.st_nlink else 0
        if by_name and self.directory.segment_inode(self._segment) != there.st_ino:
            left_at = 0
        if left_at >= self._offset:
            return False
        self.cut_segments += 1
        self._left_at = left_at
        self._held -= self._offset - left_at
        self._retire()
        return True

    def bytes_after(self, place: Position) -> int:
        """Bytes written to segments behind a place in them."""
        total = self._ends[self._segment - 1].bytes + self._offset if self._fd >= 0 else self._ends[self._segment].bytes
        return total - self._ends[place.segment - 1].bytes - place.offset

    def hold(self, byte_count: int) -> None:
        """Count bytes of adopted directories (negative: of deleted segments) against the bound."""
        self._held += byte_count

    def close(self) -> None:
        """Sync and stop. The directory stays locked: ship and remove it, or unlock it."""
        if self._closed:
            return
        self.write_waiting()
        self._closed = True
        self._retire()
        self._syncer.stop()

    def _has_room(self, byte_count: int) -> bool:
        return self._held + self._offset + len(self._unsettled) * _RESERVE_BYTES + byte_count <= self._max_bytes

    def _write(self, frame: bytes) -> None:
        """Append a frame here, else in a new segment; raises OSError when neither takes it."""
        if not self._syncer.dirty:  # once for all that share a sync
            self.leave_cut_segment()
        if 0 < self._offset < self._rotate_at:  # the way of nearly every record: one call, few steps
            try:
                if os.write(self._fd, frame) == len(frame):
                    self._offset += len(frame)
                    if not self._syncer.dirty:
                        self._syncer.touch()
                    return
            except OSError:
                pass
            self._truncate()
            self._rotate_at = 0
        self._write_slowly(frame)

    def _write_slowly(self, frame: bytes) -> None:
        """The first frame of a segment, behind the openings that wait. Tries one new segment, never a row of them."""
        if self._offset or self._fd < 0:
            self._rotate()
        data = b"".join([*self._unsettled.values(), frame])
        try:
            written = os.write(self._fd, data)
        except OSError:
            self._truncate()
            raise
        if written != len(data):
            self._truncate()
            raise OSError("short write")
        self._rotate_at = self._segment_bytes + written - len(frame)
        self._offset = written
        self._syncer.begin(self._fd, self._segment)

    def _truncate(self) -> None:
        """Take back part of a frame. If that fails, the reader meets a torn end and goes on with the next segment."""
        try:
            os.ftruncate(self._fd, self._offset)
        except OSError:
            if not self._offset:
                self._retire()  # never append behind the torn bytes

    def _rotate(self) -> None:
        number = self._segment + 1
        path = self.directory.segment_path(number)
        fd = open_private(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)
        self._retire()
        self._fd, self._segment, self._left_at = fd, number, 0

    def _retire(self) -> None:
        if self._fd >= 0:
            self._ends[self._segment] = _End(self._written, self._ends[self._segment - 1].bytes + self._offset)
            self._syncer.retire(self._fd)
        self._fd = -1
        self._held += self._offset
        self._offset = 0

    def _sync_failed(self, fd: int) -> None:
        """Called in the thread: the next record goes to a new segment."""
        if fd == self._fd:
            self._rotate_at = 0


def _boottime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class _Present(NamedTuple):
    """The segment that is written to."""

    fd: int
    segment: int


class _Syncer:
    """The thread that makes written bytes durable: all that came within one window with one fdatasync."""

    def __init__(self, directory: Path, on_failure: Callable[[int], None]) -> None:
        self.errors = 0
        self.dirty = False  # bytes came since the last sync began; `touch` need not be called again
        self.synced_segment = 0  # the last whose first write is on disk, with its name
        self._on_failure = on_failure
        self._failed = -1
        self._directory = directory
        self._names_changed = False
        self._retired: deque[int] = deque()
        self._present = _Present(-1, 0)
        self._stopping = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spool-sync", daemon=True)
        self._thread.start()

    def begin(self, fd: int, segment: int) -> None:
        """The first bytes were written to a new segment."""
        self._names_changed = True  # before the thread can see the segment: its name is synced first
        self._present = _Present(fd, segment)
        self.touch()

    def touch(self) -> None:
        """Bytes were written."""
        self.dirty = True
        self._wake.set()

    def retire(self, fd: int) -> None:
        """No more bytes come to `fd`: sync and close it. Only the thread closes, so it never syncs a reused number."""
        self._present = _Present(-1, 0)
        self._retired.append(fd)
        self.touch()

    def stop(self) -> None:
        """Sync all and end the thread."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while self.dirty or not self._stopping:
            self._wake.wait()
            if not self._stopping:
                time.sleep(_COMMIT_WINDOW_S)
            self._wake.clear()
            self.dirty = False
            self._sync_all()

    def _sync_all(self) -> None:
        present = self._present
        named = not self._names_changed or self._sync_names(present.fd)
        while self._retired:
            fd = self._retired.popleft()
            self._sync(fd)
            if self._failed == fd:
                self._failed = -1
            if present.fd == fd:
                present = _Present(-1, 0)  # retired after the look at it
            with contextlib.suppress(OSError):
                os.close(fd)
        if present.fd >= 0 and self._sync(present.fd) and named:
            self.synced_segment = present.segment

    def _sync_names(self, fd: int) -> bool:
        self._names_changed = False
        try:
            sync_directory(self._directory)
        except OSError:
            self.errors += 1
            self._names_changed = True
            self._on_failure(fd)
            return False
        return True

    def _sync(self, fd: int) -> bool:
        if fd == self._failed:
            return False  # a second fdatasync would succeed without the bytes being there
        try:
            os.fdatasync(fd)
        except OSError:
            self.errors += 1
            self._failed = fd
            self._on_failure(fd)
            return False
        return True
