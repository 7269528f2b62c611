"""The pages of single requests, without a script: whose one sees, what is chosen by the address, one with its way."""

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
