"""What accounts are charged by month: frozen when closed, complete with what comes late, equal to the ledger."""

import random
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from luntrex_proxy.store import accounts, apikeys, audit, billing, erasing, retention, statements
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.reconciling import Comparison, compare_day, compare_statements, days_between, months_within
from luntrex_proxy.store.statements import Statement
from luntrex_proxy.store.usagesources import SUMMED as PICTURED
from tests.store.months import SEPTEMBER, make_keys, rates_of, records, store

MONTH, NEXT = date(2026, 9, 1), date(2026, 10, 1)
NAMES = ("acme", "bolt", "core")


async def compared(pool: Pool, since: date = MONTH, until: date = date(2026, 9, 30)) -> Comparison:
    """As `billing reconcile` does it."""
    found = Comparison()
    for day in days_between(since, until):
        await compare_day(pool, day, None, found)
    for month in months_within(since, until):
        await compare_statements(pool, month, None, found)
    return found


async def close_all(pool: Pool, month: date) -> list[Statement]:
    """The statements of all accounts."""
    return [(await statements.close(pool, name, month))[0] for name in NAMES]


async def spent(pool: Pool) -> int:
    """What all records cost."""
    return int(await pool.fetchval("SELECT coalesce(sum(cost_pico), 0)::text FROM usage"))


@pytest.mark.parametrize(
    ("table", "change", "by"),
    [
        ("usage_total", "UPDATE {} sums SET cost_pico = cost_pico + 7", {"cost_pico": 7}),
        ("usage_key_total", "UPDATE {} sums SET errors = errors - 1", {"errors": -1}),
        ("usage_total_daily", "UPDATE {} sums SET input_tokens = input_tokens + 1", {"input_tokens": 1}),
        ("usage_key_total_daily", "DELETE FROM {} sums", None),
    ],
)
async def test_a_sum_of_sums_that_drifted_is_named(
    database: Pool, tmp_path: Path, table: str, change: str, by: dict[str, int] | None
) -> None:
    """Which one, of when and whom, and by how much, although the ledger itself adds up; not for another account."""
    seed = random.Random(8)
    await store(database, tmp_path, records(seed, await make_keys(database), rates_of(seed), 100, days=2))
    assert (await compared(database)).is_right
    one = f"{change} WHERE ctid = (SELECT ctid FROM {table} ORDER BY account_id LIMIT 1) RETURNING *"
    row = dict(await database.fetchrow(one.format(table)))
    found = await compared(database)
    assert not found.is_right
    assert all(account.is_right for account in found.accounts.values())
    (drifted,) = found.drifted
    at = row.get("hour") or datetime.combine(row["day"], time(), UTC)
    whose = row["account_id"], row.get("key_id", ""), row.get("model", ""), row.get("upstream", "")
    assert (drifted.table, drifted.at) == (table, at)
    assert (drifted.account_id, drifted.key_id, drifted.model, drifted.upstream) == whose
    gone = {name: -int(row[name]) for name in PICTURED if row[name]}
    assert drifted.by == (gone if by is None else by)
    other = Comparison()
    await compare_day(database, at.date(), row["account_id"] + 1, other)
    assert other.is_right, "another account's"
    assert other.accounts


async def test_a_month_adds_up_to_the_pico_dollar(database: Pool, tmp_path: Path) -> None:
    """Records, sums and statements of a random month agree; so they do with what comes late, once it is charged."""
    seed = random.Random(6)
    keys, rates = await make_keys(database), rates_of(seed)
    await store(database, tmp_path, records(seed, keys, rates, 3_000))
    assert (await compared(database)).is_right
    made = await close_all(database, MONTH)
    assert sum(each.cost_pico for each in made) == await spent(database) > 10**14
    assert sum(each.requests for each in made) == 3_000
    first = made[0]
    assert {(line.usage_month, line.labels["project"]) for line in first.lines} == {
        (MONTH, name) for name in ("before0", "before1", "after0", "after1")
    }
    right = await compared(database)
    assert right.is_right
    assert sum(each.charged_pico or 0 for each in right.accounts.values()) == await spent(database)

    # Closing it again changes nothing, whatever came meanwhile.
    await store(database, tmp_path, records(seed, keys, rates, 100, first=3_000))
    again, now = await statements.close(database, "acme", MONTH)
    assert (again, now) == (first, False)
    wrong = await compared(database)
    assert not wrong.is_right
    assert not wrong.differing_days, "only the statement lacks it"
    late = {each.account_id: each.used_pico - (each.charged_pico or 0) for each in wrong.accounts.values()}
    assert sum(late.values()) == await spent(database) - sum(each.cost_pico for each in made)

    # The next closing charges it, by model, as usage of the month before; then nothing differs.
    for each in await close_all(database, NEXT):
        assert {line.usage_month for line in each.lines} == {MONTH}
        assert each.cost_pico == late[each.account_id] > 0
        assert all(not line.labels for line in each.lines)
    assert (await compared(database)).is_right
    assert [each.month for each in await statements.list_page(database, 1)] == [NEXT, MONTH]
    assert [each.month for each in await statements.list_page(database, 1, NEXT, 1)] == [MONTH]

    # A key that is erased takes its labels along, and no money; an account takes its statements.
    await erasing.erase_account(database, tmp_path, keys[-1][0], SEPTEMBER + timedelta(days=60), 2192)
    assert (await compared(database)).is_right
    assert await database.fetchval("SELECT count(*) FROM statement") == 4
    assert await database.fetchval("SELECT count(DISTINCT account_id) FROM statement_line") == 2


