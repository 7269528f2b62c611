"""Incidents on the pages: a banner for whom one concerns, until it was read; for operators the addresses."""

import datetime
import time
import uuid

from luntrex_proxy.control import incidents
from luntrex_proxy.core.incidents import Reach
from luntrex_proxy.store import audit
from luntrex_proxy.store.database import Pool
from tests.console.test_pages import Open, ada_in, opened, services_behind
from tests.people import MAIL, make_person

__all__ = ["opened"]
NOW = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
HOUR = datetime.timedelta(hours=1)
STATED = {
    "nature": "A key\nwas <published>.",
    "consequences": "Others may have used it.",
    "measures": "It was revoked.",
}
PRIVACY = {"contact": "privacy@example.org"}


async def leak(pool: Pool) -> int:
    """One that reached the members of all accounts."""
    reach = Reach("table", "membership", NOW - HOUR, NOW + HOUR)
    return (await incidents.open_(pool, "A leak", NOW - HOUR, [reach], STATED)).incident_id


async def test_a_banner_waits_until_it_was_read(opened: Open, database: Pool) -> None:
    """On every page, for whom the incident concerns; reading it is the proof; then it is gone."""
    browser, _ = await ada_in(opened, privacy=PRIVACY)
    settings = services_behind(browser).settings
    await make_person(database, "eve@example.org")
    number = await leak(database)
    assert "Read what happened" not in (await browser.get("/")).said
    await incidents.notify(database, settings, number, NOW)
    for path in ("/", "/profile", "/your-data", "/privacy"):
        assert "A leak. Data of yours may have been reached. Read what happened" in (await browser.get(path)).said
    seen = await browser.get("/notices")
    for words in ("we learnt of an incident", "was <published>.", "It was revoked.", "privacy@example.org"):
        assert words in seen.said
    assert "<published>" not in seen.text
    for wrong in ("x", "999", "-1", "٣", "9" * 30):
        await browser.send("/notices/read", incident=wrong)
        await browser.get("/notices")
    assert (await incidents.notices(database, number, 0, 9))[0].outcome is None
    seen = await browser.send("/notices/read", incident=seen.hidden("incident"))
    assert "That you have read it is noted." in seen.said
    assert "Read what happened" not in seen.said
    assert "nothing that you have not read" in (await browser.get("/notices")).said
    assert [(one.way, one.outcome) for one in await incidents.notices(database, number, 0, 9)] == [("banner", "read")]


async def test_nobody_reads_for_another(opened: Open, database: Pool) -> None:
    """Whom an incident does not concern sees no banner and proves nothing; signed out nobody does."""
    browser, _ = await ada_in(opened, privacy=PRIVACY)
    number = await leak(database)
    await database.execute("UPDATE membership SET person_id = $1", await make_person(database, "eve@example.org"))
    await incidents.notify(database, services_behind(browser).settings, number, NOW)
    assert "Read what happened" not in (await browser.get("/")).said
    await browser.send("/notices/read", incident=str(number))
    assert [one.outcome for one in await incidents.notices(database, number, 0, 9)] == [None]


async def test_operators_see_whom_to_write_to(opened: Open, database: Pool) -> None:
    """Open incidents with their clocks, and without mail the addresses of who has not read it; that is on record."""
    browser, ada = await ada_in(opened, privacy=PRIVACY)
    assert (await browser.get("/incidents")).status == 404, "not everybody's"
    await database.execute("UPDATE person SET operator = true WHERE person_id = $1", ada)
    eve = await make_person(database, "eve@example.org", acme="viewer")
    assert "No incident is open." in (await browser.get("/incidents")).said
    number = await leak(database)
    assert f"{number}: A leak the authority: due in 7" in (await browser.get("/incidents")).said
    seen = await browser.get(f"/incidents/{number}")
    assert "has to know by" in seen.said
    assert "eve@example.org" not in seen.said
    await incidents.notify(database, services_behind(browser).settings, number, NOW)
    seen = await browser.get(f"/incidents/{number}")
    assert "No letter has reached" in seen.said
    assert all(f"<li>{address}</li>" in seen.text for address in ("ada@example.org", "eve@example.org"))
    read = {(each.actor, each.object_id) for each in await audit.newest(database, 9, act="operator.read")}
    assert (f"console:{ada}", "incidents.addresses") in read
    await incidents.confirm_banner(database, eve, number)
    assert "<li>eve@example.org</li>" not in (await browser.get(f"/incidents/{number}")).text
    await incidents.close(database, number, "Over.")
    assert "No incident is open." in (await browser.get("/incidents")).said


async def test_an_account_finds_its_incidents_again(opened: Open, database: Pool) -> None:
    """Those of which its people were told, in the words of then; who has nothing to do with its privacy does not."""
    browser, ada = await ada_in(opened, privacy=PRIVACY)
    number = await leak(database)
    assert "There is none." in (await browser.get("/accounts/1/incidents")).said
    await incidents.notify(database, services_behind(browser).settings, number, NOW)
    seen = await browser.get("/accounts/1/incidents")
    assert all(words in seen.said for words in ("A leak open", "was <published>.", "Whom to ask: privacy@example.org"))
    assert 'href="/your-data" aria-current="page"' in seen.text
    await database.execute("UPDATE membership SET role = 'viewer' WHERE person_id = $1", ada)
    assert (await browser.get("/accounts/1/incidents")).status == 403


async def test_with_mail_there_is_no_banner(opened: Open, database: Pool) -> None:
    """A letter goes."""
    browser = await opened(**MAIL, privacy=PRIVACY)
    await make_person(database, acme="owner")
    number = await leak(database)
    await incidents.notify(database, services_behind(browser).settings, number, NOW)
    assert [one.way for one in await incidents.notices(database, number, 0, 9)] == ["mail"]
    person: uuid.UUID = await database.fetchval("SELECT person_id FROM person")
    assert await incidents.banners(database, person) == []
