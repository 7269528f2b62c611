"""Retention: what is old goes and never comes back, and nobody who works on the tables meanwhile is harmed."""

import asyncio
import datetime
import random
import subprocess
import sys
import time
import uuid
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from luntrex_proxy.core.outcome import Outcome
from luntrex_proxy.store import retention
from luntrex_proxy.store.database import Pool, close_pool, open_pool
from luntrex_proxy.store.partitions import ensure_partitions, partition_days
from luntrex_proxy.store.retention import Dropped, Periods, drop_old, due, kept
from luntrex_proxy.store.shipper import Shipper
from luntrex_proxy.store.spool import Spool
from luntrex_proxy.store.usage import totals
from tests.store.records import (
    assert_one_sum_matches,
    assert_sums_match,
    assert_totals_match,
    outcome,
    ship,
    stored_numbers,
)

DAY_US = 86_400_000_000
PERIODS = Periods(usage_days=10, totals_days=20)
# A run in a process of its own, for kill -9. Each turn waits a moment, so that the kill falls into it.
RUN = """
import asyncio, datetime, sys
from luntrex_proxy.store import retention
from luntrex_proxy.store.database import open_pool
turn = retention.turn
@retention.contextlib.asynccontextmanager
async def slow(pool):
    async with turn(pool) as connection:
        yield connection
        await asyncio.sleep(float(sys.argv[2]))
retention.turn = slow
async def main():
    pool = await open_pool(sys.argv[1])
    print("begun", flush=True)
    today = datetime.date.fromisoformat(sys.argv[3])
    await retention.drop_old(pool, today, retention.Periods(10, 20), retention.Dropped())
    print("done", flush=True)
asyncio.run(main())
"""


@pytest.fixture
async def today(database: Pool) -> datetime.date:
    """The database's day."""
    day: datetime.date = await database.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date")
    return day


def on(today: datetime.date, days_ago: int, number: int, second: int = 43_200) -> Outcome:
    """An outcome of a day, at noon."""
    start = datetime.datetime(today.year, today.month, today.day, tzinfo=UTC)
    us = int(start.timestamp()) * 1_000_000 - days_ago * DAY_US + second * 1_000_000
    return outcome(number, started_us=us + number)


async def put(database: Pool, root: Path, outcomes: list[Outcome]) -> Shipper:
    """Store outcomes that an earlier process left."""
    spool = Spool(root, uuid.uuid4())
    for each in outcomes:
        spool.settle(each)
    spool.close()
    spool.directory.unlock()
    return await ship(database, root)


async def run(database: Pool, today: datetime.date, periods: Periods = PERIODS) -> Dropped:
    """One run."""
    dropped = Dropped()
    await drop_old(database, today, periods, dropped)
    return dropped


async def assert_retained_match(database: Pool, today: datetime.date, periods: Periods = PERIODS) -> None:
    """Hourly and daily sums are those of the rows, for the days whose rows are kept."""
    line = today - timedelta(days=periods.usage_days)
    await assert_one_sum_matches(
        database, "usage_rollup", "hour", "date_trunc('hour', started_at, 'UTC')", f"hour >= '{line} 00:00Z'"
    )
    await assert_one_sum_matches(
        database, "usage_rollup_daily", "day", "(started_at AT TIME ZONE 'UTC')::date", f"day >= '{line}'"
    )
    await assert_totals_match(database)


