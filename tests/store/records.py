"""Ledger records for tests, and what tests ask of where they are kept. No tests here."""

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from luntrex_proxy.core.outcome import Ending, Opening, Outcome, Record, Tokens, UsageSource
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.frames import Problem, parse_frames
from luntrex_proxy.store.segments import segment_numbers
from luntrex_proxy.store.shipper import Shipper
from luntrex_proxy.store.spool import Spool

SUMMED = (
    *("input_tokens", "cached_input_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "input_audio_tokens"),
    *("output_tokens", "reasoning_tokens", "output_audio_tokens", "cost_pico"),
)
NOON_US = 1_790_000_000_000_000


def request_id(number: int) -> str:
    """The same id for the same number."""
    return str(uuid.UUID(int=(7 << 76) | (2 << 62) | number))


def id_at(moment: str) -> str:
    """SQL of an id as a gateway makes it for a request of this moment, which is SQL too."""
    digits = f"lpad(to_hex((extract(epoch FROM {moment}) * 1000)::bigint), 12, '0')"
    return f"({digits} || '-7' || right(gen_random_uuid()::text, 21))::uuid"


def opening(number: int, **changes: Any) -> Opening:
    """An opening of account 1."""
    values: dict[str, Any] = {
        "request_id": request_id(number),
        "started_us": NOON_US + number,
        "account_id": 1,
        "key_id": "abcdefghijkl",
        "route": "chat_completions",
        "model": "mock-model",
        "upstream": "local",
        "streamed": True,
        "request_bytes": 100,
        "input_tokens": 25,
        "cost_pico": 75,
        "price_version": "v",
    }
    return Opening(**{**values, **changes})


def outcome(number: int, **changes: Any) -> Outcome:
    """A complete outcome of account 1 with numbers that differ by `number`."""
    values: dict[str, Any] = {
        "request_id": request_id(number),
        "started_us": NOON_US + number,
        "account_id": 1,
        "key_id": "abcdefghijkl",
        "route": "chat_completions",
        "model": "mock-model",
        "upstream": "local",
        "status": 200,
        "code": "ok",
        "ending": Ending.COMPLETE,
        "streamed": True,
        "usage_source": UsageSource.REPORTED,
        **Tokens(10 + number, 3, 2, 1, 0, 20 + number, 4, 0).columns(),
        "cost_pico": 1_000_000 + number,
        "price_version": "1",
        "request_bytes": 100,
        "response_bytes": 1000,
        "events": 12,
        "attempts": 1,
        "duration_us": 5000,
        "first_byte_us": 700,
        "overhead_us": 60,
    }
    return Outcome(**{**values, **changes})


COLUMNS = ["started_at" if name == "started_us" else name for name in Outcome.__struct_fields__]


def row_of(record: Outcome) -> tuple[object, ...]:
    """What the usage table holds of an outcome."""
    values = asdict(record)
    started_at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=record.started_us)
    return tuple((values | {"started_us": started_at, "request_id": uuid.UUID(record.request_id)}).values())


def records_in(directory: Path) -> list[Record | None]:
    """All records of a spool directory; fails when a byte is unreadable."""
    found: list[Record | None] = []
    for number in segment_numbers(directory):
        data = (directory / f"{number:08d}.seg").read_bytes()
        frames, consumed, problem = parse_frames(data)
        assert (consumed, problem) == (len(data), Problem.NONE)
        found += [frame.record for frame in frames]
    return found


async def ship(pool: Pool, root: Path, spool: Spool | None = None, **options: Any) -> Shipper:
    """Ship everything under `root` that can be taken, and finish it."""
    shipper = Shipper(lambda: pool, root, spool, **options)
    assert await shipper.drain(30)
    return shipper


async def stored_numbers(pool: Pool) -> list[int]:
    """The numbers of the stored requests, in order, as often as they are stored."""
    rows = await pool.fetch("SELECT request_id FROM usage ORDER BY request_id")
    return [row[0].int & 0xFFFFFFFF for row in rows]


async def assert_sums_match(pool: Pool) -> None:
    """The hourly and the daily sums are exactly the sums of the rows."""
    await assert_one_sum_matches(pool, "usage_rollup", "hour", "date_trunc('hour', started_at, 'UTC')")
    await assert_one_sum_matches(pool, "usage_rollup_daily", "day", "(started_at AT TIME ZONE 'UTC')::date")
    await assert_totals_match(pool)


async def assert_totals_match(pool: Pool) -> None:
    """The sums of accounts and of keys are exactly those of the sums with key, model and upstream."""
    summed = ("requests", "errors", "input_tokens", "output_tokens", "cost_pico")
    for whose, table in (("model, upstream", "usage_total"), ("key_id", "usage_key_total")):
        for source, suffix, period in (("usage_rollup", "", "hour"), ("usage_rollup_daily", "_daily", "day")):
            groups = f"account_id, {period}, {whose}"
            added = ", ".join(f"sum({column})::bigint" for column in summed)
            from_sums = await pool.fetch(f"SELECT {groups}, {added} FROM {source} GROUP BY {groups} ORDER BY {groups}")
            kept = await pool.fetch(
                f"SELECT {groups}, {', '.join(f'{each}::bigint' for each in summed)} FROM {table}{suffix}"
                f" ORDER BY {groups}"
            )
            assert [tuple(row) for row in kept] == [tuple(row) for row in from_sums], table + suffix


async def assert_one_sum_matches(pool: Pool, table: str, column: str, period: str, where: str = "true") -> None:
    """The sums in `table` are exactly those of the rows; `where` speaks of the column of the period."""
    sums = ", ".join(f"sum({column})::bigint" for column in SUMMED)
    failed = "count(*) FILTER (WHERE NOT (ending = 'complete' AND status < 400))"
    from_rows = await pool.fetch(
        f"SELECT account_id, {period}, key_id, model, upstream, count(*),"
        f" {failed}, {sums} FROM usage GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5"
    )
    kept = await pool.fetch(
        f"SELECT account_id, {column}, key_id, model, upstream, requests, errors,"
        f" {', '.join(f'{each}::bigint' for each in SUMMED)} FROM {table} WHERE {where} ORDER BY 1, 2, 3, 4, 5"
    )
    assert [tuple(row) for row in kept] == [tuple(row) for row in from_rows]
