"""Pages of an account without a script: whose they are, what forms say, keys, the overview and the usage explorer."""

import datetime
import re

import pytest

from luntrex_proxy.console.application import PAGES
from luntrex_proxy.store import audit, budgets
from luntrex_proxy.store.database import Pool
from tests.console.browser.places import ADA, BOB, Places, fill
from tests.console.browsing import Browser, concrete
from tests.console.test_pages import Open, opened, services_behind
from tests.people import PASSWORD, give_password, make_person

__all__ = ["opened"]
KEY = re.compile(r">(lx_[0-9A-Za-z]{12}_[0-9A-Za-z]{49})<")


async def entered(opened: Open, address: str = ADA, requests: int = 300) -> tuple[Browser, Places]:
    """A browser in which somebody of acme is signed in."""
    browser = await opened()
    places = await fill(services_behind(browser), requests=requests)
    await browser.get("/sign-in")
    await browser.send("/sign-in", address=address, password=PASSWORD)
    return browser, places


async def test_an_account_is_closed_to_others(opened: Open, database: Pool) -> None:
    """Every page and form of it looks as if it were not there; who runs the installation leaves a trace."""
    browser, places = await entered(opened, requests=1)
    shown = set()
    for email, operator in (("eve@example.org", False), ("root@example.org", True)):
        person = await make_person(database, email, operator=operator, gamma="owner")
        await give_password(services_behind(browser), person)
        browser.jar = {}
        await browser.get("/sign-in")
        await browser.send("/sign-in", address=email, password=PASSWORD)
        for route in (each for each in PAGES if each.is_of_account):
            path = concrete(places.path(route.path))
            seen = await browser.get(path)
            if operator:
                assert seen.status in (200, 403, 404), route.path
                shown |= {route.path} if seen.status == 200 else set()
            else:
                assert seen.status == 404, route.path
                assert "acme" not in seen.text
                await browser.get("/profile")
                if route.submit is not None:
                    assert (await browser.send(path)).status == 404
    noted = {entry.object_id for entry in await audit.newest(database, 200) if entry.act == "operator.read"}
    assert len(shown) > 5
    assert noted >= shown
    assert (await browser.get("/accounts/9999999999999999999/keys")).status == 404
    assert (await browser.get("/accounts/x/keys")).status == 404


async def test_a_developer_sees_their_own(opened: Open) -> None:
    """Of keys those of their own; of others' usage the sum, in no chart and behind no filter."""
    browser, places = await entered(opened, BOB)
    base = f"/accounts/{places.account_id}"
    seen = await browser.get(f"{base}/keys")
    assert "bobs" in seen.said
    assert "laptop" not in seen.said
    assert (await browser.get(f"{base}/keys/{places.key_id}")).status == 404
    assert (await browser.send(f"{base}/keys/{places.key_id}/revoke", sure="yes")).status == 404
    seen = await browser.get(f"{base}/usage?group=key&metric=requests")
    assert "ada@example.org member's own" in seen.said
    assert "laptop" not in seen.said
    picture = seen.text.partition("<figure")[2].partition("</figure>")[0]
    assert "bobs" in picture
    assert "ada@example.org" not in picture
    for filtered in ("model=gpt-5-mini", "upstream=openai", "label=project%3Dchat"):
        assert "ada@example.org" not in (await browser.get(f"{base}/usage?group=member&{filtered}")).said
    assert "Nothing was used" in (await browser.get(f"{base}/usage?key={places.key_id}")).said
    seen = await browser.get(f"{base}/usage.csv?group=member&metric=requests")
    theirs = [line for line in seen.text.splitlines() if "ada@example.org" in line]
    assert [line.partition(",")[0] for line in theirs] == [""], "one line without a day"


