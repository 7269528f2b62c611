"""The table `budget`: what accounts, keys, members and labels may cost. Changed, listed, and read by who keeps to it.

What is spent: budget_window, filled by charging.py where usage is stored, and lent to processes by leases.py.
"""

import datetime
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from luntrex_proxy.core.audit import Fact
from luntrex_proxy.core.budgets import CLOSED, DEFAULT_ALERTS, BadBudgetError, BudgetTerms, check_terms, dollars
from luntrex_proxy.core.labels import BadLabelError, check_labels
from luntrex_proxy.store import accounts, audit, labels
from luntrex_proxy.store.changes import next_version
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.keyrows import refuse_no_id, unknown_key
from luntrex_proxy.store.tombstones import ADVISORY_LOCK

_BATCH_ROWS: Final = 500
# Of each budget, what counts in the time that it is now: spent as stored, held by processes for what they spend next.
_LIST: Final = """
SELECT b.budget_id, b.account_id, a.name AS account, a.time_zone, b.key_ids[cardinality(b.key_ids)] AS key_id,
    k.name AS key_name, b.person_id::text, p.email, b.label_name || '=' || b.label_value AS label,
    b.period, b.amount_pico, b.is_hard, b.when_away, b.alert_percents,
    s.begins_at, s.ends_at, coalesce(w.spent_pico, 0) AS spent_pico, coalesce(l.held, 0) AS held_pico,
    b.changed_at
FROM budget b JOIN account a USING (account_id) LEFT JOIN person p USING (person_id)
LEFT JOIN api_key k ON k.key_id = b.key_ids[cardinality(b.key_ids)]
CROSS JOIN LATERAL budget_span(b.period, b.since, a.time_zone, now()) s
LEFT JOIN budget_window w ON w.budget_id = b.budget_id AND w.begins_at = s.begins_at
LEFT JOIN LATERAL (SELECT sum(greatest(granted_pico - shipped_pico, 0)) AS held FROM budget_lease l
    WHERE l.budget_id = b.budget_id AND l.begins_at = s.begins_at) l ON true
WHERE b.amount_pico IS NOT NULL AND ($1::bigint IS NULL OR b.account_id = $1)
ORDER BY a.name, k.created_at NULLS FIRST, p.email NULLS FIRST, label NULLS FIRST, b.key_id,
    array_position('{day,month,total}', b.period)
"""
_PUT: Final = """
INSERT INTO budget AS b (account_id, key_id, key_ids, person_id, period, amount_pico, is_hard, when_away,
    alert_percents, version, label_name, label_value)
VALUES ($1, $2, CASE WHEN $2::text IS NULL THEN '{}' ELSE ARRAY[$2::text] END, $3, $6, $7, $8, $9, $10, $11, $4, $5)
ON CONFLICT (account_id, coalesce(key_id, ''), coalesce(person_id::text, ''),
    coalesce(label_name || '=' || label_value, ''), period) DO UPDATE
SET amount_pico = excluded.amount_pico, is_hard = excluded.is_hard, when_away = excluded.when_away,
    alert_percents = excluded.alert_percents, version = excluded.version, changed_at = now(),
    since = CASE WHEN b.amount_pico IS NULL THEN now() ELSE b.since END
RETURNING budget_id
"""
_CLEAR: Final = """
UPDATE budget SET amount_pico = NULL, version = $2, changed_at = now() WHERE budget_id = ANY($1)
"""
# In the order in which everybody locks them (charging.py).
_FORGET: Final = (
    "SELECT FROM budget_window WHERE budget_id = ANY($1) ORDER BY budget_id, begins_at FOR UPDATE",
    "DELETE FROM budget_lease WHERE budget_id = ANY($1)",
    "DELETE FROM budget_window WHERE budget_id = ANY($1)",
)
_OF: Final = """
SELECT budget_id, period, amount_pico, is_hard, when_away, alert_percents, key_id FROM budget
WHERE account_id = $1 AND amount_pico IS NOT NULL AND person_id IS NOT DISTINCT FROM $3
    AND CASE WHEN $2::text IS NULL THEN key_id IS NULL ELSE $2 = ANY (key_ids) END
    AND label_name IS NOT DISTINCT FROM $4 AND label_value IS NOT DISTINCT FROM $5
"""
_COVERS: Final = """
CASE WHEN b.key_id IS NOT NULL THEN {0} = ANY (b.key_ids)
    WHEN b.person_id IS NOT NULL THEN EXISTS (SELECT FROM api_key k WHERE k.key_id = {0} AND k.person_id = b.person_id)
    WHEN b.label_name IS NOT NULL THEN EXISTS (SELECT FROM key_label l
        WHERE l.key_id = {0} AND l.name = b.label_name AND l.value = b.label_value
        AND ({1} AT TIME ZONE 'UTC')::date >= l.since AND (l.until IS NULL OR ({1} AT TIME ZONE 'UTC')::date < l.until))
    ELSE true END
"""
# What was spent in this time before there was a budget, or before its days began when they begin now: whole hours by
# their sums, and what is left of the first hour by its requests.
_SEED: Final = f"""
INSERT INTO budget_window AS w (budget_id, account_id, begins_at, ends_at, spent_pico)
SELECT b.budget_id, b.account_id, s.begins_at, s.ends_at,
    coalesce((SELECT sum(r.cost_pico) FROM usage_rollup r
        WHERE r.account_id = b.account_id AND r.hour >= h.first AND {_COVERS.format("r.key_id", "r.hour")}), 0)
    + coalesce((SELECT sum(u.cost_pico) FROM usage u WHERE u.account_id = b.account_id AND u.started_at >= s.begins_at
        AND u.started_at < h.first AND {_COVERS.format("u.key_id", "u.started_at")}), 0)
FROM budget b JOIN account a USING (account_id)
CROSS JOIN LATERAL budget_span(b.period, b.since, a.time_zone, now()) s
CROSS JOIN LATERAL (
    SELECT date_trunc('hour', s.begins_at - interval '1 microsecond', 'UTC') + interval '1 hour' AS first) h
WHERE b.budget_id = ANY ($1) AND b.amount_pico IS NOT NULL AND b.period <> 'total'
ORDER BY b.budget_id, s.begins_at
ON CONFLICT (budget_id, begins_at) DO UPDATE SET spent_pico = greatest(w.spent_pico, excluded.spent_pico)
"""  # noqa: S608 -- constants
_CHANGED: Final = """
SELECT budget_id, account_id, uuid_send(person_id) AS person, period, amount_pico, is_hard, when_away,
    label_name || '=' || label_value AS label, CASE WHEN label_name IS NULL THEN key_ids ELSE ARRAY(
        SELECT key_id FROM key_label l WHERE l.account_id = b.account_id AND l.name = b.label_name
            AND l.value = b.label_value AND l.until IS NULL) END AS key_ids
FROM budget b WHERE version > $1 ORDER BY version
"""
_IS_ZONE: Final = """
SELECT name FROM pg_timezone_names WHERE name = $1 AND (name = 'UTC' OR name ~ '^[A-Z][A-Za-z_]+/[A-Za-z0-9_+/-]+$')
"""