async def test_old_days_go_and_their_totals_stay(database: Pool, tmp_path: Path, today: datetime.date) -> None:
    """The day of the line stays, the one before goes; daily sums stay on for their own time. Twice is once."""
    sent = [on(today, ago, number) for number, ago in enumerate((0, 9, 10, 11, 15, 20, 21, 30))]
    sent += [on(today, 10, 8, second=0), on(today, 11, 9, second=86_399)]  # the two sides of the line
    await put(database, tmp_path, sent)
    since, until = (datetime.datetime.combine(today - timedelta(days=ago), datetime.time(), UTC) for ago in (365, -1))
    (whole,) = await totals(database, since, until)
    foretold = await due(database, today, PERIODS)
    assert await stored_numbers(database) == list(range(10))
    dropped = await run(database, today)
    assert foretold.days == dropped.days == [today - timedelta(days=ago) for ago in (30, 21, 20, 15, 11)]
    assert (dropped.requests, dropped.hourly_sums, dropped.daily_sums, dropped.finished) == (6, 6, 2, True)
    foretold.finished = True
    assert foretold == dropped
    assert await stored_numbers(database) == [0, 1, 2, 8]
    await assert_retained_match(database, today)
    held = await kept(database)
    assert (held.usage_kept_from, held.oldest_daily_sum) == (today - timedelta(days=10), today - timedelta(days=20))
    again = await run(database, today)
    assert (again.any, again.finished) == (False, True)
    (left,) = await totals(database, since, until)
    assert left.requests == whole.requests - 2  # the two days whose daily sums went as well
    assert left.cost_pico == sum(each.cost_pico for number, each in enumerate(sent) if number not in (6, 7))


async def test_what_comes_late_changes_nothing(database: Pool, tmp_path: Path, today: datetime.date) -> None:
    """A spool that comes back after its days were dropped is counted, finished and removed, and changes no table."""
    sent = [on(today, ago, number) for number, ago in enumerate((30, 12, 11, 10, 0))]
    await put(database, tmp_path, sent)
    await run(database, today)
    before = await database.fetch("SELECT * FROM usage_rollup_daily ORDER BY day")
    shipper = await put(database, tmp_path, [*sent, on(today, 13, 7), on(today, 1, 8)])
    assert (shipper.accepted, shipper.stored, shipper.spooled, shipper.quarantined) == (7, 3, 0, 0)
    assert shipper.expired == 4
    assert await stored_numbers(database) == [3, 4, 8]
    assert await database.fetchval("SELECT count(*) FROM spool_position") == 0
    async with database.acquire() as connection:
        assert min(await partition_days(connection)) == today - timedelta(days=10)
    after = await database.fetch("SELECT * FROM usage_rollup_daily WHERE key_id <> '' ORDER BY day")
    assert [row for row in after if row["day"] != today - timedelta(days=1)] == before
    await assert_retained_match(database, today)
    longer = await run(database, today, Periods(usage_days=100, totals_days=100))
    assert (longer.usage_kept_from, longer.any) == (today - timedelta(days=10), False)  # the line never moves back
    assert await ensure_partitions(database, today - timedelta(days=30), days_ahead=0) == []


async def test_one_process_at_a_time(database: Pool, tmp_path: Path, today: datetime.date) -> None:
    """While another process is at it, a run leaves the work to it."""
    await put(database, tmp_path, [on(today, 30, 1)])
    async with database.acquire() as other, other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock($1)", retention.ADVISORY_LOCK)
        dropped = await run(database, today)
        assert (dropped.any, dropped.finished) == (False, False)
    runs = await asyncio.gather(*(run(database, today) for _ in range(4)))
    assert sum(each.requests for each in runs) <= 1
    rest = await run(database, today)
    assert (sum(each.requests for each in runs) + rest.requests, rest.finished) == (1, True)
    assert await stored_numbers(database) == []


async def test_a_reader_is_not_waited_for(database: Pool, tmp_path: Path, today: datetime.date) -> None:
    """A backup holds the table for hours: records are stored, days made, and the next run does it."""
    await put(database, tmp_path, [on(today, 30, 1), on(today, 0, 2)])
    async with database.acquire() as reader, reader.transaction():
        await reader.fetch("SELECT count(*) FROM usage")
        waiting = asyncio.ensure_future(run(database, today))
        await put(database, tmp_path, [on(today, 0, 3), on(today, 2, 4)])  # day 2 has no partition yet
        dropped = await waiting
        assert (dropped.days, dropped.hourly_sums, dropped.finished) == ([], 0, False)
        assert await ensure_partitions(database, today + timedelta(days=30), days_ahead=0)
    assert await stored_numbers(database) == [1, 2, 3, 4]
    assert (await run(database, today)).finished
    assert await stored_numbers(database) == [2, 3, 4]


