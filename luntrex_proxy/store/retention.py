"""What is dropped when it is old: day partitions of `usage`, sums, positions of spool directories. When, others say.

The line comes first: `usage_retention.kept_from` moves forward and is on record before anything goes, so no record that
comes late can come back. A run is a row of short transactions, each right by itself: one that is killed has done less,
not half. Each takes the advisory lock or leaves the work to the process that has it (it also works behind a pooler).

    single requests, hourly sums    older than usage_days
    daily sums                      older than totals_days
    positions of spool directories  not moved since a day before the oldest day kept (a process at rest confirms its own
                                    every hour): what such a directory can still hold and was stored before is below
                                    the line

What a legal hold concerns stays, also when the rest of its day goes.
"""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final

import asyncpg

from luntrex_proxy.store import subjects
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.partitions import drop_partition, partition_days

ADVISORY_LOCK: Final = 0x6C756E74_03
_BATCH_ROWS: Final = 10_000
# How long the shipper can have to wait behind a drop that itself waits for a reader.
_LOCK_WAIT: Final = "500ms"

_MOVE_LINE: Final = """
INSERT INTO usage_retention AS line (kept_from) VALUES ($1)
ON CONFLICT (only_row) DO UPDATE SET kept_from = greatest(line.kept_from, excluded.kept_from) RETURNING kept_from
"""
_LINE: Final = "SELECT nullif(max(kept_from), '-infinity') FROM usage_retention"
# $1 is the first day kept.
# $2 and $3 are accounts and keys of which a legal hold wants everything.
_SPARED: Final = "AND NOT (account_id = ANY($2::bigint[]) OR key_id = ANY($3::text[]))"
_OLD_ROWS: Final = f"usage WHERE started_at < $1::timestamptz {_SPARED}"
_HAS_HELD: Final = (
    "SELECT EXISTS (SELECT FROM usage WHERE started_at >= $1 AND started_at < $2"
    " AND (account_id = ANY($3::bigint[]) OR key_id = ANY($4::text[])))"
)
_OLD_HOURS: Final = f"usage_rollup WHERE hour < $1::timestamptz {_SPARED}"
_OLD_DAYS: Final = f"usage_rollup_daily WHERE day < ($1::timestamptz AT TIME ZONE 'UTC')::date {_SPARED}"
# The first of each account by the index: all rows would have to be read for a plain minimum.
_OLDEST: Final = """
(WITH RECURSIVE each (account_id) AS (
    SELECT min(account_id) FROM {table} UNION ALL
    SELECT (SELECT min(account_id) FROM {table} t WHERE t.account_id > each.account_id) FROM each
    WHERE each.account_id IS NOT NULL
) SELECT min((SELECT min({period}) FROM {table} t WHERE t.account_id = each.account_id)) FROM each)
"""
_OLDEST_SUMS: Final = (
    f"SELECT {_OLDEST.format(table='usage_total', period='hour')},"
    f" {_OLDEST.format(table='usage_total_daily', period='day')}"
)
_OLD_POSITIONS: Final = "spool_position WHERE updated_at < $1::timestamptz - interval '1 day'"


@dataclass(frozen=True, slots=True)
class Periods:
    """How long to keep, in days."""

    usage_days: int
    totals_days: int


@dataclass(slots=True)
class Dropped:
    """What a run dropped, or would. `finished` False: something was in use or another process is at it; run again."""

    usage_kept_from: date | None = None
    totals_kept_from: date | None = None
    days: list[date] = field(default_factory=list)
    held_days: list[date] = field(default_factory=list)  # those of which a legal hold wants some
    requests: int = 0
    hourly_sums: int = 0
    daily_sums: int = 0
    positions: int = 0
    finished: bool = False

    @property
    def any(self) -> bool:
        """Whether anything went."""
        return bool(self.days or self.hourly_sums or self.daily_sums or self.positions)


@dataclass(frozen=True, slots=True)
class Kept:
    """What the tables hold: the oldest of each kind, and how many days of single requests."""

    usage_kept_from: date | None
    oldest_usage_day: date | None
    usage_days: int
    oldest_hourly_sum: datetime | None
    oldest_daily_sum: date | None


class BusyError(Exception):
    """Another process runs this just now."""


BUSY: Final = (BusyError, asyncpg.LockNotAvailableError)  # run again


async def drop_old(
    pool: Pool, today: date, periods: Periods, dropped: Dropped, *, at_most_days: int | None = None
) -> None:
    """Drop what is older than `periods`, counted from `today` or the database's own day, whichever is earlier.

    Each step is added to `dropped` once it is done: it is right also when this raises. `at_most_days` is how far one
    run may move the line when nobody looks: a clock that is wrong for an hour must not cost years of usage.
    """
    with store_errors("drop old usage"), contextlib.suppress(*BUSY):
        usage_line, totals_line = await _lines(pool, today, periods)
        async with turn(pool) as connection:
            if at_most_days is not None:
                usage_line = await _held_back(connection, usage_line, at_most_days)
                totals_line = min(totals_line, usage_line - timedelta(days=periods.totals_days - periods.usage_days))
            line: datetime = await connection.fetchval(_MOVE_LINE, usage_line)
            dropped.usage_kept_from, dropped.totals_kept_from = line.date(), totals_line.date()
            old_days = [day for day in await partition_days(connection) if day < line.date()]
        for day in old_days:
            await _drop_day(pool, day, dropped)
        # After the partitions: whoever still wrote to one of them has committed, and its sums are seen.
        async for rows in _delete(pool, _OLD_HOURS, line):
            dropped.hourly_sums += rows
        async for rows in _delete(pool, _OLD_DAYS, totals_line):
            dropped.daily_sums += rows
        async for rows in _delete(pool, _OLD_POSITIONS, line):
            dropped.positions += rows
        dropped.finished = True


