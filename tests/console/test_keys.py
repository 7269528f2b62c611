"""/accounts/ID/keys: whose keys are whose, what a new key works for, and what comes of doing it twice."""

import asyncio

from luntrex_proxy.core.roles import Permission, Role
from tests.console.conftest import Api
from tests.store.keys import loaded


async def test_a_developer_has_keys_of_their_own(api: Api) -> None:
    """Made, seen, limited, rotated and revoked by the member; unseen by other developers, seen by the admin."""
    account_id = await api.account("acme")
    roles = (Role.DEVELOPER, Role.DEVELOPER, Role.ADMIN)
    ada, bob, admin = [await api.token(await api.person({account_id: role})) for role in roles]
    path = f"/accounts/{account_id}/keys"
    made = await api.ask("POST", path, token=ada, json={"name": "mine", "models": ["gpt-4o*"]})
    assert made.status == 201
    key_id = made.body["id"]
    assert made.headers["Location"] == f"/api/v1{path}/{key_id}"
    assert made.body["key"].startswith(f"lx_{key_id}_")
    assert made.body["models"] == ["gpt-4o*"]
    of_account = await api.ask("POST", path, token=ada, json={"name": "service", "owner": "account"})
    assert (of_account.status, of_account.code) == (403, "denied")
    for token, seen in ((ada, [key_id]), (bob, []), (admin, [key_id])):
        assert [key["id"] for key in (await api.ask("GET", path, token=token)).body["items"]] == seen
    unseen = await api.ask("DELETE", f"{path}/{key_id}", token=bob)
    assert (unseen.status, unseen.code) == (404, "not_found")
    rotated = await api.ask("POST", f"{path}/{key_id}/rotate", token=ada, json={"overlap_s": 0})
    assert rotated.body["rotated_from"] == key_id
    assert rotated.body["owner"] == made.body["owner"]
    assert rotated.headers["Location"] == f"/api/v1{path}/{rotated.body['id']}"
    ring = await loaded(api.pool)
    assert ring.find(made.body["key"].encode()) is None
    caller = ring.find(rotated.body["key"].encode())
    assert caller is not None
    assert caller.key_id == rotated.body["id"]
    again = await api.ask("POST", f"{path}/{key_id}/rotate", token=ada, json={})
    assert (again.status, again.code) == (409, "key_ended")
    gone = await api.ask("DELETE", f"{path}/{rotated.body['id']}", token=ada)
    assert (gone.status, gone.body["state"]) == (200, "revoked")
    assert "key" not in gone.body


async def test_a_key_is_made_once_however_often_it_is_asked_for(api: Api) -> None:
    """Ten at once with one Idempotency-Key: one key, one secret, and the others are told which it is."""
    account_id = await api.account("acme")
    owner = await api.token(await api.person({account_id: Role.OWNER}))
    path, once = f"/accounts/{account_id}/keys", {"Idempotency-Key": "k-1"}
    body = {"name": "ci", "owner": "account"}
    answers = await asyncio.gather(*(api.ask("POST", path, token=owner, json=body, headers=once) for _ in range(10)))
    made = [answer for answer in answers if answer.status == 201]
    others = [answer for answer in answers if answer.status != 201]
    assert len(made) == 1
    assert {(each.status, each.code, each.body["id"]) for each in others} == {(409, "made_already", made[0].body["id"])}
    assert await api.pool.fetchval("SELECT count(*) FROM api_key") == 1
    other = await api.ask("POST", path, token=owner, json=body | {"name": "cd"}, headers=once)
    assert (other.status, other.code) == (422, "reused_idempotency_key")
    assert made[0].body["key"].encode() not in b"".join(answer.raw for answer in others)
    second = await api.token(await api.person({account_id: Role.OWNER}))
    theirs = await api.ask("POST", path, token=second, json=body | {"name": "cd"}, headers=once)
    assert theirs.status == 201  # another person's Idempotency-Key is another one


async def test_limits_are_changed_by_kind_and_only_as_last_seen(api: Api) -> None:
    """A kind that is not named stays; null takes a limit away; a stale ETag changes nothing."""
    account_id = await api.account("acme")
    owner = await api.token(await api.person({account_id: Role.OWNER}))
    path = f"/accounts/{account_id}/keys"
    body = {"name": "ci", "owner": "account", "networks": ["192.0.2.0/24"], "endpoints": ["embeddings"]}
    made = await api.ask("POST", path, token=owner, json=body)
    path += f"/{made.body['id']}"
    changed = await api.ask("PATCH", path, token=owner, json={"endpoints": None, "regions": ["eu"]}, headers={
        "If-Match": made.headers["ETag"]
    })  # fmt: skip
    assert [changed.body[kind] for kind in ("endpoints", "models", "regions", "networks")] == [
        None, None, ["eu"], ["192.0.2.0/24"],
    ]  # fmt: skip
    stale = await api.ask(
        "PATCH", path, token=owner, json={"regions": None}, headers={"If-Match": made.headers["ETag"]}
    )
    assert (stale.status, stale.code) == (412, "stale")
    assert (await api.ask("GET", path, token=owner)).raw == changed.raw
    wrong = {
        "endpoints": ["everything"], "models": ["lx_0123456789ab_"], "networks": ["192.0.2.1/24"], "regions": ["EU!"],
    }  # fmt: skip
    refused = await api.ask("PATCH", path, token=owner, json=wrong)
    assert (refused.status, refused.code) == (422, "invalid")
    assert [error["field"] for error in refused.body["errors"]] == [f"/{kind}/0" for kind in (
        "endpoints", "models", "regions", "networks"
    )]  # fmt: skip
    assert not any(word.encode() in refused.raw for words in wrong.values() for word in words)
    nothing = await api.ask("PATCH", path, token=owner, json={})
    assert (nothing.status, nothing.code) == (422, "invalid")


