"""The tables `statement` and `statement_line`: what accounts are charged by month, and what it is made up of.

A month that is closed is frozen: closing it again gives the same. What the ledger says of its usage later on (records
that come late, prices that are corrected) is charged in the statement that is closed next, as lines by model of that
earlier month; they can be negative. So of a month of usage all lines of all statements together are what the ledger
says, or the difference is what the next closing takes up.
"""

# ruff: noqa: S608 -- statements of constants of this file
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import msgspec

from luntrex_proxy.core.audit import Fact
from luntrex_proxy.core.months import in_words, next_month
from luntrex_proxy.store import accounts, audit, billing
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.keyrows import read_labels
from luntrex_proxy.store.usage import SUMMED

_LOCK: Final = 0x6C756E74_09  # one closing at a time
_SUMS: Final = ", ".join(f"sum({column})::bigint AS {column}" for column in SUMMED)
# Of the labels of each key on each day; of a month's own lines only.
_LEDGER: Final = f"""
WITH days AS (
    SELECT DISTINCT key_id, day FROM usage_rollup_daily WHERE account_id = $1 AND day >= $2 AND day < $3
), carried AS (
    SELECT key_id, day, jsonb_object_agg(l.name, l.value) AS labels
    FROM days JOIN key_label l USING (key_id) WHERE day >= l.since AND (l.until IS NULL OR day < l.until) GROUP BY 1, 2
)
SELECT model, coalesce(labels, '{{}}') AS labels, {_SUMS}, sum(cost_pico)::text AS cost_pico
FROM usage_rollup_daily LEFT JOIN carried USING (key_id, day)
WHERE account_id = $1 AND day >= $2 AND day < $3 GROUP BY 1, 2 ORDER BY 1, 2
"""
# Closed months before, of which the ledger can still change: nothing comes back of days that retention dropped. Where
# their daily sums are gone as well, a month has less than was charged, which is nobody's credit: usage never shrinks
# otherwise, prices only change its cost.
_LATE: Final = f"""
WITH closed AS (
    SELECT month FROM statement
    WHERE account_id = $1 AND month < $2 AND month + interval '1 month'
        > coalesce((SELECT max(kept_from) AT TIME ZONE 'UTC' FROM usage_retention), '-infinity')
), charged AS (
    SELECT usage_month AS month, model, {", ".join(SUMMED)}, cost_pico FROM statement_line
    WHERE account_id = $1 AND usage_month IN (SELECT month FROM closed)
), used AS (
    SELECT month, model, {", ".join(SUMMED)}, cost_pico
    FROM usage_rollup_daily JOIN closed ON day >= month AND day < month + interval '1 month' WHERE account_id = $1
), changes AS (
    SELECT month, model, {_SUMS}, sum(cost_pico) AS cost_pico FROM (
        SELECT * FROM used UNION ALL
        SELECT month, model, {", ".join(f"-{column}" for column in SUMMED)}, -cost_pico FROM charged
    ) signed GROUP BY 1, 2
)
SELECT month, model, {", ".join(SUMMED)}, cost_pico::text AS cost_pico FROM changes
WHERE ({" OR ".join(f"{column} <> 0" for column in (*SUMMED, "cost_pico"))}) AND month NOT IN (
    SELECT month FROM changes WHERE least({", ".join(SUMMED)}) < 0
) ORDER BY 1, 2
"""
# Who had nothing to be charged for when others' months were closed, and has it now.
_MISSED: Final = """
SELECT DISTINCT a.name, c.month FROM (SELECT DISTINCT month FROM statement WHERE month < $1) c
    JOIN usage_rollup_daily d ON d.day >= c.month AND d.day < c.month + interval '1 month'
    JOIN account a USING (account_id)
WHERE NOT EXISTS (SELECT FROM statement s WHERE s.account_id = d.account_id AND s.month = c.month)
    AND c.month + interval '1 month'
        > coalesce((SELECT max(kept_from) AT TIME ZONE 'UTC' FROM usage_retention), '-infinity')
ORDER BY 2, 1
"""
_COLUMNS: Final = (*SUMMED, "cost_pico")
_INSERT: Final = (
    f"INSERT INTO statement (account_id, month, {', '.join(_COLUMNS)})"
    f" VALUES ($1, $2, {', '.join(f'${place}' for place in range(3, 3 + len(_COLUMNS)))}) RETURNING closed_at"
)
_INSERT_LINE: Final = (
    f"INSERT INTO statement_line (account_id, month, number, usage_month, model, labels, {', '.join(_COLUMNS)})"
    f" VALUES ($1, $2, $3, $4, $5, $6, {', '.join(f'${place}' for place in range(7, 7 + len(_COLUMNS)))})"
)
_LINES: Final = (
    f"SELECT usage_month, model, labels, {', '.join(SUMMED)}, cost_pico::text AS cost_pico FROM statement_line"
    " WHERE account_id = $1 AND month = $2 ORDER BY number"
)
_PAGE: Final = (
    "SELECT month, closed_at, requests, cost_pico::text AS cost_pico FROM statement"
    " WHERE account_id = $1 AND ($2::date IS NULL OR month < $2) ORDER BY month DESC LIMIT $3"
)
_INVOICES: Final = "SELECT number FROM billing.invoice WHERE account_id = $1 AND month = $2 ORDER BY number"


@dataclass(frozen=True, slots=True)
class Line:
    """Usage of one month by model and labels. Of an earlier month than the statement's: what came late, by model."""

    usage_month: date
    model: str
    labels: dict[str, str]
    sums: dict[str, int]
    cost_pico: int