@dataclass(frozen=True, slots=True)
class Whose:
    """An account, or in it a key, a member or a label with its value."""

    account_id: int
    key_id: str | None = None
    person_id: uuid.UUID | None = None
    label: tuple[str, str] | None = None

    @property
    def columns(self) -> tuple[Any, ...]:
        """account_id, key_id, person_id, label_name, label_value."""
        return self.account_id, self.key_id, self.person_id, *(self.label or (None, None))


@dataclass(frozen=True, slots=True)
class Terms:
    """What else a budget says; None: as it is, and of a new one: hard, told of at 80 and 100 %, closed."""

    is_hard: bool | None = None
    alert_percents: tuple[int, ...] | None = None
    when_away: str | None = None


@dataclass(frozen=True, slots=True)
class BudgetInfo:
    """A budget and how it stands in the time that it is now. Money in pico-dollars; `ends_at` None: never."""

    budget_id: int
    account_id: int
    account: str
    time_zone: str
    key_id: str | None  # the newest of those that share it
    key_name: str | None
    person_id: str | None
    email: str | None
    label: str | None  # as project=search
    period: str
    amount_pico: int
    is_hard: bool
    when_away: str
    alert_percents: tuple[int, ...]
    begins_at: datetime.datetime
    ends_at: datetime.datetime | None
    spent_pico: int
    held_pico: int  # by processes, for what they spend next and for what is not stored yet
    changed_at: datetime.datetime

    @property
    def terms(self) -> BudgetTerms:
        """What it says."""
        return BudgetTerms(self.amount_pico, self.is_hard, self.alert_percents, self.when_away)

    @property
    def left_pico(self) -> int:
        """What can still be lent to a process; negative when more was spent than there was."""
        return self.amount_pico - self.spent_pico - self.held_pico


