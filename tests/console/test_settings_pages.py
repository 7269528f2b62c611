"""Settings of an account, labels of its keys, tokens of a person, and people for who runs the installation."""

import re

from luntrex_proxy.console.pages.tokens import WORDS
from luntrex_proxy.control import accounts, routes, tokens
from luntrex_proxy.core.roles import Permission
from luntrex_proxy.store import labels
from luntrex_proxy.store.database import Pool
from tests.console.test_installation_pages import operator
from tests.console.test_pages import ADA, Open, ada_in, opened
from tests.people import PASSWORD, make_person

__all__ = ["opened"]
UPSTREAMS = [
    {"name": name, "dialect": "openai", "base_url": f"https://{name}.example.net", "region": "eu"}
    for name in ("one", "two")
]
STALE = "UPDATE session SET authenticated_at = now() - interval '11 minutes'"
POLICY = {"whose": "own", "regions": "EU, ch", "kept": "abuse_monitoring", "days": "7", "trains": "never"}


async def test_an_owner_narrows_the_policy(opened: Open, database: Pool) -> None:
    """Never wider than the installation's, nor over what somebody else changed meanwhile; a viewer not at all."""
    browser, ada = await ada_in(opened)
    seen = await browser.get("/accounts/1/settings")
    assert "policy: kept for abuse monitoring, 30 days at most; never trained on (" in seen.said
    path = "/accounts/1/settings/policy"
    version = (await browser.get(path)).hidden("version")
    for field, value, said in (
        ("kept", "unknown", "wider than the installation's"), ("trains", "yes", "wider than the installation's"),
        ("days", "31", "wider than the installation's"), ("days", "many", "whole number"),
        ("regions", "e u ü", "Regions are words"), ("whose", "x", "Choose one"), ("kept", "x", "Choose one"),
    ):  # fmt: skip
        seen = await browser.send(path, version=version, **POLICY | {field: value})
        assert (seen.status, said in seen.said) == (422, True), (field, value)
        assert f'id="{"kept" if field == "days" and value == "31" else field}-wrong"' in seen.text
        assert 'value="7"' in seen.text or field == "days"
    assert (await accounts.get(database, 1)).policy is None
    assert "The policy is changed" in (await browser.send(path, version=version, **POLICY)).said
    policy = "region=ch,eu; retention=abuse_monitoring:7; training=never"
    assert (await accounts.get(database, 1)).policy == policy
    assert 'value="ch,eu"' in (await browser.get(path)).text
    seen = await browser.send(path, version=version, whose="default")
    assert (seen.status, "changed meanwhile" in seen.said) == (422, True)
    assert (await accounts.get(database, 1)).policy == policy
    await database.execute("UPDATE membership SET role = 'viewer' WHERE person_id = $1", ada)
    assert (await browser.get(path)).status == 403
    assert (await browser.send(path, whose="default")).status == 403
    assert "Change the policy" not in (await browser.get("/accounts/1/settings")).said
    await make_person(database, "eve@example.org", beta="owner")
    assert (await browser.get("/accounts/2/settings")).status == 404


async def test_an_operator_says_which_models(opened: Open, database: Pool) -> None:
    """Models and own targets; every mistake stays in its field. The account's own people can only look."""
    browser, _ = await ada_in(opened, upstreams=UPSTREAMS)
    path = "/accounts/1/settings/models"
    assert (await browser.get(path)).status == 404
    assert (await browser.send(path, models="gpt-5")).status == 404
    runs = await operator(browser)
    await runs.get(path)
    for field, value, said in (
        ("models", "<b>", "as clients write it"), ("own", "fast = one two!", "is no target"),
        ("own", "fast = three", "no upstream 'three'"), ("own", "other = one", "may not use other"),
        ("own", "fast = one\nfast = two", "twice"), ("own", "fast", "1 to 16 targets"),
        ("own", "fast = 0*one", "above 0"),
    ):  # fmt: skip
        seen = await runs.send(path, **{"models": "gpt-5*\r\nfast", "own": ""} | {field: value})
        assert (seen.status, said in seen.said) == (422, True), (value, seen.said)
        assert f'id="{field}-wrong"' in seen.text
    assert (await routes.of_account(database, 1)).is_nothing
    seen = await runs.send(path, models="gpt-5*\r\nfast", own="fast = 3*one/gpt-5 0*two")
    assert "they hold everywhere" in seen.said
    assert "fast one as gpt-5 weight 3 two when others failed" in seen.said
    seen = await browser.get("/accounts/1/settings")
    assert "Only gpt-5* , fast" in seen.said
    assert ">\nfast = 3*one/gpt-5 0*two/fast</textarea>" in (await runs.get(path)).text
    assert (await browser.get("/accounts/1/settings/explain?model=fast")).status == 404
    assert "not in this process" in (await runs.get("/accounts/1/settings/explain?model=fast")).said
    assert "no endpoint" in (await runs.get("/accounts/1/settings/explain?model=fast&endpoint=x")).said


