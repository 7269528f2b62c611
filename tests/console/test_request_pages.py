"""The pages of single requests, without a script: whose one sees, what is chosen by the address, one with its way."""

import csv
import io
import uuid
from typing import Any

import aiohttp
import pytest

from luntrex_proxy.console.pages import requests
from luntrex_proxy.control import consents, usage
from luntrex_proxy.store import audit
from luntrex_proxy.store.errors import StoreUnavailableError
from tests.console.browser.places import ADA, BOB, fill
from tests.console.test_pages import Open, opened, services_behind
from tests.people import PASSWORD, give_password, make_person

__all__ = ["opened"]


async def test_requests_are_looked_through_by_the_address(opened: Open) -> None:
    """The account's and one's own, page by page; of another member neither a line nor a page, for operators neither."""
    browser = await opened()
    services = services_behind(browser)
    places = await fill(services, requests=200)
    pool, base = services.pool, f"/accounts/{places.account_id}/requests"
    bobs = await pool.fetchval(
        "SELECT request_id FROM usage JOIN api_key USING (key_id) WHERE name = 'bobs' ORDER BY started_at DESC"
    )
    await browser.get(base)
    seen = await browser.send("/sign-in", address=ADA, password=PASSWORD, next=base)
    assert "gpt-5-mini at openai laptop" in seen.said
    assert "bobs" not in seen.said
    assert f"{base}/{places.request_id}" in seen.text
    seen = await browser.get(f"{base}?since=2000-01-01&until=2199-12-31")
    assert seen.text.count('<th scope="row">') == 50
    path = seen.text.partition('">Older</a>')[0].rpartition('href="')[2].replace("&amp;", "&")
    older = await browser.get(path)
    assert older.text.count('<th scope="row">') == 50
    assert "Newest" in older.said
    assert not {line for line in seen.text.split('"') if line.startswith(f"{base}/")} & set(older.text.split('"'))
    seen = await browser.get(f"{base}?outcome=failed&model=gpt-5-mini&upstream=openai&key={places.key_id}")
    assert seen.text.count('<th scope="row">') == seen.text.count(">502 upstream failed<") > 0
    seen = await browser.get(f"{base}?model=nothing-like-it&since=yesterday&key=x'&after=z~z&outcome=%00")
    assert "No request like this" in seen.said or "There are no older ones." in seen.said
    assert "A day is written such as 2027-01-31." in seen.said
    seen = await browser.get(f"{base}/{places.request_id}")
    for words in (
        "not asked local", "the policy excludes its region", "wait: key", "upstream openai", "http_503",
        str(places.request_id), "project: chat", "Where its time went",
    ):  # fmt: skip
        assert words in seen.said, words
    assert (await browser.get(f"{base}/{bobs}")).status == 404
    assert (await browser.get(f"{base}/x")).status == 404
    await give_password(services, await make_person(pool, "eve@example.org", beta="owner"))
    for address, status in ((BOB, 404), ("eve@example.org", 404)):
        browser.jar = {}
        await browser.get("/sign-in")
        await browser.send("/sign-in", address=address, password=PASSWORD)
        assert (await browser.get(f"{base}/{places.request_id}")).status == status
    assert (await browser.get(base)).status == 404


async def test_owners_see_members_requests_where_the_account_agreed(opened: Open) -> None:
    """By a form that asks for the password; from then on, told on the pages of everybody, each look on record."""
    browser = await opened()
    services = services_behind(browser)
    places = await fill(services, requests=200)
    pool, base = services.pool, f"/accounts/{places.account_id}"
    consent = f"{base}/privacy/consents/member_requests"
    await browser.get(consent)
    await browser.send("/sign-in", address=ADA, password=PASSWORD, next=consent)
    await pool.execute("UPDATE session SET authenticated_at = now() - interval '1 hour'")
    seen = await browser.get(consent)
    assert 'name="proof"' in seen.text
    assert 'id="proof-wrong"' in (await browser.send(consent, version="1", sure="yes")).text
    assert "You have agreed" in (await browser.send(consent, version="1", sure="yes", proof=PASSWORD)).said
    seen = await browser.get(f"{base}/requests")
    assert "by the account's consent of" in seen.said
    assert "laptop" in seen.said
    assert "bobs" not in seen.text.partition("<table")[2], "those of before stay unseen"
    await pool.execute("UPDATE consent SET given_at = now() - interval '3 days' WHERE purpose = 'member_requests'")
    assert await audit.newest(pool, 9, act="member.requests_seen") == []
    seen = await browser.get(f"{base}/requests")
    assert "bobs of bob" in seen.said
    bobs = await pool.fetchval(
        "SELECT request_id FROM usage JOIN api_key USING (key_id) WHERE name = 'bobs' ORDER BY started_at DESC"
    )
    assert "of bob; your look is in the audit log" in (await browser.get(f"{base}/requests/{bobs}")).said
    looks = await audit.newest(pool, 9, act="member.requests_seen")
    assert [look.object_id for look in looks] == [str(bobs), "usage.requests"]
    assert {look.actor for look in looks} == {f"console:{places.person_id}"}
    await browser.get(base)
    assert "Owners see single requests of members' own keys" in (await browser.get(f"{base}/members")).said
    assert len(await audit.newest(pool, 9, act="member.requests_seen")) == 2
    browser.jar = {}
    await browser.get("/sign-in")
    await browser.send("/sign-in", address=BOB, password=PASSWORD)
    assert "acme : owners see single requests since" in (await browser.get("/your-data")).said
    seen = await browser.get(f"{base}/requests")
    assert "Owners of acme see single requests that you make" in seen.said
    assert "laptop" not in seen.said
    await consents.withdraw(pool, places.account_id, consents.Purpose.MEMBER_REQUESTS)
    assert "acme : sums only" in (await browser.get("/your-data")).said


