"""The pages of rights for everybody, and the download; the API's rows are in matrix.py."""

import io
import re
import time
import zipfile
from datetime import UTC, datetime, timedelta

from luntrex_proxy.control import rights, rightsform
from luntrex_proxy.core.rights import Law
from luntrex_proxy.core.roles import Permission
from luntrex_proxy.store import audit
from luntrex_proxy.store.database import Pool
from tests.console.conftest import Api
from tests.console.test_pages import Open, opened, services_behind
from tests.people import MAIL, make_person

__all__ = ["opened"]
NOW = datetime.fromtimestamp(time.time(), UTC)


async def test_the_form_and_its_way(database: Pool, opened: Open) -> None:
    """Asked by anybody; the page names contact, reference and date; looking at the link uses nothing up."""
    browser = await opened(**MAIL, privacy={"contact": "privacy@example.org"})
    await make_person(database)
    page = await browser.get("/rights")
    assert "privacy@example.org" in page.said
    asked = await browser.send("/rights", address="ada@example.org", right="erase", law="gdpr")
    reference = re.findall(r"[A-Z2-7]{26}", asked.said)[0]
    bad = await browser.send("/rights", address="ada@example.org", right="everything", law="gdpr")
    assert (bad.status, 'id="right-wrong"' in bad.text) == (422, True)
    request_id = str(await database.fetchval("SELECT request_id FROM rights_request WHERE reference = $1", reference))
    link = await rightsform.link_for(services_behind(browser), request_id)
    assert link is not None
    path = "/rights/confirm?" + link.partition("?")[2]
    for _ in range(2):
        assert "It was me" in (await browser.get(path)).said
    done = await browser.send("/rights/confirm", token=link.partition("token=")[2])
    assert ("waits to be carried out" in done.said, "second factor" in done.said) == (True, False)
    await database.execute("INSERT INTO totp (person_id, seed, confirmed_at) SELECT person_id, '', now() FROM person")
    await browser.send("/rights", address="ada@example.org", right="export", law="gdpr")
    newest = await database.fetchval("SELECT request_id FROM rights_request ORDER BY received_at DESC LIMIT 1")
    another = await rightsform.link_for(services_behind(browser), str(newest))
    assert another is not None
    told = await browser.send("/rights/confirm", token=another.partition("token=")[2])
    assert ("second factor" in told.said, "Fetch the data" in told.said) == (True, False)
    assert "waits to be" in (await browser.get(f"/rights/status?reference={reference}")).said
    assert (await browser.send("/rights/confirm", token="x")).status == 404
    assert "no request of this reference" in (await browser.get("/rights/status?reference=AAAA")).said


async def test_without_mail_there_is_an_address(opened: Open) -> None:
    """No form that leads nowhere."""
    browser = await opened(privacy={"contact": "privacy@example.org"})
    page = await browser.get("/rights")
    assert ("please write to privacy@example.org" in page.said, 'name="right"' in page.text) == (True, False)


async def test_a_download_works_once(api: Api, database: Pool, database_dsn: str) -> None:
    """The link of the API leads to a page with a button, and that to the zip; nothing is kept of it on the way."""
    person = await make_person(database, "down@example.org")
    _, token, _ = await rights.offer_export(database, person, law=Law.GDPR)
    base = api.url.removesuffix("/api/v1")
    async with api.client.get(f"{base}/rights/download?token={token}") as page:
        assert "Fetch the data" in await page.text()
    headers = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}
    object.__setattr__(api.services, "dsn", database_dsn)
    async with api.client.post(f"{base}/rights/download", data=f"token={token}", headers=headers) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/zip")
        with zipfile.ZipFile(io.BytesIO(await answer.read())) as archive:
            assert b"down@example.org" in archive.read("data/person.json")
    async with api.client.post(f"{base}/rights/download", data=f"token={token}", headers=headers) as answer:
        assert answer.status == 422