async def test_labels(opened: Open, database: Pool) -> None:
    """Declared with values, changed, taken back; not by who manages no keys."""
    browser, ada = await ada_in(opened)
    await browser.get("/accounts/1/labels/edit")
    for name, values, wrong in (
        ("Team!", "a", "name"),
        ("team", "ä", "values"),
        ("team", " ".join(map(str, range(201))), "values"),
    ):
        seen = await browser.send("/accounts/1/labels/edit", name=name, values=values)
        assert (seen.status, f'id="{wrong}-wrong"' in seen.text) == (422, True), name
        assert f'value="{name}"' in seen.text
    assert (
        "Keys can carry the label now."
        in (await browser.send("/accounts/1/labels/edit", name="team", values="b\r\na")).said
    )
    assert ">\na\nb</textarea>" in (await browser.get("/accounts/1/labels/edit?name=team")).text
    await browser.send("/accounts/1/labels/edit?name=team", values="")
    assert [each.allowed for each in await labels.list_declared(database, 1)] == [None]
    await database.execute("UPDATE membership SET role = 'viewer' WHERE person_id = $1", ada)
    assert (await browser.send("/accounts/1/labels/remove", name="team")).status == 403
    await database.execute("UPDATE membership SET role = 'owner' WHERE person_id = $1", ada)
    assert "usage of before keeps it" in (await browser.send("/accounts/1/labels/remove", name="team")).said
    assert (await browser.send("/accounts/1/labels/remove", name="team")).status == 404


async def test_tokens(opened: Open, database: Pool) -> None:
    """Made with proof, shown once, ended; a foreign one is not there."""
    browser, ada = await ada_in(opened)
    assert set(WORDS) == set(Permission)
    await browser.get("/tokens/new")
    seen = await browser.send("/tokens/new", name="a b", days="1000")
    assert all(f'id="{name}-wrong"' in seen.text for name in ("name", "days", "scopes"))
    sent = {"name": "dashboard", "days": "30", "scope-usage:read": "yes"}
    await database.execute(STALE)
    assert "Give your password" in (await browser.send("/tokens/new", **sent)).said
    assert await database.fetchval("SELECT count(*) FROM access_token") == 0
    seen = await browser.send("/tokens/new", **sent, proof=PASSWORD)
    (token,) = set(re.findall(r"lxp_\w{62}", seen.text))
    seen = await browser.get("/tokens")
    assert token not in seen.text
    assert "usage:read" in seen.said
    eve = await make_person(database, "eve@example.org")
    foreign = (
        await tokens.table.create(
            database, str(eve), "x", ["usage:read"], await database.fetchval("SELECT now() + '1 day'")
        )
    ).info
    assert (await browser.send(f"/tokens/{foreign.token_id}/revoke")).status == 404
    assert "ended for good" in (await browser.send(f"/tokens/{token[4:16]}/revoke")).said
    assert (await tokens.list_page(database, str(ada), "", 9))[0].revoked_at is not None


async def test_people(opened: Open, database: Pool) -> None:
    """Found, made with proof (the link is shown once), stopped unless an account would be nobody's, resumed, reset."""
    browser, ada = await ada_in(opened)
    runs = await operator(browser)
    await runs.get("/people/new")
    new = {"email": "bob@example.org", "name": "Bob", "account": "acme", "role": "developer", "affirmed_16": "yes"}
    for field, value in (("email", "bob"), ("email", ADA), ("account", "never"), ("role", "king"), ("affirmed_16", "")):
        seen = await runs.send("/people/new", **new | {field: value})
        assert (seen.status, f'id="{field}-wrong"' in seen.text) == (422, True), (field, value)
    await database.execute(STALE)
    assert "Give your password" in (await runs.send("/people/new", **new)).said
    seen = await runs.send("/people/new", **new, proof=PASSWORD)
    assert "/link?token=" in seen.text
    seen = await runs.get("/people?address=BOB@")
    assert "bob@example.org Bob active acme developer nothing yet" in seen.said
    assert ADA not in seen.said.partition("Signs in with")[2]
    assert "nobody like that" in (await runs.get("/people?state=suspended")).said
    path = f"/people/{ada}"
    await runs.get(path)
    assert 'id="sure-wrong"' in (await runs.send(f"{path}/suspend")).text
    assert "last owner" in (await runs.send(f"{path}/suspend", sure="yes")).said.lower()
    bob = await database.fetchval("SELECT person_id FROM person WHERE email = 'bob@example.org'")
    await runs.get(f"/people/{bob}")
    assert "Nobody gets in as this person" in (await runs.send(f"/people/{bob}/suspend", sure="yes")).said
    assert "can sign in again" in (await runs.send(f"/people/{bob}/resume")).said
    await database.execute(STALE)
    await runs.get(f"/people/{bob}/reset")
    assert "/link?token=" not in (await runs.send(f"/people/{bob}/reset")).text
    assert "/link?token=" in (await runs.send(f"/people/{bob}/reset", proof=PASSWORD)).text
    assert (await runs.get("/people/x")).status == 404
