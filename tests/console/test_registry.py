"""/registry: entries are made, get new versions and are retired; each refusal says which field, and changes nothing."""

import datetime
import time
from typing import Any

import pytest

from luntrex_proxy.core.roles import Role
from luntrex_proxy.store import registry
from tests.console.conftest import Answer, Api, running_api

TODAY = datetime.datetime.fromtimestamp(time.time(), datetime.UTC).date()
ENTRY: dict[str, Any] = {
    "name": "acme", "hosts": ["API.acme.example", ".acme.example"], "purpose": "inference", "region": "EU",
    "retention": "none", "training": "never", "agreement": "DPA 7", "agreed_on": "2026-01-02",
    "commitments": "confidentiality", "evidence": "https://acme.example/dpa",
    "next_review": (TODAY + datetime.timedelta(days=100)).isoformat(),
}  # fmt: skip


@pytest.fixture
async def token(api: Api) -> str:
    return await api.token(await api.person(operator=True))


async def test_an_entry_from_first_to_last(api: Api, token: str) -> None:
    """Made, widened after 30 days with a letter to who answers for accounts, retired; every version is kept."""
    await api.person({await api.account("team"): Role.OWNER})

    async def ask(method: str, path: str = "/registry/acme", **more: Any) -> Answer:
        return await api.ask(method, path, token=token, **more)

    made = await ask("POST", "/registry", json=ENTRY | {"in_use": True})
    assert (made.status, made.body["version"], made.body["missing"]) == (201, 1, [])
    assert (made.body["hosts"], made.body["region"]) == ([".acme.example", "api.acme.example"], "eu")
    assert (await ask("POST", "/registry", json=ENTRY)).code == "name_taken"
    assert (await ask("PATCH", json={"purpose": "inference"})).code == "unchanged"
    wider = (await ask("PATCH", json={"training": "yes"})).body
    assert datetime.datetime.fromisoformat(wider["effective_at"]).date() == TODAY + datetime.timedelta(days=30)
    assert await api.pool.fetchval("SELECT count(*) FROM mail WHERE kind = 'subprocessor_change'") == 1
    retired = await ask("DELETE")
    assert (retired.body["retired"], retired.body["version"]) == (True, 3)
    assert (await ask("DELETE")).code == "unchanged"
    versions = (await ask("GET")).body["items"]
    assert [each["training"] for each in versions] == ["never", "yes", "yes"]
    entry = await registry.entries(api.pool, "acme")
    assert [each.retired for each in entry] == [False, False, True]
    for method in ("GET", "PATCH", "DELETE"):
        body = {"json": {"purpose": "x"}} if method == "PATCH" else {}
        assert (await ask(method, "/registry/nobody", **body)).status == 404


async def test_a_field_that_cannot_be_is_named(api: Api, token: str) -> None:
    """With what it must be; nothing is entered."""
    late = (TODAY + datetime.timedelta(days=400)).isoformat()
    for fields, field in (
        ({"hosts": ["https://acme.example"]}, "/hosts/0"), ({"hosts": []}, "/hosts"), ({"purpose": "a\nb"}, "/purpose"),
        ({"next_review": late}, "/next_review"), ({"next_review": TODAY.isoformat()}, "/next_review"),
        ({"agreed_on": late}, "/agreed_on"), ({"name": "Acme"}, "/name"), ({"retention": "long"}, "/retention"),
    ):  # fmt: skip
        answer = await api.ask("POST", "/registry", token=token, json=ENTRY | fields)
        assert (answer.status, answer.body["errors"][0]["field"]) == (422, field), fields
    assert await registry.entries(api.pool) == []


async def test_every_place_is_listed(api: Api, token: str, tmp_path: Any) -> None:
    """Those of the configuration, page by page, with what the register says, and entries that nothing uses."""
    await api.ask("POST", "/registry", token=token, json=ENTRY)
    upstreams = [{"name": name, "dialect": "openai", "base_url": f"https://{name}.example"} for name in ("one", "two")]
    async with running_api(api.pool, tmp_path, upstreams=upstreams) as running:
        first = (await running.ask("GET", "/registry?limit=2", token=token)).body
        rest = (await running.ask("GET", f"/registry?limit=2&cursor={first['next_cursor']}", token=token)).body
    by_state = {(each["state"], each["purpose"]): each for each in (*first["items"], *rest["items"])}
    assert by_state.keys() == {
        ("unlisted", "upstream one"),
        ("unlisted", "upstream two"),
        ("not in use", "nothing now"),
    }
    unused = by_state["not in use", "nothing now"]
    assert (unused["subprocessor"], unused["used"]) == ("acme", False)
