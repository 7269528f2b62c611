"""Usage that leads to nobody any more: rows of who was erased, records that come late, and who objected to analytics.

A row that is unlinked has no key, an id that no client knows and the hour instead of the moment; of an account
that is gone it has no account either. All numbers stay, so every sum over all is what it was, and nothing tells one
person's rows from another's. Nobody keeps which was which.

Who objected keeps the account and the moment in new rows, which bills need, and loses the key, which analytics would;
budgets are charged all the same, before it is forgotten.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, time, timedelta
from typing import Final
from uuid import UUID

from luntrex_proxy.core.outcome import Tokens
from luntrex_proxy.store.database import Connection
from luntrex_proxy.store.ownership import Subject
from luntrex_proxy.store.partitions import partition_days
from luntrex_proxy.store.tombstones import hash_of

ERASED, OBJECTED, NO_ACCOUNT = "erased", "unlinked", 0
_PAGES: Final = 512  # of a partition at a time: some ten thousand rows
_COUNTED: Final = ("requests", "errors", *Tokens().columns(), "cost_pico")
# ruff: noqa: S608 -- statements of constants of this file and names of partitions
_ACCOUNT: Final = f"CASE WHEN account_id = ANY($1::bigint[]) THEN {NO_ACCOUNT} ELSE account_id END"
_THEIRS: Final = "(account_id = ANY($1::bigint[]) OR key_id = ANY($2::text[]))"
# $3 are the accounts of the keys, by which the table is ordered: a day without them costs a look into its index.
_FEW: Final = 20_000
_COUNT: Final = (
    f"SELECT count(*) FROM (SELECT FROM {{partition}} WHERE account_id = ANY($3::bigint[]) AND {_THEIRS}"
    f" LIMIT {_FEW + 1}) found"
)


def _new_id(hour_ms: str) -> str:
    # Of version 7 as a gateway makes them, which tells the hour: else one had to be looked for on every day.
    return f"(lpad(to_hex({hour_ms}), 12, '0') || '-7' || right(gen_random_uuid()::text, 21))::uuid"


_HOUR_MS: Final = "(extract(epoch FROM date_trunc('hour', started_at, 'UTC')) * 1000)::bigint"
_UNLINK: Final = f"""
UPDATE {{partition}} SET account_id = {_ACCOUNT}, key_id = '{ERASED}', request_id = {_new_id(_HOUR_MS)},
    started_at = date_trunc('hour', started_at, 'UTC')
WHERE account_id = ANY($3::bigint[]) AND {_THEIRS}
"""
_PAGE: Final = " AND ctid >= $4::text::tid AND ctid < $5::text::tid"
_SUMS: Final = f"""
WITH gone AS (
    DELETE FROM {{table}} WHERE {_THEIRS} AND {{period}} >= $3 AND {{period}} < $4 RETURNING *
), merged AS (
    SELECT {_ACCOUNT} AS account_id, {{period}}, model, upstream,
        {", ".join(f"sum({column}) AS {column}" for column in _COUNTED)}
    FROM gone GROUP BY 1, 2, 3, 4
), added AS (
    INSERT INTO {{table}} AS sums (account_id, {{period}}, key_id, model, upstream, {", ".join(_COUNTED)})
    SELECT account_id, {{period}}, '{ERASED}', model, upstream, {", ".join(_COUNTED)} FROM merged ORDER BY 1, 2, 4, 5
    ON CONFLICT (account_id, {{period}}, key_id, model, upstream)
        DO UPDATE SET {", ".join(f"{column} = sums.{column} + excluded.{column}" for column in _COUNTED)}
)
SELECT count(*) FROM gone
"""
_HOURS: Final = _SUMS.format(table="usage_rollup", period="hour")
_DAYS: Final = _SUMS.format(table="usage_rollup_daily", period="day")
_EVER: Final = (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
_ANYBODY: Final = "SELECT EXISTS (SELECT FROM tombstone), EXISTS (SELECT FROM person WHERE objected_at IS NOT NULL)"
_GONE: Final = f"""
WITH ids AS (SELECT DISTINCT account_id, key_id FROM usage_incoming), gone AS (
    SELECT ids.*, a.subject_hash IS NOT NULL AS account_gone FROM ids
    LEFT JOIN tombstone k ON k.subject_hash = {hash_of("key", "ids.key_id")}
    LEFT JOIN tombstone a ON a.subject_hash = {hash_of("account", "ids.account_id")}
    WHERE k.subject_hash IS NOT NULL OR a.subject_hash IS NOT NULL
)
"""
# What is older than anything kept gets no row; it stays as it came, so that it can be counted as that.
_UNLINK_LATE: Final = f"""{_GONE}
UPDATE usage_incoming u SET key_id = '{ERASED}',
    request_id = {_new_id("(u.started_us - mod(u.started_us, 3600000000)) / 1000")},
    account_id = CASE WHEN gone.account_gone THEN {NO_ACCOUNT} ELSE u.account_id END,
    started_us = u.started_us - mod(u.started_us, 3600000000)