async def test_a_clock_in_another_year_drops_nothing(database: Pool, tmp_path: Path, today: datetime.date) -> None:
    """A process that believes in the far future is held back by the database's own clock."""
    await put(database, tmp_path, [on(today, 5, 1)])
    dropped = await run(database, datetime.date(2100, 1, 1))
    assert (dropped.usage_kept_from, dropped.any) == (today - timedelta(days=10), False)


async def test_positions_go_when_nothing_of_them_can_count(database: Pool, today: datetime.date) -> None:
    """Positions that moved after the line stay: their directories may still hold records of kept days."""
    for ago in (0, 9, 10, 13, 400):
        await database.execute(
            "INSERT INTO spool_position (boot_id, segment, byte_offset, closed, updated_at)"
            " VALUES (gen_random_uuid(), $1, 0, $2, now() - $3 * interval '1 day')",
            ago,
            ago == 9,
            ago,
        )
    assert (await run(database, today)).positions == 2
    left = await database.fetch("SELECT segment FROM spool_position ORDER BY 1")
    assert [row[0] for row in left] == [0, 9, 10]


async def test_many_rows_go_in_batches(
    database: Pool, tmp_path: Path, today: datetime.date, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums are deleted a batch at a time, to the last one."""
    monkeypatch.setattr(retention, "_BATCH_ROWS", 7)
    await put(database, tmp_path, [on(today, 30, number, second=number * 3600) for number in range(21)])
    dropped = await run(database, today)
    assert (dropped.hourly_sums, dropped.daily_sums, dropped.finished) == (21, 1, True)


async def test_shipping_and_retention_at_once(
    database: Pool, database_dsn: str, tmp_path: Path, today: datetime.date
) -> None:
    """Two shippers with overlapping records while days are dropped: sums are those of the rows for every day kept."""
    seed = random.Random(7)
    sent = [on(today, seed.randrange(25), number, second=seed.randrange(86_400)) for number in range(1500)]
    other = await open_pool(database_dsn)

    async def one(pool: Pool, root: Path) -> Shipper:
        for _ in range(6):
            shipper = await put(pool, root, seed.sample(sent, 700))
            assert (shipper.stored + shipper.expired, shipper.spooled) == (shipper.accepted, 0) == (700, 0)
        return shipper

    shipping = asyncio.gather(one(database, tmp_path / "a"), one(other, tmp_path / "b"))
    for usage_days in range(20, 9, -1):
        await run(database, today, Periods(usage_days, 20))
        await asyncio.sleep(0.02)
    await shipping
    await close_pool(other)
    assert (await run(database, today)).finished
    await assert_retained_match(database, today)
    line_us = on(today, 10, 0, second=0).started_us
    assert set(await stored_numbers(database)) <= {
        number for number, each in enumerate(sent) if each.started_us >= line_us
    }
    assert len(await stored_numbers(database)) > 300


async def test_killed_in_the_middle(database: Pool, database_dsn: str, tmp_path: Path, today: datetime.date) -> None:
    """kill -9 of a run at any moment: kept days are untouched, whole days are gone or there, the next run ends it."""
    sent = [on(today, ago, number) for number, ago in enumerate([*range(10, 40)] * 2)]
    await put(database, tmp_path, sent)
    whole = set()
    for delay_s in (0.0, 0.1, 0.2, 0.3, 0.4):
        command = [sys.executable, "-c", RUN, database_dsn, "0.05", today.isoformat()]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        await asyncio.sleep(delay_s)
        process.kill()
        process.communicate()
        await assert_day_of_the_line(database, today)
        rows = await database.fetch("SELECT (started_at AT TIME ZONE 'UTC')::date, count(*) FROM usage GROUP BY 1")
        assert {row[1] for row in rows} == {2}
        whole.add(len(rows))
    assert len(whole) > 1, "no kill fell into the dropping"
    last = Dropped()
    deadline = time.monotonic() + 10
    while not last.finished and time.monotonic() < deadline:
        last = await run(database, today)
    assert last.finished
    assert await database.fetchval("SELECT count(*) FROM usage") == 2
    assert await database.fetchval("SELECT count(*) FROM usage_rollup") == 1
    assert await database.fetchval("SELECT count(*) FROM usage_rollup_daily") == 11
    await assert_retained_match(database, today)


async def assert_day_of_the_line(database: Pool, today: datetime.date) -> None:
    """The rows of the first day that is kept are all there, and so are their sums."""
    line = today - timedelta(days=10)
    rows = await database.fetchval("SELECT count(*) FROM usage WHERE started_at >= $1::date", line)
    assert rows == 2
    assert await database.fetchval("SELECT sum(requests) FROM usage_rollup WHERE hour >= $1::date", line) == 2


async def test_sums_of_random_batches(database: Pool, database_dsn: str, tmp_path: Path, today: datetime.date) -> None:
    """Random batches over hours, days, keys and models, with duplicates, from two processes at once: all sums match."""
    seed = random.Random(11)
    sent = []
    for number in range(800):
        base = on(today, seed.randrange(3), number, second=seed.randrange(86_400))
        sent.append(
            outcome(
                number,
                started_us=base.started_us,
                account_id=seed.randrange(1, 4),
                key_id=f"key{seed.randrange(5):09d}",
                model=seed.choice(["a", "b", "other"]),
                status=seed.choice([200, 200, 429, 502]),
            )
        )
    other = await open_pool(database_dsn)

    async def one(pool: Pool, root: Path) -> None:
        for _ in range(5):
            spool = Spool(root, uuid.uuid4())
            for each in seed.choices(sent, k=seed.randrange(1, 600)):
                spool.settle(each)
            await ship(pool, root, spool)

    await asyncio.gather(one(database, tmp_path / "a"), one(other, tmp_path / "b"))
    await put(database, tmp_path / "c", sent)
    await close_pool(other)
    assert await stored_numbers(database) == list(range(800))
    await assert_sums_match(database)


async def test_an_empty_retention_row_keeps_everything(database: Pool, tmp_path: Path, today: datetime.date) -> None:
    """When the row with the line is gone, nothing counts as old: the mistake must not cost a record."""
    await database.execute("DELETE FROM usage_retention")
    await put(database, tmp_path, [on(today, 300, 1)])
    assert await stored_numbers(database) == [1]
    assert (await run(database, today)).usage_kept_from == today - timedelta(days=10)
    assert await stored_numbers(database) == []


async def test_a_run_nobody_looks_at_goes_a_few_days_at_a_time(database: Pool, today: datetime.date) -> None:
    """With a clock a century ahead for one run, a week goes and not everything; run again it goes on."""
    days = [today - timedelta(days=ago) for ago in range(30, -1, -1)]
    for day in days:
        await ensure_partitions(database, day, days_ahead=0)
    later = today + timedelta(days=36_500)
    for run in (1, 2):
        dropped = Dropped()
        await drop_old(database, later, Periods(usage_days=0, totals_days=0), dropped, at_most_days=7)
        assert len(dropped.days) == 7
        async with database.acquire() as connection:
            assert min(await partition_days(connection)) == days[7 * run]
    dropped = Dropped()
    await drop_old(database, today, Periods(usage_days=28, totals_days=28), dropped, at_most_days=7)
    assert dropped.days == [], "the line never goes back, and nothing inside the period goes"
