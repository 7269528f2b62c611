"""Incidents for who runs the installation: entered, changed, widened, told of, closed; reports of children."""

import datetime
import time
import uuid

from luntrex_proxy.control import children, incidents
from luntrex_proxy.store.database import Pool
from tests.console.test_installation_pages import operator
from tests.console.test_pages import Open, ada_in, opened
from tests.people import PASSWORD

__all__ = ["opened"]
NOW = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
HOUR = datetime.timedelta(hours=1)
PRIVACY = {"contact": "privacy@example.org"}
STALE = "UPDATE session SET authenticated_at = now() - interval '11 minutes'"


def typed(at: datetime.datetime) -> str:
    """As a field for moments has it."""
    return at.strftime("%Y-%m-%dT%H:%M")


async def test_an_incident_from_the_first_word_to_the_last(opened: Open, database: Pool) -> None:
    """Entered with the clock of when it was known; stated; widened; told of with proof; the authority; closed."""
    browser, _ = await ada_in(opened, privacy=PRIVACY)
    runs = await operator(browser)
    assert "No incident is open." in (await runs.get("/incidents")).said
    await runs.get("/incidents/new")
    seen = await runs.send("/incidents/new", title="A <b>leak", aware_at=typed(NOW - 50 * HOUR))
    assert "its clocks run" in seen.said
    assert "A <b>leak the authority: due in 2" in seen.said
    assert "overdue by 26 hours" in seen.said, "our own 24"
    assert "state what happened, what may follow, what is done" in seen.said
    await runs.get("/incidents/1/edit")
    stated = {"nature": "A key\r\nwas published.", "consequences": "Use by others.", "measures": "Revoked."}
    assert "The incident is changed." in (await runs.send("/incidents/1/edit", title="A leak", **stated)).said
    assert (await incidents.get(database, 1))[0].nature == "A key\nwas published."
    assert "says so already" in (await runs.send("/incidents/1/edit", title="A leak", **stated)).said
    await runs.get("/incidents/1/reach")
    reach = {"kind": "table", "object": "membership", "begins_at": typed(NOW - 60 * HOUR)}
    assert "What it reached is noted." in (await runs.send("/incidents/1/reach", **reach)).said
    assert "ada@example.org acme" in (await runs.get("/incidents/1/affected")).said
    assert "Notification of a personal data breach" in (await runs.get("/incidents/1/drafts")).said
    await database.execute(STALE)
    assert "2 people" not in (await runs.get("/incidents/1/notify")).said
    assert "Say that they shall be told" in (await runs.send("/incidents/1/notify", proof=PASSWORD)).said
    await database.execute(STALE)
    seen = await runs.send("/incidents/1/notify", sure="yes")
    assert (seen.status, "Give your password" in seen.said) == (422, True)
    assert "They are told now." in (await runs.send("/incidents/1/notify", sure="yes", proof=PASSWORD)).said
    assert "ada@example.org banner" in (await runs.get("/incidents/1/notices")).said
    await runs.get("/incidents/1/edit")
    told = typed(NOW - HOUR)
    seen = await runs.send("/incidents/1/edit", title="A leak", **stated, authority_notified_at=told)
    assert "A leak the authority was told" in seen.said
    await runs.get("/incidents/1/close")
    assert "It stays in the register." in (await runs.send("/incidents/1/close", conclusion="Mended.")).said
    assert "Mended." in (await runs.get("/incidents?state=closed")).said
    for path in ("edit", "reach", "close"):
        assert (await runs.get(f"/incidents/1/{path}")).status == 404, path
    await runs.get("/incidents/exercise")
    seen = await runs.send("/incidents/exercise", **reach)
    assert "nobody was told" in seen.said
    assert "(exercise) closed" in seen.said


