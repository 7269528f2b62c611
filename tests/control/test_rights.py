"""Rights, by the person, by the operator and by form: done at once or in time, once, and only for who it is."""

import asyncio
import datetime
import io
import time
import uuid
import zipfile
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest

from luntrex_proxy.control import letters, rights, rightsform
from luntrex_proxy.control.acts import RefusedError
from luntrex_proxy.control.guessing import ThrottledError
from luntrex_proxy.control.links import DeadLinkError
from luntrex_proxy.control.rights import HeldError, LastOwnerError, Law, Right, State
from luntrex_proxy.core.deadlines import Stage
from luntrex_proxy.core.rights import clock
from luntrex_proxy.settings.retention import RetentionPeriods
from luntrex_proxy.store import childreports, erasing, holds, mail, members, people
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import StoreError
from tests.people import MAIL, make_person, services_of
from tests.store.test_erasing import key_of, use

NOW = datetime.datetime.fromtimestamp(time.time(), UTC)
DAYS = RetentionPeriods().by_class()


def test_the_clocks_are_those_of_the_law() -> None:
    """A month and two more, 45 days and 45 more, 15 days; warned at half and four fifths."""
    begun = datetime.datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert clock(Law.GDPR, begun).due == datetime.datetime(2026, 2, 28, 12, tzinfo=UTC)
    assert clock(Law.GDPR, begun, extended=True).due == datetime.datetime(2026, 4, 30, 12, tzinfo=UTC)
    assert clock(Law.CCPA, begun).due == begun + timedelta(days=45)
    assert clock(Law.CCPA, begun, extended=True).due == begun + timedelta(days=90)
    lgpd = clock(Law.LGPD, begun)
    assert lgpd.due == begun + timedelta(days=15)
    stages = [lgpd.stage(begun + timedelta(days=days)) for days in (7, 8, 12, 15)]
    assert stages == [Stage.RUNNING, Stage.HALF, Stage.LATE, Stage.OVER]


async def test_each_stage_is_told_once(database: Pool) -> None:
    """Half, late, over; extended it begins anew, once, and not under every law."""
    person = await make_person(database)
    made = await rights.ask_erasure(database, person, NOW, timedelta(days=30))
    lgpd = await rights.ask_erasure(database, await make_person(database, "b@x.org"), NOW, timedelta(1), law=Law.LGPD)
    told = [await rights.warnings(database, NOW + timedelta(days=days)) for days in (1, 16, 17, 40)]
    assert [[(each.law, stage) for each, stage in found] for found in told] == [
        [], [(Law.GDPR, Stage.HALF), (Law.LGPD, Stage.OVER)], [], [(Law.GDPR, Stage.OVER)],
    ]  # fmt: skip
    assert (await rights.extend(database, made.reference)).clock.due > made.clock.due
    for reference in (made.reference, lgpd.reference):
        with pytest.raises(RefusedError, match="no longer time"):
            await rights.extend(database, reference)


async def test_an_erasure_can_be_withdrawn_until_it_is_carried_out(database: Pool, tmp_path: Path) -> None:
    """Asked twice it is one; another person cannot withdraw it; withdrawn it is not carried out; carried out once."""
    person, other = await make_person(database), await make_person(database, "eve@example.org")
    made = await rights.ask_erasure(database, person, NOW, timedelta(days=7))
    assert (await rights.ask_erasure(database, person, NOW, timedelta(days=7))).reference == made.reference
    with pytest.raises(RefusedError, match="no request of this reference"):
        await rights.withdraw(database, made.reference, other)
    assert (await rights.withdraw(database, made.reference, person)).state is State.WITHDRAWN
    with pytest.raises(RefusedError, match="ended already"):
        await rights.withdraw(database, made.reference, person)
    later = NOW + timedelta(days=8)
    assert await rights.carry_out_due(database, tmp_path, later, 2192) == 0
    again = await rights.ask_erasure(database, person, NOW, timedelta(days=7))
    assert await rights.carry_out_due(database, tmp_path, NOW + timedelta(days=6), 2192) == 0
    assert await rights.carry_out_due(database, tmp_path, later, 2192) == 1
    done = await rights.by_reference(database, again.reference)
    assert (done.state, done.outcome, done.person_id) == (State.DONE, "erased", None)
    assert done.receipt is not None
    assert done.receipt["erased"]["person"] == 1
    shown = rights.shown(done, later)
    assert str(person) not in str(shown)
    assert await rights.carry_out_due(database, tmp_path, later, 2192) == 0


