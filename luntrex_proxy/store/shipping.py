"""From the files of one spool directory to the tables: read, ship, delete, finish. The only reader of spools.

Delivery is at least once, the effect exactly once (`deposit.py`). There is no queue in memory: what is not stored is
read from the files again. When each directory has its turn is `shipper.py`.
"""

import asyncio
import time
from collections.abc import Callable

from luntrex_proxy.core.outcome import Outcome
from luntrex_proxy.store.counts import Counts
from luntrex_proxy.store.deposit import Deposit
from luntrex_proxy.store.failures import Failure, SpoolUnreadableError, on_files
from luntrex_proxy.store.frames import Problem
from luntrex_proxy.store.recovery import closing_frame, follow_openings
from luntrex_proxy.store.segments import Chunk, closing_place, next_sound, read_chunk
from luntrex_proxy.store.source import START, Source, frames_behind
from luntrex_proxy.store.spool import Spool

_QUARANTINE_AGAIN_S = 5.0
_BATCH_RECORDS = 4_000  # two per request; with 10,000 shipping is no faster and freeing them holds the loop for 6 ms
_BEHIND_BYTES = 1024 * 1024  # about a batch: with more than this to ship, the next one follows at once


class Shipping(Counts):
    """Steps of directories, and what they count."""

    def __init__(
        self, spool: Spool | None, deposit: Deposit, *, confirm_every_s: float, on_step: Callable[[str], None]
    ) -> None:
        super().__init__(spool)
        self.failures: dict[str, int] = dict.fromkeys(set(Failure) - {Failure.NONE}, 0)  # by reason
        self.last_error_code = Failure.NONE  # NONE: nothing keeps records from being stored
        self._deposit = deposit
        self._confirm_every_s = confirm_every_s
        self._on_step = on_step  # tests stop the process here
        self._sources = [] if spool is None else [Source(spool.directory, spool)]
        self._draining = asyncio.Event()

    async def step(self, source: Source) -> bool:
        """One batch of a directory, or what follows its last; whether there is more that should not wait."""
        if source.closed:
            await self._remove(source)
            return True
        if source.withheld and source.quarantine_at < time.monotonic():
            await self._retry_quarantine(source)
        spool = source.spool
        if spool is not None and source.read >= spool.end:
            return await self._rest(source, spool)
        source.behind_since_s = source.behind_since_s or time.time()
        if source.stored is None:
            await self._deposit.load(source)
            if source.closed:
                return True
        whole = None if spool is None else spool.end  # up to here the writer has written whole frames
        chunk = await on_files(read_chunk, source.directory.path, source.read, _BATCH_RECORDS)
        moved = True
        if chunk.openings or chunk.settles:
            await self._ship(source, chunk)
        elif spool is not None and whole is not None and chunk.after < whole and spool.leave_cut_segment(by_name=True):
            if chunk.problem is Problem.NONE:
                source.read = max(source.read, spool.end)
        elif chunk.problem is Problem.NONE:
            source.read = chunk.after
            if chunk.at_end and spool is None:
                await self._close(source)
            moved = spool is None or not chunk.at_end
        elif whole is not None and chunk.at_end and chunk.after >= whole:
            moved = False  # half of a write
        else:
            await self._skip_damage(source, chunk)
        await self._delete_shipped(source)
        return moved and self._is_behind(source)

    async def _rest(self, source: Source, spool: Spool) -> bool:
        """All that this process wrote is read."""
        await self.count_unread(source, spool.end.segment)
        await self._delete_shipped(source)  # what was withheld kept some
        source.behind_since_s = 0.0
        if source.stored is None:
            if source.known is not None or self._draining.is_set():
                await self._deposit.load(source)
                return True
            return False
        now_s = time.monotonic()
        if source.confirm_at < now_s:
            if source.confirm_at:
                await self._deposit.commit(source, [], source.stored)
            source.confirm_at = now_s + self._confirm_every_s
        return await self._finish_own(source, spool)

    async def _retry_quarantine(self, source: Source) -> None:
        try:
            self.count_late_parked(source, await self._deposit.set_withheld_aside(source))
        except SpoolUnreadableError:
            source.quarantine_at = time.monotonic() + _QUARANTINE_AGAIN_S
            self._note_quarantine()

    def _note_quarantine(self) -> None:
        self.last_error_code = Failure.QUARANTINE
        self.failures[Failure.QUARANTINE] += 1

    def _is_behind(self, source: Source) -> bool:
        """Whether the next batch follows at once; less than a batch can wait until it is worth a transaction."""
        spool = source.spool
        if spool is None or self._draining.is_set() or source.read.segment < spool.end.segment:
            return True
        return source.bytes_behind >= _BEHIND_BYTES

    async def _ship(self, source: Source, chunk: Chunk) -> None:
        settles = frames_behind(chunk.settles, source.stored or START)
        withheld = len(source.withheld)
        if settles:
            await self._deposit.store(source, settles)
        if len(source.withheld) > withheld:
            self._note_quarantine()
        if source.spool is None:
            await asyncio.to_thread(follow_openings, source.waiting, chunk)
        elif chunk.segment > source.read.segment:
            await self.count_unread(source, chunk.segment - 1)
        self.count(source, frames_behind(chunk.settles, source.counted))
        if chunk.settles and isinstance(last := chunk.settles[-1].record, Outcome):
            source.behind_since_s = (last.started_us + last.duration_us) / 1e6  # what follows was written after it
        source.advance(chunk.after)

    async def _skip_damage(self, source: Source, chunk: Chunk) -> None:
        """Set bytes that cannot be read aside and go on with the next sound frame."""
        spool = source.spool
        if spool is not None and chunk.segment == spool.end.segment:
            spool.start_segment()  # nothing may be appended behind what is looked at now
        following = await on_files(next_sound, source.directory.path, chunk.after)
        in_segment = following.segment == chunk.segment
        end = following.offset if in_segment else None
        if not await self._deposit.withhold_or_set_aside(source, chunk.after, end, is_record=False):
            self._note_quarantine()
        await self._deposit.commit(source, [], max(following, source.stored or START))
        if chunk.problem is Problem.TORN and not in_segment:
            self.torn_tails += 1
        else:
            self.damaged_stretches += 1
        if not in_segment:
            await self.count_unread(source, chunk.segment)
        source.advance(following)

    async def _delete_shipped(self, source: Source) -> None:
        """Delete segments of this process that hold nothing more to ship. Adopted ones go with their directory."""
        spool = source.spool
        if spool is None:
            return
        needed = [source.read.segment, *(start.segment for start in source.withheld)]
        below = min(*needed, spool.deletable_below)
        if below <= source.deleted_below:
            return
        for number in await on_files(source.directory.segments):
            if number < below:
                spool.hold(-await on_files(source.directory.delete_segment, number))
                self._on_step("segment_deleted")
        source.deleted_below = below

    async def _finish_own(self, source: Source, spool: Spool) -> bool:
        """When draining and all is shipped and settled, close this process's own directory."""
        if not self._draining.is_set() or spool.unsettled or spool.waiting or source.withheld:
            return False
        spool.close()
        place = await on_files(closing_place, source.directory.path)
        await self._deposit.commit(source, [], place, closed=True)
        return True

    async def _close(self, source: Source) -> None:
        """End of an adopted directory: what was never settled becomes interrupted, in the closing transaction."""
        place = await on_files(closing_place, source.directory.path)
        frames = [closing_frame(opening) for opening in source.waiting.values()]
        if frames:
            await self._deposit.store(source, frames, place, closed=True)
        else:
            await self._deposit.commit(source, [], place, closed=True)
        if source.closed:  # else something waits for the quarantine, and this comes again
            source.waiting.clear()
            self.interrupted += self.count(source, frames)

    async def _remove(self, source: Source) -> None:
        """Remove a closed directory, then its position: at no moment is there a directory without one."""
        if source.stored is None and not source.removed:
            await self._deposit.load(source)  # after a failure: an older database may have been brought back
            if not source.closed:
                return
        if not source.removed:
            self._on_step("closed")
            await on_files(source.directory.remove)
            source.removed = True
            if self._spool is not None:
                self._spool.hold(-source.byte_count)
            self._on_step("directory_removed")
        await self._deposit.forget(source)
        self._sources.remove(source)
        self._on_step("position_removed")