async def test_what_differs_is_found(database: Pool, tmp_path: Path) -> None:
    """By one pico-dollar, in a count, and where two errors cancel out; in hours, days, and a statement's lines."""
    seed = random.Random(7)
    keys = await make_keys(database, ("acme",))
    await store(database, tmp_path, records(seed, keys, rates_of(seed), 200, days=2))
    await statements.close(database, "acme", MONTH)
    day = date(2026, 9, 2)
    an_hour = (
        "(SELECT hour, key_id, model, upstream FROM usage_rollup WHERE hour >= '2026-09-02 00:00Z'"
        " ORDER BY 1, 2, 3, 4 LIMIT 1)"
    )
    of_a_day = "(SELECT model, max(key_id || upstream) FROM usage_rollup_daily WHERE day = '2026-09-02' GROUP BY model)"
    for change in (
        f"UPDATE usage_rollup SET cost_pico = cost_pico {{}} 1 WHERE (hour, key_id, model, upstream) IN {an_hour}",
        f"UPDATE usage_rollup SET errors = errors {{}} 1 WHERE (hour, key_id, model, upstream) IN {an_hour}",
        "UPDATE usage_rollup_daily SET cost_pico = cost_pico {} CASE model WHEN 'large' THEN 1 ELSE -1 END"
        f" WHERE day = '2026-09-02' AND model IN ('large', 'small') AND (model, key_id || upstream) IN {of_a_day}",
    ):
        assert await database.execute(change.format("+")) in ("UPDATE 1", "UPDATE 2")
        found = await compared(database)
        assert (found.is_right, list(found.differing_days)) == (False, [day]), change
        await database.execute(change.format("-"))
        assert (await compared(database)).is_right, change
    await database.execute("UPDATE statement_line SET cost_pico = cost_pico + 1 WHERE number = 1")
    (account,) = (await compared(database)).accounts.values()
    assert (account.is_right, account.unexplained_pico, (account.charged_pico or 0) - account.used_pico) == (
        False,
        -1,
        1,
    )


async def test_older_days_have_sums_alone(database: Pool, tmp_path: Path) -> None:
    """Where retention dropped the records there is nothing to compare, and nothing late to charge."""
    seed = random.Random(8)
    await store(database, tmp_path, records(seed, await make_keys(database), rates_of(seed), 50, days=3))
    await close_all(database, MONTH)
    await database.execute("UPDATE usage_retention SET kept_from = '2026-10-01 00:00Z'")
    await database.execute("TRUNCATE usage, usage_rollup")
    found = await compared(database)
    assert (found.is_right, found.days_without_records) == (True, 3)
    assert sum(each.without_records_pico for each in found.accounts.values()) > 0
    await database.execute("DELETE FROM usage_rollup_daily")
    assert all(not each.lines for each in await close_all(database, NEXT)), "no month is given back that is only old"


async def test_days_that_retention_dropped_are_nobodys_credit(database: Pool, tmp_path: Path) -> None:
    """Not of a month whose later days are still there, where daily sums are kept for no longer than records."""
    seed = random.Random(10)
    keys, rates = await make_keys(database, ("acme",)), rates_of(seed)
    await store(database, tmp_path, records(seed, keys, rates, 60))
    await statements.close(database, "acme", MONTH)
    await retention.drop_old(database, date(2026, 11, 14), retention.Periods(60, 60), retention.Dropped())
    assert await database.fetchval("SELECT min(day) FROM usage_rollup_daily") >= date(2026, 9, 15)
    october, _ = await statements.close(database, "acme", NEXT)
    assert october.lines == []
    assert (await compared(database)).is_right


async def test_only_a_month_that_is_over_is_closed(database: Pool) -> None:
    """Others are refused in a sentence; the act is on record; an invoice is for a closed month."""
    await accounts.create(database, "acme")
    now: datetime = await database.fetchval("SELECT now()")
    running = date(now.year, now.month, 1)
    with pytest.raises(RefusedError, match=rf"{running:%Y-%m} is not over; it can be closed from "):
        await statements.close(database, "acme", running)
    for act in (statements.get, statements.close):
        with pytest.raises(RefusedError, match=r"lies ahead|is not over"):
            await act(database, "acme", date(2199, 1, 1))
        with pytest.raises(RefusedError, match="There is no account"):
            await act(database, "nobody", MONTH)
    assert (await statements.get(database, "acme", running)).closed_at is None
    drafted, now_closed = await statements.close(database, "acme", MONTH, although_empty=False)
    assert (drafted.closed_at, now_closed) == (None, False)
    issue = ("1", "Acme", "DE", Decimal("1.00"), "USD", date(2026, 10, 1))
    with pytest.raises(RefusedError, match="The month is not closed"):
        await billing.issue(database, 1, *issue, month=MONTH)
    closed, now_closed = await statements.close(database, "acme", MONTH)
    assert (closed.lines, closed.cost_pico, now_closed) == ([], 0, True)
    assert (await billing.issue(database, 1, *issue, month=MONTH)).month == MONTH
    assert (await statements.get(database, "acme", MONTH)).invoices == ["1"]
    acts = [(each.act, each.facts) for each in await audit.newest(database, 2)]
    assert acts[1] == ("statement.closed", {"month": "2026-09", "requests": 0, "cost_pico": "0"})


async def test_an_erased_key_changes_no_bill(database: Pool, tmp_path: Path) -> None:
    """Its usage loses the label, which is no difference to be charged."""
    seed = random.Random(9)
    keys = await make_keys(database, ("acme",))
    await store(database, tmp_path, records(seed, keys, rates_of(seed), 60))
    await statements.close(database, "acme", MONTH)
    await database.execute("UPDATE usage_rollup_daily SET key_id = 'x' || key_id WHERE key_id = $1", keys[0][1])
    assert (await apikeys.list_all(database))[0].labels
    october, _ = await statements.close(database, "acme", NEXT)
    assert october.lines == []
