"""/incidents and its notices by the API, and what an account's own people see of them."""

import datetime
import time
from typing import Any

import pytest

from luntrex_proxy.core.roles import Role
from luntrex_proxy.store import audit
from tests.console.conftest import Answer, Api

NOW = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
STATED = {"nature": "A key was published.", "consequences": "Others may have used it.", "measures": "It was revoked."}
KEY = "lx_" + "a1B2c3D4e5F6" + "_" + "x" * 49


class Scene:
    """An operator, and the owner of one account, whose membership an incident reached."""

    def __init__(self, api: Api, operator: str, owner: str, account: int) -> None:
        self.api, self.operator, self.owner, self.account = api, operator, owner, account

    async def ask(self, method: str, path: str, **more: Any) -> Answer:
        return await self.api.ask(method, path, session=self.operator, **more)

    async def opened(self, **more: Any) -> int:
        """An incident that reached everybody who was a member before now."""
        reach = {"kind": "table", "object": "membership", "begins_at": "2026-01-01T00:00:00Z"}
        answer = await self.ask("POST", "/incidents", json={"title": "A leak", "reaches": [reach]} | more)
        assert answer.status == 201, answer.raw
        return int(answer.body["id"])


@pytest.fixture
async def scene(api: Api) -> Scene:
    account = await api.account("acme")
    owner = await api.person({account: Role.OWNER})
    return Scene(api, await api.session(await api.person(operator=True)), owner, account)


async def test_from_the_entry_to_the_end(scene: Scene) -> None:
    """Everything that the command line does: entered, completed, the affected, both drafts, told with proof, closed."""
    number = await scene.opened()
    path = f"/incidents/{number}"
    refused = await scene.ask("POST", f"{path}/notify")
    assert (refused.status, refused.code) == (409, "not_stated")
    assert {error["field"] for error in refused.body["errors"]} == {"nature", "consequences", "measures"}
    more = {"kind": "upstream", "object": "openai", "begins_at": "2026-01-01T00:00:00Z"}
    changed = (await scene.ask("PATCH", path, json=STATED | {"reaches": [more]})).body
    assert (changed["nature"], len(changed["reaches"]), changed["stage"]) == (STATED["nature"], 2, "running")
    found = (await scene.ask("GET", f"{path}/affected")).body
    assert (found["accounts"], found["people"]) == (1, 1)
    assert "rows of membership count" in found["wider"][0]
    (account,) = (await scene.ask("GET", f"{path}/affected/accounts")).body["items"]
    (person,) = (await scene.ask("GET", f"{path}/affected/people")).body["items"]
    assert (account["name"], person["id"], person["accounts"]) == ("acme", scene.owner, ["acme"])
    drafts = (await scene.ask("GET", f"{path}/drafts")).body
    assert "article 33" in drafts["to_authority"]
    assert STATED["measures"] in drafts["to_people"]
    assert (await scene.ask("POST", f"{path}/notify")).body == {"told": 1, "by_mail": False}
    assert (await scene.ask("POST", f"{path}/notify")).body["told"] == 0
    (notice,) = (await scene.ask("GET", f"{path}/notices")).body["items"]
    assert (notice["email"], notice["way"], notice["outcome"]) == (person["email"], "banner", None)
    told = await scene.ask("PATCH", path, json={"authority_notified_at": NOW.isoformat(timespec="seconds")})
    assert told.body["stage"] is None
    assert (await scene.ask("POST", f"{path}/close", json={"conclusion": "Over."})).body["conclusion"] == "Over."
    assert (await scene.ask("POST", f"{path}/close", json={"conclusion": "Over."})).code == "closed_already"
    listed = (await scene.ask("GET", "/incidents?limit=1")).body
    assert [each["id"] for each in listed["items"]] == [number]
    acts = [entry.act for entry in await audit.newest(scene.api.pool, 50)]
    assert acts.count("incident.affected_read") == 3
    assert {"incident.opened", "incident.changed", "incident.widened", "incident.notified", "incident.closed"} <= {
        *acts
    }
    reads = await audit.newest(scene.api.pool, 50, act="operator.read")
    assert [entry.object_id for entry in reads] == ["incidents.notices"]


