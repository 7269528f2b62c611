"""Budgets in their tables: set, refused in a sentence, followed; windows by the account's clocks; what usage costs."""

import itertools
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from luntrex_proxy.core.leases import Budgets
from luntrex_proxy.store import accounts, apikeys, audit, budgets, erasing, labels, limits, members, people
from luntrex_proxy.store.budgetalerts import raise_reached
from luntrex_proxy.store.budgeting import BudgetBook
from luntrex_proxy.store.budgets import BudgetInfo, Terms, Whose
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.spool import Spool
from tests.postgres import LOOKUP
from tests.store.records import opening, outcome, ship

ACME = Whose(1)
DOLLAR = 10**12
MIB = 2**20


async def make_key(pool: Pool, name: str = "first", person_id: str | None = None) -> str:
    """A key of the account; its id."""
    return (await apikeys.create(pool, LOOKUP, "acme", name, person_id=person_id, bcrypt_cost=4)).info.key_id


async def make_member(pool: Pool, email: str = "ada@example.org") -> uuid.UUID:
    """A developer of the account."""
    async with pool.acquire() as connection, connection.transaction():
        person_id = await people.create(connection, email)
        await members.put(connection, 1, person_id, "developer")
    return person_id


async def set_(pool: Pool, whose: Whose = ACME, **dollars: float) -> list[BudgetInfo]:
    """Budgets with the usual terms."""
    return await budgets.change(pool, whose, {k: int(v * DOLLAR) for k, v in dollars.items()}, Terms())


async def spend(pool: Pool, root: Path, *costs: tuple[str, int], at_us: int | None = None) -> Spool:
    """A process serves requests (key, cost), and its records are stored."""
    spool = Spool(root / "spool", uuid.uuid4(), MIB, 64 * MIB)
    write(spool, *costs, at_us=at_us)
    await ship(pool, root / "spool", spool)
    return spool


def write(spool: Spool, *costs: tuple[str, int], at_us: int | None = None) -> None:
    """Requests of the account, open and settled."""
    for key_id, cost in costs:
        more: dict[str, Any] = {"request_id": str(uuid.uuid4()), "key_id": key_id, "started_us": at_us or now_us()}
        spool.open(opening(1, **more))
        spool.settle(outcome(1, cost_pico=cost, **more))


def now_us() -> int:
    """Unix time in microseconds."""
    return time.time_ns() // 1000


async def spent(pool: Pool) -> dict[tuple[str, str], int]:
    """By whose and period, in the time that it is now."""
    return {(each.key_id or each.email or "", each.period): each.spent_pico for each in await budgets.list_all(pool)}


async def test_budgets_are_set_changed_and_cleared(acme: Pool) -> None:
    """What is not said of one that is there stays; each act is on record, in dollars."""
    (made,) = await budgets.change(acme, ACME, {"month": 100 * DOLLAR}, Terms(False, (50,), "open"))
    assert (made.amount_pico, made.is_hard, made.alert_percents, made.when_away) == (100 * DOLLAR, False, (50,), "open")
    day, month = await set_(acme, month=200, day=10)
    assert (month.amount_pico, month.is_hard, month.alert_percents, month.when_away) == (
        200 * DOLLAR,
        False,
        (50,),
        "open",
    )
    assert (day.is_hard, day.alert_percents, day.when_away, day.left_pico) == (True, (80, 100), "closed", 10 * DOLLAR)
    key_id = await make_key(acme)
    (of_key,) = await set_(acme, await budgets.whose_key(acme, key_id), total=5)
    assert (of_key.key_id, of_key.key_name, of_key.ends_at) == (key_id, "first", None)
    person = await make_member(acme)
    (of_member,) = await set_(acme, Whose(1, None, person), month=5)
    assert of_member.email == "ada@example.org"
    assert [(each.period, each.key_id, each.email) for each in await budgets.list_all(acme, 1)] == [
        ("day", None, None),
        ("month", None, None),
        ("month", None, "ada@example.org"),
        ("total", key_id, None),
    ]
    assert [each.period for each in await budgets.change(acme, ACME, {}, Terms(), cleared=["month"])] == ["day"]
    (newest,) = await audit.newest(acme, 1)
    assert (newest.act, newest.facts) == ("budgets.changed", {"cleared": ["month"]})
    acts = [each.facts for each in await audit.newest(acme, 9) if each.act == "budgets.changed"]
    assert acts[3:] == [{"month": "200", "day": "10"}, {"month": "100"}]


