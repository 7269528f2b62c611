"""The pages for who runs the installation: who may see them, accounts, retention, audit log."""

import datetime
import time

import pytest

from luntrex_proxy.console.application import PAGES
from luntrex_proxy.console.pages.page import Access
from luntrex_proxy.store import accounts
from luntrex_proxy.store.database import Pool
from tests.console.browsing import Browser, concrete
from tests.console.test_pages import Open, ada_in, opened, services_behind
from tests.people import PASSWORD, give_password, make_person

__all__ = ["opened"]
NOW = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
PATHS = (
    *("/installation/accounts", "/people", "/retention", "/registry", "/rights-requests", "/audit", "/incidents"),
    *("/attempts", "/upstreams"),
)


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
    for route in PAGES:
        if route.access is Access.OPERATOR:
            seen = await (browser.send if route.submit else browser.get)(concrete(route.path))
            assert seen.status == 404, route.path
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
    assert 'href="/installation/accounts/1/suspend"' in (await runs.get("/installation/accounts")).text
    assert "Stop all keys of acme" in (await runs.get("/installation/accounts/1/suspend")).said
    seen = await runs.send("/installation/accounts/1/suspend")
    assert (seen.status, 'id="sure-wrong"' in seen.text) == (422, True)
    assert (await accounts.get(database, "acme")).status == "active"
    assert "All its keys are refused" in (await runs.send("/installation/accounts/1/suspend", sure="yes")).said
    assert (await accounts.get(database, "acme")).status == "suspended"
    assert "Its keys work again." in (await runs.send("/installation/accounts/1/resume")).said
    for wrong in ("99", "x", "9" * 30):
        assert (await runs.send(f"/installation/accounts/{wrong}/suspend")).status == 404
    monkeypatch.setattr("luntrex_proxy.console.pages.installation._SHOWN", 1)
    seen = await runs.get("/installation/accounts")
    assert "acme active" in seen.said
    assert "beta active" not in seen.said
    assert "beta active" in (await runs.get("/installation/accounts?after=1")).said
    monkeypatch.undo()
    await runs.get("/installation/accounts")
    await runs.send("/installation/accounts/1/suspend", sure="yes")
    for query, seen_names in (
        ("name=ET", {"beta"}),
        ("state=suspended", {"acme"}),
        ("name=%25", set()),
        ("state=x", {"acme", "beta"}),
    ):
        text = (await runs.get(f"/installation/accounts?{query}")).text
        assert {name for name in ("acme", "beta") if f">{name}</a>" in text} == seen_names, query


async def test_retention(opened: Open) -> None:
    """What is kept how long, and whether what is too old goes."""
    browser, _ = await ada_in(opened)
    seen = await (await operator(browser)).get("/retention")
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
    seen = await runs.get("/audit?act=<b>&since=x&until=2030-02-30&who=%00")
    assert "An act is written such as key.revoked. It was left out." in seen.said
    assert seen.said.count("Give a day, such as 2030-01-31.") == 2
    for query, there in (
        ("who=root@example.org", True), ("who=command+line", False), ("who=ada@example.org", False),
        (f"since={NOW:%Y-%m-%d}", True), (f"until={NOW - datetime.timedelta(days=2):%Y-%m-%d}", False),
    ):  # fmt: skip
        assert ("account.created" in (await runs.get(f"/audit?{query}")).said) is there, query
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
