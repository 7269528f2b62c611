"""Pictures of usage say what the records say: in every zone, by every group, whatever happened to the records."""

import asyncio
import datetime
import random
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from luntrex_proxy.core.outcome import Outcome
from luntrex_proxy.core.pricing import Price, Rates
from luntrex_proxy.store import erasing, labels, usageseries
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.frames import encode_record
from luntrex_proxy.store.partitions import ensure_partitions
from luntrex_proxy.store.repricing import Selection, reprice_day
from luntrex_proxy.store.retention import Dropped, Periods, drop_old
from luntrex_proxy.store.usage_rows import insert_rows
from luntrex_proxy.store.usageseries import Asked, Sums
from luntrex_proxy.store.usagesources import odd_hours
from tests.people import make_person
from tests.store.months import rates_of
from tests.store.records import assert_sums_match, assert_totals_match, outcome
from tests.store.test_erasing import key_of

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Whole hours, half and three quarters of one, a change by half an hour within the year.
ZONES = ("America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe")
Row = Any


class World:
    """An account with a key of its own and one of each of two members, and some days of records."""

    def __init__(self, pool: Pool, seed: int) -> None:
        self.pool, self.random, self.made = pool, random.Random(seed), 0

    async def begin(self) -> None:
        """Keys, labels and days."""
        self.ada = await make_person(self.pool, acme="owner")
        self.bob = await make_person(self.pool, "bob@example.org", acme="developer")
        await labels.declare(self.pool, "acme", "project", None)
        self.today = await self.pool.fetchval("SELECT date_trunc('day', now(), 'UTC')")
        await ensure_partitions(self.pool, (self.today - 5 * DAY).date(), 6)
        self.keys = [await key_of(self.pool, "acme", f"k{n}", who) for n, who in enumerate((None, self.ada, self.bob))]
        for back, value in ((4, "chat"), (2, "search")):  # a label that changes
            day = (self.today - back * DAY).date()
            await labels.of_key(self.pool, self.keys[0], {"project": value}, since=day)

    async def store(self, count: int) -> None:
        """So many records at any quarter of any hour of the five days before today."""
        records: list[Outcome] = []
        for _ in range(count):
            at = self.today - self.random.randrange(1, 5 * 24 * 60) * timedelta(minutes=1)
            self.made += 1
            records.append(
                outcome(
                    self.made, started_us=int(at.timestamp()) * 1_000_000 + self.made, account_id=1,
                    key_id=self.random.choice(self.keys), model=self.random.choice(["small", "large"]),
                    upstream=self.random.choice(["one", "two"]), status=self.random.choice([200, 200, 502]),
                    cost_pico=self.random.randrange(10**12),
                )
            )  # fmt: skip
        async with self.pool.acquire() as connection, connection.transaction():
            await insert_rows(connection, [encode_record(record) for record in records])

    async def rows(self, since: datetime.datetime, until: datetime.datetime) -> Sequence[Row]:
        """The records themselves, with whose key and which label of their day."""
        rows: Sequence[Row] = await self.pool.fetch(
            "SELECT u.*, k.person_id, coalesce(l.value, '') AS label FROM usage u LEFT JOIN api_key k USING (key_id)"
            " LEFT JOIN key_label l ON l.key_id = u.key_id AND (started_at AT TIME ZONE 'UTC')::date >= l.since"
            " AND (l.until IS NULL OR (started_at AT TIME ZONE 'UTC')::date < l.until)"
            " WHERE u.account_id = 1 AND started_at >= $1 AND started_at < $2", since, until,
        )  # fmt: skip
        return rows

    async def check(self, asked: Asked) -> None:
        """One picture is what the records say."""
        wanted: defaultdict[Any, list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
        telling = asked.group in ("key", "member", "label") or asked.key_id or asked.value
        for row in await self.rows(asked.since, asked.until):
            hidden = bool(telling) and row["person_id"] not in (None, self.ada)
            if not all(
                value in (None, row[name])
                for name, value in (
                    ("model", asked.model), ("upstream", asked.upstream), ("key_id", asked.key_id),
                    ("label", asked.value),
                )
            ) or (hidden and asked.is_filtered):  # fmt: skip
                continue
            failed = row["ending"] != "complete" or row["status"] >= 400
            step = None if hidden else begin(row["started_at"], asked)
            for n, value in enumerate((1, failed, row["input_tokens"], row["output_tokens"], row["cost_pico"])):
                wanted[PLACES[asked.group](row, hidden), hidden, step][n] += value
        found = {
            (group.place, group.is_hidden, step): [getattr(sums, name) for name in Sums.__slots__]
            for group in await usageseries.series(self.pool, asked)
            for step, sums in ({None: group.total} if group.is_hidden else group.steps).items()
        }
        assert found == dict(wanted), asked

    async def check_all(self, since: datetime.date) -> None:
        """Days and hours in UTC and in zones; the total of a span beside its picture."""
        await assert_totals_match(self.pool)
        for zone in ("UTC", *ZONES):
            begins = datetime.datetime.combine(since + DAY, datetime.time(), ZoneInfo(zone)).astimezone(UTC)
            ends = datetime.datetime.combine(since + 3 * DAY, datetime.time(), ZoneInfo(zone)).astimezone(UTC)
            for step in ("hour", "day", "week", "month"):
                for group in self.random.sample(sorted(PLACES), 3):
                    label = "project" if group == "label" else None
                    some = Asked(1, str(self.ada), begins, ends, zone, step, group, label=label, groups_max=100)
                    await self.check(some)
            total = await usageseries.total(self.pool, 1, begins, self.today)
            rows = await self.rows(begins, self.today)
            assert (total.requests, total.cost_pico) == (len(rows), sum(row["cost_pico"] for row in rows)), zone

    async def check_parts(self) -> None:
        """Filters, alone and together."""
        span = str(self.ada), self.today - 5 * DAY, self.today
        for group in PLACES:
            label = "project" if group == "label" else None
            for part in ({"model": "small"}, {"upstream": "two", "model": "large"}, {"key_id": self.keys[0]}):
                await self.check(Asked(1, *span, group=group, label=label, groups_max=100, **part))
            await self.check(Asked(1, *span, group=group, label="project", value="chat", groups_max=100))


def begin(at: datetime.datetime, asked: Asked) -> datetime.datetime:
    """Of the step that a moment belongs to."""
    if asked.step == "hour":
        return at.replace(minute=0, second=0, microsecond=0)
    local = at.astimezone(ZoneInfo(asked.zone)).date()
    if asked.step == "week":
        local -= timedelta(days=local.weekday())
    if asked.step == "month":
        local = local.replace(day=1)
    return datetime.datetime.combine(local, datetime.time(), ZoneInfo(asked.zone)).astimezone(UTC)


PLACES: dict[str, Callable[[Row, bool], str]] = {
    "none": lambda _row, _hidden: "",
    "model": lambda row, _hidden: str(row["model"]),
    "upstream": lambda row, _hidden: str(row["upstream"]),
    "key": lambda row, hidden: str(row["person_id"] if hidden else row["key_id"]),
    "member": lambda row, _hidden: str(row["person_id"] or ""),
    "label": lambda row, _hidden: str(row["label"]),
}


@pytest.mark.parametrize("seed", [1, 2])
async def test_pictures_are_what_the_records_say(database: Pool, tmp_path: Path, seed: int) -> None:
    """Stored, late, priced anew, unlinked from who was erased, dropped when they are old."""
    world = World(database, seed)
    await world.begin()
    await world.store(150)
    await world.check_all((world.today - 5 * DAY).date())
    await world.check_parts()
    await world.store(50)
    rates: dict[str, Rates] = rates_of(world.random)
    day = (world.today - 3 * DAY).date()
    done = await reprice_day(
        database, day, Selection(day, day), lambda *_: Price(next(iter(rates.values())), "small", "v2"), apply=True
    )
    assert sum(tally.changed for tally in done.values()) > 0
    await world.check_all((world.today - 5 * DAY).date())
    await erasing.erase_person(database, tmp_path, world.bob, world.today, 2192)
    assert await database.fetchval("SELECT count(*) FROM usage WHERE key_id = 'erased'") > 0
    await world.check_all((world.today - 5 * DAY).date())
    await assert_sums_match(database)
    dropped = Dropped()
    await drop_old(database, world.today.date(), Periods(usage_days=4, totals_days=4), dropped)
    assert dropped.hourly_sums > 0
    await world.check_all((world.today - 4 * DAY).date())
    for table in ("usage_total", "usage_key_total"):
        line = world.today - 4 * DAY
        assert await database.fetchval(f"SELECT min(hour) FROM {table}") >= line
        assert await database.fetchval(f"SELECT min(day) FROM {table}_daily") >= line.date()


@pytest.mark.parametrize(("zone", "shared"), [*zip(ZONES, (0, 4, 4, 2), strict=True), ("UTC", 0), ("Asia/Tokyo", 0)])
async def test_hours_that_two_days_share(database: Pool, zone: str, shared: int) -> None:
    """On all days or none, or from a change within the year on: Lord Howe goes back by half an hour on 5 April."""
    since = datetime.datetime(2026, 4, 3, tzinfo=UTC)
    hours = [since + n * HOUR for n in range(4 * 24)]
    last = HOUR - timedelta(microseconds=1)
    wanted = [hour for hour in hours if len({at.astimezone(ZoneInfo(zone)).date() for at in (hour, hour + last)}) > 1]
    assert await odd_hours(database, since, hours[-1], zone) == wanted
    assert len(wanted) == shared


async def test_the_smaller_groups_come_together(database: Pool) -> None:
    """The largest first by the metric, the others as one with the number of them; all is counted once."""
    world = World(database, 3)
    await world.begin()
    await world.store(100)
    span = str(world.ada), world.today - 5 * DAY, world.today
    for metric in usageseries.METRICS:
        all_ = await usageseries.series(database, Asked(1, *span, group="key", metric=metric))
        assert [group.total.of(metric) for group in all_] == sorted(
            (group.total.of(metric) for group in all_), reverse=True
        )
        first, rest = await usageseries.series(database, Asked(1, *span, group="key", metric=metric, groups_max=1))
        assert (first.place, first.total) == (all_[0].place, all_[0].total)
        assert (rest.place, rest.members, rest.is_hidden) == (None, 2, False)
        assert rest.total.requests == all_[1].total.requests + all_[2].total.requests
    assert await usageseries.choices(database, 1, *span[1:]) == (["large", "small"], ["one", "two"])
    assert await usageseries.began_at(database, 1) == world.today - 5 * DAY


async def test_an_account_that_is_gone_leaves_no_row(database: Pool, tmp_path: Path) -> None:
    """Its totals are nobody's, its keys are in none."""
    world = World(database, 4)
    await world.begin()
    await world.store(60)
    await erasing.erase_account(database, tmp_path, 1, world.today, 2192)
    for table in ("usage_total", "usage_total_daily", "usage_key_total", "usage_key_total_daily"):
        rows = await database.fetch(f"SELECT account_id, sum(requests)::int AS n FROM {table} GROUP BY 1")
        assert [tuple(row) for row in rows] == [(0, 60)], table
    await assert_sums_match(database)


async def test_who_stores_usage_of_one_account_waits_in_turn(database: Pool) -> None:
    """Before it holds what the other could need: sums that are new and sums that are there come in two orders."""
    world = World(database, 5)
    await world.begin()
    await world.store(30)

    def record(number: int, back: int, model: str) -> bytes:
        at = int((world.today - back * HOUR).timestamp()) * 1_000_000
        ids = {"key_id": world.keys[0], "model": model, "account_id": 1, "request_id": str(uuid.uuid4())}
        return encode_record(outcome(number, started_us=at, **ids))

    async def pid_waiting() -> int | None:
        found: int | None = await database.fetchval(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND classid = 1819635316"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        return found

    async def second() -> None:
        async with database.acquire() as connection, connection.transaction():
            await insert_rows(connection, [record(2, 9, "new"), record(3, 1, "small")])

    async with database.acquire() as connection:
        async with connection.transaction():
            await insert_rows(connection, [record(1, 1, "new"), record(4, 9, "small")])
            other = asyncio.ensure_future(second())
            while await pid_waiting() is None:
                assert not other.done()
                await asyncio.sleep(0.01)
        await other
    await assert_sums_match(database)
