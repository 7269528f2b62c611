"""/upstreams, /models, /accounts/{id}/routes: seen and steered by operators; the file's own cannot be changed here."""

from dataclasses import replace

from luntrex_proxy.console.api.operations import Call, PageQuery
from luntrex_proxy.console.api.routes import OPERATIONS
from luntrex_proxy.control.access import Person
from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.catalogue import Entry, Target
from luntrex_proxy.core.roles import Role
from luntrex_proxy.store import apikeys
from tests.console.conftest import Api
from tests.postgres import LOOKUP


async def test_maintenance_begins_and_ends(api: Api) -> None:
    """Whoever looks sees since when and why; of an unknown upstream it is said that there is none."""
    token = await api.token(await api.person(operator=True))
    path = "/upstreams/up/maintenance"
    begun = await api.ask("PUT", path, token=token, json={"reason": "disks"})
    assert (begun.body["standing"], begun.body["health"], begun.body["origin"]) == ("maintenance", "avoided", "file")
    (listed,) = (await api.ask("GET", "/upstreams", token=token)).body["items"]
    assert (listed["maintenance_reason"], listed["maintenance_since"]) == ("disks", begun.body["maintenance_since"])
    assert (await api.ask("DELETE", path, token=token)).status == 204
    assert (await api.ask("DELETE", path, token=token)).status == 204
    (listed,) = (await api.ask("GET", "/upstreams", token=token)).body["items"]
    assert (listed["maintenance_since"], listed["standing"]) == (None, "ready")
    for reason in ("\0", "a\x1b[2J", f"lx_{'k' * 12}_{'s' * 49}"):
        answer = await api.ask("PUT", path, token=token, json={"reason": reason})
        assert (answer.status, [error["field"] for error in answer.body["errors"]]) == (422, ["/reason"])
    for method in ("PUT", "DELETE"):
        answer = await api.ask(method, "/upstreams/down/maintenance", token=token, json={})
        assert (answer.status, answer.code) == (404, "no_upstream")


async def test_models_say_where_they_come_from(api: Api) -> None:
    """All of the file, page by page."""
    entries = [Entry(name, (Target("a", Dialect.OPENAI, "there", 3),)) for name in ("b*", "a")]
    services = replace(api.services, models=lambda: entries)
    listed = await OPERATIONS[0].handler(Call(services, Person("x"), {}, None, PageQuery(limit=1)))
    (shown,) = listed.items
    assert (shown.name, shown.origin, shown.choice, listed.end) == ("a", "file", "weighted", ("a",))
    assert [(to.upstream, to.model, to.weight) for to in shown.targets] == [("a", "there", 3)]


async def test_routes_are_set_whole(api: Api) -> None:
    """By operators; people of the account see them. What cannot be is one problem, and changes nothing."""
    account_id = await api.account("acme")
    operator = await api.token(await api.person(operator=True))
    admin = await api.token(await api.person({account_id: Role.ADMIN}))
    path = f"/accounts/{account_id}/routes"
    own = [{"model": "m", "targets": [{"upstream": "up", "weight": 2}]}]
    wanted = {"models": ["m", "n*"], "own": own}
    assert (await api.ask("PUT", path, token=admin, json=wanted)).status == 403
    said = (await api.ask("PUT", path, token=operator, json=wanted)).body
    assert said == {
        "models": ["m", "n*"], "own": [{"model": "m", "targets": [{"upstream": "up", "model": "m", "weight": 2}]}]
    }  # fmt: skip
    for wrong, code in (
        ({"own": [{"model": "m", "targets": [{"upstream": "down"}]}]}, "bad_routes"),
        ({"models": ["n"], "own": own}, "bad_routes"),
        ({"own": own + own}, "invalid"),
        ({"own": [{"model": "m", "targets": []}]}, "invalid"),
        ({"own": [{"model": "m", "targets": [{"upstream": "up", "weight": -1}]}]}, "invalid"),
    ):
        answer = await api.ask("PUT", path, token=operator, json=wrong)
        assert (answer.status, answer.code) == (422, code), wrong
    assert (await api.ask("GET", path, token=admin)).body == said
    assert (await api.ask("PUT", path, token=operator, json={})).body == {"models": None, "own": []}


async def test_explain_is_for_keys_of_the_account(api: Api) -> None:
    """Another account's key does not exist there."""
    account_id, other = await api.account("acme"), await api.account("other")
    made = await apikeys.create(api.pool, LOOKUP, "acme", "ci", bcrypt_cost=4)
    token = await api.token(await api.person(operator=True))
    body = {"model": "m", "key_id": made.info.key_id, "region": "eu"}
    said = await api.ask("POST", f"/accounts/{account_id}/routes/explain", token=token, json=body)
    assert (said.status, said.body["account_id"], said.body["key_id"]) == (200, account_id, made.info.key_id)
    assert (await api.ask("POST", f"/accounts/{other}/routes/explain", token=token, json=body)).status == 404
