"""Retention of every class: what is old goes, what is not or is held stays, and a clock that jumps drops nothing."""

import asyncio
import threading
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from luntrex_proxy.core.retention import CLASSES, keep_until
from luntrex_proxy.settings.retention import RetentionPeriods
from luntrex_proxy.store import aging, audit, auditcut, billing, budgets, holds, keeping, retention
from luntrex_proxy.store.anchors import Anchor, AnchorKey, append_anchor, own_anchors
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.keeping import ClockError
from luntrex_proxy.store.retention import Dropped, Periods
from tests.people import make_person
from tests.store.notes import note
from tests.store.records import outcome
from tests.store.test_retention import on, put

DAYS = RetentionPeriods().by_class()
# One row of each class, `{age}` old: what has to be gone when that is more than its period.
ROWS = {
    "session": "INSERT INTO session (token_hash, person_id, network, started_at, last_used_at, ended_at)"
               " VALUES (sha256(random()::text::bytea), $1, 'x', {age} - interval '1 day', {age}, {age})",
    "mail": "INSERT INTO mail (kind, person_id, queued_at, ended_at, outcome) VALUES ('x', $1, {age}, {age}, 'sent')",
    "day": "INSERT INTO one_time_link (token_hash, kind, person_id, expires_at)"
           " VALUES (sha256(random()::text::bytea), 'reset', $1, {age})",
    "signup": "INSERT INTO invitation (account_id, email, role, invited_by, expires_at)"
              " SELECT account_id, md5(random()::text) || '@x.org', 'viewer', $1, {age} FROM account",
    "audit": "INSERT INTO rights_request (reference, kind, state, channel, law, person_id, received_at, closed_at,"
             " outcome) VALUES (translate(upper(left(md5(random()::text), 26)), '0189', 'WXYZ'), 'access', 'done',"
             " 'self', 'gdpr', $1, {age}, {age}, 'given')",
    "usage": "INSERT INTO usage_annotation (person_id, request_id, note, created_at)"
             " VALUES ($1, gen_random_uuid(), 'x', {age})",
}  # fmt: skip
TABLES = {"session": "session", "mail": "mail", "day": "one_time_link", "signup": "invitation",
          "audit": "rights_request", "usage": "usage_annotation"}  # fmt: skip


@pytest.fixture
async def now(database: Pool) -> datetime:
    """The database's time."""
    at: datetime = await database.fetchval("SELECT now()")
    return at


def test_the_defaults_are_those_of_the_policy() -> None:
    """What is said in public, and a class for every word that a comment may use."""
    assert {each.name: each.default_days for each in CLASSES} == DAYS
    assert DAYS == {"usage": 396, "totals": 3653, "security": 90, "session": 30, "mail": 7, "day": 1, "signup": 7,
                         "audit": 2192}  # fmt: skip


@pytest.mark.parametrize("retention", ROWS)
async def test_each_class_is_kept_for_its_period(acme: Pool, tmp_path: Path, now: datetime, retention: str) -> None:
    """An hour less than the period stays, an hour more goes; a dry run says so before and changes nothing."""
    person = await make_person(acme)
    period, table = timedelta(days=DAYS[retention]), TABLES[retention]
    for age in (period - timedelta(hours=1), period + timedelta(hours=1)):
        await acme.execute(ROWS[retention].format(age="$2::timestamptz"), person, now - age)
    assert (await aging.oldest(acme))[retention] <= now - period - timedelta(minutes=59)
    foretold = await keeping.due(acme, tmp_path, now, DAYS)
    assert (foretold.rows, await acme.fetchval(f"SELECT count(*) FROM {table}")) == ({table: 1}, 2)
    done = await keeping.run(acme, tmp_path, now, DAYS)
    assert (done.rows, done.finished) == ({table: 1}, True)
    assert await acme.fetchval(f"SELECT count(*) FROM {table}") == 1
    assert await keeping.succeeded_at(acme) == now


