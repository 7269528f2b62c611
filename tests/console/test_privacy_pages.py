"""The public pages: the policy in its own words, what is kept, who else gets data; and the end of a child's account."""

import datetime
import time
import uuid
from pathlib import Path

import pytest

from luntrex_proxy.control import children, letters, policytext, rights
from luntrex_proxy.core.deadlines import Stage
from luntrex_proxy.store import audit, childreports, mail, registry
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError
from tests.console.test_pages import MAIL, Open, opened, services_behind
from tests.people import give_password, make_person
from tests.store.test_registry import FIELDS

__all__ = ["opened"]
KID = "kid@example.org"
NOW = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)


async def test_the_policy_is_public_in_its_own_words(opened: Open) -> None:
    """Every sentence, with version and day, without signing in."""
    page = await (await opened()).get("/privacy")
    assert page.status == 200
    assert "Version 1, last updated 2025-11-30" in page.said
    assert len(policytext.sentences()) > 25
    assert all(sentence in page.said for sentence in policytext.sentences())


async def test_what_is_kept_is_public(opened: Open) -> None:
    """The inventory, table by table."""
    said = (await (await opened()).get("/privacy/inventory")).said
    assert all(word in said for word in ("usage", "child_report", "metadata only", "Usage is kept for 396 days"))


async def test_who_else_gets_data_is_public(opened: Open, database: Pool) -> None:
    """Entered, known and unknown ones, and what is announced; nobody when nothing leaves."""
    assert "nothing leaves this machine" in (await (await opened()).get("/subprocessors")).said
    hosts = ("https://api.acme.example", "https://api.openai.com", "https://api.other.example")
    keeps = {"region": "eu", "retention": "none", "training": "never"}
    upstreams = [{"name": f"u{n}", "dialect": "openai", "base_url": host} for n, host in enumerate(hosts)]
    upstreams[0] |= keeps
    await registry.change(database, "acme", FIELDS)
    await make_person(database, acme="owner")
    await registry.change(database, "acme", {"training": "yes"})
    said = (await (await opened(upstreams=upstreams)).get("/subprocessors")).said
    for words in ("api.acme.example", "DPA 7 (2026-01-01)", "confidentiality", "openai", "shipped", "unlisted",
                  "api.other.example", "Announced: this holds from"):  # fmt: skip
        assert words in said
    assert await database.fetchval("SELECT count(*) FROM mail WHERE kind = 'subprocessor_change'") == 1


async def reported(opened: Open, address: str) -> uuid.UUID:
    """A report through the form; its id."""
    browser = await opened(**MAIL)
    await browser.get("/report-child")
    answer = await browser.send("/report-child", address=address, relation="parent", reporter="mum@example.org")
    assert (answer.status, "is received" in answer.said) == (200, True)
    (report, *_) = await childreports.list_all(services_behind(browser).pool)
    return report.report_id


async def test_a_confirmed_report_ends_in_erasure(opened: Open, database: Pool, tmp_path: Path) -> None:
    """Suspended at once with every session and link, erased within the 72 hours; only the fact stays."""
    kid = await make_person(database, KID, home="owner")
    await give_password(services_behind(await opened()), kid)
    await make_person(database, "root@example.org", operator=True)
    report_id = await reported(opened, KID)
    assert (await childreports.get(database, report_id)).is_known
    confirmed = await children.confirm(database, report_id, NOW)
    assert await database.fetchval("SELECT status FROM person WHERE person_id = $1", kid) == "suspended"
    assert confirmed.decided_at is not None
    assert confirmed.erase_due_at == confirmed.decided_at + datetime.timedelta(hours=72)
    stages = [confirmed.stage(confirmed.decided_at + datetime.timedelta(hours=h)) for h in (1, 36, 60, 72)]
    assert stages == [Stage.RUNNING, Stage.HALF, Stage.LATE, Stage.OVER]
    with pytest.raises(RefusedError, match="decided on already"):
        await children.confirm(database, report_id, NOW)
    assert await rights.carry_out_due(database, tmp_path, NOW, 2192) == 0, "a day to undo a mistake"
    assert await rights.carry_out_due(database, tmp_path, NOW + datetime.timedelta(hours=25), 2192) == 1
    assert await database.fetchval("SELECT count(*) FROM person WHERE person_id = $1", kid) == 0
    await children.keep(database, NOW, tmp_path, 2192)
    ended = await childreports.get(database, report_id)
    assert (ended.reported_address, ended.person_id, ended.decision) == (None, None, "confirmed")
    assert ended.ended_at is not None
    assert await database.fetchval("SELECT count(*) FROM child_report WHERE reporter_address IS NOT NULL") == 0
    kinds = await database.fetch("SELECT kind FROM mail WHERE kind ~ 'child' ORDER BY 1")
    assert [row["kind"] for row in kinds] == ["child_answer", "child_report"], "none to the child"
    acts = {entry.act for entry in await audit.newest(database, 50)}
    assert {"child_report.received", "child_report.confirmed", "child_report.erased", "person.suspended"} <= acts


