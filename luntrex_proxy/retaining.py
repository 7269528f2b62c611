"""Retention in the daemon: days of usage each hour, everything else once a day; what metrics and alarms say of it."""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from luntrex_proxy.observe import logs
from luntrex_proxy.observe.metrics import Metrics
from luntrex_proxy.settings.retention import RetentionPeriods
from luntrex_proxy.store import aging, idle, keeping
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.keeping import ALARM, DAILY, ClockError, SteadyClock
from luntrex_proxy.store.partitions import ensure_partitions
from luntrex_proxy.store.retention import Dropped, drop_old

_EVERY_S = 3600.0
_DROPPED_AT_ONCE_DAYS = 7  # in an hour; `retention run` has no such bound

log = structlog.get_logger()


class Retention:
    """The chore, and what it knows for metrics."""

    def __init__(
        self, pool: Pool, state_directory: Path, settings: RetentionPeriods, *, sends_mail: bool = False
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._sends_mail = sends_mail
        self._state_directory = state_directory
        self._days = settings.by_class()
        self._clock = SteadyClock()
        self._begun = _now()
        self._succeeded_at: datetime | None = None
        self._oldest: Mapping[str, datetime] = {}
        self._alarmed = False

    def success_age_s(self) -> float:
        """Seconds since a run was whole; before the first one, since this process began."""
        return (_now() - (self._succeeded_at or self._begun)).total_seconds()

    def is_overdue(self) -> bool:
        """Whether the last whole run is more than 26 hours ago."""
        return self.success_age_s() > ALARM.total_seconds()

    def oldest_s(self) -> dict[str, float]:
        """The age of the oldest row of each class, as of the last hour."""
        now = _now()
        return {name: (now - at).total_seconds() for name, at in self._oldest.items()}

    def show_in(self, metrics: Metrics) -> None:
        """Have each scrape read it."""
        metrics.watch("luntrex_retention_oldest_seconds", self.oldest_s)
        metrics.watch("luntrex_retention_success_age_seconds", self.success_age_s)
        metrics.watch("luntrex_retention_overdue", lambda: int(self.is_overdue()))

    async def keep(self) -> None:
        """Whatever fails, the next hour tries again."""
        while True:
            try:
                await self.round()
            except ClockError as error:
                log.warning("luntrex.retention_refused", reason="clock", hint=str(error)[:256])
            except Exception as error:  # noqa: BLE001 -- the shipper makes a missing day itself, and old data can wait
                log.warning("luntrex.keeping_failed", **logs.describe(error))
            if self.is_overdue() != self._alarmed:
                self._alarmed = not self._alarmed
                log.error("luntrex.retention_overdue" if self._alarmed else "luntrex.retention_runs_again")
            await asyncio.sleep(_EVERY_S)

    async def round(self) -> None:
        """What one hour does."""
        now = _now()
        await ensure_partitions(self._pool, now.date())
        self._succeeded_at = await keeping.succeeded_at(self._pool)
        is_proven = self._clock.is_proven()
        if not is_proven:
            await keeping.check_clock(self._pool, now)
        dropped = Dropped()
        try:
            periods = keeping.periods(self._days)
            await drop_old(self._pool, now.date(), periods, dropped, at_most_days=_DROPPED_AT_ONCE_DAYS)
        finally:
            if dropped.any:
                _tell_usage(dropped)
        if dropped.finished and (self._succeeded_at is None or now - self._succeeded_at >= DAILY - timedelta(hours=1)):
            await self._run(now, is_proven)
        self._oldest = await aging.oldest(self._pool)

    async def _run(self, now: datetime, is_proven: bool) -> None:
        done = await keeping.run(
            self._pool, self._state_directory, now, self._days, clock_is_right=is_proven, with_usage=False
        )
        self._succeeded_at = await keeping.succeeded_at(self._pool)
        if self._sends_mail:
            await self._end_idle(await keeping.believed(self._pool, now))
        if done.any:
            log.info("luntrex.retention_dropped", rows=sum(done.rows.values()), count=done.audit_entries)

    async def _end_idle(self, now: datetime) -> None:
        """Accounts that nobody uses: their owners are told, and those told in time are erased."""
        periods = (self._settings.idle_account_days, self._settings.idle_notice_days)
        erased = await idle.erase_idle(self._pool, self._state_directory, now, *periods, self._settings.audit_days)
        told = await idle.tell_owners(self._pool, now, *periods)
        if erased or told:
            log.info("luntrex.idle_accounts", count=told, rows=erased)


def _tell_usage(dropped: Dropped) -> None:
    log.info(
        "luntrex.retention_dropped",
        days=len(dropped.days),
        rows=dropped.requests,
        hourly_sums=dropped.hourly_sums,
        daily_sums=dropped.daily_sums,
        positions=dropped.positions,
    )


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)
