"""The spool of this process: openings and outcomes, appended to segment files. The only writer; fits the Ledger port.

What is promised. The death of the process loses nothing: who gives a record goes on once its bytes are in the page
cache. That is when the call returns; with a `then` it is when that is called, and all records that come with one in
the same turn of the loop are written at once: a write for each would be a tenth of what a request costs. A power cut
loses at most the last commit window (20 ms and one fdatasync). After a failed fdatasync the kernel may have dropped
pages of that segment, so it is never written again and the failure is counted; the shipper still stores what can be
read of it. A settle the disk refuses stays in memory, and new requests are refused, until it is written.

The first write to each segment begins with a copy of every opening that still waits for its settle. So once that is
synced, older segments can be deleted when they are shipped, however long a request runs; recovery needs none of them.
"""

import contextlib
import os
import time
import uuid
from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from luntrex_proxy.core.ledger import LedgerFullError
from luntrex_proxy.core.outcome import Opening, Outcome
from luntrex_proxy.store.frames import encode_frame
from luntrex_proxy.store.segments import Position, SpoolDirectory
from luntrex_proxy.store.state import open_private
from luntrex_proxy.store.syncer import Syncer

_MIB = 1024 * 1024
# Kept free for each opening: its settle, and one more copy of itself when segments change.
_RESERVE_BYTES = 1536
_REFUSED_S = 5.0

Then = Callable[[], None]


# A record that is written with the others of its turn: the request's id, of a settle the frame of its opening, whom to
# tell, and whom if the disk refuses it.
_PutOff = tuple[str, bytes, Then, Then]


class _End(NamedTuple):
    """Written from the start to the end of a segment that gets no more."""

    settles: int
    bytes: int


