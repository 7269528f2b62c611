"""Reading usage: sums from `usage_rollup` and `usage_rollup_daily`, single requests from `usage`. Nothing is written.

Money is integer pico-dollars; micro-dollars, rounded half to even, are for display only.
"""

import contextlib
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from luntrex_proxy.core.pricing import is_in_doubt
from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.keyrows import read_labels

_PICO_PER_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens by class, and what they cost."""

    input_tokens: int
    cached_input_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    input_audio_tokens: int
    output_tokens: int
    reasoning_tokens: int
    output_audio_tokens: int
    cost_pico: int

    @property
    def cost_micros(self) -> int:
        """In micro-dollars, for display."""
        return micros(self.cost_pico)


@dataclass(frozen=True, slots=True)
class UsageTotal(Spent):
    """Sums of one key, model and upstream. Names are None when account or key are gone."""

    account: str | None
    key_id: str
    key_name: str | None
    model: str
    upstream: str
    requests: int
    errors: int


@dataclass(frozen=True, slots=True)
class UsageRequest(Spent):
    """One request of a known account: metadata, no content."""

    request_id: str
    started_at: datetime
    account: str | None
    key_id: str
    key_name: str | None
    member_id: str | None  # whose own key; None: the account's
    route: str
    status: int
    code: str
    ending: str
    model: str
    upstream: str
    streamed: bool
    usage_source: str
    price_version: str
    request_bytes: int
    response_bytes: int
    events: int
    attempts: int
    duration_us: int
    first_byte_us: int
    overhead_us: int
    trail: str
    labels: dict[str, str]  # that its key carried on that day

    @property
    def price_known(self) -> bool:
        """Whether its cost is what the provider charges for it, as far as anybody knows."""
        return not (self.input_tokens or self.output_tokens) or not is_in_doubt(self.price_version)


SUMMED = (
    *("requests", "errors", "input_tokens", "cached_input_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"),
    *("input_audio_tokens", "output_tokens", "reasoning_tokens", "output_audio_tokens"),
)
# Whole days from the daily sums, which are fewer and kept longer; hours before the first and after the last of them,
# asked for apart: as one condition with OR all hours between would be read.
# ruff: noqa: S608 -- every part of this statement is a constant of this file
SUMS = f"""
WITH span AS (
    SELECT date_trunc('hour', $1::timestamptz, 'UTC') AS since, $2::timestamptz AS until,
        date_trunc('day', $1::timestamptz + interval '1 day' - interval '1 microsecond', 'UTC') AS first,
        date_trunc('day', $2::timestamptz, 'UTC') AS last
), sums AS (
    SELECT account_id, day, key_id, model, upstream, {", ".join(SUMMED)}, cost_pico FROM usage_rollup_daily, span
    WHERE day >= (first AT TIME ZONE 'UTC')::date AND day < (last AT TIME ZONE 'UTC')::date
    UNION ALL
    SELECT account_id, (hour AT TIME ZONE 'UTC')::date, key_id, model, upstream, {", ".join(SUMMED)}, cost_pico
    FROM usage_rollup, span WHERE hour >= since AND hour < least(first, until)
    UNION ALL
    SELECT account_id, (hour AT TIME ZONE 'UTC')::date, key_id, model, upstream, {", ".join(SUMMED)}, cost_pico
    FROM usage_rollup, span WHERE hour >= greatest(first, last) AND hour < until
)
"""
_TOTALS = f"""
{SUMS}
SELECT account.name AS account, key_id, api_key.name AS key_name, model, upstream,
    {", ".join(f"sum({column})::bigint AS {column}" for column in SUMMED)}, sum(cost_pico)::text AS cost_pico
FROM sums LEFT JOIN account USING (account_id) LEFT JOIN api_key USING (key_id)
WHERE $3::bigint IS NULL OR sums.account_id = $3
GROUP BY account.name, key_id, api_key.name, model, upstream
ORDER BY account.name, api_key.name, key_id, model, upstream
"""
# Of a request, as far as `usage` itself has it.
REQUEST_COLUMNS = """
    request_id::text AS request_id, started_at, key_id, route, usage.status, code, ending, model, upstream, streamed,
    usage_source, input_tokens, cached_input_tokens, cache_write_5m_tokens, cache_write_1h_tokens, input_audio_tokens,
    output_tokens, reasoning_tokens, output_audio_tokens, cost_pico, price_version, request_bytes, response_bytes,
    events, attempts, duration_us, first_byte_us, overhead_us, trail, (
        SELECT coalesce(jsonb_object_agg(l.name, l.value), '{}') FROM key_label l
        WHERE l.key_id = usage.key_id AND (started_at AT TIME ZONE 'UTC')::date >= l.since
            AND (l.until IS NULL OR (started_at AT TIME ZONE 'UTC')::date < l.until)
    ) AS labels