async def test_a_confirmation_is_taken_back(opened: Open, database: Pool, tmp_path: Path) -> None:
    """Within the day that the letter names: nobody is erased, also when one asked for that before the report; once."""
    kid = await make_person(database, KID, home="owner")
    report_id = await reported(opened, KID)
    for _ in range(2):
        with pytest.raises(RefusedError, match="not confirmed"):
            await children.take_back(database, report_id)
        await children.confirm(database, report_id, NOW)
        await children.take_back(database, report_id)
        report_id = await reported(opened, KID)
    later = NOW + datetime.timedelta(days=9)
    await children.keep(database, later, tmp_path, 2192)
    assert await rights.carry_out_due(database, tmp_path, later, 2192) == 0
    assert await database.fetchval("SELECT status FROM person WHERE person_id = $1", kid) == "suspended"
    assert {row["outcome"] for row in await database.fetch("SELECT outcome FROM rights_request")} == {"withdrawn"}
    assert await database.fetchval("SELECT count(*) FROM child_report WHERE erase_due_at IS NOT NULL") == 0
    own = await rights.ask_erasure(database, kid, NOW, datetime.timedelta(days=7))
    await children.confirm(database, report_id, NOW)
    await children.take_back(database, report_id)
    assert (await rights.by_reference(database, own.reference)).closed_at is None, "what one asked for oneself stays"
    await reported(opened, KID)
    (another,) = [one.report_id for one in await childreports.list_all(database) if one.decision is None]
    await children.confirm(database, another, NOW)
    assert await rights.carry_out_due(database, tmp_path, later, 2192) == 1
    with pytest.raises(RefusedError, match="not confirmed"):
        await children.take_back(database, another)


async def test_another_address_is_no_way_out_of_a_report(opened: Open, database: Pool) -> None:
    """Whose the address was when the report came is who is meant, also when somebody else has it by now."""
    kid = await make_person(database, KID)
    report_id = await reported(opened, KID)
    await database.execute("UPDATE person SET email = 'k@example.org' WHERE person_id = $1", kid)
    other = await make_person(database, KID)
    assert (await childreports.get(database, report_id)).is_known
    await children.confirm(database, report_id, NOW)
    found = dict(await database.fetch("SELECT person_id, status FROM person"))
    assert found == {kid: "suspended", other: "active"}
    assert await database.fetchval("SELECT address FROM mail WHERE kind = 'child_erasure'") == "k@example.org"
    await reported(opened, KID)
    (mistaken,) = [one.report_id for one in await childreports.list_all(database) if one.decision is None]
    await childreports.dismiss(database, mistaken)
    assert (await childreports.get(database, mistaken)).person_id is None, "nothing of it stays with anybody"


async def test_many_reports_are_not_many_letters(database: Pool) -> None:
    """To the operators: whoever sends them from many networks fills the list, which shows all, and no mailbox."""
    await make_person(database, "root@example.org", operator=True)
    for number in range(5):
        await childreports.receive(database, f"{number}@example.org", None, "other")
    assert await database.fetchval("SELECT count(*) FROM mail") == 1
    assert len(await childreports.list_all(database)) == 5


