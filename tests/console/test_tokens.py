"""/me and /me/tokens: what one learns of oneself, and tokens as one makes and ends them."""

import datetime
import time

from luntrex_proxy.core.roles import Permission, Role
from tests.console.conftest import Api


def _in_days(days: int) -> str:
    then = datetime.datetime.fromtimestamp(time.time() + days * 86_400, datetime.UTC)
    return then.isoformat(timespec="seconds")


async def test_a_token_is_made_used_and_ended(api: Api) -> None:
    """Shown once, limited to its scopes, ended by itself; what is stored cannot be used."""
    account_id = await api.account("acme")
    person = await api.person({account_id: Role.OWNER})
    session = await api.session(person)
    wanted = {"name": "ci", "scopes": ["keys:read"], "expires_at": _in_days(30)}
    made = await api.ask("POST", "/me/tokens", session=session, json=wanted)
    assert made.status == 201
    token, path = made.body["token"], f"/me/tokens/{made.body['id']}"
    assert made.headers["Location"] == f"/api/v1{path}"
    assert (await api.ask("GET", f"/accounts/{account_id}/keys", token=token)).status == 200
    assert (await api.ask("GET", f"/accounts/{account_id}", token=token)).status == 403
    me = (await api.ask("GET", "/me", token=token)).body
    assert (me["id"], me["token_id"], me["scopes"]) == (person, made.body["id"], ["keys:read"])
    assert me["members"] == [{"account_id": account_id, "account": "acme", "role": "owner"}]
    more = await api.ask("POST", "/me/tokens", token=token, json=wanted)
    assert (more.status, more.code) == (403, "sign_in")  # no token makes itself a stronger one
    other = await api.token(person)
    assert (await api.ask("DELETE", path, token=other)).code == "sign_in"
    listed = (await api.ask("GET", "/me/tokens", session=session)).body["items"]
    assert {each["id"] for each in listed} == {made.body["id"], other[4:16]}
    assert "token" not in listed[0]
    assert (await api.ask("DELETE", path, token=token)).body["revoked_at"] is not None
    gone = await api.ask("GET", "/me", token=token)
    assert (gone.status, gone.code) == (401, "unauthenticated")
    stored = str(await api.pool.fetch("SELECT t.*, o.* FROM access_token t, audit_entry o"))
    assert token not in stored


async def test_a_token_lasts_a_year_at_most(api: Api) -> None:
    """What it asks for in vain is said by field; nothing is made."""
    session = await api.session(await api.person())
    good = {"name": "ci", "scopes": ["keys:read"], "expires_at": _in_days(30)}
    for wrong, code in (
        ({"expires_at": _in_days(366)}, "bad_expiry"),
        ({"expires_at": _in_days(-1)}, "bad_expiry"),
        ({"expires_at": "9999-12-31T23:59:59-23:59"}, "bad_expiry"),
        ({"expires_at": "0001-01-01T00:00:00+23:59"}, "bad_expiry"),
        ({"expires_at": "2030-01-31T00:00:00"}, "invalid"),
        ({"expires_at": "1900000000"}, "invalid"),
        ({"scopes": []}, "invalid"),
        ({"scopes": ["keys:everything"]}, "invalid"),
        ({"name": "white space"}, "invalid"),
    ):
        answer = await api.ask("POST", "/me/tokens", session=session, json=good | wrong)
        assert (answer.status, answer.code) == (422, code), wrong
    assert await api.pool.fetchval("SELECT count(*) FROM access_token") == 0


async def test_sessions_are_listed_and_ended_but_not_by_tokens(api: Api) -> None:
    """One's own, one of them or all the others."""
    person = await api.person()
    here, there, third = [await api.session(person) for _ in range(3)]
    listed = (await api.ask("GET", "/me/sessions", session=here)).body["items"]
    assert sorted(each["current"] for each in listed) == [False, False, True]
    token = await api.token(person, list(Permission))
    assert (await api.ask("GET", "/me/sessions", token=token)).code == "sign_in"
    mine = next(
        each["id"] for each in (await api.ask("GET", "/me/sessions", session=there)).body["items"] if each["current"]
    )
    assert (await api.ask("DELETE", f"/me/sessions/{mine}", session=here)).status == 204
    assert (await api.ask("GET", "/me", session=there)).status == 401
    assert (await api.ask("DELETE", f"/me/sessions/{mine}", session=here)).status == 404
    assert (await api.ask("POST", "/me/sessions/end-others", session=here)).body == {"ended": 1}
    assert (await api.ask("GET", "/me", session=third)).status == 401
    assert (await api.ask("GET", "/me", session=here)).status == 200