async def test_sums_are_right(opened: Open, database: Pool) -> None:
    """Whatever it is grouped by, and by days of the account's own zone as well."""
    browser, places = await entered(opened)
    base = f"/accounts/{places.account_id}/usage.csv"
    since = await database.fetchval("SELECT current_date - 70")
    total = await database.fetchval("SELECT count(*) FROM usage")
    for zone in ("UTC", "Asia/Kolkata", "America/New_York"):
        await budgets.set_time_zone(database, "acme", zone)
        for query in (
            "group=key",
            "group=model&step=week",
            "group=label:project&step=month",
            "metric=tokens",
        ):
            seen = await browser.get(f"{base}?since={since}&{query}")
            rows = [line.split(",") for line in seen.text.splitlines()[1:]]
            assert sum(int(row[2]) for row in rows) == total, (zone, query)
        path = f"/accounts/{places.account_id}/usage?group=model&metric=requests"
        seen = await browser.get(f"{path}&since={since}")
        assert sum(map(int, re.findall(r'data-v="(\d+)"', seen.text))) == total, zone
        assert "midnight in UTC" in seen.said
        week = await database.fetchval("SELECT (now() AT TIME ZONE $1)::date - 1", zone)
        seen = await browser.get(f"{path}&since={week}")
        used = await database.fetchval("SELECT count(*) FROM usage WHERE started_at AT TIME ZONE $1 >= $2", zone, week)
        assert sum(map(int, re.findall(r'data-v="(\d+)"', seen.text))) == used, zone
        assert f"midnight in {zone}" in seen.said


async def test_the_explorer_reads_any_address(opened: Open) -> None:
    """What cannot be is put right with a sentence, and nothing of it comes back unescaped."""
    browser, places = await entered(opened, requests=1)
    base = f"/accounts/{places.account_id}/usage"
    seen = await browser.get(f"{base}?since=tomorrow&step=hour&until=2026-13-01&group=%3Cx%3E&metric=x&label=a%3Db")
    assert "A day is written such as" in seen.said
    assert "<x>" not in seen.text
    seen = await browser.get(f"{base}?since=2020-01-01&until=2026-01-01&step=hour")
    assert "2 days at most" in seen.said
    assert "Nothing was used" in seen.said
    assert (await browser.get(f"{base}?since=0001-01-01&until=9999-12-31&step=month")).status == 200
    assert (await browser.get(f"{base}?label=project%3Dsearch&group=label:project")).status == 200


async def test_requests_that_reached_no_upstream_are_no_choice(opened: Open, database: Pool) -> None:
    """A choice without a name would stand in the filter instead of "all"."""
    browser, places = await entered(opened, requests=1)
    await database.execute(
        "INSERT INTO usage_rollup_daily SELECT $1, (now() AT TIME ZONE 'UTC')::date, $2, 'other', '',"
        " 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0",
        places.account_id, places.key_id,
    )  # fmt: skip
    for of in ("usage", "requests"):
        text = (await browser.get(f"/accounts/{places.account_id}/{of}")).text
        offered = text.partition('name="upstream"')[2].partition("</select>")[0]
        assert re.findall(r'<option value="" selected>([^<]*)</option>', offered) == ["all"]


async def test_forms_of_keys_keep_what_was_typed(opened: Open, database: Pool) -> None:
    """And say beside the field what is wrong; nothing is made."""
    browser, places = await entered(opened, requests=1)
    base = f"/accounts/{places.account_id}/keys"
    before = await database.fetchval("SELECT count(*) FROM api_key")
    for wrong, field, sentence in (
        ({"name": ""}, "name", "A key name is"),
        ({"name": "a b"}, "name", "A key name is"),
        ({"name": "laptop"}, "name", "has this name"),
        ({"expires": "soon"}, "expires", "Give a date such as"),
        ({"expires": "2001-01-01"}, "expires", "cannot end in the past"),
        ({"networks": "10.0.0.1/8"}, "networks", "did you mean 10.0.0.0/8"),
        ({"models": "gpt 5é"}, "models", "is no model name"),
        ({"label-project": "x y"}, "label-project", "project"),
    ):
        await browser.get(f"{base}/new")
        sent = {"name": "next", "owner": "account", "regions": "eu", "endpoint-messages": "yes"} | wrong
        seen = await browser.send(f"{base}/new", **sent)
        assert seen.status == 422, wrong
        found = re.search(rf'id="{field}-wrong">([^<]+)<', seen.text)
        assert found, (wrong, seen.said)
        assert sentence in seen.said
        assert 'value="eu"' in seen.text
        assert re.search(r'name="endpoint-messages" value="yes" checked', seen.text)
        assert re.search(rf'id="{field}"[^>]*aria-invalid="true"', seen.text)
    assert await database.fetchval("SELECT count(*) FROM api_key") == before
    seen = await browser.send(f"{base}/{places.key_id}/limits", requests_per_minute="many", tokens_per_day="5")
    assert seen.status == 422
    assert 'value="many"' in seen.text
    assert await database.fetchval("SELECT count(*) FROM usage_limit WHERE key_id = $1", places.key_id) == 0