async def test_an_accounts_people_see_what_they_were_told(scene: Scene) -> None:
    """Its owner and who answers for privacy there, from when they are told; nobody of another account."""
    other = await scene.api.account("other")
    number, path = await scene.opened(**STATED), f"/accounts/{scene.account}/incidents"
    token = await scene.api.token(await scene.api.person({scene.account: Role.PRIVACY, other: Role.PRIVACY}))
    await scene.api.pool.execute("DELETE FROM membership WHERE account_id = $1", other)
    stranger = await scene.api.token(await scene.api.person({other: Role.PRIVACY}))
    assert (await scene.api.ask("GET", path, token=token)).body["items"] == []
    await scene.ask("POST", f"/incidents/{number}/notify")
    (shown,) = (await scene.api.ask("GET", path, token=token)).body["items"]
    assert (shown["id"], shown["nature"], shown["closed_at"]) == (number, STATED["nature"], None)
    assert "conclusion" not in shown
    assert (await scene.api.ask("GET", path, token=stranger)).status == 404
    assert (await scene.api.ask("GET", f"/incidents/{number}", token=token)).status == 403


async def test_what_cannot_be_is_said(scene: Scene) -> None:
    """And leaves nothing behind: keys in words, times ahead, what ends before it begins, tables that are none."""
    ahead = (NOW + datetime.timedelta(days=1)).isoformat(timespec="seconds")
    begins = {"begins_at": "2026-01-31T00:00:00Z"}
    ended = {"begins_at": "2026-02-01T00:00:00Z", "ends_at": "2026-01-01T00:00:00Z"}
    backwards = {"kind": "upstream", "object": "x"} | ended
    for body, code in (
        ({"title": f"{KEY} leaked"}, "invalid"),
        ({"title": "x", "nature": f"It was {KEY}."}, "invalid"),
        ({"title": "x", "aware_at": ahead}, "ahead"),
        ({"title": "x", "reaches": [backwards]}, "bad_reach"),
        ({"title": "x", "reaches": [{"kind": "table", "object": "nothing"} | begins]}, "bad_reach"),
    ):
        answer = await scene.ask("POST", "/incidents", json=body)
        assert (answer.status, answer.code) == (422, code)
        assert KEY.encode() not in answer.raw
    number = await scene.opened()
    assert (await scene.ask("PATCH", f"/incidents/{number}", json={})).code == "invalid"
    assert (await scene.ask("PATCH", f"/incidents/{number}", json={"authority_notified_at": ahead})).code == "ahead"
    half = {"title": "another", "reaches": [backwards]}
    assert (await scene.ask("PATCH", f"/incidents/{number}", json=half)).code == "bad_reach"
    assert (await scene.ask("GET", f"/incidents/{number}")).body["title"] == "A leak", "all of it, or nothing"
    assert await scene.api.pool.fetchval("SELECT count(*) FROM incident") == 1


async def test_an_exercise_tells_nobody(scene: Scene) -> None:
    """It finds, drafts and is closed; it can be told of by nobody."""
    reach = {"kind": "table", "object": "membership", "begins_at": "2026-01-01T00:00:00Z"}
    done = (await scene.ask("POST", "/incidents/drill", json={"reaches": [reach]})).body
    assert (done["accounts"], done["people"], done["gaps"]) == (1, 1, 6)
    shown = (await scene.ask("GET", f"/incidents/{done['id']}")).body
    assert (shown["drill"], shown["closed_at"] is None) == (True, False)
    await scene.ask("PATCH", f"/incidents/{done['id']}", json=STATED)
    assert (await scene.ask("POST", f"/incidents/{done['id']}/notify")).code == "exercise"
    assert await scene.api.pool.fetchval("SELECT count(*) FROM incident_notice") == 0


async def test_lists_of_the_affected_have_pages(scene: Scene) -> None:
    """Each account and person once, in their order."""
    for name in ("beta", "gamma", "alpha"):
        await scene.api.person({await scene.api.account(name): Role.OWNER})
    number = await scene.opened()
    for what, key in (("accounts", "name"), ("people", "email")):
        seen: list[str] = []
        cursor = ""
        while cursor is not None:
            answer = (await scene.ask("GET", f"/incidents/{number}/affected/{what}?limit=3{cursor}")).body
            seen += [item[key] for item in answer["items"]]
            cursor = answer["next_cursor"] and f"&cursor={answer['next_cursor']}"
        assert (len(seen), seen) == (4, sorted(seen))
