"""Whether all that says what was used says the same: single records, hourly sums, daily sums, statements.

A day is compared in one snapshot, by account, key, model and upstream, in every count and to the pico-dollar, so that
errors that cancel out are found too. Of days whose records retention has dropped only the daily sums are left. Sums of
whole accounts and of keys, which pictures are drawn from, are compared with those that they are sums of.
"""

# ruff: noqa: S608 -- statements of constants of this file
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from luntrex_proxy.core.months import month_of, next_month
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.usage import SUMMED
from luntrex_proxy.store.usagesources import SUMMED as PICTURED

_TOKENS: Final = SUMMED[2:]
_FAILED: Final = "count(*) FILTER (WHERE NOT (ending = 'complete' AND status < 400))"
_ADDED: Final = ", ".join(f"sum({column})" for column in (*SUMMED, "cost_pico"))
_WHOSE: Final = "account_id, key_id, model, upstream"
_NAMES: Final = ", ".join((*SUMMED, "cost_pico"))
_DAY: Final = f"""
WITH levels (level, {_WHOSE}, {_NAMES}) AS (
    SELECT 0, {_WHOSE}, count(*), {_FAILED}, {", ".join(f"sum({column})" for column in (*_TOKENS, "cost_pico"))}
    FROM usage WHERE started_at >= $1 AND started_at < $2 AND ($4::bigint IS NULL OR account_id = $4)
    GROUP BY {_WHOSE}
    UNION ALL
    SELECT 1, {_WHOSE}, {_ADDED} FROM usage_rollup
    WHERE hour >= $1 AND hour < $2 AND ($4::bigint IS NULL OR account_id = $4) GROUP BY {_WHOSE}
    UNION ALL
    SELECT 2, {_WHOSE}, {_ADDED} FROM usage_rollup_daily
    WHERE day = $3 AND ($4::bigint IS NULL OR account_id = $4) GROUP BY {_WHOSE}
), groups AS (
    SELECT account_id, count(*) < 3 OR count(DISTINCT concat_ws(' ', {_NAMES})) > 1 AS differs,
        {", ".join(f"coalesce(sum(cost_pico) FILTER (WHERE level = {n}), 0) AS cost_{n}" for n in range(3))},
        coalesce(sum(requests) FILTER (WHERE level = 2), 0) AS requests
    FROM levels GROUP BY {_WHOSE}
)
SELECT account_id, count(*) FILTER (WHERE differs) AS differing, sum(requests)::bigint AS requests,
    {", ".join(f"sum(cost_{level})::text AS cost_{level}" for level in range(3))}
FROM groups GROUP BY 1 ORDER BY 1
"""
_DAYS_ALONE: Final = """
SELECT account_id, sum(requests)::bigint AS requests, sum(cost_pico)::text AS cost_pico FROM usage_rollup_daily
WHERE day = $1 AND ($2::bigint IS NULL OR account_id = $2) GROUP BY 1
"""
# What the database keeps of those sums itself (migration 0039): from which, in which, of what.
_KEPT: Final = (
    ("usage_rollup", "usage_total", "hour", "''::text", "model", "upstream"),
    ("usage_rollup", "usage_key_total", "hour", "key_id", "''::text", "''::text"),
    ("usage_rollup_daily", "usage_total_daily", "day", "''::text", "model", "upstream"),
    ("usage_rollup_daily", "usage_key_total_daily", "day", "key_id", "''::text", "''::text"),
)
_WITHIN: Final = {"hour": "hour >= $1 AND hour < $2", "day": "day = $3"}
_MOMENT: Final = {"hour": "hour", "day": "day::timestamp AT TIME ZONE 'UTC'"}
_DRIFTED: Final = " UNION ALL ".join(
    f"SELECT '{table}' AS sums, account_id, {_MOMENT[at]} AS at,"
    f" key_id, model, upstream, {', '.join(f'sum({column})::text AS {column}' for column in PICTURED)} FROM ("
    f"SELECT account_id, {at}, {key} AS key_id, {model} AS model, {upstream} AS upstream, {', '.join(PICTURED)}"
    f" FROM {table} WHERE {_WITHIN[at]} AND ($4::bigint IS NULL OR account_id = $4) UNION ALL"
    f" SELECT account_id, {at}, {key}, {model}, {upstream}, {', '.join(f'-{column}' for column in PICTURED)}"
    f" FROM {source} WHERE {_WITHIN[at]} AND ($4::bigint IS NULL OR account_id = $4)"
    f") signed GROUP BY account_id, {at}, key_id, model, upstream"
    f" HAVING {' OR '.join(f'sum({column}) <> 0' for column in PICTURED)}"
    for source, table, at, key, model, upstream in _KEPT
)
_LINE: Final = "SELECT nullif(max(kept_from), '-infinity') FROM usage_retention"
# Of a month whose daily sums retention has dropped, or some of them, nobody can say any more what was used.
_CHARGED: Final = """
SELECT s.account_id, charged.cost::text AS charged,
    (CASE WHEN used.requests < charged.requests AND $1::date < (
        SELECT max(kept_from) AT TIME ZONE 'UTC' FROM usage_retention
    ) THEN charged.cost ELSE used.cost END)::text AS used,
    (s.cost_pico - coalesce((SELECT sum(l.cost_pico) FROM statement_line l
        WHERE l.account_id = s.account_id AND l.month = s.month), 0))::text AS unexplained
FROM statement s CROSS JOIN LATERAL (
    SELECT coalesce(sum(l.requests), 0) AS requests, coalesce(sum(l.cost_pico), 0) AS cost FROM statement_line l
    WHERE l.account_id = s.account_id AND l.usage_month = s.month
) charged CROSS JOIN LATERAL (
    SELECT coalesce(sum(d.requests), 0) AS requests, coalesce(sum(d.cost_pico), 0) AS cost FROM usage_rollup_daily d
    WHERE d.account_id = s.account_id AND d.day >= $1 AND d.day < $2
) used
WHERE s.month = $1 AND ($3::bigint IS NULL OR s.account_id = $3)
"""
_ACCOUNTS: Final = "SELECT account_id, name FROM account"


