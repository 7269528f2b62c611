"""What records of a day would cost at other prices, and changing them and their sums to that: a day is done or is not.

A day is one transaction: its records, hourly sums and daily sums change together, by the same differences, so that sums
stay what their records are. Nobody who stores or erases waits for more than the rows that are being changed; when both
wait for each other one begins anew.
"""

# ruff: noqa: S608 -- statements of constants of this file
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import asyncpg

from luntrex_proxy.core.audit import Fact
from luntrex_proxy.core.outcome import Tokens
from luntrex_proxy.core.pricing import Price, is_in_doubt, service_of
from luntrex_proxy.store import audit
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.erasing import ONE_AT_A_TIME
from luntrex_proxy.store.partitions import partition_days
from luntrex_proxy.store.usage import SUMMED

_BATCH_ROWS: Final = 5_000
_TRIES: Final = 5
_TOKENS: Final = tuple(Tokens().columns())
# By time, so that prices are asked for in the order in which they hold. Records without tokens cost nothing at any.
_RECORDS: Final = f"""
SELECT account_id, started_at, request_id, model, upstream, cost_pico, price_version, {", ".join(_TOKENS)}
FROM usage WHERE started_at >= $1 AND started_at < $2 AND ($3::bigint IS NULL OR account_id = $3)
    AND ($4::text IS NULL OR model = $4) AND (input_tokens > 0 OR output_tokens > 0)
ORDER BY started_at
"""
_MAKE_CHANGES: Final = """
CREATE TEMP TABLE IF NOT EXISTS repriced (account_id bigint, started_at timestamptz, request_id uuid, before bigint,
    after bigint, version text) ON COMMIT DELETE ROWS
"""
# The sums in one order, as who stores records changes them, so that these two seldom wait for each other. A row that is
# another by now was erased meanwhile and stays as it is.
_ZEROS: Final = ", ".join("0" for _ in SUMMED)
_SUM: Final = f"""
    INSERT INTO {{table}} AS sums (account_id, {{period}}, key_id, model, upstream, {", ".join(SUMMED)}, cost_pico)
    SELECT account_id, {{start}}, key_id, model, upstream, {_ZEROS}, sum(difference) FROM changed
    GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (account_id, {{period}}, key_id, model, upstream) DO UPDATE
        SET cost_pico = sums.cost_pico + excluded.cost_pico
"""
_HOURS: Final = _SUM.format(table="usage_rollup", period="hour", start="date_trunc('hour', started_at, 'UTC')")
_DAYS: Final = _SUM.format(table="usage_rollup_daily", period="day", start="(started_at AT TIME ZONE 'UTC')::date")
_APPLY: Final = f"""
WITH changed AS (
    UPDATE usage u SET cost_pico = after, price_version = version FROM repriced r
    WHERE u.account_id = r.account_id AND u.started_at = r.started_at AND u.request_id = r.request_id
        AND u.cost_pico = before AND u.started_at >= $1 AND u.started_at < $2
    RETURNING u.account_id, u.started_at, u.key_id, u.model, u.upstream, after - before AS difference
), hourly AS ({_HOURS}), daily AS ({_DAYS})
SELECT count(*), coalesce(sum(difference), 0)::text FROM changed
"""
# Account, model, upstream, version of prices and time (unix seconds) of a record -> its price now; None: unknown.
Seen = Callable[[int], None]
PriceOf = Callable[[int, str, str, str, float], Price | None]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records."""

    since: date
    until: date  # the last day
    account_id: int | None = None
    model: str | None = None


@dataclass(slots=True)
class Tally:
    """Records of one account and model: what they cost, and what they would."""

    requests: int = 0
    changed: int = 0
    unknown: int = 0  # of which no price is known now: they stay as they are
    before_pico: int = 0
    after_pico: int = 0

    def add(self, other: "Tally") -> None:
        """Count another's too."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


Tallies = dict[tuple[int, str], Tally]  # by account and model