async def test_what_cannot_be_changes_nothing(opened: Open, database: Pool) -> None:
    """What was typed stays, what is wrong stands beside its field, and no table changes."""
    browser, _ = await ada_in(opened)
    runs = await operator(browser)
    made = (await incidents.open_(database, "A leak", NOW - HOUR)).incident_id
    key = "lx_" + "a" * 12 + "_" + "b" * 49
    for path, field, value, said in (
        ("/incidents/new", "title", " ", "This is needed."),
        ("/incidents/new", "title", "two\nlines", "on one line"),
        ("/incidents/new", "title", "x" * 201, "at most 200 characters; these are 201"),
        ("/incidents/new", "aware_at", "yesterday", "such as 2030-01-31T14:30"),
        ("/incidents/new", "aware_at", "0001-01-01T00:00-23:00", "such as 2030-01-31T14:30"),
        ("/incidents/new", "aware_at", "2199-01-01T00:00", "lies ahead"),
        ("/incidents/new", "nature", "\u00e9" * 4_001, "at most 4,000 characters"),
        ("/incidents/new", "nature", f"the key {key}", "There is an API key in it"),
        ("/incidents/new", "nature", "\x1b[31m", "nobody can read"),
        (f"/incidents/{made}/reach", "kind", "planet", "Choose one"),
        (f"/incidents/{made}/reach", "object", "no_such_table", "no table of this name"),
        (f"/incidents/{made}/reach", "object", "<b>", "Give the id of a key"),
        (f"/incidents/{made}/reach", "ends_at", "2020-01-01T00:00", "ends after it begins"),
        (f"/incidents/{made}/edit", "authority_notified_at", "2199-01-01T00:00", "lies ahead"),
        (f"/incidents/{made}/close", "conclusion", "", "This is needed."),
    ):
        good = {
            "title": "kept",
            "aware_at": typed(NOW),
            "kind": "table",
            "object": "usage",
            "begins_at": typed(NOW - HOUR),
        }
        await runs.get(path)
        seen = await runs.send(path, **good | {field: value})
        assert seen.status == 422, (path, field)
        assert said in seen.said, (path, field, seen.said)
        where = "object" if said == "ends after it begins" else field
        assert f'id="{where}-wrong"' in seen.text, (path, field)
        if "title" in seen.text and field != "title" and path.endswith(("new", "edit")):
            assert 'value="kept"' in seen.text
    assert await database.fetchval("SELECT count(*) FROM incident") == 1
    assert await database.fetchval("SELECT count(*) FROM incident_scope") == 0
    assert (await incidents.get(database, made))[0].title == "A leak"
    assert (await runs.get("/incidents/99")).status == (await runs.get("/incidents/99/edit")).status == 404


async def test_a_childs_report_is_decided(opened: Open, database: Pool) -> None:
    """With proof; a confirmed one suspends; an account's own people see no such page."""
    browser, ada = await ada_in(opened)
    await children.table.receive(database, "ada@example.org", None, "parent")
    await children.table.receive(database, "nobody@example.org", None, "other")
    runs = await operator(browser)
    seen = await runs.get("/child-reports")
    assert "ada@example.org a parent" in seen.said
    assert "nobody here has it" in seen.said
    ids: dict[str, uuid.UUID] = dict(await database.fetch("SELECT reported_address, report_id FROM child_report"))
    path = f"/child-reports/{ids['ada@example.org']}"
    assert (await browser.get(path)).status == 404
    await runs.get(path)
    assert "Choose one of them." in (await runs.send(path, decision="perhaps")).said
    await database.execute(STALE)
    assert (await runs.send(path, decision="confirm")).status == 422
    seen = await runs.send(path, decision="confirm", proof=PASSWORD)
    assert "The person is suspended now" in seen.said
    assert "due in 7" in seen.said
    assert await database.fetchval("SELECT status FROM person WHERE person_id = $1", ada) == "suspended"
    assert "It was a mistake" in (await runs.get(path)).said
    await database.execute("UPDATE session SET authenticated_at = now() - interval '11 minutes'")
    assert "Give your password" in (await runs.send(f"{path}/take-back")).said
    assert "Nobody is erased by it" in (await runs.send(f"{path}/take-back", proof=PASSWORD)).said
    assert "not confirmed" in (await runs.send(f"{path}/take-back")).said
    path = f"/child-reports/{ids['nobody@example.org']}"
    await runs.get(path)
    assert "decided on already, or nobody" in (await runs.send(path, decision="confirm")).said
    assert "The report has ended" in (await runs.send(path, decision="dismiss")).said
    assert "dismissed" in (await runs.get("/child-reports?show=all")).said
    assert "dismissed" not in (await runs.get("/child-reports")).said