async def test_an_erasure_that_was_killed_is_answered_when_it_is_taken_up(
    database: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asked gets the receipt, and no clock runs on."""
    person = await make_person(database)
    made = await rights.ask_erasure(database, person, NOW, timedelta(0))

    async def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(erasing, "_finish", killed)
        with pytest.raises(KeyboardInterrupt):
            await rights.carry_out_due(database, tmp_path, NOW, 2192)
    assert await erasing.catch_up(database, tmp_path, NOW, 2192) == 1
    done = await rights.by_reference(database, made.reference)
    assert (done.state, done.outcome) == (State.DONE, "erased")
    assert done.receipt is not None
    assert done.receipt["erased"]["person"] == 1


async def test_nobody_is_told_that_it_is_withdrawn_and_erased_all_the_same(database: Pool, tmp_path: Path) -> None:
    """A withdrawal comes before the erasure, which is not begun then, or after its begin, and is refused."""
    first, second = await make_person(database), await make_person(database, "eve@example.org")
    made = await rights.ask_erasure(database, first, NOW, timedelta(0))
    await rights.withdraw(database, made.reference, first)
    with pytest.raises(RefusedError, match="ended already"):
        await rights.carry_out(database, tmp_path, made, NOW, 2192)  # as it was read before
    assert await database.fetchval("SELECT array_agg(status) FROM person") == ["active"] * 2
    made = await rights.ask_erasure(database, second, NOW, timedelta(0))
    async with database.acquire() as another:  # somebody else is being erased
        await another.execute("SELECT pg_advisory_lock($1)", erasing.ONE_AT_A_TIME)
        erasure = asyncio.create_task(rights.carry_out(database, tmp_path, made, NOW, 2192))
        while not await database.fetchval("SELECT count(*) FROM tombstone"):
            await asyncio.sleep(0.01)
        with pytest.raises(RefusedError, match="carried out at this moment"):
            await rights.withdraw(database, made.reference)
        with pytest.raises(RefusedError, match="carried out at this moment"):
            await rights.answer(database, made.reference, refused=True, outcome="refused")
        await another.execute("SELECT pg_advisory_unlock($1)", erasing.ONE_AT_A_TIME)
    assert (await erasure).state is State.DONE


async def test_one_erasure_that_fails_keeps_no_other_from_being_carried_out(
    database: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that fails is told of and tried again."""
    first, second = await make_person(database), await make_person(database, "eve@example.org")
    await rights.ask_erasure(database, first, NOW, timedelta(0))
    made = await rights.ask_erasure(database, second, NOW, timedelta(seconds=1))
    erase = erasing.erase_person

    async def failing(pool: Pool, directory: Path, person_id: uuid.UUID, *rest: Any, **more: Any) -> erasing.Receipt:
        if person_id == first:
            raise StoreError("The table x still refers to what is erased; nothing more was done.")
        return await erase(pool, directory, person_id, *rest, **more)

    monkeypatch.setattr(erasing, "erase_person", failing)
    with pytest.raises(StoreError, match="still refers"):
        await rights.carry_out_due(database, tmp_path, NOW + timedelta(minutes=1), 2192)
    assert (await rights.by_reference(database, made.reference)).state is State.DONE


async def test_what_an_erasure_meets(database: Pool, tmp_path: Path) -> None:
    """The last owner is refused; who becomes it while it waits, and who is held, waits on and is erased afterwards."""
    owner, member = await make_person(database, acme="owner"), await make_person(database, "m@x.org", acme="owner")
    made = await rights.ask_erasure(database, owner, NOW, timedelta(0))
    await database.execute("UPDATE membership SET role = 'viewer' WHERE person_id = $1", member)
    with pytest.raises(LastOwnerError):
        await rights.ask_erasure(database, owner, NOW, timedelta(0))
    with pytest.raises(LastOwnerError):
        await rights.carry_out(database, tmp_path, made, NOW, 2192)
    assert (await rights.by_reference(database, made.reference)).state is State.HELD
    await database.execute("UPDATE membership SET role = 'owner' WHERE person_id = $1", member)
    hold = await holds.place(database, "4 C 1/26", owner)
    with pytest.raises(HeldError):
        await rights.carry_out(database, tmp_path, made, NOW, 2192)
    assert await rights.carry_out_due(database, tmp_path, NOW, 2192) == 0
    await holds.lift(database, hold.hold_id)
    assert await rights.carry_out_due(database, tmp_path, NOW, 2192) == 1


async def test_a_suspension_does_not_end_a_restriction(database: Pool) -> None:
    """Whoever is let in again is what they asked to be, until they lift it."""
    person = await make_person(database)
    await rights.restrict(database, person)
    for on, then in ((True, "restricted"), (False, "active")):
        await rights.restrict(database, person, on=on)
        await people.suspend(database, person)
        await people.resume(database, person)
        assert await database.fetchval("SELECT status FROM person WHERE person_id = $1", person) == then


async def test_who_is_suspended_can_be_restricted(database: Pool) -> None:
    """By form or operator: it holds from when they are let in again, and the answer does not say that it was so."""
    person = await make_person(database)
    await people.suspend(database, person)
    assert (await rights.restrict(database, person)).outcome == "restricted"
    assert (await rights.restrict(database, person)).outcome == "was_so_already"
    await people.resume(database, person)
    assert await database.fetchval("SELECT status FROM person WHERE person_id = $1", person) == "restricted"
    await people.suspend(database, person)
    assert (await rights.restrict(database, person, on=False)).outcome == "lifted"
    await people.resume(database, person)
    assert await database.fetchval("SELECT status FROM person WHERE person_id = $1", person) == "active"


async def test_who_has_not_proven_the_address_can_be_restricted(database: Pool, tmp_path: Path) -> None:
    """By form: the answer is true, and the restriction holds from when they come in."""
    person = await make_person(database, status="unverified")
    services = services_of(database, tmp_path, **MAIL)
    for outcome in ("restricted", "was_so_already"):
        await rightsform.ask(services, "ada@example.org", Right.RESTRICT, Law.GDPR, "192.0.2.0/24")
        sent = await letter(database, services)
        assert sent is not None
        done = await rightsform.confirm(services, sent.paragraphs[1].partition("token=")[2], NOW)
        assert done.request.outcome == outcome
    state = "SELECT status, restricted_at IS NOT NULL FROM person"
    assert tuple(await database.fetchrow(state) or ()) == ("unverified", True)
    async with database.acquire() as connection, connection.transaction():
        assert await people.verified(connection, person)
    assert tuple(await database.fetchrow(state) or ()) == ("restricted", True)
    assert (await rights.restrict(database, person, on=False)).outcome == "lifted"
    assert tuple(await database.fetchrow(state) or ()) == ("active", False)


async def test_nothing_is_done_that_is_not_on_record(
    database: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A correction, a note, a link, and the request for it: both or none."""
    person = await make_person(database, acme="developer")
    await use(database, tmp_path, 1, await key_of(database, "acme", "k", person), 1)
    used = await database.fetchval("SELECT request_id FROM usage")
    entries = await database.fetchval("SELECT count(*) FROM audit_entry")

    async def fail(*_: object, **__: object) -> None:
        raise StoreError("It cannot.")

    monkeypatch.setattr(rights.table, "insert", fail)
    for act in (
        rights.correct_name(database, person, "Ada King"),
        rights.annotate(database, person, used, "not by me"),
        rights.offer_export(database, person),
    ):
        with pytest.raises(StoreError, match="It cannot"):
            await act
    assert await database.fetchval("SELECT name FROM person") != "Ada King"
    for table in ("usage_annotation", "export_link"):
        assert await database.fetchval(f"SELECT count(*) FROM {table}") == 0
    assert await database.fetchval("SELECT count(*) FROM audit_entry") == entries


async def test_restriction_objection_correction(database: Pool, tmp_path: Path) -> None:
    """Each is on record as asked for and done; twice changes nothing; a note is on one's own records only."""
    person, other = await make_person(database, acme="developer"), await make_person(database, "o@x.org", acme="owner")
    assert (await rights.restrict(database, person)).outcome == "restricted"
    assert (await rights.restrict(database, person)).outcome == "was_so_already"
    assert await database.fetchval("SELECT status FROM person WHERE person_id = $1", person) == "restricted"
    assert (await rights.restrict(database, person, on=False)).outcome == "lifted"
    assert (await rights.object_to_analytics(database, person)).outcome == "objected"
    assert (await rights.object_to_analytics(database, person)).outcome == "was_so_already"
    assert (await rights.object_to_analytics(database, person, on=False)).outcome == "lifted"
    await rights.correct_name(database, person, "  Ada   King ")
    assert await database.fetchval("SELECT name FROM person WHERE person_id = $1", person) == "Ada King"
    with pytest.raises(RefusedError, match="name"):
        await rights.correct_name(database, person, "x\x00y")
    await use(database, tmp_path, 1, await key_of(database, "acme", "k", person), 1)
    used = await database.fetchval("SELECT request_id FROM usage")
    before = await database.fetchrow("SELECT * FROM usage")
    assert (await rights.annotate(database, person, used, "not by me")).outcome == "annotated"
    assert await database.fetchrow("SELECT * FROM usage") == before
    for whose, which, note in ((other, used, "x"), (person, uuid.uuid4(), "x"), (person, used, "two\nlines")):
        with pytest.raises(RefusedError):
            await rights.annotate(database, whose, which, note)
    assert await database.fetchval("SELECT count(*) FROM usage_annotation") == 1
    asked = await rights.listed(database, person_id=person, only_open=False)
    assert {each.kind for each in asked} == {Right.RESTRICT, Right.OBJECT, Right.CORRECT}


async def test_usage_of_who_objects_leads_to_no_key(database: Pool, tmp_path: Path) -> None:
    """From that moment: what was before keeps its key, bills by account stay whole."""
    person = await make_person(database, acme="developer")
    key = await key_of(database, "acme", "k", person)
    await use(database, tmp_path, 1, key, 1)
    await rights.object_to_analytics(database, person)
    await database.execute("UPDATE person SET objected_at = '2020-01-01'")
    await use(database, tmp_path, 1, key, 2, 3)
    rows = await database.fetch("SELECT key_id, sum(requests)::int FROM usage_rollup GROUP BY 1 ORDER BY 2")
    assert [tuple(row) for row in rows] == [(key, 1), ("unlinked", 2)]
    assert await database.fetchval("SELECT count(*) FROM usage WHERE account_id = 1") == 3


async def test_an_accounts_own_keys_are_those_of_who_is_alone_in_it(database: Pool, tmp_path: Path) -> None:
    """As with a restriction: once all members object their usage leads to no key either, not before."""
    ada, eve = await make_person(database, acme="owner"), await make_person(database, "eve@x.org", acme="viewer")
    key = await key_of(database, "acme", "service")
    for number, objecting in enumerate((ada, eve), 1):
        await rights.object_to_analytics(database, objecting)
        await database.execute("UPDATE person SET objected_at = '2020-01-01' WHERE objected_at IS NOT NULL")
        await use(database, tmp_path, 1, key, number)
    await rights.object_to_analytics(database, eve, on=False)
    await use(database, tmp_path, 1, key, 3)
    rows = await database.fetch("SELECT key_id, sum(requests)::int FROM usage_rollup GROUP BY 1 ORDER BY 2")
    assert [tuple(row) for row in rows] == [("unlinked", 1), (key, 2)]


async def letter(database: Pool, services: rightsform.Services) -> letters.Letter | None:
    queued = await mail.claim(database)
    return None if queued is None else await letters.compose(services, queued)


@pytest.mark.parametrize(
    ("right", "state", "outcome"),
    [
        (Right.ACCESS, State.DONE, "link_given"), (Right.EXPORT, State.DONE, "link_given"),
        (Right.RESTRICT, State.DONE, "restricted"), (Right.OBJECT, State.DONE, "objected"),
        (Right.CORRECT, State.OPEN, None), (Right.ERASE, State.WAITING, None),
    ],
)  # fmt: skip
async def test_a_request_by_form(
    database: Pool, database_dsn: str, tmp_path: Path, right: Right, state: State, outcome: str | None
) -> None:
    """Nothing happens until the mailed link is used, once; then it is done, or waits for what it has to."""
    services = services_of(database, tmp_path, **MAIL)
    person = await make_person(database)
    asked = await rightsform.ask(services, "Ada@Example.org ", right, Law.CCPA, "192.0.2.0/24")
    assert asked.state is State.UNCONFIRMED
    sent = await letter(database, services)
    assert sent is not None
    assert sent.to == "ada@example.org"
    token = sent.paragraphs[1].partition("token=")[2]
    assert token not in str(await database.fetch("SELECT * FROM mail"))
    done = await rightsform.confirm(services, token, NOW)
    assert (done.request.state, done.request.outcome, done.request.person_id) == (state, outcome, person)
    with pytest.raises(DeadLinkError):
        await rightsform.confirm(services, token, NOW)
    assert bool(done.token) == (outcome == "link_given")
    if done.token:
        pieces = await rights.take_export(database, database_dsn, done.token, DAYS)
        with zipfile.ZipFile(io.BytesIO(b"".join([piece async for piece in pieces]))) as archive:
            assert "data/person.json" in archive.namelist()


@pytest.mark.parametrize("right", list(Right))
async def test_a_mailbox_is_no_second_factor(database: Pool, tmp_path: Path, right: Right) -> None:
    """Who has one: a letter alone hands out, stops and erases nothing; somebody answers, within the law's time."""
    services = services_of(database, tmp_path, **MAIL)
    person = await make_person(database)
    await database.execute("INSERT INTO totp (person_id, seed, confirmed_at) VALUES ($1, $2, now())", person, b"sealed")
    await rightsform.ask(services, "ada@example.org", right, Law.GDPR, "192.0.2.0/24")
    sent = await letter(database, services)
    assert sent is not None
    done = await rightsform.confirm(services, sent.paragraphs[1].partition("token=")[2], NOW)
    assert (done.token, done.by_hand) == ("", right not in (Right.OBJECT, Right.CORRECT))
    assert done.request.state is (State.DONE if right is Right.OBJECT else State.OPEN)
    assert await rights.carry_out_due(database, tmp_path, NOW + timedelta(days=30), 2192) == 0
    assert await database.fetchval("SELECT status FROM person WHERE person_id = $1", person) == "active"
    told = await rights.warnings(database, NOW + timedelta(days=27))
    assert [stage for _, stage in told] == ([] if right is Right.OBJECT else [Stage.LATE])


async def ask_often(services: rightsform.Services) -> None:
    for _ in range(50):
        await rightsform.ask(services, "nobody@example.org", Right.ERASE, Law.GDPR, "192.0.2.0/24")


async def test_the_form_fills_nobodys_mailbox(database: Pool, tmp_path: Path) -> None:
    """However many networks ask; each request is written down all the same."""
    services = services_of(database, tmp_path, **MAIL)
    for number in range(22):
        network = f"10.0.{number}.0/24"
        await rightsform.ask(services, "victim@example.org", Right.ACCESS, Law.GDPR, network)
    assert await database.fetchval("SELECT count(*) FROM mail") == 20
    assert await database.fetchval("SELECT count(*) FROM rights_request") == 22
    assert await rightsform.ask(services, "other@example.org", Right.ACCESS, Law.GDPR, "10.0.0.0/24")
    assert await database.fetchval("SELECT count(*) FROM mail") == 21


@pytest.mark.parametrize("right", list(Right))
async def test_who_is_only_mentioned_has_rights_too(database: Pool, tmp_path: Path, right: Right) -> None:
    """Somebody invited, or who reported a child, is no person here, and yet something of theirs is held."""
    services = services_of(database, tmp_path, **MAIL)
    owner = await make_person(database, "owner@example.org", acme="owner")
    async with database.acquire() as connection, connection.transaction():
        for email in ("guest@example.org", "other@example.org"):
            await members.invite(connection, 1, email, "viewer", owner)
    await childreports.receive(database, "kid@example.org", "guest@example.org", "parent")
    await rightsform.ask(services, "guest@example.org", right, Law.GDPR, "192.0.2.0/24")
    sent = await letter(database, services)
    assert sent is not None
    done = await rightsform.confirm(services, sent.paragraphs[1].partition("token=")[2], NOW)
    erased = right is Right.ERASE
    assert (done.request.state, done.request.outcome) == ((State.DONE, "erased") if erased else (State.OPEN, None))
    assert done.request.email == (None if erased else "guest@example.org"), "whom to answer"
    assert bool(done.request.receipt) == erased
    left = await database.fetch(
        "SELECT email FROM invitation UNION ALL SELECT reporter_address FROM child_report"
        " UNION ALL SELECT word FROM audit_personal WHERE field = 'email' ORDER BY 1"
    )
    assert ("guest@example.org" in [row[0] for row in left]) != erased
    assert "other@example.org" in [row[0] for row in left]


async def test_what_is_held_of_who_is_only_mentioned_waits(database: Pool, tmp_path: Path) -> None:
    """For somebody's decision."""
    services = services_of(database, tmp_path, **MAIL)
    owner = await make_person(database, "owner@example.org", acme="owner")
    async with database.acquire() as connection, connection.transaction():
        await members.invite(connection, 1, "guest@example.org", "viewer", owner)
    await holds.place(database, "4 C 1/26", 1)
    await rightsform.ask(services, "guest@example.org", Right.ERASE, Law.GDPR, "192.0.2.0/24")
    sent = await letter(database, services)
    assert sent is not None
    done = await rightsform.confirm(services, sent.paragraphs[1].partition("token=")[2], NOW)
    assert done.request.state is State.OPEN
    assert await database.fetchval("SELECT email FROM invitation") == "guest@example.org"


async def test_a_form_tells_nobody_who_is_here(database: Pool, tmp_path: Path) -> None:
    """An unknown address gets the same answer and letter; confirmed, it is told that nothing is kept."""
    services = services_of(database, tmp_path, **MAIL)
    await rightsform.ask(services, "nobody@example.org", Right.ERASE, Law.GDPR, "192.0.2.0/24")
    sent = await letter(database, services)
    assert sent is not None
    done = await rightsform.confirm(services, sent.paragraphs[1].partition("token=")[2], NOW)
    assert (done.request.outcome, done.request.email) == ("nothing_held", None)
    with pytest.raises(RefusedError, match="mail address"):
        await rightsform.ask(services, "no address", Right.ERASE, Law.GDPR, "192.0.2.0/24")
    with pytest.raises(ThrottledError):
        await ask_often(services)
    await database.execute(
        "UPDATE rights_request SET received_at = now() - interval '25 hours' WHERE closed_at IS NULL"
    )
    assert await rights.lapse(database) >= 1
    assert await letter(database, services) is None, "needless by now"
    assert await database.fetchval("SELECT count(*) FROM rights_request WHERE email IS NOT NULL") == 0