"""
# Since when members' single requests may be seen by others in a request's account; NULL: not at all (consent).
MEMBERS_SINCE = """(SELECT given_at FROM consent c WHERE c.account_id = usage.account_id
    AND c.purpose = 'member_requests' AND c.withdrawn_at IS NULL)"""
_MAY_BE_SEEN = f"(api_key.person_id IS NULL OR started_at >= {MEMBERS_SINCE})"
_FOUND = f"""
SELECT {REQUEST_COLUMNS}, account.name AS account, api_key.name AS key_name, api_key.person_id::text AS member_id
FROM usage LEFT JOIN account USING (account_id) LEFT JOIN api_key USING (key_id)
WHERE {_MAY_BE_SEEN}
"""
_REQUESTS = f"""
{_FOUND} AND started_at >= $1 AND started_at < $2 AND ($3::bigint IS NULL OR usage.account_id = $3)
    AND ($4::text IS NULL OR key_id = $4)
ORDER BY started_at DESC, usage.request_id DESC LIMIT $5
"""


def micros(pico: int) -> int:
    """Pico-dollars as micro-dollars, rounded half to even."""
    whole, rest = divmod(pico, _PICO_PER_MICRO)
    return whole + (2 * rest > _PICO_PER_MICRO or (2 * rest == _PICO_PER_MICRO and whole % 2 == 1))


async def totals(pool: Pool, since: datetime, until: datetime, account: str | None = None) -> list[UsageTotal]:
    """Sums by account, key, model and upstream over whole hours: from the hour of `since` to before `until`.

    Of a day older than the hourly sums kept, only the whole is known: a part of it counts nothing.
    """
    with store_errors("read the usage"):
        account_id = await account_id_of(pool, account)
        rows = await pool.fetch(_TOTALS, since, until, account_id)
    return [UsageTotal(**{**row, "cost_pico": int(row["cost_pico"])}) for row in rows]


_REQUEST = f"""
{_FOUND} AND usage.request_id = $1 AND started_at >= $2 AND started_at <= $3
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_V7 = 7
_LAST_MS = 10**14  # in the year 5138: the largest that an id can tell is no date


def moment_of(request_id: uuid.UUID) -> tuple[datetime, datetime] | None:
    """From when to when a request of this id came: it tells the millisecond. None: of none that gateways make."""
    came_ms = request_id.int >> 80
    if request_id.version != _V7 or came_ms > _LAST_MS:
        return None
    came = _EPOCH + timedelta(milliseconds=came_ms)
    return came - timedelta(milliseconds=2), came + timedelta(milliseconds=2)


async def request(pool: Pool, request_id: str) -> UsageRequest:
    """One request. RefusedError: there is none of this id on record, or it is a member's own (core/consents.py)."""
    with store_errors("read the usage"):
        row = None
        with contextlib.suppress(ValueError):
            found = uuid.UUID(request_id)
            if (came := moment_of(found)) is not None:
                row = await pool.fetchrow(_REQUEST, found, *came)
    if row is None:
        raise RefusedError(
            "There is no such request on record; give the value of its answer's x-request-id, some seconds after it "
            "ended. Requests without a known key have no record. One of a member's own key is shown only where the "
            "account agreed to member_requests before."
        )
    return request_of(row)


async def requests(
    pool: Pool,
    since: datetime,
    until: datetime,
    limit: int,
    *,
    account: str | None = None,
    key_id: str | None = None,
) -> list[UsageRequest]:
    """The newest requests that came from `since` to before `until`, newest first.

    Of members' own keys only those that an account lets be seen (consent member_requests).
    """
    with store_errors("read the usage"):
        account_id = await account_id_of(pool, account)
        rows = await pool.fetch(_REQUESTS, since, until, account_id, key_id, limit)
    return [request_of(row) for row in rows]


def request_of(row: Any) -> UsageRequest:
    """A request as its row says it."""
    return UsageRequest(**{**row, "labels": read_labels(row["labels"])})


async def account_id_of(pool: Pool, account: str | None) -> int | None:
    """Of the account of this name; None: of none. An unknown one raises RefusedError."""
    if account is None:
        return None
    account_id = await pool.fetchval("SELECT account_id FROM account WHERE name = $1", account)
    if account_id is None:
        raise RefusedError(f"There is no account {account!r}; `luntrex-proxy accounts list` shows all.")
    return int(account_id)