async def test_what_cannot_be_is_refused_and_changes_nothing(acme: Pool) -> None:
    """Contradictions with what is there already, and whom there is not."""
    await accounts.create(acme, "other")
    key_id = await make_key(acme)
    await set_(acme, month=10)
    for whose, amounts, sentence in (
        (ACME, {"day": 11 * DOLLAR}, "day=11 can never be reached: month is 10"),
        (Whose(2, key_id), {"day": 10**6}, "There is no key"),
        (Whose(1, None, uuid.uuid4()), {"day": 10**6}, "Only a member"),
        (Whose(99), {"day": 10**6}, "There is no such account"),
    ):
        with pytest.raises(RefusedError, match=sentence):
            await budgets.change(acme, whose, amounts, Terms())
    with pytest.raises(RefusedError, match="would do nothing"):
        await budgets.change(acme, ACME, {"day": 10**6}, Terms(is_hard=False, alert_percents=()))
    with pytest.raises(RefusedError, match="There is no account"):
        await budgets.whose_account(acme, "nobody")
    await apikeys.revoke(acme, key_id)
    with pytest.raises(RefusedError, match="has ended"):
        await set_(acme, Whose(1, key_id), day=1)
    for zone in ("Mars/Olympus", "EST5EDT", "europe/berlin", "posix/Europe/Berlin", "", "'; DROP", "+02"):
        with pytest.raises(RefusedError, match="no such time zone"):
            await budgets.set_time_zone(acme, "acme", zone)
    assert [each.period for each in await budgets.list_all(acme)] == ["month"]


SPAN = "SELECT begins_at, ends_at FROM budget_span($1, timestamptz '2026-01-05 10:00Z', $2, $3)"


async def span(pool: Pool, period: str, zone: str, at: str | datetime) -> tuple[datetime, datetime]:
    """The window of a moment."""
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    return tuple(await pool.fetchrow(SPAN, period, zone, moment))


async def test_days_and_months_are_the_accounts_own(acme: Pool) -> None:
    """Days of 23 and 25 hours, months with one of them, zones off by minutes, and all there is from when it was set."""
    hours = {
        ("day", "Europe/Berlin", "2026-03-29T12:00Z"): ("2026-03-28T23:00Z", 23),
        ("day", "Europe/Berlin", "2026-10-25T12:00Z"): ("2026-10-24T22:00Z", 25),
        ("day", "Europe/Berlin", "2026-10-24T21:59:59Z"): ("2026-10-23T22:00Z", 24),
        ("month", "Europe/Berlin", "2026-10-31T22:59Z"): ("2026-09-30T22:00Z", 31 * 24 + 1),
        ("month", "UTC", "2028-02-29T23:59Z"): ("2028-02-01T00:00Z", 29 * 24),
        ("day", "Asia/Kathmandu", "2026-05-01T18:15Z"): ("2026-05-01T18:15Z", 24),
    }
    for (period, zone, at), (begin, length) in hours.items():
        begins_at, ends_at = await span(acme, period, zone, at)
        assert begins_at == datetime.fromisoformat(begin), zone
        assert ends_at - begins_at == timedelta(hours=length), zone
    begins_at, ends_at = await span(acme, "total", "Europe/Berlin", "2026-10-25T12:00Z")
    assert (begins_at, ends_at) == (datetime(2026, 1, 5, 10, tzinfo=UTC), None)


@pytest.mark.parametrize(
    "zone", ["America/Havana", "America/Sao_Paulo", "Asia/Beirut", "Pacific/Apia", "Europe/London"]
)
async def test_windows_follow_each_other_whatever_clocks_do(acme: Pool, zone: str) -> None:
    """Where midnight does not exist, comes twice, or a day is left out: no gap, no overlap, each moment in its own."""
    rows = await acme.fetch(
        "SELECT moment, begins_at, ends_at"
        " FROM generate_series(timestamptz '2011-01-01', '2019-12-31', '31 minutes') moment,"
        " LATERAL budget_span('day', moment, $1, moment) s ORDER BY 1",
        zone,
    )
    assert all(begins_at <= moment < ends_at for moment, begins_at, ends_at in rows)
    windows = sorted({(begins_at, ends_at) for _, begins_at, ends_at in rows})
    assert all(end == begin for (_, end), (begin, _) in itertools.pairwise(windows))


