"""/accounts/ID/usage: whose numbers one sees. A member's own requests are for the member alone."""

import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from luntrex_proxy.core.roles import Permission, Role
from luntrex_proxy.store.spool import Spool
from tests.console.conftest import Api
from tests.store.records import NOON_US, id_at, outcome, ship

DAY_US = 86_400_000_000
SPAN = "since=2026-09-01&until=2026-10-31"
TIMES = "since=2026-09-01T00:00:00Z&until=2026-10-31T00:00:00Z"


@pytest.fixture
async def used(api: Api, tmp_path: Path) -> dict[str, Any]:
    """Two members with a key each and one of the account's, used on two days; another account."""
    account_id = await api.account("acme")
    ada, bob, eve = [await api.person({account_id: role}) for role in (Role.DEVELOPER, Role.DEVELOPER, Role.OWNER)]
    keys = {}
    path = f"/accounts/{account_id}/keys"
    for name, person, owner in (("ada", ada, "me"), ("bob", bob, "me"), ("ci", eve, "account")):
        made = await api.ask("POST", path, token=await api.token(person), json={"name": name, "owner": owner})
        keys[name] = made.body["id"]
    spool = Spool(tmp_path / "spool", uuid.uuid4())
    for number in range(12):
        spool.settle(
            outcome(
                number,
                account_id=account_id,
                started_us=NOON_US + number + DAY_US * (number >= 6),
                key_id=keys[("ada", "bob", "ci")[number % 3]],
                model=("large", "small")[number % 2],
                cost_pico=1_500_000,
            )
        )
    spool.settle(outcome(99, account_id=await api.account("other"), key_id="mnopqrstuvwx"))
    await ship(api.pool, tmp_path / "spool", spool)
    return {"path": f"/accounts/{account_id}/usage", "keys": keys, "people": {"ada": ada, "bob": bob, "eve": eve}}


async def test_others_see_a_members_totals_only(api: Api, used: dict[str, Any]) -> None:
    """Ada sees her key by key, model and day, and of Bob one sum; the owner sees one sum of each."""
    ada, eve = [await api.token(used["people"][name]) for name in ("ada", "eve")]
    groups = "by=key,model,day"
    hers = (await api.ask("GET", f"{used['path']}?{SPAN}&{groups}", token=ada)).body["items"]
    assert sorted((each["key_id"], each["requests"]) for each in hers if each["key_id"]) == sorted(
        [(used["keys"]["ada"], 1), (used["keys"]["ci"], 1)] * 4
    )
    (bobs,) = [each for each in hers if each["member_id"] == used["people"]["bob"]]
    assert (bobs["key_id"], bobs["key_name"], bobs["model"], bobs["day"], bobs["requests"]) == (
        None,
        None,
        None,
        None,
        4,
    )
    owners = (await api.ask("GET", f"{used['path']}?{SPAN}&{groups}", token=eve)).body["items"]
    assert {each["key_id"] for each in owners} == {None, used["keys"]["ci"]}
    assert [each["requests"] for each in owners if each["member_id"]] == [4, 4]
    for token in (ada, eve):  # no single member is in these
        by_model = (await api.ask("GET", f"{used['path']}?{SPAN}&by=model", token=token)).body["items"]
        assert [(each["model"], each["requests"], each["cost_pico"]) for each in by_model] == [
            ("large", 6, 9_000_000),
            ("small", 6, 9_000_000),
        ]