async def list_all(pool: Pool, account_id: int | None = None) -> list[BudgetInfo]:
    """All budgets, or those of one account, its keys and members: by account, itself first."""
    with store_errors("list the budgets"):
        rows = await pool.fetch(_LIST, account_id)
    return [_info(row) for row in rows]


async def whose_account(pool: Pool, account: str) -> Whose:
    """An account by its name. RefusedError: there is none."""
    return Whose((await accounts.get(pool, account)).account_id)


async def whose_key(pool: Pool, key_id: str) -> Whose:
    """A key by its id. RefusedError: there is none."""
    refuse_no_id(key_id)
    with store_errors("find the key"):
        account_id = await pool.fetchval("SELECT account_id FROM api_key WHERE key_id = $1", key_id)
    if account_id is None:
        raise unknown_key(key_id)
    return Whose(account_id, key_id)


async def change(
    pool: Pool,
    whose: Whose,
    amounts: Mapping[str, int],
    terms: Terms | Mapping[str, Terms],
    *,
    cleared: Iterable[str] = (),
) -> list[BudgetInfo]:
    """Set budgets by period (pico-dollars) and take others away; those of `whose` then. `terms`: of all, or of each.

    RefusedError: there is nobody like this, the key has ended, or they cannot be.
    """
    with store_errors("change the budgets"):
        async with pool.acquire() as connection, connection.transaction():
            version = await next_version(connection)
            await _refuse_nobody(connection, whose)
            await _change(connection, version, whose, amounts, terms, cleared)
            rows = await connection.fetch(_LIST, whose.account_id)
            own = {row["budget_id"] for row in await _those_of(connection, whose)}
    return [_info(row) for row in rows if row["budget_id"] in own]


async def set_time_zone(pool: Pool, account: str, zone: str) -> None:
    """Have days and months of an account's budgets begin in this zone. RefusedError: there is none of this name."""
    with store_errors("change the account"):
        async with pool.acquire() as connection, connection.transaction():
            version = await next_version(connection)
            account_id = await connection.fetchval("SELECT account_id FROM account WHERE name = $1", account)
            if account_id is None:
                raise accounts.unknown(account)
            if not zone.isprintable() or await connection.fetchval(_IS_ZONE, zone) is None:
                raise RefusedError(
                    "There is no such time zone; give a name of the IANA list, such as Europe/Berlin.", "bad_time_zone"
                )
            await connection.execute("UPDATE account SET time_zone = $2 WHERE account_id = $1", account_id, zone)
            found = await connection.fetch(
                "UPDATE budget SET version = $2 WHERE account_id = $1 RETURNING budget_id", account_id, version
            )
            await _seed(connection, [row["budget_id"] for row in found])
            await audit.record(connection, "account.time_zone_set", str(account_id), account_id, {"zone": zone})


async def changed(connection: Connection, since: int) -> AsyncIterator[list[Any]]:
    """The rows that changed after a version, in batches; after -1: all."""
    async with connection.transaction(readonly=True):
        cursor = await connection.cursor(_CHANGED, since)
        while rows := await cursor.fetch(_BATCH_ROWS):
            yield rows