@dataclass(slots=True)
class Account:
    """What each says of one account in a span of days, in pico-dollars. Account 0: who was erased."""

    account_id: int
    name: str | None
    requests: int = 0
    records_pico: int = 0
    hourly_pico: int = 0
    daily_pico: int = 0  # of days that have records
    without_records_pico: int = 0  # daily sums of days whose records are dropped
    differing: int = 0  # groups of a key, model and upstream on a day
    charged_pico: int | None = None  # in statements; None: the month is not closed
    used_pico: int = 0  # of the whole month, where it is closed
    unexplained_pico: int = 0  # of a statement, that its lines do not add up to

    @property
    def is_right(self) -> bool:
        """Whether all say the same."""
        charged = self.used_pico if self.charged_pico is None else self.charged_pico
        return (
            self.records_pico == self.hourly_pico == self.daily_pico
            and not self.differing
            and charged == self.used_pico
            and not self.unexplained_pico
        )


@dataclass(slots=True)
class Drifted:
    """A sum of a whole account, or of a key, that is not what it sums. `by`: how much too much it has, by column."""

    table: str
    account_id: int
    at: datetime  # beginning of its hour or day, in UTC
    key_id: str  # "": of all keys
    model: str  # "": of all models and upstreams
    upstream: str
    by: dict[str, int]
    name: str | None = None  # the account's


@dataclass(slots=True)
class Comparison:
    """Accounts with any usage or statement, and the days on which something differs."""

    accounts: dict[int, Account] = field(default_factory=dict)
    drifted: list[Drifted] = field(default_factory=list)
    differing_days: dict[date, int] = field(default_factory=dict)
    days_without_records: int = 0

    @property
    def is_right(self) -> bool:
        """Whether everything adds up."""
        return not self.drifted and all(account.is_right for account in self.accounts.values())


async def names_of(pool: Pool) -> dict[int, str]:
    """The names of accounts by id."""
    with store_errors("list the accounts"):
        return {row["account_id"]: row["name"] for row in await pool.fetch(_ACCOUNTS)}


async def compare_day(pool: Pool, day: date, account_id: int | None, found: Comparison) -> None:
    """Compare one UTC day, and add what each says to `found`."""
    start = datetime.combine(day, time(), UTC)
    with store_errors("compare the sums"):
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            for row in await connection.fetch(_DRIFTED, start, start + timedelta(days=1), day, account_id):
                found.drifted.append(_drifted(row))
            kept_from = await connection.fetchval(_LINE)
            if kept_from is not None and start < kept_from:
                await _take_days_alone(connection, day, account_id, found)
                return
            rows = await connection.fetch(_DAY, start, start + timedelta(days=1), day, account_id)
    for row in rows:
        account = _account(found, row["account_id"])
        account.requests += row["requests"]
        account.records_pico += int(row["cost_0"])
        account.hourly_pico += int(row["cost_1"])
        account.daily_pico += int(row["cost_2"])
        account.differing += row["differing"]
        if row["differing"]:
            found.differing_days[day] = found.differing_days.get(day, 0) + row["differing"]


async def _take_days_alone(connection: Connection, day: date, account_id: int | None, found: Comparison) -> None:
    rows = await connection.fetch(_DAYS_ALONE, day, account_id)
    found.days_without_records += bool(rows)
    for row in rows:
        account = _account(found, row["account_id"])
        account.requests += row["requests"]
        account.without_records_pico += int(row["cost_pico"])


async def compare_statements(pool: Pool, month: date, account_id: int | None, found: Comparison) -> None:
    """Compare what was charged for the usage of a closed month with what the ledger says of it."""
    with store_errors("compare the statements"):
        rows = await pool.fetch(_CHARGED, month, next_month(month), account_id)
    for row in rows:
        account = _account(found, row["account_id"])
        account.charged_pico = (account.charged_pico or 0) + int(row["charged"])
        account.used_pico += int(row["used"])
        account.unexplained_pico += int(row["unexplained"])


def days_between(since: date, until: date) -> list[date]:
    """The days, the last one included."""
    return [since + timedelta(days=number) for number in range((until - since).days + 1)]


def months_within(since: date, until: date) -> list[date]:
    """The months that lie whole in these days, the last one included."""
    counted: defaultdict[date, int] = defaultdict(int)
    for day in days_between(since, until):
        counted[month_of(day)] += 1
    return [month for month, days in sorted(counted.items()) if days == (next_month(month) - month).days]


def _drifted(row: Any) -> Drifted:
    by = {column: int(row[column]) for column in PICTURED if int(row[column])}
    whose = row["key_id"], row["model"], row["upstream"]
    return Drifted(row["sums"], row["account_id"], row["at"], *whose, by)


def _account(found: Comparison, account_id: int) -> Account:
    return found.accounts.setdefault(account_id, Account(account_id, None))