async def test_usage_over_time(api: Api, used: dict[str, Any]) -> None:
    """By day and in all; a member's own key is a sum to others, and a filter by it is nothing; the rest is together."""
    ada, eve = [await api.token(used["people"][name]) for name in ("ada", "eve")]
    path = f"{used['path']}/series?{SPAN}"
    by_model = (await api.ask("GET", f"{path}&group=model&metric=requests", token=eve)).body
    assert by_model["time_zone"] == "UTC"
    shown = [
        (each["id"], each["requests"], [step["requests"] for step in each["steps"]]) for each in by_model["groups"]
    ]
    assert shown == [("large", 6, [3, 3]), ("small", 6, [3, 3])]
    by_key = (await api.ask("GET", f"{path}&group=key", token=ada)).body["groups"]
    assert [(each["hidden"], bool(each["steps"]), each["requests"]) for each in by_key if each["hidden"]] == [
        (True, False, 4)
    ]
    assert {each["name"] for each in by_key if not each["hidden"]} == {"ada", "ci"}
    (rest,) = (await api.ask("GET", f"{path}&group=upstream&model=large&groups=1", token=eve)).body["groups"]
    assert rest["requests"] == 6
    bobs = f"{path}&key_id={used['keys']['bob']}"
    assert (await api.ask("GET", bobs, token=eve)).body["groups"] == []
    for wrong in ("&step=hour", "&group=label:x&label=y=z", "&group=all", "&groups=0"):
        assert (await api.ask("GET", f"{path}{wrong}", token=eve)).status == 422, wrong
    glance = (await api.ask("GET", used["path"].removesuffix("usage") + "overview?period=30d", token=eve)).body
    assert (glance["time_zone"], glance["budgets"], glance["first_byte"]) == ("UTC", [], None)


async def test_single_requests_by_model_and_outcome(api: Api, used: dict[str, Any]) -> None:
    """As the page filters them."""
    ada = await api.token(used["people"]["ada"])
    for query, count in (("model=large", 4), ("model=none", 0), ("failed=true", 0), ("upstream=elsewhere", 0)):
        found = (await api.ask("GET", f"{used['path']}/requests?{TIMES}&{query}", token=ada)).body["items"]
        assert len(found) == count, query


async def test_single_requests_are_the_members_own(api: Api, used: dict[str, Any]) -> None:
    """Newest first, page by page, each once: one's own and the account's; naming another's key finds nothing."""
    ada, eve = [await api.token(used["people"][name]) for name in ("ada", "eve")]
    for token, known in ((ada, {"ada", "ci"}), (eve, {"ci"})):
        seen, cursor = [], ""
        while cursor is not None:
            answer = await api.ask("GET", f"{used['path']}/requests?{TIMES}&limit=3{cursor}", token=token)
            seen += answer.body["items"]
            cursor = answer.body["next_cursor"] and f"&cursor={answer.body['next_cursor']}"
        assert {each["key_name"] for each in seen} == known
        assert len({each["request_id"] for each in seen}) == len(seen) == 4 * len(known)
        times = [datetime.fromisoformat(each["started_at"]) for each in seen]
        assert times == sorted(times, reverse=True)
        assert seen[0]["cost_micros"] == 2
    bobs = await api.ask("GET", f"{used['path']}/requests?{TIMES}&key_id={used['keys']['bob']}", token=eve)
    assert bobs.body["items"] == []


