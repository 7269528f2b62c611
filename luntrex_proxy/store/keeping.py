"""One run of retention over all classes, whether the clock can be believed, and how old what is there has become.

The daemon runs it once a day, `retention run` at any time. `retention_run` says when it was whole last.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from luntrex_proxy.store import aging, auditcut, retention
from luntrex_proxy.store.anchors import own_anchors
from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.retention import Dropped, Periods

DAILY: Final = timedelta(days=1)
ALARM: Final = timedelta(hours=26)
JUMP: Final = timedelta(days=2)


@dataclass(slots=True)
class Run:
    """What a run dropped, or would: days and sums of usage, entries of the audit log, rows of every other table."""

    usage: Dropped = field(default_factory=Dropped)
    audit_entries: int = 0
    rows: dict[str, int] = field(default_factory=dict)  # by table
    finished: bool = False

    @property
    def any(self) -> bool:
        """Whether anything went."""
        return bool(self.usage.any or self.audit_entries or self.rows)


class ClockError(RefusedError):
    """The time is too far from that of the last run: nothing is dropped until somebody has looked at the clock."""


class SteadyClock:
    """Whether the wall clock went as the monotonic one did for a day: then it is right whatever the last run says."""

    def __init__(self) -> None:
        self._wall_s, self._steady_s = time.time(), time.monotonic()

    def is_proven(self) -> bool:
        """Whether it is. A jump of more than two days begins the day anew."""
        wall_s, steady_s = time.time(), time.monotonic()
        if abs((wall_s - self._wall_s) - (steady_s - self._steady_s)) > JUMP.total_seconds():
            self._wall_s, self._steady_s = wall_s, steady_s
        return steady_s - self._steady_s >= DAILY.total_seconds()

    async def believed(self, pool: Pool, now: datetime) -> datetime:
        """The time to go by where what is due cannot be undone. ClockError: it may have jumped, and is not proven."""
        if not self.is_proven():
            await check_clock(pool, now)
        return await believed(pool, now)


async def run(
    pool: Pool,
    state_directory: Path,
    now: datetime,
    days: Mapping[str, int],
    *,
    clock_is_right: bool = False,
    with_usage: bool = True,
) -> Run:
    """Drop everything that is older than its class allows. ClockError: the clock may have jumped.

    `finished` is False when another process is at it or something old is in use; then run it again later. `with_usage`
    False: whoever asks has dropped the old days.
    """
    if not clock_is_right:
        await check_clock(pool, now)
    now, done = await believed(pool, now), Run()
    if with_usage:
        await retention.drop_old(pool, now.date(), periods(days), done.usage)
    with contextlib.suppress(*retention.BUSY):
        async for table, rows in aging.delete_old(pool, now, days):
            done.rows[table] = done.rows.get(table, 0) + rows
        line = now - timedelta(days=days["audit"])
        anchors = await asyncio.to_thread(own_anchors, state_directory, line)
        done.audit_entries = await auditcut.cut(pool, line, anchors)
        done.finished = done.usage.finished or not with_usage
    if done.finished:
        with store_errors("note that old data was dropped"):
            await pool.execute("UPDATE retention_run SET succeeded_at = $1", now)
    return done


async def due(pool: Pool, state_directory: Path, now: datetime, days: Mapping[str, int]) -> Run:
    """What `run` would drop now. Changes nothing."""
    now = await believed(pool, now)
    line = now - timedelta(days=days["audit"])
    anchors = await asyncio.to_thread(own_anchors, state_directory, line)
    return Run(
        usage=await retention.due(pool, now.date(), periods(days)),
        audit_entries=await auditcut.count(pool, line, anchors),
        rows=await aging.count_old(pool, now, days),
    )


async def succeeded_at(pool: Pool) -> datetime | None:
    """When a run was whole last; None: never."""
    with store_errors("say when old data was dropped"):
        last: datetime | None = await pool.fetchval("SELECT max(succeeded_at) FROM retention_run")
        return last


async def check_clock(pool: Pool, now: datetime) -> None:
    """Raise ClockError when it is more than two days since the last run, or before it."""
    last = await succeeded_at(pool)
    if last is not None and not -JUMP <= now - last <= JUMP:
        raise ClockError(
            f"The last run was on {last:%Y-%m-%d} and now it is {now:%Y-%m-%d}, or the clock is wrong: "
            "look at it, then `luntrex-proxy retention run --clock-is-right`."
        )


async def believed(pool: Pool, now: datetime) -> datetime:
    """The earlier of our clock and the database's: a machine in another year must not drop what people need."""
    with store_errors("say what time it is"):
        theirs: datetime = await pool.fetchval("SELECT now()")
    return min(now, theirs)


def periods(days: Mapping[str, int]) -> Periods:
    """Those of usage."""
    return Periods(days["usage"], days["totals"])