class Spool:
    """Appends to `<root>/<boot id>/`. All methods run on the loop's thread; a thread of its own only syncs."""

    def __init__(
        self,
        root: Path,
        boot_id: uuid.UUID,
        segment_bytes: int = 16 * _MIB,
        max_bytes: int = 4096 * _MIB,
        soon: Callable[[Then], object] | None = None,
    ) -> None:
        """`soon`: calls something once all that the loop has news of now is dealt with; None: at once."""
        self._soon = soon or (lambda then: then())
        self._batch: list[_PutOff] = []
        self._frames: list[bytes] = []  # of these, in their order
        self._settling = 0  # how many of these are settles
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
        self._syncer = Syncer(self.directory.path, self._sync_failed)

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

    def open(self, opening: Opening, then: Then | None = None, failed: Then | None = None) -> None:
        """Append an opening. Raises LedgerFullError when there is no room: refuse the request.

        Then `then` is called, or `failed` if the disk refused it; give both or neither.
        """
        if self._closed or (self._waiting and not self.write_waiting()):
            raise LedgerFullError
        frame, request_id, unsettled = encode_frame(opening), opening.request_id, self._unsettled
        needed_bytes = (len(unsettled) + len(self._frames) + 1) * _RESERVE_BYTES + len(frame)
        if self._held + self._offset + needed_bytes > self._max_bytes:  # as in _has_room, without the call
            raise LedgerFullError
        if then is None or failed is None:
            self._write_put_off()
            if not self._write_opening(request_id, frame):
                raise LedgerFullError
            return
        unsettled[request_id] = frame
        self._frames.append(frame)
        self._batch.append((request_id, b"", then, failed))
        if len(self._batch) == 1:
            self._soon(self.flush)

    def settle(self, outcome: Outcome, then: Then | None = None) -> None:
        """Append the outcome. Room for it was reserved by `open`; never raises for lack of it."""
        request_id = outcome.request_id
        if then is not None and request_id in self._unsettled:
            self._frames.append(encode_frame(outcome))
            self._settling += 1
            self._batch.append((request_id, self._unsettled.pop(request_id), then, then))
            if len(self._batch) == 1:
                self._soon(self.flush)
            return
        if outcome.account_id:
            self._write_put_off()  # its opening may be among it
            frame = encode_frame(outcome)
            if request_id not in self._unsettled and (self._closed or self._waiting or not self._has_room(len(frame))):
                # A refusal of ours: without this a flood of refused requests would outgrow the bound.
                self.unrecorded += 1
            else:
                self._write_settle(request_id, frame)
        if then is not None:
            then()

    def flush(self) -> None:
        """Write what was put off, and tell who waits for it."""
        self._tell(self._write_all())

    def _write_put_off(self) -> None:
        """Write it now, for the record that comes next; who waits for it is not told on this stack."""
        if told := self._write_all():
            self._soon(partial(self._tell, told))

    def _write_all(self) -> list[Then]:
        """Write what was put off; whom to tell."""
        batch, self._batch = self._batch, []
        frames, self._frames = self._frames, []
        if not batch:
            return []
        settling, self._settling = self._settling, 0
        whole = self._write_here(frames)
        if whole == len(batch):
            self._written += settling
            return [then for _, _, then, _ in batch]
        return self._write_singly(batch, frames, whole)

    def _write_singly(self, batch: list[_PutOff], frames: list[bytes], whole: int) -> list[Then]:
        """What could not be written together, of which so many are; whom to tell what became of it."""
        self._written += sum(bool(opened) for _, opened, _, _ in batch[:whole])
        for request_id, opened, _, _ in batch[whole:]:  # as if they came only now
            self._unsettled.pop(request_id, None)
            if opened:
                self._unsettled[request_id] = opened
        told = [then for _, _, then, _ in batch[:whole]]
        for (request_id, opened, then, failed), frame in zip(batch[whole:], frames[whole:], strict=True):
            if opened:
                self._write_settle(request_id, frame)
                told.append(then)
            else:
                told.append(then if self._write_opening(request_id, frame) else failed)
        return told

    def _tell(self, told: list[Then]) -> None:
        """A bug in one of them keeps neither the others waiting nor who is on this stack: the loop gets it."""
        for then in told:
            try:
                then()
            except Exception as bug:  # noqa: BLE001 -- see above
                self._soon(partial(_raise, bug))

    def _write_opening(self, request_id: str, frame: bytes) -> bool:
        try:
            self._write(frame)
        except OSError:
            self.write_errors += 1
            self._refused_until_s = time.monotonic() + _REFUSED_S
            return False
        self._unsettled[request_id] = frame
        return True

    def _write_settle(self, request_id: str, frame: bytes) -> None:
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
        self._write_put_off()  # of these too the opening must be in the segment that may begin now
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
        if self._fd >= 0 and self._offset and not (self._unsettled or self._batch or self._waiting or self._closed):
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
        self.flush()
        self.write_waiting()
        self._closed = True
        self._retire()
        self._syncer.stop()

    def _has_room(self, byte_count: int) -> bool:
        return self._held + self._offset + len(self._unsettled) * _RESERVE_BYTES + byte_count <= self._max_bytes

    def _write_here(self, frames: list[bytes]) -> int:
        """Write them behind the others of the segment, all at once; how many, from the first one on, are written."""
        if not self._syncer.dirty:  # once for all that share a sync
            try:
                self.leave_cut_segment()
            except OSError:
                return 0  # what can't be looked at can't be trusted with more: a new segment
        if not 0 < self._offset < self._rotate_at:
            return 0
        data, count = b"".join(frames), len(frames)
        try:
            written = os.write(self._fd, data)
        except OSError:
            written = 0
        if written == len(data):
            self._offset += written
        else:  # what is whole of it stays
            ends = [0, *accumulate(map(len, frames))]
            count = bisect_right(ends, written) - 1
            self._offset += ends[count]
            self._truncate()
            self._rotate_at = 0
        if not self._syncer.dirty:
            self._syncer.touch()
        return count

    def _write(self, frame: bytes) -> None:
        """Append a frame here, else in a new segment; raises OSError when neither takes it."""
        if not self._write_here([frame]):
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


def _raise(bug: Exception) -> None:
    raise bug


def _boottime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