async def test_an_owner_sees_members_requests_from_a_consent_on(api: Api, used: dict[str, Any]) -> None:
    """Those after it, while it holds, with a token for that; each page of them is one entry of the log, others none."""
    path = used["path"].removesuffix("/usage")
    eve = await api.token(used["people"]["eve"])
    narrow = await api.token(used["people"]["eve"], set(Permission) - {Permission.USAGE_MEMBERS})
    ada = await api.token(used["people"]["ada"])

    async def seen(token: str, more: str = "") -> set[str]:
        answer = await api.ask("GET", f"{used['path']}/requests?{TIMES}{more}", token=token)
        return {each["key_name"] for each in answer.body["items"]}

    async def looks() -> list[dict[str, Any]]:
        found = (await api.ask("GET", f"{path}/audit?act=member.requests_seen", token=eve)).body["items"]
        return [each | {"actor": each["actor"].rpartition(":")[2]} for each in found]

    consent = f"{path}/consents/member_requests"
    assert (await api.ask("PUT", consent, token=eve, json={"text_version": 1})).status == 200
    assert await seen(eve) == {"ci"}, "those of before stay unseen"
    assert (await api.ask("GET", path, token=ada)).body["member_requests"]
    await api.pool.execute(f"UPDATE usage SET request_id = {id_at('started_at')}")  # as gateways do
    since = await api.pool.fetchval("SELECT min(started_at) + interval '1 day' FROM usage")
    await api.pool.execute("UPDATE consent SET given_at = $1", since)
    assert await looks() == []
    assert await seen(eve, "&limit=2") == {"ci", "bob"}
    assert await seen(ada) == {"ada", "ci"}
    assert await seen(narrow) == {"ci"}
    (bobs,) = [
        str(row[0]) for row in await api.pool.fetch(
            "SELECT request_id FROM usage WHERE key_id = $1 AND started_at >= $2 ORDER BY started_at LIMIT 1",
            used["keys"]["bob"], since,
        )
    ]  # fmt: skip
    one = f"{used['path']}/requests/{bobs}"
    assert [(await api.ask("GET", one, token=token)).status for token in (eve, ada, narrow)] == [200, 404, 404]
    assert [(look["actor"], look["object_id"], look["facts"]) for look in await looks()] == [
        (used["people"]["eve"], bobs, {"members": [used["people"]["bob"]], "requests": 1}),
        (used["people"]["eve"], "usage.requests", {"members": [used["people"]["bob"]], "requests": 1}),
    ]
    assert (await api.ask("DELETE", consent, token=eve)).status == 200
    assert await seen(eve) == {"ci"}
    assert (await api.ask("GET", one, token=eve)).status == 404


async def test_totals_come_in_pages_that_add_up(api: Api, used: dict[str, Any]) -> None:
    """Every group once; spans that end before they begin, or are none, are refused."""
    eve = await api.token(used["people"]["eve"])
    whole = (await api.ask("GET", f"{used['path']}?{SPAN}&by=day,model", token=eve)).body["items"]
    seen, cursor = [], ""
    while cursor is not None:
        answer = await api.ask("GET", f"{used['path']}?{SPAN}&by=day,model&limit=1{cursor}", token=eve)
        seen += answer.body["items"]
        cursor = answer.body["next_cursor"] and f"&cursor={answer.body['next_cursor']}"
    assert seen == whole
    assert sum(each["requests"] for each in seen) == 12
    assert len({each["day"] for each in seen}) == 2
    for bad, field in (
        ("since=2026-10-02&until=2026-10-01", "until"),
        ("since=yesterday", "since"),
        ("since=9999-12-31", "since"),
        ("by=member", "by"),
        ("by=key,", "by"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("accounts=all", "accounts"),
    ):
        answer = await api.ask("GET", f"{used['path']}?{bad}", token=eve)
        assert (answer.status, [error["field"] for error in answer.body["errors"]]) == (422, [field]), bad


async def test_the_log_shows_an_account_its_own_acts(api: Api, used: dict[str, Any]) -> None:
    """Newest first and filtered; the operator's look at all of it is itself an entry."""
    eve = await api.token(used["people"]["eve"])
    account = used["path"].removesuffix("/usage")
    found = (await api.ask("GET", f"{account}/audit?act=key.created&limit=2", token=eve)).body
    assert [entry["act"] for entry in found["items"]] == ["key.created"] * 2
    assert found["items"][0]["actor"].endswith(used["people"]["eve"])
    rest = await api.ask("GET", f"{account}/audit?act=key.created&limit=2&cursor={found['next_cursor']}", token=eve)
    assert [entry["object_id"] for entry in rest.body["items"]] == [used["keys"]["ada"]]
    everything = (await api.ask("GET", f"{account}/audit?limit=200", token=eve)).body["items"]
    assert {entry["account"] for entry in everything} == {"acme"}
    operator = await api.token(await api.person(operator=True))
    assert (await api.ask("GET", "/audit", token=operator)).body["items"][0]["act"] == "operator.read"
    assert (await api.ask("GET", f"{account}/audit", token=operator)).body["items"][0]["facts"] == {}