FROM gone WHERE u.account_id = gone.account_id AND u.key_id = gone.key_id
    AND timestamptz 'epoch' + u.started_us * interval '1 microsecond' >= (SELECT max(kept_from) FROM usage_retention)
"""
_DROP_LATE: Final = f"""{_GONE}
DELETE FROM usage_incoming u USING gone WHERE u.account_id = gone.account_id AND u.key_id = gone.key_id
RETURNING u.request_id
"""
# An account's own keys are those of its members together: of one who is alone there, as with a restriction.
_OBJECT: Final = f"""
WITH keys AS (
    SELECT k.key_id, p.objected_at AS since FROM api_key k JOIN person p USING (person_id)
    WHERE p.objected_at IS NOT NULL AND k.key_id IN (SELECT key_id FROM usage_incoming)
    UNION ALL
    SELECT k.key_id, max(p.objected_at) FROM api_key k JOIN membership m USING (account_id)
    JOIN person p ON p.person_id = m.person_id
    WHERE k.person_id IS NULL AND k.key_id IN (SELECT key_id FROM usage_incoming)
    GROUP BY 1 HAVING bool_and(p.objected_at IS NOT NULL)
)
UPDATE usage_incoming u SET key_id = '{OBJECTED}', budget_key_id = keys.key_id FROM keys
WHERE keys.key_id = u.key_id AND timestamptz 'epoch' + u.started_us * interval '1 microsecond' >= keys.since
"""


async def unlink_incoming(connection: Connection, *, again: bool) -> set[UUID]:
    """Before `usage_incoming` is stored: unlink records of who was erased, or objects. Returns those that were dropped.

    `again`: a directory is stored once more from its beginning. What was stored and unlinked cannot be told from what
    was not, so of who was erased nothing is stored twice.
    """
    (row,) = await connection.fetch(_ANYBODY)
    erased, objected = row
    dropped: set[UUID] = set()
    if erased and again:
        dropped = {row["request_id"] for row in await connection.fetch(_DROP_LATE)}
    elif erased:
        await connection.execute(_UNLINK_LATE)
    if objected:
        await connection.execute(_OBJECT)
    return dropped


async def unlink_stored(connection: Connection, subject: Subject) -> AsyncIterator[tuple[str, int]]:
    """Unlink what is stored of a subject; yields table and rows of each step, which is a transaction of its own."""
    theirs = (list(subject.account_ids), list(subject.key_ids))
    if not any(theirs):
        return
    owners = await connection.fetch("SELECT DISTINCT account_id FROM api_key WHERE key_id = ANY($1)", theirs[1])
    accounts = sorted({row["account_id"] for row in owners} | set(theirs[0]))
    for day in await partition_days(connection):
        start = datetime.combine(day, time(), UTC)
        async for rows in _unlink_rows(connection, f"usage_{day:%Y%m%d}", theirs, accounts):
            yield "usage", rows
        yield "usage_rollup", await connection.fetchval(_HOURS, *theirs, start, start + timedelta(days=1))
    async for rows in _unlink_days(connection, theirs):
        yield "usage_rollup_daily", rows
    # Hours of days whose rows are gone already.
    yield "usage_rollup", await connection.fetchval(_HOURS, *theirs, _EVER[0], _EVER[1])


async def _unlink_rows(
    connection: Connection, partition: str, theirs: tuple[list[int], list[str]], accounts: list[int]
) -> AsyncIterator[int]:
    """Few rows by the index, many page by page: each row is met once then, whatever the updates leave behind."""
    rows = await connection.fetchval(_COUNT.format(partition=partition), *theirs, accounts)
    statement = _UNLINK.format(partition=partition)
    if 0 < rows <= _FEW:
        yield _rows(await connection.execute(statement, *theirs, accounts))
    elif rows > _FEW:
        pages = await connection.fetchval("SELECT pg_relation_size(to_regclass($1)) / 8192", partition) or 0
        for page in range(0, pages + 1, _PAGES):
            places = f"({page},0)", f"({page + _PAGES},0)"
            yield _rows(await connection.execute(statement + _PAGE, *theirs, accounts, *places))


def _rows(status: str) -> int:
    return int(status.rpartition(" ")[2])


async def _unlink_days(connection: Connection, theirs: tuple[list[int], list[str]]) -> AsyncIterator[int]:
    """A month at a time."""
    first, last = await connection.fetchrow("SELECT min(day), max(day) FROM usage_rollup_daily") or (None, None)
    while first is not None and first <= last:
        until = first + timedelta(days=31)
        yield await connection.fetchval(_DAYS, *theirs, first, until)
        first = until
