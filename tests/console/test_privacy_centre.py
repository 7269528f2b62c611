"""The pages about privacy of an account, without a script: consents, objections, debug captures; one entry for all."""

import base64

from luntrex_proxy.control import consents
from luntrex_proxy.settings.registry import SHIPPED
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.sealedbox import make_pair
from tests.console.test_pages import Open, ada_in, opened, services_behind
from tests.people import PASSWORD, give_password, make_person
from tests.store.test_erasing import key_of

__all__ = ["opened"]
BASE = "/accounts/1/privacy"
CAPTURES = "/accounts/1/captures"


async def test_an_owner_agrees_and_takes_it_back(opened: Open, database: Pool) -> None:
    """To words that were read, by saying so; others see it and change nothing. Each page leads on."""
    browser, _ = await ada_in(opened)
    for path in ("/your-data", BASE, CAPTURES, "/subprocessors", "/privacy/inventory", "/privacy"):
        seen = await browser.get(path)
        assert '<a href="/your-data" aria-current="page">Privacy</a>' in seen.text, path
        assert f'<a href="{path}" aria-current="page">' in seen.text, path
    path = f"{BASE}/consents/training"
    await browser.get(path)
    assert 'id="sure-wrong"' in (await browser.send(path, version="1")).text
    assert "words have changed" in (await browser.send(path, version="0", sure="yes")).said
    assert await consents.history(database, 1) == []
    seen = await browser.send(path, version="1", sure="yes")
    assert "You have agreed" in seen.said
    assert "Everything agreed to and taken back (1)" in seen.said
    assert "agreed to this on" in (await browser.get(path)).said
    seen = await browser.send(f"{path}/withdraw")
    assert "You agree no more" in seen.said
    assert (await consents.history(database, 1))[0].withdrawn_at is not None
    assert (await browser.send(f"{path}/withdraw")).status == 422
    assert (await browser.get(f"{BASE}/consents/everything")).status == 404
    name = SHIPPED[0].name
    await browser.get(BASE)
    assert "Nothing of the account goes there" in (await browser.send(f"{BASE}/objections", name=name, on="yes")).said
    assert "taken back" in (await browser.send(f"{BASE}/objections", name=name, on="no")).said
    assert (await browser.send(f"{BASE}/objections", name="nobody", on="yes")).status == 422
    await give_password(services_behind(browser), await make_person(database, "bob@example.org", acme="admin"))
    browser.jar = {}
    await browser.get("/sign-in")
    await browser.send("/sign-in", address="bob@example.org", password=PASSWORD)
    seen = await browser.get(BASE)
    assert "Everything agreed to and taken back" in seen.said
    assert "/consents/training" not in seen.text
    assert (await browser.send(path, version="1", sure="yes")).status == 403


async def test_a_capture_is_started_and_stopped(opened: Open, database: Pool) -> None:
    """Of one's own key; of the account's with its consent; another member's is not among them."""
    browser, ada = await ada_in(opened)
    bob = await make_person(database, "bob@example.org", acme="developer")
    own, service, bobs = [
        await key_of(database, "acme", name, who) for name, who in (("own", ada), ("ci", None), ("bobs", bob))
    ]
    public = base64.b64encode(make_pair()[1]).decode()
    path = f"{CAPTURES}/new"
    seen = await browser.get(path)
    assert (own in seen.text, service in seen.text, bobs in seen.text) == (True, True, False)
    seen = await browser.send(path, key=own, public_key="mine", requests="0", minutes="61")
    assert seen.status == 422
    for name in ("public_key", "requests", "minutes"):
        assert f'id="{name}-wrong"' in seen.text
    assert 'value="mine"' in seen.text
    good = {"public_key": public, "requests": "5", "minutes": "2"}
    assert (await browser.send(path, key=bobs, **good)).status == 403
    await browser.get(path)
    seen = await browser.send(path, key=service, **good)
    assert "only with the account" in seen.said
    assert 'id="key-wrong"' in seen.text
    seen = await browser.send(path, key=own, **good)
    assert "The capture runs" in seen.said
    assert "own started by you runs 0, 5 left" in seen.said
    await browser.get(path)
    assert "captured already" in (await browser.send(path, key=own, **good)).said
    capture_id = await database.fetchval("SELECT capture_id FROM debug_capture")
    await browser.get(CAPTURES)
    assert "The capture has ended" in (await browser.send(f"{CAPTURES}/{capture_id}/stop")).said
    assert (await browser.send(f"{CAPTURES}/x/stop")).status == 404
    assert (await database.fetchval("SELECT count(*) FROM debug_capture")) == 1
