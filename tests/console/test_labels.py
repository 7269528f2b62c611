"""/labels: declared by who may change keys, carried by keys, a dimension of usage that shows no more of members."""

import uuid
from pathlib import Path

from luntrex_proxy.core.roles import Role
from luntrex_proxy.store.spool import Spool
from tests.console.conftest import Api
from tests.store.records import NOON_US, outcome, ship

SPAN = "since=2026-09-01&until=2026-10-31"


async def test_labels_of_accounts_and_keys(api: Api) -> None:
    """Set whole, listed, carried from the making of a key on; a developer labels a new key of their own only."""
    account_id = await api.account("acme")
    admin = await api.token(await api.person({account_id: Role.ADMIN}))
    developer = await api.token(await api.person({account_id: Role.DEVELOPER}))
    path = f"/accounts/{account_id}"
    declared = await api.ask("PUT", f"{path}/labels/project", token=admin, json={"values": ["search", "chat"]})
    assert (declared.status, declared.body) == (200, {"name": "project", "values": ["chat", "search"], "keys": 0})
    assert (await api.ask("PUT", f"{path}/labels/team", token=developer, json={})).status == 403
    await api.ask("PUT", f"{path}/labels/team", token=admin, json={})
    made = await api.ask("POST", f"{path}/keys", token=developer, json={"name": "own", "labels": {"project": "chat"}})
    assert (made.status, made.body["labels"]) == (201, {"project": "chat"})
    key = f"{path}/keys/{made.body['id']}"
    assert (await api.ask("PATCH", f"{key}/labels", token=developer, json={"labels": {"team": "x"}})).status == 403
    changed = await api.ask("PATCH", f"{key}/labels", token=admin, json={"labels": {"team": "x", "project": None}})
    assert changed.body == {"labels": {"team": "x"}}
    assert (await api.ask("GET", key, token=admin)).body["labels"] == {"team": "x"}
    listed = (await api.ask("GET", f"{path}/labels", token=developer)).body["labels"]
    assert [(each["name"], each["values"], each["keys"]) for each in listed] == [
        ("project", ["chat", "search"], 0),
        ("team", None, 1),
    ]
    for method, where, body, status, code in (
        ("PUT", "/labels/Project", {}, 404, "not_found"),
        ("PUT", "/labels/project", {"values": []}, 422, "invalid"),
        ("PUT", "/labels/project", {"values": ["a b"]}, 422, "invalid"),
        ("PUT", "/labels/team", {"values": ["y"]}, 409, "label_in_use"),
        ("DELETE", "/labels/team", None, 409, "label_in_use"),
        ("DELETE", "/labels/stage", None, 404, "not_found"),
        ("PATCH", f"/keys/{made.body['id']}/labels", {"labels": {}}, 422, "invalid"),
        ("PATCH", f"/keys/{made.body['id']}/labels", {"labels": {"stage": "x"}}, 422, "bad_labels"),
        (
            "PATCH",
            f"/keys/{made.body['id']}/labels",
            {"labels": {"team": "x"}, "since": "2199-01-01"},
            422,
            "bad_labels",
        ),
        ("PATCH", f"/keys/{'A' * 12}/labels", {"labels": {"team": "x"}}, 404, "not_found"),
        ("POST", "/keys", {"name": "n", "owner": "account", "labels": {"stage": "x"}}, 422, "bad_labels"),
    ):
        answer = await api.ask(method, path + where, token=admin, json=body)
        assert (answer.status, answer.code) == (status, code), where
    assert (await api.ask("DELETE", f"{path}/labels/project", token=admin)).status == 204


async def test_usage_by_label_shows_no_more_of_members(api: Api, tmp_path: Path) -> None:
    """The label's sum, but of another member's key neither model nor day nor key."""
    account_id = await api.account("acme")
    ada, eve = [await api.person({account_id: role}) for role in (Role.DEVELOPER, Role.ADMIN)]
    path, token = f"/accounts/{account_id}", await api.token(eve)
    await api.ask("PUT", f"{path}/labels/project", token=token, json={})
    keys = {}
    for name, person, owner in (("ada", ada, "me"), ("ci", eve, "account")):
        made = await api.ask("POST", f"{path}/keys", token=await api.token(person), json={"name": name, "owner": owner})
        keys[name] = made.body["id"]
        body = {"labels": {"project": name}, "since": "2026-09-01"}
        await api.ask("PATCH", f"{path}/keys/{keys[name]}/labels", token=token, json=body)
    spool = Spool(tmp_path / "spool", uuid.uuid4())
    for number in range(8):
        at = {"account_id": account_id, "started_us": NOON_US + number, "key_id": keys[("ada", "ci")[number % 2]]}
        spool.settle(outcome(number, **at, model=("large", "small")[number // 4], cost_pico=number))
    await ship(api.pool, tmp_path / "spool", spool)

    async def ask(by: str) -> list[tuple[str | None, str | None, str | None, int]]:
        items = (await api.ask("GET", f"{path}/usage?{SPAN}&by={by}", token=token)).body["items"]
        return [(each["label"], each["model"], each["key_id"], each["cost_pico"]) for each in items]

    assert await ask("label:project") == [("ada", None, None, 12), ("ci", None, None, 16)]
    assert await ask("label:project,model") == [
        ("ada", None, None, 12),
        ("ci", "large", None, 4),
        ("ci", "small", None, 12),
    ]
    assert sorted(await ask("key,label:project"), key=str) == sorted(
        [(None, None, None, 12), ("ci", None, keys["ci"], 16)], key=str
    )
    for by in ("label:Project", "label:", "label:a,label:b"):
        assert (await api.ask("GET", f"{path}/usage?by={by}", token=token)).status == 422