async def test_a_new_table_becomes_old_without_code(database: Pool, tmp_path: Path, now: datetime) -> None:
    """Its comment is enough, and it is in the metric of its class."""
    await database.execute(note("security"))
    for age in (89, 91):
        await database.execute("INSERT INTO note VALUES (gen_random_uuid(), 'x', $1)", now - timedelta(days=age))
    assert (await aging.oldest(database))["security"] == now - timedelta(days=91)
    assert (await keeping.run(database, tmp_path, now, DAYS)).rows == {"note": 1}


async def test_sign_ups_that_nobody_proved_go(acme: Pool, tmp_path: Path, now: datetime) -> None:
    """The proven stay, and those who are members meanwhile."""
    for number, (status, age) in enumerate([("unverified", 6), ("unverified", 8), ("active", 8)]):
        person = await make_person(acme, f"p{number}@example.org", status=status)
        await acme.execute("UPDATE person SET created_at = $2 WHERE person_id = $1", person, now - timedelta(days=age))
    assert (await keeping.run(acme, tmp_path, now, DAYS)).rows == {"person": 1}
    assert await acme.fetchval("SELECT count(*) FROM person WHERE email = 'p1@example.org'") == 0


async def test_windows_of_budgets_go_after_their_end(acme: Pool, tmp_path: Path, now: datetime) -> None:
    """With what processes had borrowed of them; what is spent in total stays."""
    await budgets.change(acme, budgets.Whose(1), {"day": 10**6, "total": 10**6}, budgets.Terms())
    for days in (80, 100):
        await acme.execute(
            "INSERT INTO budget_window (budget_id, account_id, begins_at, ends_at)"
            " SELECT budget_id, 1, $1::timestamptz - interval '1 day', $1 FROM budget WHERE period = 'day'",
            now - timedelta(days=days),
        )
    await acme.execute(
        "INSERT INTO budget_window (budget_id, account_id, begins_at)"
        " SELECT budget_id, 1, $1 FROM budget WHERE period = 'total'",
        now - timedelta(days=400),
    )
    # What a process has of one in total stays with it, however long nobody asked.
    await acme.execute(
        "INSERT INTO budget_lease (budget_id, account_id, begins_at, boot_id, granted_pico, sequence, last_at)"
        " SELECT budget_id, 1, begins_at, $1, 5, 1, $2 FROM budget_window",
        uuid.uuid4(),
        now - timedelta(days=9_999),
    )
    assert (await keeping.due(acme, tmp_path, now, DAYS)).rows == {"budget_window": 1, "budget_lease": 1}
    assert (await keeping.run(acme, tmp_path, now, DAYS)).rows == {"budget_window": 1, "budget_lease": 1}
    assert await acme.fetchval("SELECT count(*) FROM budget_lease") == 3  # all whose window is there
    assert "security" not in await aging.oldest(acme), "what stays is not overdue"
    assert await acme.fetchval("SELECT count(*) FROM budget_window WHERE ends_at IS NULL") == 1


async def test_invoices_go_when_their_country_lets_them(acme: Pool, tmp_path: Path, now: datetime) -> None:
    """To the day; unknown countries count as the longest."""
    assert keep_until("DE", date(2026, 3, 1)) == date(2034, 12, 31)
    assert keep_until("ZZ", date(2026, 3, 1)) == date(2036, 12, 31)
    assert await billing.ensure_role(acme)
    issued = date(now.year - 8, 5, 5)
    for number, country in enumerate(("DE", "FR", "NL")):
        await billing.issue(acme, 1, f"R-{number}", "Acme", country, Decimal("9.99"), "EUR", issued)
    assert (await keeping.run(acme, tmp_path, now, DAYS)).rows == {"billing.invoice": 1}
    left = await acme.fetch("SELECT country FROM billing.invoice ORDER BY 1")
    assert [row[0] for row in left] == ["DE", "FR"], "Germany's last day is the end of this year"


