"""/accounts/ID/members and /invitations: who makes whom what, who may leave, and who hears of a link."""

import asyncio
import uuid

import pytest

from luntrex_proxy.control import members
from luntrex_proxy.control.guessing import ThrottledError
from luntrex_proxy.core.roles import Permission, Role
from luntrex_proxy.store import members as table
from tests.console.conftest import Api


async def test_members_are_seen_changed_and_removed(api: Api) -> None:
    """An admin moves everybody but owners; with a membership go the member's own keys; the last owner stays."""
    account_id = await api.account("acme")
    owner, admin, dev = [await api.person({account_id: role}) for role in (Role.OWNER, Role.ADMIN, Role.DEVELOPER)]
    by_owner, by_admin, by_dev = [await api.token(person) for person in (owner, admin, dev)]
    path = f"/accounts/{account_id}/members"
    listed = (await api.ask("GET", path, token=by_dev)).body["items"]
    assert {each["person_id"]: each["role"] for each in listed} == {
        owner: "owner", admin: "admin", dev: "developer",
    }  # fmt: skip
    assert (await api.ask("PATCH", f"{path}/{dev}", token=by_admin, json={"role": "owner"})).code == "denied"
    assert (await api.ask("PATCH", f"{path}/{owner}", token=by_admin, json={"role": "viewer"})).code == "denied"
    assert (await api.ask("DELETE", f"{path}/{owner}", token=by_admin)).code == "denied"
    assert (await api.ask("PATCH", f"{path}/{owner}", token=by_owner, json={"role": "viewer"})).code == "last_owner"
    assert (await api.ask("DELETE", f"{path}/{owner}", token=by_owner)).code == "last_owner"
    assert (await api.ask("DELETE", f"{path}/{admin}", token=by_dev)).code == "denied"
    made = await api.ask("POST", f"/accounts/{account_id}/keys", token=by_dev, json={"name": "mine"})
    assert made.status == 201
    limited = await api.token(dev, [Permission.ACCOUNT_READ])
    assert (await api.ask("DELETE", f"{path}/{dev}", token=limited)).code == "denied"  # reading is not leaving
    assert (await api.ask("DELETE", f"{path}/{dev}", token=by_dev)).body == {"keys_revoked": 1}
    assert (await api.ask("GET", path, token=by_dev)).status == 404
    assert await api.pool.fetchval("SELECT status FROM api_key") == "revoked"
    assert (await api.ask("DELETE", f"{path}/{dev}", token=by_admin)).code == "not_found"


async def test_an_invitation_is_shown_to_who_makes_it(api: Api) -> None:
    """Without mail the link is in the answer, this once, and not in the database; members need none."""
    account_id = await api.account("acme")
    admin = await api.token(await api.person({account_id: Role.ADMIN}))
    path = f"/accounts/{account_id}/invitations"
    body = {"email": "Ada@Example.org", "role": "developer"}
    made = await api.ask("POST", path, token=admin, json=body, headers={"Idempotency-Key": "i1"})
    assert (made.status, made.body["email"]) == (201, "ada@example.org")
    secret = made.body["link"].rpartition("/")[2].rpartition("#")[2]
    assert len(secret) > 20
    again = await api.ask("POST", path, token=admin, json=body, headers={"Idempotency-Key": "i1"})
    assert (again.code, again.body["id"]) == ("made_already", made.body["id"])
    (listed,) = (await api.ask("GET", path, token=admin)).body["items"]
    assert (listed["id"], "link" in listed) == (made.body["id"], False)
    stored = str([await api.pool.fetch(f"SELECT * FROM {table}") for table in ("invitation", "one_time_link", "mail")])
    assert secret not in stored
    assert (await api.ask("POST", path, token=admin, json=body | {"role": "owner"})).code == "denied"
    assert (await api.ask("POST", path, token=admin, json=body | {"email": "nobody"})).code == "bad_address"
    await api.pool.execute("UPDATE person SET email = 'member@example.org'")
    member = await api.ask("POST", path, token=admin, json={"email": "member@example.org", "role": "viewer"})
    assert member.code == "member_already"
    assert (await api.ask("DELETE", f"{path}/{made.body['id']}", token=admin)).status == 204
    assert (await api.ask("DELETE", f"{path}/{made.body['id']}", token=admin)).status == 404
    assert await api.pool.fetchval("SELECT count(*) FROM one_time_link") == 0


async def test_an_operator_makes_people_and_shuts_them_out(api: Api) -> None:
    """By a token but for the link into somebody's account; a suspended person's tokens and sessions end at once."""
    operator = await api.person(operator=True)
    token, session = await api.token(operator), await api.session(operator)
    await api.account("acme")
    body = {"email": "ada@example.org", "affirmed_16": True, "account": "acme", "role": "admin"}
    made = await api.ask("POST", "/people", token=token, json=body)
    assert (made.status, made.body["roles"]) == (201, {"acme": "admin"})
    assert "/link" in made.body["link"]
    path = f"/people/{made.body['id']}"
    assert (await api.ask("POST", "/people", token=token, json=body)).code == "address_taken"
    for wrong, code in (
        ({"affirmed_16": False}, "not_affirmed_16"),
        ({"account": "nobody"}, "no_account"),
        ({"name": "a\u0007b"}, "bad_name"),
        ({"operator": True}, "invalid"),
    ):
        answer = await api.ask("POST", "/people", token=token, json=body | {"email": "b@example.org"} | wrong)
        assert (answer.status, answer.code) == (422, code)
    assert (await api.ask("POST", f"{path}/reset", token=token)).code == "sign_in"
    assert "/link" in (await api.ask("POST", f"{path}/reset", session=session)).body["link"]
    theirs = await api.token(made.body["id"]), await api.session(made.body["id"])
    assert (await api.ask("POST", f"{path}/suspend", token=token)).body["status"] == "suspended"
    assert (await api.ask("GET", "/me", token=theirs[0])).status == 401
    assert (await api.ask("GET", "/me", session=theirs[1])).status == 401
    assert (await api.ask("POST", f"{path}/reset", session=session)).code == "suspended"
    assert (await api.ask("POST", f"{path}/resume", token=token)).body["status"] == "active"
    assert {each["email"] for each in (await api.ask("GET", "/people", token=token)).body["items"]} >= {body["email"]}