async def _refuse_nobody(connection: Connection, whose: Whose) -> None:
    if whose.key_id is not None:
        row = await connection.fetchrow(
            "SELECT status FROM api_key WHERE key_id = $1 AND account_id = $2", whose.key_id, whose.account_id
        )
        if row is None:
            raise unknown_key(whose.key_id)
        if row["status"] == "revoked":
            raise RefusedError(f"The key {whose.key_id} has ended; there is nothing to spend any more.", "key_ended")
    if whose.person_id is not None:
        is_member = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM membership WHERE account_id = $1 AND person_id = $2)",
            whose.account_id,
            whose.person_id,
        )
        if not is_member:
            raise RefusedError("Only a member of the account can have a budget there.", "not_a_member")
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM account WHERE account_id = $1)", whose.account_id):
        raise RefusedError("There is no such account; `luntrex-proxy accounts list` shows all.", "no_account")
    if whose.label is not None:
        declared = {each.name: each.allowed for each in await labels.declared(connection, whose.account_id)}
        try:
            check_labels(dict([whose.label]), declared)
        except BadLabelError as error:
            raise RefusedError(str(error), "bad_labels") from None


async def _change(
    connection: Connection,
    version: int,
    whose: Whose,
    amounts: Mapping[str, int],
    terms: Terms | Mapping[str, Terms],
    cleared: Iterable[str],
) -> None:
    rows = await _those_of(connection, whose)
    before = {row["period"]: row for row in rows}
    wanted = {
        period: _merged(before.get(period), amount, terms if isinstance(terms, Terms) else terms[period])
        for period, amount in amounts.items()
    }
    gone = set(cleared) - amounts.keys()
    try:
        check_terms({period: terms_of(row) for period, row in before.items() if period not in gone} | wanted)
    except BadBudgetError as error:
        raise RefusedError(str(error), "bad_budgets") from None
    first_key = next((row["key_id"] for row in rows), whose.key_id)
    budget_ids = [
        await connection.fetchval(
            _PUT,
            *replace(whose, key_id=first_key).columns,
            *(period, each.amount_pico, each.is_hard, each.when_away, list(each.alert_percents), version),
        )
        for period, each in wanted.items()
    ]
    cleared_ids = [row["budget_id"] for row in rows if row["period"] in gone]
    await connection.execute(_CLEAR, cleared_ids, version)
    await connection.execute("DELETE FROM budget_window WHERE budget_id = ANY($1)", cleared_ids)
    new_ids = [each for each, period in zip(budget_ids, wanted, strict=True) if period not in before]
    # Of new ones too: a process that was asking while they were taken away may have begun a window again.
    for statement in _FORGET:
        await connection.execute(statement, cleared_ids + new_ids)
    await _seed(connection, new_ids)
    facts: dict[str, Fact] = {period: dollars(each.amount_pico) for period, each in wanted.items()}
    if gone:
        facts["cleared"] = tuple(sorted(gone))
    subject = whose.key_id or (str(whose.person_id) if whose.person_id else str(whose.account_id))
    words = {} if whose.label is None else {f"label.{whose.label[0]}": whose.label[1]}
    await audit.record(connection, "budgets.changed", subject, whose.account_id, facts, words)


async def _those_of(connection: Connection, whose: Whose) -> list[Any]:
    return await connection.fetch(_OF, *whose.columns)


def _merged(row: Any, amount: int, terms: Terms) -> BudgetTerms:
    is_hard = terms.is_hard if terms.is_hard is not None else True if row is None else row["is_hard"]
    when_away = terms.when_away or (CLOSED if row is None else row["when_away"])
    before: Sequence[int] = DEFAULT_ALERTS if row is None else row["alert_percents"]
    percents = before if terms.alert_percents is None else terms.alert_percents
    return BudgetTerms(amount, is_hard, tuple(percents), when_away)


def terms_of(row: Any) -> BudgetTerms:
    """What a row says."""
    return BudgetTerms(int(row["amount_pico"]), row["is_hard"], tuple(row["alert_percents"]), row["when_away"])


async def _seed(connection: Connection, budget_ids: list[int]) -> None:
    """Count what was spent before, in the time that it is now. Nothing is stored meanwhile that would be missed."""
    if budget_ids:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK)
        await connection.execute(_SEED, budget_ids)


def _info(row: Any) -> BudgetInfo:
    numbers = {name: int(row[name]) for name in ("amount_pico", "spent_pico", "held_pico")}
    return BudgetInfo(**{**row, **numbers, "alert_percents": tuple(row["alert_percents"])})
