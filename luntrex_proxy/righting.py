"""Rights in the daemon: erasures whose time has come, clocks that run out, and whoever is erased stays erased, here and
in the files of this machine.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import structlog

from luntrex_proxy.control import clocks, rights
from luntrex_proxy.observe import logs
from luntrex_proxy.store import erasing, scrubbing
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import StoreUnavailableError
from luntrex_proxy.store.keeping import ClockError, SteadyClock
from luntrex_proxy.store.tombstones import TOMBSTONE_FILE

_EVERY_S = 5.0

log = structlog.get_logger()


class Rights:
    """The chore. `new_segment` lets the spool begin another file, so that the one with erased ids goes when stored."""

    def __init__(
        self, pool: Pool, state_directory: Path, audit_days: int, new_segment: Callable[[], None] = lambda: None
    ) -> None:
        self._pool = pool
        self._state_directory = state_directory
        self._audit_days = audit_days
        self._new_segment = new_segment
        self._graves = (-1, -1)
        self._clock, self._waits = SteadyClock(), False
        self._due: dict[str, datetime] = {}

    def due_s(self) -> dict[str, float]:
        """Seconds until the next end of each legal clock that runs, as of the last round; negative: it is over."""
        now = _now()
        return {clock: (due - now).total_seconds() for clock, due in self._due.items()}

    async def begin(self) -> None:
        """Before READY: nobody comes back by a restore. Raises StoreError."""
        erased = await erasing.catch_up(self._pool, self._state_directory, _now(), self._audit_days)
        if erased:
            log.warning("luntrex.erased_again", count=erased)
        await self._scrub()

    async def keep(self) -> None:
        """Whatever fails, the next round tries again."""
        told = False
        while True:
            try:
                await self.round()
                told = False
            except StoreUnavailableError:
                pass  # luntrex.database_lost says so
            except Exception as error:  # noqa: BLE001 -- nothing of it is lost: tombstones and requests are on record
                if not told:
                    log.warning("luntrex.rights_failed", **logs.describe(error))
                told = True
            await asyncio.sleep(_EVERY_S)

    async def round(self) -> None:
        """What a few seconds do."""
        await self._erase_due()
        if await self._seen() != self._graves:  # somebody was erased meanwhile, here or by another process
            await erasing.catch_up(self._pool, self._state_directory, _now(), self._audit_days)
            self._new_segment()
            await self._scrub()
        await rights.lapse(self._pool)
        self._due = await clocks.next_due(self._pool)
        for request, stage in await rights.warnings(self._pool, _now()):
            log.warning("luntrex.right_is_due", request_id=str(request.request_id), state=stage.value)

    async def _erase_due(self) -> None:
        """Whoever has time to think keeps it when the clock has jumped; then as with retention (keeping.py)."""
        try:
            now = await self._clock.believed(self._pool, _now())
        except ClockError as error:
            if not self._waits:
                log.warning("luntrex.erasures_wait", reason="clock", hint=str(error)[:256])
            self._waits = True
            return
        self._waits = False
        await rights.carry_out_due(self._pool, self._state_directory, now, self._audit_days)

    async def _scrub(self) -> None:
        await scrubbing.scrub_quarantine(self._pool, self._state_directory / "spool")
        self._graves = await self._seen()

    async def _seen(self) -> tuple[int, int]:
        """How many tombstones table and file have."""
        path = self._state_directory / TOMBSTONE_FILE
        return await erasing.count_graves(self._pool), path.stat().st_size if path.exists() else 0


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)