async def days_of(pool: Pool, selection: Selection) -> list[date]:
    """The days that have records. Of days before only sums are left, which stay as they are."""
    with store_errors("say which days there are"):
        async with pool.acquire() as connection:
            found = await partition_days(connection)
    return [day for day in found if selection.since <= day <= selection.until]


async def records_by_day(pool: Pool, selection: Selection) -> dict[date, int]:
    """How many requests each day has, by its sums: about as many records as there are to look at."""
    with store_errors("count the records"):
        rows = await pool.fetch(
            "SELECT day, sum(requests)::bigint AS requests FROM usage_rollup_daily WHERE day BETWEEN $1 AND $2"
            " AND ($3::bigint IS NULL OR account_id = $3) AND ($4::text IS NULL OR model = $4) GROUP BY 1",
            selection.since, selection.until, selection.account_id, selection.model,
        )  # fmt: skip
    return {row["day"]: row["requests"] for row in rows}


async def reprice_day(
    pool: Pool, day: date, selection: Selection, price_of: PriceOf, *, apply: bool, seen: Seen = lambda _records: None
) -> Tallies:
    """What the records of a day would cost; with `apply` they and their sums are changed, all of them or none.

    `seen`: so many more records were looked at.
    """
    with store_errors("price the records anew"):
        for left in reversed(range(_TRIES)):
            try:
                async with pool.acquire() as connection, connection.transaction():
                    return await _reprice(connection, day, selection, price_of, seen, apply=apply)
            except asyncpg.DeadlockDetectedError:
                if not left:
                    raise
    raise AssertionError  # the last try returns or raises


async def _reprice(
    connection: Connection, day: date, selection: Selection, price_of: PriceOf, seen: Seen, *, apply: bool
) -> Tallies:
    await connection.execute("SET LOCAL statement_timeout = '10min'")
    if apply:
        # Nobody is erased while records and their sums are at hand.
        await connection.execute("SELECT pg_advisory_xact_lock($1)", ONE_AT_A_TIME, timeout=600)
        await connection.execute(_MAKE_CHANGES)
    start = datetime.combine(day, time(), UTC)
    span = start, start + timedelta(days=1)
    tallies: Tallies = {}
    cursor = await connection.cursor(_RECORDS, *span, selection.account_id, selection.model)
    while rows := await cursor.fetch(_BATCH_ROWS):
        changes = [change for row in rows if (change := _change(row, price_of, tallies)) is not None]
        seen(len(rows))
        if apply and changes:
            await connection.copy_records_to_table("repriced", records=changes)
    if apply and any(tally.changed for tally in tallies.values()):
        ((count, difference),) = await connection.fetch(_APPLY, *span, timeout=600)
        facts: dict[str, Fact] = {
            "day": day.isoformat(), "records": count, "difference_pico": difference, "model": selection.model
        }  # fmt: skip
        await audit.record(connection, "usage.repriced", day.isoformat(), selection.account_id, facts)
    return tallies


def _change(row: Any, price_of: PriceOf, tallies: Tallies) -> tuple[object, ...] | None:
    """Count a record; what it becomes, if it changes."""
    tally = tallies.setdefault((row["account_id"], row["model"]), Tally())
    before, version = row["cost_pico"], row["price_version"]
    tally.requests += 1
    tally.before_pico += before
    price = price_of(row["account_id"], row["model"], row["upstream"], version, row["started_at"].timestamp())
    if price is None:
        tally.unknown += 1
        tally.after_pico += before
        return None
    tokens = Tokens(*(row[name] for name in _TOKENS))
    price = price.served(service_of(version)).of(tokens)
    after = price.cost_pico(tokens)
    tally.after_pico += after
    if after == before and is_in_doubt(version) == is_in_doubt(price.version):
        return None
    tally.changed += 1
    return row["account_id"], row["started_at"], row["request_id"], before, after, price.version
