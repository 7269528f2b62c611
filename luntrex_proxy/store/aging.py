"""Rows that are old, by the classes in the comments: found, counted and deleted, whatever the table.

Usage has its days (retention.py), the audit log its chain (auditcut.py); here is everything else. What a legal hold
concerns stays. Rows go in batches, each a transaction nobody waits for long.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, time, timedelta
from functools import partial
from typing import Final

from luntrex_proxy.core.retention import BY_NAME
from luntrex_proxy.store import ownership, subjects
from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.ownership import Subject, Table, Where
from luntrex_proxy.store.partitions import partition_days
from luntrex_proxy.store.retention import oldest_sums, turn

_NEVER: Final = datetime.max.replace(tzinfo=UTC)

_BATCH_ROWS: Final = 5_000
# They have ways of their own to become old.
ELSEWHERE: Final = frozenset(
    {"usage", "usage_rollup", "usage_rollup_daily", "usage_total", "usage_total_daily", "usage_key_total",
     "usage_key_total_daily", "spool_position", "audit_entry", "audit_personal"}
)  # fmt: skip
Days = Mapping[str, int]  # how many each class is kept
Rule = Callable[[Where, datetime, Days, Subject], str]  # the condition under which a row is old


def timed(all_tables: list[Table]) -> list[Table]:
    """The tables whose rows become old by themselves."""
    return [table for table in all_tables if table.retention in BY_NAME and table.name not in ELSEWHERE]


async def delete_old(pool: Pool, now: datetime, days: Days) -> AsyncIterator[tuple[str, int]]:
    """Delete what is older than its class allows; yields table and rows after each batch."""
    for name, rule in await _rules(pool):
        rows = _BATCH_ROWS
        while rows == _BATCH_ROWS:
            with store_errors("drop what is old"):
                async with turn(pool) as connection:
                    where = Where()
                    condition = rule(where, now, days, await subjects.held(connection))
                    done = await connection.execute(
                        f"DELETE FROM {name} WHERE ctid = ANY (ARRAY("  # noqa: S608 -- names of the schema
                        f"SELECT ctid FROM {name} WHERE {condition} LIMIT {_BATCH_ROWS}))",
                        *where.arguments,
                    )
            rows = int(done.rpartition(" ")[2])
            if rows:
                yield name, rows


async def count_old(pool: Pool, now: datetime, days: Days) -> dict[str, int]:
    """How many rows `delete_old` would delete now, by table."""
    rules, counts = await _rules(pool), {}
    with store_errors("say what is old"):
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            held = await subjects.held(connection)
            for name, rule in rules:
                where = Where()
                condition = rule(where, now, days, held)
                counts[name] = await connection.fetchval(
                    f"SELECT count(*) FROM {name} WHERE {condition}",  # noqa: S608 -- names of the schema
                    *where.arguments,
                )
    return {name: count for name, count in counts.items() if count}


async def oldest(pool: Pool) -> dict[str, datetime]:
    """When the time of the oldest row of each class began; classes without rows are left out."""
    found: dict[str, datetime] = {}
    with store_errors("say how old its data is"):
        async with pool.acquire() as connection:
            ages = [(table.retention, table.name, table.age) for table in timed(await ownership.tables(connection))]
            ages.append(("audit", "audit_entry", "at"))
            for retention, name, age in ages:
                if age is None or name == "budget_lease":  # of a budget in total it stays with it
                    continue
                at = await connection.fetchval(
                    f"SELECT extract(epoch FROM min({age}))::float8 FROM {name}"  # noqa: S608 -- names of the schema
                )
                if at is not None:
                    found[retention] = min(datetime.fromtimestamp(at, UTC), found.get(retention, _NEVER))
            _, day = await oldest_sums(connection)
            if day is not None:
                found["totals"] = min(datetime.combine(day, time(), UTC), found.get("totals", _NEVER))
            usage_days = await partition_days(connection)
            if usage_days:
                first = datetime.combine(usage_days[0], time(), UTC)
                found["usage"] = min(first, found.get("usage", _NEVER))
    return found


async def _rules(pool: Pool) -> list[tuple[str, Rule]]:
    with store_errors("describe its tables"):
        async with pool.acquire() as connection:
            found = timed(await ownership.tables(connection))
    special = dict(_SPECIAL)
    plain = [(table.name, partial(_is_old, table)) for table in found if table.age and table.name not in special]
    return [*plain, *_SPECIAL]


def _is_old(table: Table, where: Where, now: datetime, days: Days, held: Subject) -> str:
    line = where.value(now - timedelta(days=days[table.retention]))
    spared = where.any_of(table.links, held)
    return f"{table.age} < {line}" + (f" AND NOT coalesce({spared}, false)" if spared else "")


def _is_unproven(where: Where, now: datetime, days: Days, held: Subject) -> str:
    """Sign-ups that nobody proved, in a table whose rows otherwise stay as long as the person."""
    line, spared = where.value(now - timedelta(days=days["signup"])), where.value(list(held.person_ids))
    return (
        f"status = 'unverified' AND created_at < {line} AND NOT (person_id = ANY({spared}))"
        " AND NOT EXISTS (SELECT FROM membership m WHERE m.person_id = person.person_id)"
    )


def _is_over(where: Where, now: datetime, _days: Days, held: Subject) -> str:
    """Invoices say themselves until when."""
    return f"keep_until < {where.value(now.date())} AND NOT (account_id = ANY({where.value(list(held.account_ids))}))"


def _is_past(where: Where, now: datetime, days: Days, held: Subject) -> str:
    """Days and months of budgets, by their end; what a budget in total has spent stays as long as it is there."""
    line = where.value(now - timedelta(days=days["security"]))
    return f"ends_at < {line} AND NOT (account_id = ANY({where.value(list(held.account_ids))}))"


def _is_over_with_its_time(where: Where, now: datetime, days: Days, held: Subject) -> str:
    """What was borrowed of a day or month, after its end.

    Before, it says what was stored of it, however long ago: without that all that the process spent would count twice.
    """
    line, spared = where.value(now - timedelta(days=days["security"])), where.value(list(held.account_ids))
    return (
        f"last_at < {line} AND NOT (account_id = ANY({spared})) AND NOT EXISTS (SELECT FROM budget_window w"
        " WHERE w.budget_id = budget_lease.budget_id AND w.begins_at = budget_lease.begins_at"
        f" AND (w.ends_at IS NULL OR w.ends_at >= {line}))"
    )


_SPECIAL: Final[list[tuple[str, Rule]]] = [
    ("person", _is_unproven),
    ("billing.invoice", _is_over),
    ("budget_window", _is_past),
    ("budget_lease", _is_over_with_its_time),
]
