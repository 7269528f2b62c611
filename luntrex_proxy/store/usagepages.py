"""Reading an account's usage page by page, for one who looks: other members' keys are not shown.

A member's own key is theirs: of it others see sums by member or label only, whatever else they group by, and no single
request, unless the account agreed to that before it came. Keys without a member are the account's, and all who may read
usage see them. Nothing is written here.
"""

# ruff: noqa: S608 -- every part of these statements is a constant of this file
import uuid
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.usage import MEMBERS_SINCE, REQUEST_COLUMNS, SUMMED, UsageRequest, moment_of, request_of

# Grouped by neither key nor label, which may be one member's alone, sums say nothing of one member. An empty word: not
# grouped by that.
_TOTALS: Final = f"""
WITH seen AS (
    SELECT u.*, k.name AS key_name, k.person_id, l.value AS label, ('key' = ANY($5) OR $8::text IS NOT NULL)
        AND k.person_id IS DISTINCT FROM $4::uuid AND k.person_id IS NOT NULL AS hidden
    FROM usage_rollup_daily u LEFT JOIN api_key k USING (key_id)
        LEFT JOIN key_label l ON l.key_id = u.key_id AND l.name = $8 AND u.day >= l.since
            AND (l.until IS NULL OR u.day < l.until)
    WHERE u.account_id = $1 AND u.day BETWEEN $2 AND $3
), named AS (
    SELECT *, ARRAY[
        CASE WHEN 'day' = ANY($5) AND NOT hidden THEN to_char(day, 'YYYY-MM-DD') ELSE '' END,
        CASE WHEN 'key' = ANY($5) THEN coalesce(person_id::text, '') ELSE '' END,
        CASE WHEN 'key' = ANY($5) AND NOT hidden THEN key_id ELSE '' END,
        CASE WHEN 'model' = ANY($5) AND NOT hidden THEN model ELSE '' END,
        CASE WHEN 'upstream' = ANY($5) AND NOT hidden THEN upstream ELSE '' END,
        CASE WHEN NOT ('key' = ANY($5) AND hidden) THEN coalesce(label, '') ELSE '' END
    ] AS place FROM seen
)
SELECT place, bool_or(hidden) AS hidden, CASE WHEN 'key' = ANY($5) AND NOT bool_or(hidden) THEN max(key_name) END
    AS key_name, sum(cost_pico)::text AS cost_pico,
    {", ".join(f"sum({column})::bigint AS {column}" for column in SUMMED)}
FROM named WHERE $6::text[] IS NULL OR place > $6 GROUP BY place ORDER BY place LIMIT $7
"""
_MAY_BE_SEEN: Final = (
    f"(k.person_id IS NULL OR k.person_id = {{viewer}}::uuid OR ({{others}} AND started_at >= {MEMBERS_SINCE}))"
)
_REQUESTS: Final = f"""
SELECT {REQUEST_COLUMNS}, NULL AS account, k.name AS key_name, k.person_id::text AS member_id
FROM usage LEFT JOIN api_key k USING (key_id)
WHERE usage.account_id = $1 AND started_at >= $2 AND started_at < $3
    AND {_MAY_BE_SEEN.format(viewer="$4", others="$12")} AND ($5::text IS NULL OR key_id = $5)
    AND ($6::timestamptz IS NULL OR (started_at, usage.request_id) < ($6, $7::uuid))
    AND ($9::text IS NULL OR model = $9) AND ($10::text IS NULL OR upstream = $10) AND (NOT $11 OR usage.status >= 400)
ORDER BY started_at DESC, usage.request_id DESC LIMIT $8
"""
_REQUEST: Final = f"""
SELECT {REQUEST_COLUMNS}, NULL AS account, k.name AS key_name, k.person_id::text AS member_id
FROM usage LEFT JOIN api_key k USING (key_id)
WHERE usage.account_id = $1 AND started_at >= $3 AND started_at <= $4 AND usage.request_id = $2
    AND {_MAY_BE_SEEN.format(viewer="$5", others="$6")}
"""


@dataclass(frozen=True, slots=True)
class GroupTotal:
    """Sums of one group of an account's usage; None: not grouped by that, or not for the eyes of who looks."""

    place: tuple[str, ...]  # in the order of all groups
    day: str | None
    member_id: str | None
    key_id: str | None
    key_name: str | None
    model: str | None
    upstream: str | None
    label: str | None  # the value of the label grouped by
    sums: dict[str, int]
    cost_pico: int


@dataclass(frozen=True, slots=True)
class Only:
    """Which single requests; None: whatever it is."""

    key_id: str | None = None
    model: str | None = None
    upstream: str | None = None
    failed: bool = False  # only those that were


async def totals_page(
    pool: Pool,
    account_id: int,
    viewer: str,
    days: tuple[date, date],
    by: tuple[str, ...],
    after: tuple[str, ...] | None,
    limit: int,
    label: str | None = None,
) -> list[GroupTotal]:
    """Sums over whole UTC days, the first and last of `days` included, grouped by any of key, model, upstream, day.

    `label`: and by the values of the label of this name.
    """
    with store_errors("read the usage"):
        rows = await pool.fetch(
            _TOTALS,
            account_id,
            *days,
            uuid.UUID(viewer),
            list(by),
            None if after is None else list(after),
            limit,
            label,
        )
    found = []
    for row in rows:
        day, member_id, key_id, model, upstream, value = row["place"]
        shown = {name for name in by if not row["hidden"]}
        found.append(
            GroupTotal(
                place=tuple(row["place"]),
                day=day if "day" in shown else None,
                member_id=member_id or None,
                key_id=key_id if "key" in shown else None,
                key_name=row["key_name"],
                model=model if "model" in shown else None,
                upstream=upstream if "upstream" in shown else None,
                label=value or None,
                sums={column: row[column] for column in SUMMED},
                cost_pico=int(row["cost_pico"]),
            )
        )
    return found


async def requests_page(
    pool: Pool,
    account_id: int,
    viewer: str,
    times: tuple[datetime, datetime],
    only: Only,
    after: tuple[datetime, str] | None,
    limit: int,
    *,
    others: bool = False,
) -> list[UsageRequest]:
    """Single requests in a span of time, newest first, those before (time, request id).

    `others`: other members' as well, as far as the account lets them be seen.
    """
    narrowed = only.model, only.upstream, only.failed, others
    if after is not None:  # as an end of the span, from which the index is read: as a condition alone it is none
        times = times[0], min(times[1], after[0] + timedelta(microseconds=1))
    with store_errors("read the usage"):
        rows = await pool.fetch(
            _REQUESTS, account_id, *times, uuid.UUID(viewer), only.key_id, *(after or (None, None)), limit, *narrowed
        )
    return [request_of(row) for row in rows]


async def one_request(
    pool: Pool, account_id: int, viewer: str, request_id: str, *, others: bool = False
) -> UsageRequest | None:
    """One request of the account, if who looks may see it."""
    found = uuid.UUID(request_id)
    came = moment_of(found)
    if came is None:
        return None
    with store_errors("read the usage"):
        row = await pool.fetchrow(_REQUEST, account_id, found, *came, uuid.UUID(viewer), others)
    return None if row is None else request_of(row)