@dataclass(frozen=True, slots=True)
class Statement:
    """What an account is charged for a month; `closed_at` None: as it would be if it were closed now."""

    account_id: int
    account: str
    month: date
    closed_at: datetime | None
    lines: list[Line]
    invoices: list[str]  # their numbers

    @property
    def cost_pico(self) -> int:
        """All of it."""
        return sum(line.cost_pico for line in self.lines)

    @property
    def requests(self) -> int:
        """All of them."""
        return sum(line.sums["requests"] for line in self.lines)


@dataclass(frozen=True, slots=True)
class Closed:
    """A month that is closed, without its lines."""

    month: date
    closed_at: datetime
    requests: int
    cost_pico: int


async def get(pool: Pool, account: str, month: date) -> Statement:
    """The statement of a month, frozen or as it would be now. RefusedError: no such account, or a month to come."""
    known = await accounts.get(pool, account)
    with store_errors("read the statement"):
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            await _refuse_future(connection, month)
            return await _read(connection, known, month) or await _drafted(connection, known, month)


async def list_page(pool: Pool, account_id: int, before: date | None = None, limit: int | None = None) -> list[Closed]:
    """The closed months of an account, the newest first, those before a month."""
    with store_errors("list the statements"):
        rows = await pool.fetch(_PAGE, account_id, before, limit)
    return [Closed(**{**row, "cost_pico": int(row["cost_pico"])}) for row in rows]


async def missed(pool: Pool, before: date) -> list[tuple[str, date]]:
    """Accounts whose usage came after a month before that one was closed for others, and those months, which are open.

    Nobody charges it else: who had used nothing has no statement that a next one could follow.
    """
    with store_errors("list what was missed"):
        return [(row["name"], row["month"]) for row in await pool.fetch(_MISSED, before)]


async def close(pool: Pool, account: str, month: date, *, although_empty: bool = True) -> tuple[Statement, bool]:
    """Freeze the statement of a month that is over, and whether this did it: one that is frozen stays as it is.

    `although_empty` False: nothing is written down where there is nothing to charge.
    """
    known = await accounts.get(pool, account)
    with store_errors("close the month"):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            await _refuse_running(connection, month)
            there = await _read(connection, known, month)
            if there is not None:
                return there, False
            drafted = await _drafted(connection, known, month)
            if not drafted.lines and not although_empty:
                return drafted, False
            closed_at = await _write(connection, drafted)
            facts: dict[str, Fact] = {
                "month": in_words(month),
                "requests": drafted.requests,
                "cost_pico": str(drafted.cost_pico),
            }
            await audit.record(connection, "statement.closed", str(known.account_id), known.account_id, facts)
    return Statement(known.account_id, known.name, month, closed_at, drafted.lines, drafted.invoices), True


async def _refuse_future(connection: Connection, month: date) -> None:
    if await connection.fetchval("SELECT $1 > (now() AT TIME ZONE 'UTC')::date", month):
        raise RefusedError("This month lies ahead; give one that has begun.", "bad_month")


async def _refuse_running(connection: Connection, month: date) -> None:
    end = next_month(month)
    if await connection.fetchval("SELECT $1 > (now() AT TIME ZONE 'UTC')::date", end):
        raise RefusedError(f"{in_words(month)} is not over; it can be closed from {end} on, in UTC.", "bad_month")


async def _read(connection: Connection, account: accounts.Account, month: date) -> Statement | None:
    closed_at = await connection.fetchval(
        "SELECT closed_at FROM statement WHERE account_id = $1 AND month = $2", account.account_id, month
    )
    if closed_at is None:
        return None
    lines = [_line(row, row["usage_month"]) for row in await connection.fetch(_LINES, account.account_id, month)]
    return await _statement(connection, account, month, closed_at, lines)


async def _drafted(connection: Connection, account: accounts.Account, month: date) -> Statement:
    own = await connection.fetch(_LEDGER, account.account_id, month, next_month(month))
    late = await connection.fetch(_LATE, account.account_id, month)
    lines = [_line(row, month) for row in own] + [_line(row, row["month"]) for row in late]
    return await _statement(connection, account, month, None, lines)


async def _statement(
    connection: Connection, account: accounts.Account, month: date, closed_at: datetime | None, lines: list[Line]
) -> Statement:
    async with connection.transaction(), billing.in_role(connection):
        invoices = [row["number"] for row in await connection.fetch(_INVOICES, account.account_id, month)]
    return Statement(account.account_id, account.name, month, closed_at, lines, invoices)


def _line(row: Any, month: date) -> Line:
    labels = read_labels(row["labels"]) if "labels" in row else {}
    return Line(month, row["model"], labels, {column: row[column] for column in SUMMED}, int(row["cost_pico"]))


async def _write(connection: Connection, statement: Statement) -> datetime:
    of = statement.account_id, statement.month
    closed_at: datetime = await connection.fetchval(_INSERT, *of, *_values(statement.lines))
    await connection.executemany(
        _INSERT_LINE,
        [
            (*of, number, line.usage_month, line.model, msgspec.json.encode(line.labels).decode(), *_values([line]))
            for number, line in enumerate(statement.lines, 1)
        ],
    )
    return closed_at


def _values(lines: Iterable[Line]) -> list[int]:
    totals: defaultdict[str, int] = defaultdict(int)
    for line in lines:
        for column in SUMMED:
            totals[column] += line.sums[column]
        totals["cost_pico"] += line.cost_pico
    return [totals[column] for column in _COLUMNS]