async def test_an_operator_reads_all_requests_and_their_clocks(api: Api, database: Pool) -> None:
    """Page by page, and it is on record; how many are near their end, and when the next of each law is due."""
    token = await api.token(await api.person(operator=True))
    laws = [Law.GDPR, Law.LGPD, Law.GDPR]
    for number, law in enumerate(laws):
        await rights.ask_erasure(
            database, await make_person(database, f"{number}@example.org"), NOW, timedelta(days=30), law=law
        )
    await database.execute("UPDATE rights_request SET received_at = $1 WHERE law = 'lgpd'", NOW - timedelta(days=8))
    first = (await api.ask("GET", "/rights?limit=2", token=token)).body
    rest = (await api.ask("GET", f"/rights?limit=2&cursor={first['next_cursor']}", token=token)).body
    assert [each["law"] for each in (*first["items"], *rest["items"])] == ["lgpd", "gdpr", "gdpr"]
    whose = {each["address"] for each in (*first["items"], *rest["items"])}
    assert whose == {f"{number}@example.org" for number in range(3)}, "whom to answer"
    reads = [entry.object_id for entry in await audit.newest(database, 50, act="operator.read")]
    assert reads == ["rights.list"] * 2
    of_one = (await api.ask("GET", f"/rights/{first['items'][0]['reference']}", token=token)).body
    assert "address" not in of_one, "everybody with the reference sees that"
    shown = (await api.ask("GET", "/rights/clocks", token=token)).body
    assert (shown["open"], shown["clocks"]) == (3, {"running": 2, "half": 1, "late": 0, "over": 0})
    assert datetime.fromisoformat(shown["nearest"]["lgpd"]) == NOW + timedelta(days=7)
    assert shown["nearest"].keys() == {"gdpr", "lgpd"}


async def test_programs_answer_refuse_and_extend(api: Api, database: Pool) -> None:
    """With fixed words, once each; who may only read, or is no operator, changes nothing."""
    token = await api.token(await api.person(operator=True))
    reader = await api.token(await api.person(operator=True), [Permission.PRIVACY_READ])
    references = []
    for number, law in enumerate((Law.GDPR, Law.LGPD, Law.GDPR)):
        person = await make_person(database, f"{number}@example.org")
        references.append((await rights.ask_erasure(database, person, NOW, timedelta(days=30), law=law)).reference)
    one, lgpd, other = (f"/rights/{reference}" for reference in references)
    assert (await api.ask("GET", f"{one}/whose", token=reader)).body["address"] == "0@example.org"
    for verb, body in (("answer", {"outcome": "given"}), ("refuse", {"outcome": "excessive"})):
        assert (await api.ask("POST", f"{one}/{verb}", token=reader, json=body)).status == 403
    assert (await api.ask("POST", f"{one}/answer", token=token, json={"outcome": "excessive"})).status == 422
    extended = await api.ask("POST", f"{one}/extend", token=token, json={"reason": "complex"})
    assert (extended.status, extended.body["extended"]) == (200, True)
    for path in (one, lgpd):  # it was taken; the law has none
        again = await api.ask("POST", f"{path}/extend", token=token, json={"reason": "complex"})
        assert (again.status, again.code) == (409, "no_longer_time")
    done = (await api.ask("POST", f"{one}/answer", token=token, json={"outcome": "given"})).body
    assert (done["state"], done["outcome"], done["address"]) == ("done", "given", "0@example.org")
    refused = (await api.ask("POST", f"{other}/refuse", token=token, json={"outcome": "kept_by_law"})).body
    assert (refused["state"], refused["outcome"]) == ("refused", "kept_by_law")
    late = await api.ask("POST", f"{one}/refuse", token=token, json={"outcome": "excessive"})
    assert (late.status, late.code) == (409, "ended")
    for query, found in (("", {1}), ("?which=all", {0, 1, 2}), ("?state=refused", {2}), ("?right=export", set())):
        listed = (await api.ask("GET", f"/rights{query}", token=token)).body["items"]
        assert {references.index(each["reference"]) for each in listed} == found, query