async def test_what_an_admin_did_to_a_key_its_member_does_not_undo(api: Api) -> None:
    """Suspended by oneself, one resumes; by an admin, only an admin does. Of limits each kind is whose who set it."""
    account_id = await api.account("acme")
    ada, admin = [await api.token(await api.person({account_id: role})) for role in (Role.DEVELOPER, Role.ADMIN)]
    keys = f"/accounts/{account_id}/keys"
    path = f"{keys}/{(await api.ask('POST', keys, token=ada, json={'name': 'mine'})).body['id']}"

    async def change(act: str, token: str) -> tuple[int, str]:
        answer = await api.ask("POST", f"{path}/{act}", token=token)
        return answer.status, answer.code

    async def limit(token: str, **limits: object) -> tuple[int, str]:
        answer = await api.ask("PATCH", path, token=token, json=limits)
        return answer.status, answer.code

    done, theirs = (200, ""), (403, "suspended_by_admin")
    assert [await change(act, ada) for act in ("suspend", "resume", "suspend")] == [done] * 3
    assert [await change("suspend", admin), await change("suspend", ada), await change("resume", ada)] == [
        done, done, theirs,
    ]  # fmt: skip
    assert [await change("resume", admin), await change("suspend", ada), await change("resume", ada)] == [done] * 3
    assert await limit(admin, models=["m"], regions=["eu"]) == done
    assert await limit(ada, models=None) == (403, "limited_by_admin")
    assert await limit(ada, networks=["192.0.2.0/24"]) == done
    rotated = await api.ask("POST", f"{path}/rotate", token=ada, json={})
    path = f"{keys}/{rotated.body['id']}"
    assert await limit(ada, networks=None, regions=["us"]) == (403, "limited_by_admin")
    assert await limit(admin, regions=None) == done
    assert await limit(ada, networks=None, regions=["us"]) == done
    shown = (await api.ask("GET", path, token=ada)).body
    assert (shown["models"], shown["regions"], shown["networks"]) == (["m"], ["us"], None)


async def test_a_token_bounds_the_role_and_the_role_bounds_the_token(api: Api) -> None:
    """An owner's token for keys:own makes only the owner's own; a role taken away takes its tokens' power at once."""
    account_id = await api.account("acme")
    person = await api.person({account_id: Role.OWNER})
    own = await api.token(person, [Permission.KEYS_OWN])
    path = f"/accounts/{account_id}/keys"
    assert (await api.ask("POST", path, token=own, json={"name": "a", "owner": "account"})).status == 403
    assert (await api.ask("POST", path, token=own, json={"name": "b"})).status == 201
    await api.pool.execute("UPDATE membership SET role = 'viewer'")
    assert (await api.ask("POST", path, token=own, json={"name": "c"})).status == 403
    await api.pool.execute("DELETE FROM membership")
    assert (await api.ask("GET", path, token=own)).status == 404
    await api.pool.execute("UPDATE person SET status = 'suspended'")
    assert (await api.ask("GET", path, token=own)).status == 401


async def test_a_session_has_to_be_proved_before_it_gets_a_key(api: Api) -> None:
    """Ten minutes after the password a cookie is no longer enough; from another site it never is."""
    account_id = await api.account("acme")
    session = await api.session(await api.person({account_id: Role.OWNER}))
    path, body = f"/accounts/{account_id}/keys", {"name": "a", "owner": "account"}
    assert (await api.ask("POST", path, session=session, json=body)).status == 201
    await api.pool.execute("UPDATE session SET authenticated_at = now() - interval '11 minutes'")
    late = await api.ask("POST", path, session=session, json={"name": "b"})
    assert (late.status, late.code) == (403, "prove_again")
    cross = {"Sec-Fetch-Site": "cross-site"}
    for method, where in (("DELETE", f"{path}/0123456789ab"), ("POST", "/me/sessions/end-others")):
        answer = await api.ask(method, where, session=session, headers=cross)
        assert (answer.status, answer.code) == (403, "cross_site")
    assert (await api.ask("GET", path, session=session, headers=cross)).status == 200
    assert await api.pool.fetchval("SELECT count(*) FROM api_key") == 1