async def test_the_form_tells_nobody_who_is_here(opened: Open, database: Pool) -> None:
    """The same page for known and unknown addresses; many reports have to wait; nonsense is said where it is."""
    await make_person(database, KID)
    browser = await opened(**MAIL)
    said = []
    for address in (KID, "nobody@example.org"):
        await browser.get("/report-child")
        said.append((await browser.send("/report-child", address=address, relation="other")).text)
    assert said[0] == said[1]
    unknown = next(r for r in await childreports.list_all(database) if not r.is_known)
    with pytest.raises(RefusedError, match="nobody has the address"):
        await children.confirm(database, unknown.report_id, NOW)
    await childreports.dismiss(database, unknown.report_id)
    assert (await childreports.get(database, unknown.report_id)).reported_address is None
    await browser.get("/report-child")
    assert "mail address" in (await browser.send("/report-child", address="x", relation="other")).said
    assert (await browser.send("/report-child", address=KID, relation="boss")).status >= 400
    statuses = set()
    for number in range(40):
        await browser.get("/report-child")
        statuses.add((await browser.send("/report-child", address=f"n{number}@example.org", relation="other")).status)
        if 429 in statuses:
            break
    assert statuses == {200, 429}


async def test_a_last_owner_waits_for_another_and_the_clock_says_so(
    opened: Open, database: Pool, tmp_path: Path
) -> None:
    """Suspended all the same; the erasure is asked for as soon as it can be."""
    kid = await make_person(database, KID, shared="owner")
    heir = await make_person(database, "ada@example.org", shared="admin")
    report_id = await reported(opened, KID)
    await children.confirm(database, report_id, NOW)
    assert await database.fetchval("SELECT count(*) FROM rights_request") == 0
    near = await children.keep(database, NOW + datetime.timedelta(hours=60), tmp_path, 2192)
    assert [stage for _, stage in near] == [Stage.LATE]
    await database.execute("UPDATE membership SET role = 'owner' WHERE person_id = $1", heir)
    await children.keep(database, NOW, tmp_path, 2192)
    assert await database.fetchval("SELECT count(*) FROM rights_request WHERE person_id = $1", kid) == 1


async def test_letters_say_it_in_fixed_words(opened: Open, database: Pool) -> None:
    """To the child, to who reported and to operators; nothing that a stranger wrote is in one."""
    await make_person(database, KID)
    await make_person(database, "root@example.org", operator=True)
    await children.confirm(database, await reported(opened, KID), NOW)
    services = services_behind(await opened(**MAIL))
    made = {}
    while (queued := await mail.claim(database)) is not None:
        letter = await letters.compose(services, queued)
        assert letter is not None
        made[queued.kind] = letter
    assert {kind: letter.to for kind, letter in made.items()} == {
        "child_report": "root@example.org", "child_erasure": KID,
    }  # fmt: skip
    assert "under 16" in made["child_erasure"].paragraphs[0]
    assert "mum@example.org" not in str([letter.paragraphs for letter in made.values()])


async def test_a_last_owner_is_erased_in_time_all_the_same(opened: Open, database: Pool, tmp_path: Path) -> None:
    """Nobody made another owner, and strangers filled the list with reports: the account stays, the child does not."""
    kid = await make_person(database, KID, shared="owner")
    await make_person(database, "ada@example.org", shared="admin")
    await children.confirm(database, await reported(opened, KID), NOW)
    await database.execute(
        "INSERT INTO child_report (reported_address, relation) SELECT n || '@x.org', 'other'"
        " FROM generate_series(1, 1000) n"
    )
    await children.keep(database, NOW + datetime.timedelta(hours=64), tmp_path, 2192)
    assert await database.fetchval("SELECT count(*) FROM person WHERE person_id = $1", kid) == 1
    await children.keep(database, NOW + datetime.timedelta(hours=67), tmp_path, 2192)
    assert await database.fetchval("SELECT count(*) FROM person WHERE person_id = $1", kid) == 0
    assert await database.fetchval("SELECT count(*) FROM child_report WHERE person_id IS NOT NULL") == 0
    assert await database.fetchval("SELECT count(*) FROM account") == 1
