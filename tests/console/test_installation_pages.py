"""The pages for who runs the installation: accounts, incidents, retention, registry, requests by right, audit log."""

import datetime
import time

import pytest

from luntrex_proxy.control import incidents, rights
from luntrex_proxy.store import accounts
from luntrex_proxy.store.database import Pool
from tests.console.browsing import Browser
from tests.console.test_pages import ADA, Open, ada_in, opened, services_behind
from tests.people import PASSWORD, give_password, make_person

__all__ = ["opened"]
NOW = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
PATHS = ("/installation/accounts", "/retention", "/registry", "/rights-requests", "/audit", "/incidents", "/upstreams")
UPSTREAM = {"name": "remote", "dialect": "openai", "base_url": "https://models.example.net"}


async def operator(browser: Browser) -> Browser:
    """A browser of somebody who runs the installation and is in no account."""
    runs = Browser(browser.client, browser.url)
    services = services_behind(browser)
    await give_password(services, await make_person(services.pool, "root@example.org", operator=True))
    await runs.send("/sign-in", address="root@example.org", password=PASSWORD)
    return runs


async def test_they_are_for_operators_only(opened: Open) -> None:
    """To everybody else there are no such pages; not in the menu either."""
    browser, _ = await ada_in(opened)
    for path in PATHS:
        assert (await browser.get(path)).status == 404, path
        assert f'href="{path}"' not in (await browser.get("/profile")).text
    for path in ("/installation/accounts", "/installation/accounts/1/suspend", "/rights-requests/extend"):
        assert (await browser.send(path, name="x", reference="x")).status == 404, path
    runs = await operator(browser)
    for path in PATHS:
        seen = await runs.get(path)
        assert seen.status == 200, path
        assert f'href="{path}" aria-current="page"' in seen.text


async def test_accounts(opened: Open, database: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made, stopped and resumed; a name that cannot be stays in its field; in pieces where there are many."""
    browser, _ = await ada_in(opened)
    runs = await operator(browser)
    await runs.get("/installation/accounts")
    for name, said in (("acme", "exists already"), ("a b<", "An account name is")):
        seen = await runs.send("/installation/accounts", name=name)
        assert seen.status == 422
        assert said in seen.said
        assert 'id="name-wrong"' in seen.text
    assert 'value="a b&lt;"' in seen.text
    assert "The account is there." in (await runs.send("/installation/accounts", name="beta")).said
    await runs.get("/installation/accounts")
    assert "All its keys are refused" in (await runs.send("/installation/accounts/1/suspend")).said
    assert (await accounts.get(database, "acme")).status == "suspended"
    assert "Its keys work again." in (await runs.send("/installation/accounts/1/resume")).said
    for wrong in ("99", "x", "9" * 30):
        assert (await runs.send(f"/installation/accounts/{wrong}/suspend")).status == 404
    monkeypatch.setattr("luntrex_proxy.console.pages.installation._SHOWN", 1)
    seen = await runs.get("/installation/accounts")
    assert "acme active" in seen.said
    assert "beta active" not in seen.said
    assert "beta active" in (await runs.get("/installation/accounts?after=1")).said


async def test_incidents_rights_registry_and_retention(opened: Open, database: Pool) -> None:
    """With their clocks; a request by right gets more time once."""
    browser, ada = await ada_in(opened, upstreams=[UPSTREAM])
    runs = await operator(browser)
    hours = datetime.timedelta(hours=1)
    await incidents.open_(database, "old <b>", NOW - 80 * hours)
    await incidents.open_(database, "ended", NOW - 80 * hours)
    await incidents.close(database, 2, "nothing was lost")
    seen = await runs.get("/incidents")
    assert "1: old <b> overdue" in seen.said
    assert "2: ended" in seen.said
    assert "nothing was lost" in seen.said

    made = await rights.ask_erasure(database, ada, NOW, datetime.timedelta(days=7))
    await rights.correct_name(database, ada, "Ada")
    seen = await runs.get("/rights-requests")
    assert f"1 in time The next answer is due {made.clock.due:%Y-%m-%d}" in seen.said
    assert f"{made.reference} erase GDPR (a month) {ADA}" in seen.said
    assert "corrected" not in seen.said
    assert "done: corrected" in (await runs.get("/rights-requests?show=all")).said
    seen = await runs.send("/rights-requests/extend", reference=made.reference)
    assert "The time for the answer is extended" in seen.said
    assert "More time" not in seen.said.partition("How it stands")[2].replace("More time", "", 1)
    assert "no longer time to take" in (await runs.send("/rights-requests/extend", reference=made.reference)).said
    assert (await runs.send("/rights-requests/extend", reference="x")).status == 422

    assert "models.example.net" in (await runs.get("/registry")).said
    seen = await runs.get("/retention")
    assert "usage 396 days" in seen.said
    assert "a running daemon does it once a day" in seen.said


async def test_the_audit_log(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces, by act; that an operator read all of it stands in it; an account's own part shows nothing else."""
    browser, _ = await ada_in(opened)
    runs = await operator(browser)
    await runs.get("/installation/accounts")
    await runs.send("/installation/accounts", name="beta")
    assert "operator.read" in (await runs.get("/audit")).said
    seen = await runs.get("/audit?act=account.created")
    assert seen.said.count("account.created") >= 2
    assert "operator.read" not in seen.said
    assert "An act is written such as key.revoked" in (await runs.get("/audit?act=<b>")).said
    assert "no such entry" in (await runs.get("/audit?act=key.never")).said
    monkeypatch.setattr("luntrex_proxy.console.pages.audit._SHOWN", 1)
    seen = await runs.get("/audit?act=account.created")
    assert "beta" in seen.said
    later = seen.text.partition("&amp;before=")[2].partition('"')[0]
    assert "acme" in (await runs.get(f"/audit?act=account.created&before={later}")).said
    monkeypatch.undo()
    said = (await browser.get("/accounts/1/audit")).said
    assert "account.created" in said
    assert "beta" not in said
    assert (await browser.get("/accounts/2/audit")).status == 404