async def test_an_operator_gets_into_no_account_as_its_owner(api: Api) -> None:
    """By a person made for it neither: owners alone make owners, but for the first of an account that has none."""
    operator = await api.token(await api.person(operator=True))
    acme = await api.account("acme")
    await api.account("empty")
    body = {"email": "ada@example.org", "affirmed_16": True, "role": "owner"}
    assert (await api.ask("POST", "/people", token=operator, json=body | {"account": "empty"})).status == 201
    await api.person({acme: Role.OWNER})
    body["email"] = "eve@example.org"
    assert (await api.ask("POST", "/people", token=operator, json=body | {"account": "acme"})).code == "denied"
    assert await api.pool.fetchval("SELECT count(*) FROM person WHERE email = 'eve@example.org'") == 0


async def test_who_waits_is_told_how_long(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the problem's text says."""

    async def throttled(*_: object) -> None:
        raise ThrottledError(41.5)

    account_id = await api.account("acme")
    owner = await api.token(await api.person({account_id: Role.OWNER}))
    monkeypatch.setattr(members, "invite", throttled)
    body = {"email": "ada@example.org", "role": "viewer"}
    answer = await api.ask("POST", f"/accounts/{account_id}/invitations", token=owner, json=body)
    assert (answer.status, answer.code, answer.headers["Retry-After"]) == (429, "throttled", "42")


async def test_to_give_a_role_one_proves_oneself_again(api: Api) -> None:
    """Whoever took over a session that lies about makes nobody an owner with it."""
    account_id = await api.account("acme")
    owner, viewer = await api.person({account_id: Role.OWNER}), await api.person({account_id: Role.VIEWER})
    session, path = await api.session(owner), f"/accounts/{account_id}/members/{viewer}"
    await api.pool.execute("UPDATE session SET authenticated_at = now() - interval '11 minutes'")
    assert (await api.ask("PATCH", path, session=session, json={"role": "owner"})).code == "prove_again"


async def test_who_looks_at_people_leaves_a_trace(api: Api) -> None:
    """By the API as by the command line: which operator, at what, and at whom; nobody's address."""
    operator, ada = await api.person(operator=True), await api.person()
    token = await api.token(operator)
    for path in ("/people", f"/people/{ada}", "/attempts"):
        assert (await api.ask("GET", path, token=token)).status == 200
    rows = await api.pool.fetch(
        "SELECT actor, object_id, facts FROM audit_entry WHERE act = 'operator.read' ORDER BY sequence"
    )
    assert [row["object_id"] for row in rows] == ["people.list", "people.get", "attempts.list"]
    assert ada in rows[1]["facts"]
    assert all(row["actor"].endswith(f":{operator}") for row in rows)


async def test_to_consent_one_proves_oneself_again(api: Api) -> None:
    """Nobody agrees to training with a session that lies about."""
    account_id = await api.account("acme")
    session = await api.session(await api.person({account_id: Role.OWNER}))
    await api.pool.execute("UPDATE session SET authenticated_at = now() - interval '11 minutes'")
    path = f"/accounts/{account_id}/consents/training"
    assert (await api.ask("PUT", path, session=session, json={"text_version": 1})).code == "prove_again"


async def test_one_of_two_invitations_at_once_is_refused_in_a_sentence(api: Api) -> None:
    """Whoever comes second hears that the address was just invited; the first one's link works on."""
    account = await api.account("acme")
    session = await api.session(await api.person({account: Role.OWNER}))
    body = {"email": "new@example.test", "role": "viewer"}
    async with api.pool.acquire() as first, first.transaction():
        made = await table.invite(first, account, body["email"], "viewer", None)
        path = f"/accounts/{account}/invitations"
        second = asyncio.ensure_future(api.ask("POST", path, session=session, json=body))
        while not await first.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
            await asyncio.sleep(0.01)
    answer = await second
    assert (answer.status, answer.code) == (409, "invited_already")
    assert answer.body["detail"] == "Look at the invitations, then try again."
    assert await table.invitation(api.pool, made.invitation_id) is not None


async def test_the_last_operator_is_not_suspended(api: Api) -> None:
    """Refused while nobody else could sign in and run the installation; then it works."""
    first, second = await api.person(operator=True), await api.person(operator=True)
    token = await api.token(first)
    await api.pool.execute("UPDATE person SET status = 'suspended' WHERE person_id = $1", uuid.UUID(second))
    answer = await api.ask("POST", f"/people/{first}/suspend", token=token)
    assert (answer.status, answer.code) == (409, "last_operator")
    await api.ask("POST", f"/people/{second}/resume", token=token)
    assert (await api.ask("POST", f"/people/{first}/suspend", token=token)).body["status"] == "suspended"