async def _drop_day(pool: Pool, day: date, dropped: Dropped) -> None:
    """Drop a day whole, or all of it that no legal hold wants."""
    until = _start(day + timedelta(days=1))
    async with turn(pool) as connection:
        held = await _held(connection)
        if await connection.fetchval(_HAS_HELD, _start(day), until, *held):
            dropped.held_days.append(day)
        else:
            requests = await connection.fetchval(
                "SELECT coalesce(sum(requests), 0)::bigint FROM usage_rollup WHERE hour >= $1 AND hour < $2",
                _start(day),
                until,
            )
            await drop_partition(connection, day)
            dropped.days.append(day)
            dropped.requests += requests
            return
    # Days are dropped in their order: what is older than this one's end and still there is held, or this day's.
    async for rows in _delete(pool, _OLD_ROWS, until):
        dropped.requests += rows


async def _held(connection: Connection) -> tuple[list[int], list[str]]:
    held = await subjects.held(connection)
    return list(held.account_ids), list(held.key_ids)


async def _held_back(connection: Connection, wanted: datetime, at_most_days: int) -> datetime:
    before: datetime | None = await connection.fetchval(_LINE)
    if before is None:
        days = await partition_days(connection)
        before = _start(days[0]) if days else wanted
    return min(wanted, before + timedelta(days=at_most_days))


async def due(pool: Pool, today: date, periods: Periods) -> Dropped:
    """What `drop_old` would drop now. Changes nothing."""
    with store_errors("say what is old"):
        usage_line, totals_line = await _lines(pool, today, periods)
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            line = max(usage_line, await connection.fetchval(_LINE) or usage_line)
            held = await _held(connection)
            days = [day for day in await partition_days(connection) if day < line.date()]
            held_days = [
                day
                for day in days
                if await connection.fetchval(_HAS_HELD, _start(day), _start(day + timedelta(days=1)), *held)
            ]
            return Dropped(
                usage_kept_from=line.date(),
                totals_kept_from=totals_line.date(),
                days=[day for day in days if day not in held_days],
                held_days=held_days,
                requests=await _count(connection, _OLD_ROWS, line, *held),
                hourly_sums=await _count(connection, _OLD_HOURS, line, *held),
                daily_sums=await _count(connection, _OLD_DAYS, totals_line, *held),
                positions=await _count(connection, _OLD_POSITIONS, line),
            )


async def kept(pool: Pool) -> Kept:
    """What is there now."""
    with store_errors("say what it keeps"):
        async with pool.acquire() as connection:
            line: datetime | None = await connection.fetchval(_LINE)
            days = await partition_days(connection)
            hour, day = await oldest_sums(connection)
            return Kept(line and line.date(), days[0] if days else None, len(days), hour, day)


async def oldest_sums(connection: Connection) -> tuple[datetime | None, date | None]:
    """The first hour and the first day that there are sums of."""
    hour, day = await connection.fetchrow(_OLDEST_SUMS) or (None, None)
    return hour, day


async def _lines(pool: Pool, today: date, periods: Periods) -> tuple[datetime, datetime]:
    """The first moments that are kept: of single requests, and of daily sums."""
    # Two clocks: a machine that believes in another year must not drop what people need.
    theirs: date = await pool.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date")
    day = min(today, theirs)
    return _start(day - timedelta(days=periods.usage_days)), _start(day - timedelta(days=periods.totals_days))


def _start(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@contextlib.asynccontextmanager
async def turn(pool: Pool) -> AsyncIterator[Connection]:
    """A transaction while no other process is at this; else BusyError."""
    async with pool.acquire() as connection, connection.transaction():
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", ADVISORY_LOCK):
            raise BusyError
        await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'")
        yield connection


async def _delete(pool: Pool, what: str, line: datetime) -> AsyncIterator[int]:
    """Delete in batches, each a transaction that nobody has to wait for long; yields how many rows went."""
    table = what.partition(" ")[0]
    rows = _BATCH_ROWS
    while rows == _BATCH_ROWS:
        async with turn(pool) as connection:
            held = await _held(connection) if "$2" in what else ()
            status = await connection.execute(_delete_some(table, what), line, *held)
        rows = int(status.rpartition(" ")[2])
        yield rows


def _delete_some(table: str, what: str) -> str:
    # ruff: noqa: S608 -- statements of constants of this file
    if table != "usage":
        return f"DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {what} LIMIT {_BATCH_ROWS}))"
    # Rows in different partitions can have one ctid.
    found = f"SELECT tableoid, ctid FROM {what} LIMIT {_BATCH_ROWS}"
    return f"DELETE FROM usage t USING ({found}) old WHERE t.tableoid = old.tableoid AND t.ctid = old.ctid"


async def _count(connection: Connection, what: str, *arguments: object) -> int:
    counted: int = await connection.fetchval(f"SELECT count(*) FROM {what}", *arguments)
    return counted