async def test_many_rows_go_in_batches(
    acme: Pool, tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last one."""
    monkeypatch.setattr(aging, "_BATCH_ROWS", 3)
    person = await make_person(acme)
    for _ in range(7):
        await acme.execute(ROWS["mail"].format(age="$2::timestamptz"), person, now - timedelta(days=30))
    assert (await keeping.run(acme, tmp_path, now, DAYS)).rows == {"mail": 7}


async def test_a_hold_stops_every_deletion(acme: Pool, tmp_path: Path, now: datetime) -> None:
    """Of the person and of usage days; others' rows of the same day go. Lifted, the next run ends it."""
    held, other = await make_person(acme, acme="owner"), await make_person(acme, "eve@example.org")
    for person in (held, other):
        for retention_class in ROWS:
            if retention_class not in ("signup", "audit"):
                await acme.execute(ROWS[retention_class].format(age="$2::timestamptz"), person, now - timedelta(900))
    today = now.date()
    await put(acme, tmp_path / "spool", [on(today, 500, 1), on(today, 501, 2)])
    elsewhere = outcome(3, started_us=on(today, 500, 3).started_us, account_id=2)
    await put(acme, tmp_path / "spool", [elsewhere])
    hold = await holds.place(acme, "4 C 17/26", held)
    run = await keeping.run(acme, tmp_path, now, DAYS)
    assert run.rows == {"session": 1, "mail": 1, "one_time_link": 1, "usage_annotation": 1, "first_byte": 1}
    assert (run.usage.days, run.usage.held_days) == ([], [today - timedelta(501), today - timedelta(500)])
    assert run.usage.requests == 1
    assert await acme.fetchval("SELECT array_agg(DISTINCT account_id) FROM usage") == [1]
    assert await acme.fetchval("SELECT count(*) FROM usage_rollup") == 2
    for table in ("session", "mail", "one_time_link", "usage_annotation"):
        assert await acme.fetchval(f"SELECT array_agg(person_id) FROM {table}") == [held]
    await holds.lift(acme, hold.hold_id)
    again = await keeping.run(acme, tmp_path, now, DAYS)
    assert sum(again.rows.values()) == 4 + 2  # answers of two days
    assert (len(again.usage.days), again.usage.hourly_sums) == (2, 2)
    assert [entry.act for entry in await audit.newest(acme, 2)] == ["hold.lifted", "hold.placed"]


async def test_a_hold_waits_for_the_run_under_way(acme: Pool) -> None:
    """What is being dropped is not half held."""
    async with acme.acquire() as other, other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock($1)", retention.ADVISORY_LOCK)
        placing = asyncio.ensure_future(holds.place(acme, "x", 1))
        await asyncio.sleep(0.05)
        assert not placing.done()
    await placing


async def test_the_audit_log_is_cut_at_an_anchor(acme: Pool, tmp_path: Path, now: datetime) -> None:
    """What is left verifies against the old anchors; who takes more, or younger ones, and moves the mark is found."""
    key = AnchorKey.load(tmp_path)
    for number in range(30):
        async with acme.acquire() as connection, connection.transaction():
            await audit.record(connection, "test.act", str(number), personal={"name": f"n{number}"})
        if number % 10 == 5:
            signed_at = await acme.fetchval("SELECT at FROM audit_entry ORDER BY sequence DESC LIMIT 1")
            append_anchor(tmp_path, key.sign(*await audit.head(acme), signed_at))
    later = now + timedelta(days=DAYS["audit"] + 1)
    anchors = own_anchors(tmp_path, now + timedelta(1))
    assert await auditcut.count(acme, later - timedelta(days=DAYS["audit"]), []) == 0, "nothing without an anchor"
    line = await acme.fetchval("SELECT at FROM audit_entry WHERE sequence = 20")  # the first that is kept
    assert await auditcut.count(acme, line, anchors) == 17
    assert await auditcut.cut(acme, line, anchors) == 17
    assert await acme.fetchval("SELECT min(sequence) FROM audit_entry") == 18
    assert await acme.fetchval("SELECT min(sequence) FROM audit_personal") == 18
    verdict = await audit.verify(acme, anchors, line)
    assert (verdict.faults, verdict.entries) == ([], 15)
    (fault,) = (await audit.verify(acme, anchors, now - timedelta(days=DAYS["audit"]))).faults
    assert "which is younger than retention.audit_days lets drop" in fault
    with pytest.raises(Exception, match="the audit log only grows"):
        await acme.execute("DELETE FROM audit_entry")
    hashed = await acme.fetchval("SELECT hash FROM audit_entry WHERE sequence = 18")
    await acme.execute("ALTER TABLE audit_entry DISABLE TRIGGER USER")
    await acme.execute("DELETE FROM audit_entry WHERE sequence = 18")
    await acme.execute("UPDATE audit_head SET kept_sequence = 18, kept_hash = $1", hashed)
    assert "no anchor here is of that one" in (await audit.verify(acme, anchors)).faults[0]


async def test_anchors_are_read_beside_the_loop(
    acme: Pool, tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of years there are many, and none is checked that is too young to be of use: requests stood still for seconds."""
    key, checked, threads = AnchorKey.load(tmp_path), list[int](), set[threading.Thread]()
    for sequence, signed_at in enumerate((now - timedelta(days=3_000), now)):
        append_anchor(tmp_path, key.sign(sequence, bytes(32), signed_at))

    def is_signed(anchor: Anchor) -> bool:
        checked.append(anchor.sequence)
        threads.add(threading.current_thread())
        return True

    monkeypatch.setattr(Anchor, "is_signed", is_signed)
    await keeping.due(acme, tmp_path, now, DAYS)
    await keeping.run(acme, tmp_path, now, DAYS)
    assert checked == [0, 0]
    assert threading.main_thread() not in threads


async def test_a_held_account_keeps_its_part_of_the_audit_log(acme: Pool, tmp_path: Path, now: datetime) -> None:
    """And with it all that follows."""
    key = AnchorKey.load(tmp_path)
    for account in (None, 1, None):
        async with acme.acquire() as connection, connection.transaction():
            await audit.record(connection, "test.act", "x", account)
        append_anchor(tmp_path, key.sign(*await audit.head(acme), now))
    await acme.execute("ALTER TABLE audit_entry DISABLE TRIGGER USER")
    await acme.execute("UPDATE audit_entry SET account_id = NULL WHERE sequence = 1")  # that of its creation
    hold = await holds.place(acme, "x", 1)
    anchors = own_anchors(tmp_path, now + timedelta(1))
    assert await auditcut.count(acme, now + timedelta(1), anchors) == 2
    await holds.lift(acme, hold.hold_id)
    assert await auditcut.count(acme, now + timedelta(1), anchors) == 4


async def test_a_clock_that_jumps_drops_nothing(acme: Pool, tmp_path: Path, now: datetime) -> None:
    """More than two days since the last run, or before it: somebody has to look."""
    person = await make_person(acme)
    await acme.execute(ROWS["mail"].format(age="$2::timestamptz"), person, now - timedelta(days=30))
    for last in (now - timedelta(days=3), now + timedelta(days=3)):
        await acme.execute("UPDATE retention_run SET succeeded_at = $1", last)
        with pytest.raises(ClockError, match="--clock-is-right"):
            await keeping.run(acme, tmp_path, now, DAYS)
    assert await acme.fetchval("SELECT count(*) FROM mail") == 1
    assert (await keeping.run(acme, tmp_path, now, DAYS, clock_is_right=True)).rows == {"mail": 1}
    # A century ahead with a last run to match: the database's clock is believed.
    await acme.execute(ROWS["mail"].format(age="$2::timestamptz"), person, now)
    far = datetime(2126, 1, 1, tzinfo=UTC)
    assert (await keeping.run(acme, tmp_path, far, DAYS, clock_is_right=True)).rows == {}


async def test_usage_days_need_the_line_to_be_theirs(acme: Pool, tmp_path: Path, now: datetime) -> None:
    """A hold on nobody's keys keeps no day."""
    stranger = await make_person(acme, "eve@example.org")
    await holds.place(acme, "x", stranger)
    await put(acme, tmp_path, [on(now.date(), 500, 1)])
    dropped = Dropped()
    await retention.drop_old(acme, now.date(), Periods(396, 3653), dropped)
    assert (len(dropped.days), dropped.held_days, dropped.requests) == (1, [], 1)
