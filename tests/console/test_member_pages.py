"""The pages of members, without a script: asking in, another role, letting go, leaving."""

from luntrex_proxy.store.database import Pool
from tests.console.test_pages import ADA, Open, ada_in, opened, services_behind
from tests.people import PASSWORD, give_password, make_person

__all__ = ["opened"]
ROLES = "SELECT email, role FROM membership JOIN person USING (person_id) ORDER BY email"


async def test_members_come_change_and_go(opened: Open, database: Pool) -> None:
    """By forms that keep what was typed; the last owner stays, and only owners make owners."""
    browser, ada = await ada_in(opened)
    services = services_behind(browser)
    bob = await make_person(database, "bob@example.org", acme="admin")
    await make_person(database, "eve@example.org", beta="owner")
    await give_password(services, bob)
    base = "/accounts/1"
    seen = await browser.get(f"{base}/members")
    assert ("bob@example.org" in seen.said, "eve@example.org" in seen.said) == (True, False)
    await browser.get(f"{base}/invitations/new")
    seen = await browser.send(f"{base}/invitations/new", email="not an address", role="viewer")
    assert (seen.status, 'value="not an address"' in seen.text) == (422, True)
    assert 'id="email-wrong"' in seen.text
    assert "Choose one of the roles." in (await browser.send(f"{base}/invitations/new", email="x@y.example")).said
    seen = await browser.send(f"{base}/invitations/new", email="new@example.org", role="billing")
    assert "only time you see the link" in seen.said
    assert "/link?token=" in seen.text
    assert "new@example.org billing" in (await browser.get(f"{base}/members")).said
    seen = await browser.send(f"{base}/invitations/new", email="bob@example.org", role="billing")
    assert (seen.status, 'id="email-wrong"' in seen.text) == (422, True)
    invited = await database.fetchval("SELECT invitation_id FROM invitation")
    await browser.get(f"{base}/members")
    assert "taken back" in (await browser.send(f"{base}/invitations/{invited}/withdraw")).said
    seen = await browser.send(f"{base}/members/{ada}/role", role="viewer")
    assert (seen.status, 'id="role-wrong"' in seen.text) == (422, True)
    assert 'id="sure-wrong"' in (await browser.send(f"{base}/members/{bob}/remove")).text
    assert "role is changed" in (await browser.send(f"{base}/members/{bob}/role", role="admin")).said
    await database.execute("UPDATE session SET authenticated_at = now() - interval '11 minutes'")
    await browser.get(f"{base}/members/{bob}")
    seen = await browser.send(f"{base}/members/{bob}/role", role="owner")
    assert (seen.status, 'id="proof-wrong"' in seen.text) == (422, True)
    browser.jar = {}
    await browser.get("/sign-in")
    await browser.send("/sign-in", address="bob@example.org", password=PASSWORD)
    assert "owner</option>" not in (await browser.get(f"{base}/members/{bob}")).text
    assert (await browser.send(f"{base}/members/{bob}/role", role="owner")).status == 403
    await browser.get(f"{base}/members/{bob}")
    assert (await browser.send(f"{base}/members/{ada}/remove", sure="yes")).status == 403
    assert (await browser.get("/accounts/2/members")).status == 404
    await browser.get(f"{base}/members/{bob}")
    assert "You have left the account" in (await browser.send(f"{base}/members/{bob}/remove", sure="yes")).said
    rows = [tuple(row) for row in await database.fetch(ROLES)]
    assert rows == [(ADA, "owner"), ("eve@example.org", "owner")]


async def test_who_may_not_see_members_may_leave(opened: Open, database: Pool) -> None:
    """A viewer has the own membership alone."""
    browser, ada = await ada_in(opened)
    bob = await make_person(database, "bob@example.org", acme="viewer")
    await give_password(services_behind(browser), bob)
    browser.jar = {}
    await browser.get("/sign-in")
    await browser.send("/sign-in", address="bob@example.org", password=PASSWORD)
    assert (await browser.get("/accounts/1/members")).status == 403
    assert (await browser.get(f"/accounts/1/members/{ada}")).status == 403
    assert "membership" in (await browser.get("/accounts")).said
    seen = await browser.get(f"/accounts/1/members/{bob}")
    assert "I want to leave acme." in seen.said
    assert "Another role" not in seen.said
    assert (await browser.send(f"/accounts/1/members/{bob}/role", role="owner")).status == 403
