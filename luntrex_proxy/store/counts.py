"""What became of the settles of this process and of the directories it adopted, each in exactly one place.

`accepted = stored + spooled + quarantined + expired + lost` at every moment. A settle of an adopted directory is
accepted when it is stored, quarantined or expired, and so is a request recovered as interrupted. `damaged_stretches`
and `torn_tails` count bytes set aside that hold no readable record.
"""

from collections.abc import Sequence

from luntrex_proxy.store.failures import on_files
from luntrex_proxy.store.frames import Frame
from luntrex_proxy.store.source import Source, position_after, position_of
from luntrex_proxy.store.spool import Spool


class Counts:
    """Counted since the start, but for `spooled`."""

    def __init__(self, spool: Spool | None) -> None:
        self.stored = 0
        self.quarantined = 0
        self.expired = 0  # left no row: retention had dropped their day before they came
        self.lost = 0  # gone from the disk before they were stored
        self.interrupted = 0  # of the stored ones
        self.damaged_stretches = 0
        self.torn_tails = 0
        self._spool = spool
        self._adopted_settles = 0

    @property
    def accepted(self) -> int:
        """Settles taken by this process's spool and from adopted directories."""
        return self._adopted_settles + (0 if self._spool is None else self._spool.accepted)

    @property
    def spooled(self) -> int:
        """Settles accepted of which nothing else is decided yet."""
        return self.accepted - self.stored - self.quarantined - self.expired - self.lost

    def count(self, source: Source, frames: Sequence[Frame]) -> int:
        """Settles that the database took and that were not counted before; how many have a row."""
        parked = expired = withheld = 0
        if source.parked or source.expired or source.withheld:
            ends = {position_after(frame) for frame in frames}
            parked, expired = len(source.parked & ends), len(source.expired & ends)
            withheld = len(source.withheld.keys() & {position_of(frame) for frame in frames})
            source.parked.clear()
            source.expired.clear()
        source.settles += len(frames)
        rows = len(frames) - parked - expired - withheld
        self.quarantined += parked
        self.expired += expired
        self.stored += rows
        if source.spool is None:
            self._adopted_settles += len(frames) - withheld
        return rows

    def count_late_parked(self, source: Source, records: int) -> None:
        """Records that were withheld are in the quarantine now."""
        self.quarantined += records
        if source.spool is None:
            self._adopted_settles += records

    async def count_unread(self, source: Source, last: int) -> None:
        """At the end of a segment of this process: settles written up to there and never read.

        They lie in what was set aside, or the file is gone or shorter than what was written to it.
        """
        spool = source.spool
        if spool is None or spool.written_through(last) <= source.settles:
            return
        for segment in range(source.read.segment, last + 1):
            missing = max(0, spool.written_through(segment) - source.settles)
            if missing and await on_files(source.directory.segment_size, segment) < spool.bytes_of(segment):
                self.lost += missing
            else:
                self.quarantined += missing
            source.settles += missing
