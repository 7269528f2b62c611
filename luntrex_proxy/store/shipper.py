"""When spool directories go to the tables: one round after the other, adoption, waits, failures and the end.

What happens to one directory in its turn is `shipping.py`.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from pathlib import Path

from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.deposit import Deposit
from luntrex_proxy.store.failures import ABOUT_ONE_DIRECTORY, Failure, failure_of, on_files
from luntrex_proxy.store.recovery import adopt_dead
from luntrex_proxy.store.shipping import Shipping
from luntrex_proxy.store.source import Source
from luntrex_proxy.store.spool import Spool

_POLL_S = 0.5  # between batches: each is a transaction, and many small ones cost Postgres more CPU per record
_ADOPT_EVERY_S = 60.0
_CONFIRM_EVERY_S = 3600.0  # the position of an idle process stays younger than any retention
_BACKOFF_S_MAX = 5.0
_ATTEMPT_S = 30.0  # then the connection is dropped, whatever it waits for
_STALLED_S = 5.0  # an attempt that takes longer is trouble already


class Shipper(Shipping):
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
        deposit = Deposit(pool_source, attempt_s, on_step)
        super().__init__(spool, deposit, confirm_every_s=confirm_every_s, on_step=on_step)
        self.unreadable_directories = 0  # of dead processes, when last looked for; another user's
        self.adopted_bytes = 0  # of all directories adopted so far
        self._root = root
        self._adopt_every_s = adopt_every_s
        self._failures_max = failures_max  # None: never give up
        self._adopt_at = 0.0
        self._adopted_once = False
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
                progressed |= await self.step(source)
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
        adopting = asyncio.ensure_future(on_files(adopt_dead, self._root, own))
        try:
            adopted, self.unreadable_directories = await asyncio.shield(adopting)
        except asyncio.CancelledError:
            for one in (await adopting)[0]:  # the thread goes on: what it locks the next would find locked
                one.directory.unlock()
            raise
        for one in adopted:
            source = Source(one.directory, None, one.byte_count, one.written_s)
            self.adopted_bytes += source.byte_count
            if self._spool is not None:
                self._spool.hold(source.byte_count)
            self._sources.append(source)
            self._on_step("adopted")
        self._adopted_once = True
