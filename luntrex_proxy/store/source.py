"""One spool directory on its way into the tables: how far it is read, counted and stored, and what it holds back."""

from typing import NamedTuple

from luntrex_proxy.store.frames import Frame
from luntrex_proxy.store.segments import Position, SpoolDirectory
from luntrex_proxy.store.spool import Spool

START = Position(0, 0)
WITHHELD_MAX = 1_000


class Withheld(NamedTuple):
    """Bytes that belong into the quarantine and wait in their segment until it has room."""

    end: int | None  # None: to the end of the segment
    is_record: bool


class Source:
    """One spool directory and how far it is read, counted and known to be stored."""

    def __init__(
        self, directory: SpoolDirectory, spool: Spool | None, byte_count: int = 0, written_s: float = 0.0
    ) -> None:
        self.directory = directory
        self.spool = spool  # None: adopted, nobody writes to it
        self.byte_count = byte_count  # of an adopted one, when it was adopted
        self.behind_since_s = written_s  # unix time of about the oldest record not stored; 0: none
        self.bytes_read = 0  # of an adopted one
        self.read = START
        self.stored: Position | None = None  # None: ask the database
        self.known: Position | None = None  # what the database said last, or took from us
        self.attempted: set[Position] = set()  # sent since then; the answers did not come
        self.counted = START  # settles up to here are in the counters
        self.settles = 0  # how many those were
        self.parked: set[Position] = set()  # ends of quarantined records, their batch not yet counted
        self.expired: set[Position] = set()  # likewise, of records that left no row
        self.withheld: dict[Position, Withheld] = {}  # by start; the stored position stays before the first
        self.waiting: dict[bytes, Frame] = {}  # adopted only: openings without a settle so far
        self.deleted_below = 0
        self.retry_at = 0.0  # monotonic; trouble with the files of this directory
        self.quarantine_at = 0.0  # monotonic; when what is withheld is tried again
        self.confirm_at = 0.0  # monotonic; when an idle position is looked at
        self.closed = False  # the database says it is finished
        self.removed = False
        self.again = False  # all of it is stored once more

    @property
    def bytes_behind(self) -> int:
        """Not read yet; of an adopted one no more is known than its size at adoption."""
        return max(0, self.byte_count - self.bytes_read) if self.spool is None else self.spool.bytes_after(self.read)

    def advance(self, to: Position) -> None:
        """All up to there is stored, set aside or waits in `waiting` or `withheld`, and is counted."""
        if to.segment == self.read.segment:
            self.bytes_read += to.offset - self.read.offset
        else:
            self.bytes_read += to.offset
        self.read = to
        self.counted = max(self.counted, to)

    def believe(self, place: Position, *, closed: bool) -> None:
        """The database holds this position."""
        self.stored = self.known = place
        self.closed = closed
        self.attempted.clear()

    def begin_again(self) -> None:
        """All that is on disk is read, and stored, once more: what is there already is skipped, and counted once."""
        self.believe(START, closed=False)
        self.again = True
        self.read = START
        self.bytes_read = 0

    def held(self, after: Position) -> Position:
        """How far the stored position may go: not beyond what still has to go into the quarantine."""
        if not self.withheld:
            return after
        return max(self.stored or START, min(after, *self.withheld))


def position_after(frame: Frame) -> Position:
    """The place where the next frame begins."""
    return Position(frame.segment, frame.end)


def position_of(frame: Frame) -> Position:
    """The place where the frame begins."""
    return Position(frame.segment, frame.start)


def frames_behind(frames: list[Frame], position: Position) -> list[Frame]:
    """Those that end behind a position; in nearly every batch all of them do."""
    if frames and position_after(frames[0]) > position:
        return frames
    return [frame for frame in frames if position_after(frame) > position]