async def test_stored_usage_is_charged_once_to_all_who_cover_it(acme: Pool, tmp_path: Path) -> None:
    """The account, the key and the member whose key it is; what is stored already, or costs nothing, adds nothing."""
    person = await make_member(acme)
    own, other = await make_key(acme, "own", str(person)), await make_key(acme, "other")
    await set_(acme, month=100, total=1000)
    await set_(acme, Whose(1, own), day=50)
    await set_(acme, Whose(1, None, person), month=60)
    await spend(acme, tmp_path, (own, 3), (other, 4), (other, 0), ("erased000000", 5), (own, 7), at_us=now_us())
    expected = {("", "month"): 19, ("", "total"): 19, (own, "day"): 10, ("ada@example.org", "month"): 10}
    assert await spent(acme) == expected
    await acme.execute("DELETE FROM spool_position")
    await spend(acme, tmp_path)
    assert await spent(acme) == expected


async def test_what_was_under_way_when_a_process_died_is_charged_its_input(acme: Pool, tmp_path: Path) -> None:
    """Once its spool is recovered: what is on record, and nothing of what it had borrowed."""
    key_id = await make_key(acme)
    await set_(acme, month=1000)
    dead = Spool(tmp_path / "spool", uuid.uuid4())
    dead.open(opening(1, key_id=key_id, started_us=now_us(), input_tokens=25, cost_pico=75))
    dead.close()
    dead.directory.unlock()
    await spend(acme, tmp_path)
    assert await spent(acme) == {("", "month"): 75}
    row = await acme.fetchrow("SELECT ending, usage_source, input_tokens, output_tokens, cost_pico FROM usage")
    assert tuple(row or ()) == ("interrupted", "unknown", 25, 0, 75)


async def test_who_objects_to_analytics_is_charged_all_the_same(acme: Pool, tmp_path: Path) -> None:
    """Their rows have no key any more; the budgets of key, member and label have counted it before."""
    person = await make_member(acme)
    own = await make_key(acme, "own", str(person))
    await labels.declare(acme, "acme", "project", None)
    await labels.of_key(acme, own, {"project": "x"})
    for whose in (Whose(1, own), Whose(1, None, person), Whose(1, label=("project", "x"))):
        await set_(acme, whose, day=1)
    await acme.execute("UPDATE person SET objected_at = now() - interval '1 hour' WHERE person_id = $1", person)
    await spend(acme, tmp_path, (own, 5))
    assert await acme.fetchval("SELECT count(*) FROM usage WHERE key_id = $1", own) == 0
    assert [each.spent_pico for each in await budgets.list_all(acme)] == [5, 5, 5]


async def test_usage_of_another_day_is_charged_there(acme: Pool, tmp_path: Path) -> None:
    """A record that comes late counts in the window of its request; of a total, not what came before it was set."""
    key_id = await make_key(acme)
    await set_(acme, day=1, total=1)
    await spend(acme, tmp_path, (key_id, 5), at_us=now_us() - 86_400_000_000)
    assert await spent(acme) == {("", "day"): 0, ("", "total"): 0}
    rows = await acme.fetch("SELECT begins_at < now() - interval '1 day' AS before, spent_pico FROM budget_window")
    assert [(row["before"] or True, int(row["spent_pico"])) for row in rows if row["spent_pico"]] == [(True, 5)]