async def test_a_key_from_making_to_its_end(opened: Open, database: Pool) -> None:
    """Shown once; limited, labelled, stopped, replaced, ended: each form does it and says so."""
    browser, places = await entered(opened, requests=1)
    base = f"/accounts/{places.account_id}/keys"
    await browser.get(f"{base}/new")
    seen = await browser.send(f"{base}/new", name="fresh", owner="me", expires="2040-01-31", models="gpt-5*")
    key = KEY.findall(seen.text)[0]
    assert seen.headers["Cache-Control"] == "no-store"
    path = f"{base}/{key[3:15]}"
    for other in (base, path):
        assert key not in (await browser.get(other)).text
    assert await database.fetchval("SELECT expires_at FROM api_key WHERE name = 'fresh'") == datetime.datetime(
        2040, 2, 1, tzinfo=datetime.UTC
    )
    for verb, fields, said in (
        ("scope", {"models": "gpt-5-mini, llama-4*", "networks": "10.0.0.0/8"}, "limits are changed"),
        ("limits", {"requests_per_minute": "1,000"}, "limits are changed"),
        ("labels", {"label-project": "chat"}, "labels are changed"),
        ("suspend", {}, "stopped until it is resumed"),
        ("resume", {}, "works again"),
    ):
        await browser.get(path)
        assert said in (await browser.send(f"{path}/{verb}", **fields)).said, verb
    seen = await browser.get(path)
    assert 'value="gpt-5-mini, llama-4*"' in seen.text
    assert 'name="requests_per_minute"' in seen.text
    assert 'value="1000"' in seen.text
    await browser.get(path)
    assert (await browser.send(f"{path}/rotate", overlap="x")).status == 422
    await browser.get(path)
    assert KEY.findall((await browser.send(f"{path}/rotate", overlap="1h")).text)
    await browser.get(path)
    assert (await browser.send(f"{path}/revoke")).status == 422
    assert "ended for good" in (await browser.send(f"{path}/revoke", sure="yes")).said
    assert "nothing of it can be changed" in (await browser.get(path)).said
    acts = {(entry.act, entry.actor) for entry in await audit.newest(database, 40) if entry.act.startswith("key.")}
    assert ("key.revoked", f"console:{places.person_id}") in acts


async def test_the_password_is_asked_for_in_the_form(opened: Open, database: Pool) -> None:
    """When the last time is ten minutes ago; what was typed stays, and the session goes on with another cookie."""
    browser, places = await entered(opened, requests=1)
    base = f"/accounts/{places.account_id}/keys"
    await database.execute("UPDATE session SET authenticated_at = now() - interval '11 minutes'")
    assert 'name="proof"' in (await browser.get(f"{base}/new")).text
    for proof, said in (("", "Give your password"), ("wrong", "not your password")):
        seen = await browser.send(f"{base}/new", name="later", owner="me", proof=proof)
        assert seen.status == 422
        assert said in seen.said
        assert 'value="later"' in seen.text
        assert 'wrong"' not in seen.text.replace('class="wrong"', "").replace('-wrong"', "")
    cookie = dict(browser.jar)
    seen = await browser.send(f"{base}/new", name="later", owner="me", proof=PASSWORD)
    assert KEY.findall(seen.text)
    assert browser.jar != cookie
    assert (await browser.get(f"{base}/new")).status == 200


@pytest.mark.parametrize("period", ["today", "7d", "30d", "x"])
async def test_the_overview_says_what_is_there(opened: Open, database: Pool, period: str) -> None:
    """Requests, cost and errors against the time before, first tokens, and what is left of the budget."""
    browser, places = await entered(opened)
    seen = await browser.get(f"/accounts/{places.account_id}?period={period}")
    days = {"today": 1, "30d": 30}.get(period, 7)
    number = await database.fetchval(
        "SELECT sum(requests)::bigint FROM usage_rollup WHERE hour >= date_trunc('day', now(), 'UTC') - $1::interval",
        datetime.timedelta(days=days - 1),
    )
    assert f"Requests {number or 0:,}" in seen.said
    assert "$250.00 of $250.00 a month" in seen.said
    assert re.search(r"First token, p50 (\d+ ms|\d\.\d+ s|n/a)", seen.said)
