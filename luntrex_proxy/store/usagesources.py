"""Which rows say what an account used in a span of time, as SQL: sums of hours and days, single requests at the edges.

The smallest sums that still tell what is asked for are read: those of whole accounts by model and upstream, those of
keys, or those of both (the database keeps the former two by the last, migration 0039). Days that begin within an hour
of UTC, as in India and Nepal, have an hour that belongs to two of them: of that one the requests themselves are
counted. Requests of who was erased stand at the beginning of their hour: nothing finer is kept of them.
"""

# ruff: noqa: S608 -- every part of these statements is a constant of this file or a placeholder
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.ownership import Where

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
SUMMED: Final = ("requests", "errors", "input_tokens", "output_tokens", "cost_pico")
_NAMES: Final = ", ".join(SUMMED)
_ADDED: Final = ", ".join(f"sum({name}){'' if name == 'cost_pico' else '::bigint'} AS {name}" for name in SUMMED)
_OF_SOME: Final = (
    "count(*) AS requests, count(*) FILTER (WHERE NOT (ending = 'complete' AND status < 400)) AS errors,"
    " sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,"
    " sum(cost_pico) AS cost_pico"
)
_ODD: Final = """
SELECT coalesce(array_agg(hour), '{}') FROM generate_series(
    date_trunc('hour', $1::timestamptz, 'UTC'), $2::timestamptz, interval '1 hour') AS hour
WHERE (hour AT TIME ZONE $3)::date <> ((hour + interval '1 hour' - interval '1 microsecond') AT TIME ZONE $3)::date
"""


async def odd_hours(pool: Pool, since: datetime, until: datetime, zone: str) -> list[datetime]:
    """Hours of a span that belong to two days of a time zone."""
    if zone == "UTC":
        return []
    found: list[datetime] = await pool.fetchval(_ODD, since, until, zone)
    return found


def by_day(
    where: Where, account_id: int, since: datetime, until: datetime, step: str, *, keys: bool, models: bool
) -> str:
    """Rows of (at, key_id, model, upstream, sums) of whole UTC days, already together by `step` where that is longer.

    Without `keys` or `models` those are empty.
    """
    table, columns = _whose(keys=keys, models=models)
    begin, end = (where.value(each.astimezone(UTC).date()) for each in (since, until))
    within = f"account_id = {where.value(account_id)} AND day >= {begin}::date AND day < {end}::date"
    if step == "day":
        return f"SELECT day::timestamp AT TIME ZONE 'UTC' AS at, {columns}, {_NAMES} FROM {table}_daily WHERE {within}"
    # Of a year these are a tenth of the rows, or less.
    return (
        f"SELECT date_trunc({where.value(step)}, day::timestamp) AT TIME ZONE 'UTC' AS at, {columns}, {_ADDED}"
        f" FROM {table}_daily WHERE {within} GROUP BY 1, 2, 3, 4"
    )


def by_hour(
    where: Where,
    account_id: int,
    since: datetime,
    until: datetime,
    odd: Sequence[datetime],
    *,
    keys: bool,
    models: bool,
) -> str:
    """The same of hours; of `odd` ones of quarters of an hour."""
    table, columns = _whose(keys=keys, models=models)
    account, begin, end = where.value(account_id), where.value(since), where.value(until)
    hours = (
        f"SELECT hour AS at, {columns}, {_NAMES} FROM {table}"
        f" WHERE account_id = {account} AND hour >= {begin} AND hour < {end}"
    )
    if not odd:
        return hours
    apart = where.value(odd)
    return (
        f"{hours} AND hour <> ALL ({apart}::timestamptz[]) UNION ALL"
        f" SELECT date_bin('15 minutes', started_at, timestamptz 'epoch') AS at, {columns}, {_OF_SOME}"
        f" FROM unnest({apart}::timestamptz[]) odd JOIN usage"
        " ON started_at >= odd AND started_at < odd + interval '1 hour'"
        f" WHERE account_id = {account} AND started_at >= {begin} AND started_at < {end} GROUP BY 1, 2, 3, 4"
    )


def whole(where: Where, account_id: int, since: datetime, until: datetime) -> str:
    """The sums of an account from `since` to the end of the hour before `until`, in as few rows as there are for it."""
    hour, first, last = _ceiling(since, _HOUR), _ceiling(since, _DAY), until - (until - _EPOCH) % _DAY
    if first >= last:  # no whole day in it
        first = last = max(hour, until)
    account = where.value(account_id)
    days = tuple(where.value(each.date()) for each in (first, last))
    parts = [
        f"SELECT {_NAMES} FROM usage_total_daily WHERE account_id = {account}"
        f" AND day >= {days[0]}::date AND day < {days[1]}::date"
    ]
    for begin, end in ((hour, first), (last, until)):
        parts.append(
            f"SELECT {_NAMES} FROM usage_total WHERE account_id = {account}"
            f" AND hour >= {where.value(begin)} AND hour < {where.value(end)}"
        )
    if since < hour:
        parts.append(
            f"SELECT {_OF_SOME} FROM usage WHERE account_id = {account}"
            f" AND started_at >= {where.value(since)} AND started_at < {where.value(hour)}"
        )
    return " UNION ALL ".join(parts)


def _whose(*, keys: bool, models: bool) -> tuple[str, str]:
    if keys and models:
        return "usage_rollup", "key_id, model, upstream"
    if keys:
        return "usage_key_total", "key_id, '' AS model, '' AS upstream"
    return "usage_total", "'' AS key_id, model, upstream"


def _ceiling(at: datetime, step: timedelta) -> datetime:
    return at + (_EPOCH - at) % step
