"""From the spool files to the tables: when to read, ship, delete, adopt and finish. The only reader of spools.

Delivery is at least once, the effect exactly once (`deposit.py`). There is no queue in memory: what is not stored is
read from the files again.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from pathlib import Path

from luntrex_proxy.core.outcome import Outcome
from luntrex_proxy.store.counts import Counts
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.deposit import Deposit
from luntrex_proxy.store.failures import ABOUT_ONE_DIRECTORY, Failure, SpoolUnreadableError, failure_of, on_files
from luntrex_proxy.store.frames import Problem
from luntrex_proxy.store.recovery import adopt_dead, closing_frame, follow_openings
from luntrex_proxy.store.segments import Chunk, closing_place, next_sound, read_chunk
from luntrex_proxy.store.source import START, Source, frames_behind
from luntrex_proxy.store.spool import Spool

_POLL_S = 0.5  # between batches: each is a transaction, and many small ones cost Postgres more CPU per record
_ADOPT_EVERY_S = 60.0
_CONFIRM_EVERY_S = 3600.0  # the position of an idle process stays younger than any retention
_BACKOFF_S_MAX = 5.0
_ATTEMPT_S = 30.0  # then the connection is dropped, whatever it waits for
_STALLED_S = 5.0  # an attempt that takes longer is trouble already
_BATCH_RECORDS = 4_000  # two per request; with 10,000 shipping is no faster and freeing them holds the loop for 6 ms
_BEHIND_BYTES = 1024 * 1024  # about a batch: with more than this to ship, the next one follows at once


class Shipper(Counts):
    """One task on the loop. `pool_source` gives the pool, or None while there is no database."""

    def __init__(
        self,
        pool_source: Callable[[], Pool | None],
        root: Path,
        spool: Spool | None,
        *,
        adopt_every_s: float = _ADOPT_EVERY_S,
        confirm_every_s: float = _CONFIRM_EVERY_S,
        attempt_s: float = _ATTEMPT_S,
        failures_max: int | None = None,
        on_step: Callable[[str], None] = lambda _step: None,
    ) -> None:
        super().__init__(spool)
        self.unreadable_directories = 0  # of dead processes, when last looked for; another user's
        self.failures: dict[str, int] = dict.fromkeys(set(Failure) - {Failure.NONE}, 0)  # by reason
        self.last_error_code = Failure.NONE  # NONE: nothing keeps records from being stored
        self.adopted_bytes = 0  # of all directories adopted so far
        self._root = root
        self._adopt_every_s = adopt_every_s
        self._confirm_every_s = confirm_every_s
        self._failures_max = failures_max  # None: never give up
        self._on_step = on_step  # tests stop the process here
        self._deposit = Deposit(pool_source, attempt_s, on_step)
        self._sources = [] if spool is None else [Source(spool.directory, spool)]
        self._adopt_at = 0.0
        self._adopted_once = False
        self._draining = asyncio.Event()
        self._abandoned = False
        self._woken = asyncio.Event()
        self._step_at = float("inf")  # monotonic; when the attempt under way began
        self._task: asyncio.Task[None] | None = None

    @property
    def positions_refused(self) -> int:
        """Stored positions that could not be; what is on disk was stored again, so nothing is missing or double."""
        return self._deposit.positions_refused

    @property
    def backlog_bytes(self) -> int:
        """On disk and not read for storing yet, openings and adopted directories included."""
        return sum(source.bytes_behind for source in self._sources)

    def oldest_s(self, now_s: float) -> float:
        """Age of the oldest record not stored yet; 0 when there is none. `now_s` is unix time."""
        return max((now_s - source.behind_since_s for source in self._sources if source.behind_since_s), default=0.0)

    @property
    def trouble(self) -> Failure:
        """What keeps records from being stored; an attempt that takes long counts before it has failed."""
        if self.last_error_code is Failure.NONE and self._waits_s() > _STALLED_S:
            return Failure.TIMEOUT
        return self.last_error_code

    def retry(self) -> None:
        """The database was away and is back: let go of what waits on an older connection, and try now."""
        if self._waits_s() > 1.0:
            self._deposit.abort()
        self._woken.set()

    def start(self) -> None:
        """Begin shipping in the background."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="ledger-shipper")

    async def drain(self, deadline_s: float) -> bool:
        """Ship what is there and stop; True when every directory was finished and removed.

        Call it when no request is under way. What the deadline leaves behind, the next start adopts.
        """
        self._draining.set()
        self._woken.set()
        task = self._task or asyncio.get_running_loop().create_task(self._run(), name="ledger-shipper")
        await asyncio.wait({task}, timeout=deadline_s)
        if not task.done():
            self._abandoned = True  # the driver may keep a cancellation to itself while it gives a connection back
            self._deposit.abort()
            task.cancel()
            await asyncio.wait({task}, timeout=1.0)
        for source in self._sources:
            if source.spool is None and task.done():  # else the end of the process unlocks it
                source.directory.unlock()
        return self._adopted_once and not self._sources and not self.unreadable_directories

    async def _run(self) -> None:
        delay_s = 0.1
        while not self._is_finished():
            try:
                if not await self._round():
                    await self._pause(_POLL_S)
                delay_s = 0.1
            except Exception as error:  # noqa: BLE001 -- whatever the database did, the files keep the records
                self._note(error)
                await self._pause(delay_s * random.uniform(0.5, 1.0))  # noqa: S311 -- spreads retries, no secret
                delay_s = min(2 * delay_s, _BACKOFF_S_MAX)

    def _is_finished(self) -> bool:
        if self._abandoned:
            return True
        if self._failures_max is not None and sum(self.failures.values()) >= self._failures_max:
            return True
        return self._draining.is_set() and self._adopted_once and not self._sources

    async def _pause(self, delay_s: float) -> None:
        if self._draining.is_set():
            await asyncio.sleep(min(delay_s, 0.5))
            return
        self._woken.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._woken.wait()

    def _waits_s(self) -> float:
        return time.monotonic() - self._step_at

    def _note(self, error: Exception) -> None:
        self.last_error_code = failure_of(error)
        self.failures[self.last_error_code] += 1
        for source in self._sources:
            source.stored = None

    async def _round(self) -> bool:
        """One batch of every directory; whether there is more that should not wait."""
        await self._adopt()
        if self._spool is not None and self._spool.waiting:
            self._spool.write_waiting()
        progressed, failed = False, False
        for source in list(self._sources):
            if self._abandoned:
                return False
            if source.retry_at > time.monotonic():
                failed = True
                continue
            self._step_at = time.monotonic()
            try:
                progressed |= await self._step(source)
            except Exception as error:
                if failure_of(error) not in ABOUT_ONE_DIRECTORY:
                    raise
                failed = True
                source.retry_at = time.monotonic() + _BACKOFF_S_MAX
                self._note(error)
            finally:
                self._step_at = float("inf")
            failed |= bool(source.withheld)
        if not failed:
            self.last_error_code = Failure.NONE
        return progressed

    async def _adopt(self) -> None:
        if time.monotonic() < self._adopt_at:
            return
        self._adopt_at = time.monotonic() + self._adopt_every_s
        own = None if self._spool is None else self._spool.directory.boot_id
        adopted, self.unreadable_directories = await on_files(adopt_dead, self._root, own)
        for one in adopted:
            source = Source(one.directory, None, one.byte_count, one.written_s)
            self.adopted_bytes += source.byte_count
            if self._spool is not None:
                self._spool.hold(source.byte_count)
            self._sources.append(source)
            self._on_step("adopted")
        self._adopted_once = True

    async def _step(self, source: Source) -> bool:
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
            source.quarantine_at = time.monotonic() + _BACKOFF_S_MAX
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