async def test_a_file_is_sent_as_it_is_read(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Piece by piece, each request once and no more than a file has; what fails amid it breaks it off."""
    browser = await opened()
    services = services_behind(browser)
    places = await fill(services, requests=200)
    base = f"/accounts/{places.account_id}/requests"
    await browser.get(base)
    await browser.send("/sign-in", address=ADA, password=PASSWORD, next=base)
    path = f"{base}.csv?since=2000-01-01&until=2199-12-31"
    whole = list(csv.DictReader(io.StringIO((await browser.get(path)).text)))
    assert len(whole) == 402, "of the account's and her own key"
    none = await browser.get(f"{base}.csv?model=nothing-like-it")
    assert none.text.startswith("request_id,started_at,")
    assert none.text.count("\n") == 1
    monkeypatch.setattr(requests, "_PIECE", 30)
    monkeypatch.setattr(requests, "_WRITTEN", 20)
    monkeypatch.setattr(requests, "_CSV_MAX", 120)
    assert list(csv.DictReader(io.StringIO((await browser.get(path)).text))) == whole[:120]
    read, pieces = usage.requests_seen, 0

    async def failing(*given: Any) -> Any:
        nonlocal pieces
        pieces += 1
        if pieces == 3:
            raise StoreUnavailableError("The database cannot be read.")
        return await read(*given)

    monkeypatch.setattr(usage, "requests_seen", failing)
    with pytest.raises(aiohttp.ClientPayloadError):
        await browser.get(path)
    pieces = 2
    assert (await browser.get(path)).status == 503


async def test_what_is_chosen_is_kept_and_is_a_csv(opened: Open) -> None:
    """From the list to one and back; as a file of the same rows, of other members none."""
    browser = await opened()
    services = services_behind(browser)
    places = await fill(services, requests=200)
    base = f"/accounts/{places.account_id}/requests"
    await browser.get(base)
    await browser.send("/sign-in", address=ADA, password=PASSWORD, next=base)
    seen = await browser.get(f"{base}?outcome=failed&since=2000-01-01&until=2199-12-31")
    assert f"{base}.csv?since=2000-01-01&amp;until=2199-12-31&amp;outcome=failed" in seen.text
    one = seen.text.partition('class="whole" href="')[2].partition('"')[0].replace("&amp;", "&")
    assert f'href="{base}?{one.partition("?")[2]}"'.replace("&", "&amp;") in (await browser.get(one)).text
    assert f'href="{base}">All requests' in (await browser.get(one.partition("?")[0])).text
    got = await browser.get(f"{base}.csv?outcome=failed&since=2000-01-01&until=2199-12-31")
    assert got.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert got.headers["Cache-Control"] == "no-store"
    rows = list(csv.DictReader(io.StringIO(got.text)))
    failed = "SELECT count(*) FROM usage JOIN api_key USING (key_id) WHERE usage.status >= 400 AND name <> 'bobs'"
    assert len(rows) == await services.pool.fetchval(failed)
    assert {row["key_name"] for row in rows} == {"ci", "laptop"}
    cost = await services.pool.fetchval(
        "SELECT cost_pico FROM usage WHERE request_id = $1", uuid.UUID(rows[0]["request_id"])
    )
    assert rows[0]["cost_usd"] == f"{cost // 10**12}.{cost % 10**12:012d}"
    assert rows[0]["labels"].startswith("project=")