async def test_requests_stored_together_are_charged_each_in_its_own_time(acme: Pool, tmp_path: Path) -> None:
    """On both sides of midnight, and of the moment within a minute when a budget in total began."""
    key_id = await make_key(acme)
    await set_(acme, day=1, total=1)
    midnight_us = now_us() // 86_400_000_000 * 86_400_000_000
    began_us = midnight_us + 30_000_000
    began = datetime.fromtimestamp(began_us // 10**6, UTC)
    await acme.execute("UPDATE budget SET since = $1 WHERE period = 'total'", began)
    spool = Spool(tmp_path / "spool", uuid.uuid4(), MIB, 64 * MIB)
    for at_us, cost in ((midnight_us - 1, 1), (midnight_us, 2), (began_us - 1, 4), (began_us, 8), (began_us + 9, 16)):
        write(spool, (key_id, cost), at_us=at_us)
    await ship(acme, tmp_path / "spool", spool)
    rows = await acme.fetch("SELECT period, spent_pico FROM budget_window JOIN budget USING (budget_id)")
    assert {(row["period"], int(row["spent_pico"])) for row in rows if row["spent_pico"]} == {
        ("day", 1),
        ("day", 30),
        ("total", 24),
    }


async def test_what_was_spent_before_a_budget_was_set_counts(acme: Pool, tmp_path: Path) -> None:
    """In the time that it is now; also when the account's days begin at another time from now on."""
    key_id, other = await make_key(acme), await make_key(acme, "other")
    await spend(acme, tmp_path, (key_id, 5), (other, 6))
    await set_(acme, month=1, total=1)
    await set_(acme, Whose(1, key_id), month=1)
    expected = {("", "month"): 11, ("", "total"): 0, (key_id, "month"): 5}
    assert await spent(acme) == expected
    await budgets.set_time_zone(acme, "acme", "Pacific/Kiritimati")
    assert await spent(acme) == expected
    (newest,) = await audit.newest(acme, 1)
    assert (newest.act, newest.facts) == ("account.time_zone_set", {"zone": "Pacific/Kiritimati"})


async def test_days_that_begin_as_before_again_have_forgotten_nothing(acme: Pool, tmp_path: Path) -> None:
    """What was spent while the account was in another zone, and what was charged at prices that changed since."""
    key_id = await make_key(acme)
    await set_(acme, month=1)
    await spend(acme, tmp_path, (key_id, 5))
    await budgets.set_time_zone(acme, "acme", "Pacific/Kiritimati")
    await spend(acme, tmp_path / "more", (key_id, 6))
    await budgets.set_time_zone(acme, "acme", "UTC")
    assert await spent(acme) == {("", "month"): 11}
    await acme.execute("UPDATE usage_rollup SET cost_pico = 0")
    await budgets.set_time_zone(acme, "acme", "Pacific/Kiritimati")
    assert await spent(acme) == {("", "month"): 11}


async def test_a_key_that_replaces_another_brings_no_new_money(acme: Pool, tmp_path: Path) -> None:
    """Both spend of the same budget, however often it is rotated."""
    first = await make_key(acme)
    await set_(acme, Whose(1, first), month=1)
    second = (await apikeys.rotate(acme, LOOKUP, first, overlap_s=60, bcrypt_cost=4)).info.key_id
    third = (await apikeys.rotate(acme, LOOKUP, second, overlap_s=60, bcrypt_cost=4)).info.key_id
    await spend(acme, tmp_path, (first, 1), (second, 2), (third, 4))
    assert await spent(acme) == {(third, "month"): 7}
    (changed,) = await set_(acme, Whose(1, second), month=2)
    assert (changed.key_id, changed.spent_pico) == (third, 7)
    book = BudgetBook(acme)
    await book.refresh()
    assert [len(book.budgets.applying(1, each, b"")) for each in (first, second, third, "x")] == [1, 1, 1, 0]


async def test_a_process_follows_changes(acme: Pool) -> None:
    """Hard ones alone; what is changed is asked for anew, what is cleared is gone, and so after a restore."""
    book = BudgetBook(acme)
    await book.refresh()
    assert book.budgets.accounts == {}
    person = await make_member(acme)
    await set_(acme, Whose(1, None, person), month=3)
    await budgets.change(acme, ACME, {"day": DOLLAR}, Terms(is_hard=False))
    await book.refresh()
    (purse,) = book.budgets.applying(1, "k", person.bytes)
    assert (purse.budget.amount_pico, purse.budget.person, purse.budget.is_open) == (3 * DOLLAR, person.bytes, False)
    assert book.budgets.applying(1, "other", b"") == ()
    lease = purse.open(0, 9)
    lease.granted = 5
    await budgets.change(acme, Whose(1, None, person), {"month": 2 * DOLLAR}, Terms(when_away="open"))
    await book.refresh()
    assert (purse.budget.amount_pico, purse.budget.is_open, purse.lacks(1, 0)) == (2 * DOLLAR, True, True)
    await acme.execute("UPDATE change_version SET version = 0")
    await acme.execute("DELETE FROM budget")
    await book.refresh()
    assert book.budgets.accounts == {}
    assert isinstance(book.budgets, Budgets)


async def test_a_label_is_of_the_keys_that_carry_it(acme: Pool, tmp_path: Path) -> None:
    """On that day, also what they cost before it was set; a process knows them at once; others are not covered."""
    await labels.declare(acme, "acme", "project", ["search", "chat"])
    first, second = await make_key(acme), await make_key(acme, "other")
    await labels.of_key(acme, first, {"project": "search"})
    await spend(acme, tmp_path, (first, 1), (second, 2))
    search = Whose(1, label=("project", "search"))
    (made,) = await set_(acme, search, month=1)
    assert (made.label, made.spent_pico) == ("project=search", 1)
    book = BudgetBook(acme)
    await book.refresh()
    covered = [[len(book.budgets.applying(1, each, b"")) for each in (first, second)]]
    await labels.of_key(acme, second, {"project": "search"})
    await labels.of_key(acme, first, {"project": None})
    await book.refresh()
    covered += [[len(book.budgets.applying(1, each, b"")) for each in (first, second)]]
    assert covered == [[1, 0], [0, 1]]
    (purse,) = book.budgets.applying(1, second, b"")
    assert purse.budget.words == "$1 per month of the label project=search"
    third = (await apikeys.rotate(acme, LOOKUP, second, overlap_s=60, bcrypt_cost=4)).info.key_id
    await book.refresh()
    assert len(book.budgets.applying(1, third, b"")) == 1
    await spend(acme, tmp_path, (first, 10), (second, 20), (third, 40))
    assert [each.spent_pico for each in await budgets.list_all(acme)] == [61]
    await set_(acme, month=5)
    assert sorted(each.spent_pico for each in await budgets.list_all(acme)) == [61, 73]
    for label, sentence in ((("team", "x"), "declares no label team"), (("project", "x"), "x is no value")):
        with pytest.raises(RefusedError, match=sentence):
            await set_(acme, Whose(1, label=label), month=1)


async def test_each_part_is_told_once(acme: Pool, tmp_path: Path) -> None:
    """The highest that is reached; soft or hard; again in the next window, and not at all of what is cleared."""
    key_id = await make_key(acme)
    await budgets.change(acme, ACME, {"total": 10 * 10**6}, Terms(False, (50, 80, 100)))
    await set_(acme, Whose(1, key_id), month=1)

    async def told() -> list[tuple[str, int, int]]:
        async with acme.acquire() as connection, connection.transaction():
            return [(each.period, each.percent, each.spent_pico) for each in await raise_reached(connection)]

    assert await told() == []
    await spend(acme, tmp_path, (key_id, 85 * 10**5))
    assert await told() == [("total", 80, 85 * 10**5)]
    assert await told() == []
    await spend(acme, tmp_path, (key_id, 85 * 10**5))
    assert await told() == [("total", 100, 17 * 10**6)]
    await spend(acme, tmp_path, (key_id, DOLLAR))
    assert [each[:2] for each in await told()] == [("month", 100)]


async def test_who_is_erased_leaves_no_budget(acme: Pool, tmp_path: Path) -> None:
    """A member's goes with the member, all of an account with the account; what others have stays."""
    person, now = await make_member(acme), datetime.fromtimestamp(time.time(), UTC)
    await make_member(acme, "eve@example.org")
    own, other = await make_key(acme, "own", str(person)), await make_key(acme, "other")
    for whose in (ACME, Whose(1, own), Whose(1, other), Whose(1, None, person)):
        await set_(acme, whose, month=1)
    await spend(acme, tmp_path, (own, 1), (other, 2))
    await acme.execute(
        "INSERT INTO budget_lease (budget_id, begins_at, boot_id, account_id, granted_pico, sequence)"
        " SELECT budget_id, begins_at, $1, 1, 5, 1 FROM budget_window",
        uuid.uuid4(),
    )
    await erasing.erase_person(acme, tmp_path, person, now, 2192)
    assert await spent(acme) == {("", "month"): 3, (other, "month"): 2}
    await limits.of_account(acme, "acme", "", {"requests/day": 5})
    await erasing.erase_account(acme, tmp_path, 1, now, 2192)
    for table in ("budget", "budget_window", "budget_lease", "usage_limit", "limit_level", "limit_streams"):
        assert await acme.fetchval(f"SELECT count(*) FROM {table}") == 0
