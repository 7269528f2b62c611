"""/privacy and /upstreams: what is there, in whole and in pages."""

from dataclasses import replace

from luntrex_proxy.console.api.operations import Call, PageQuery
from luntrex_proxy.console.api.upstreams import OPERATIONS
from luntrex_proxy.control.access import Person
from luntrex_proxy.core.health import Condition
from luntrex_proxy.store.inventory import inventory
from tests.console.conftest import Api


async def test_everybody_can_read_the_inventory(api: Api) -> None:
    """Every table and column once, over all pages, without signing in."""
    seen, cursor = [], ""
    while cursor is not None:
        answer = await api.ask("GET", f"/privacy/inventory?limit=150{cursor}")
        seen += [(item["table"], item["column"]) for item in answer.body["items"]]
        cursor = answer.body["next_cursor"] and f"&cursor={answer.body['next_cursor']}"
    assert seen == sorted((item.table, item.column) for item in await inventory(api.pool))
    assert ("person", "email") in seen


async def test_upstreams_are_said_as_they_are(api: Api) -> None:
    """In the words of the document, not as numbers."""
    conditions = [Condition(name, "?", value, 2, maintenance=False) for name, value in (("b", 0), ("a", 1), ("c", 0.5))]
    services = replace(api.services, upstreams=lambda _: conditions)
    listed = await OPERATIONS[0].handler(Call(services, Person("x"), {}, None, PageQuery(limit=2)))
    assert [(each.name, each.health) for each in listed.items] == [("a", "good"), ("b", "avoided")]
    assert listed.end == ("b",)


async def test_every_class_of_the_inventory_has_its_period(api: Api) -> None:
    """With days, or with what else says until when; nothing is kept as something that nobody explains."""
    shown = (await api.ask("GET", "/privacy/retention")).body
    periods = {each["name"]: each for each in shown["periods"]}
    assert periods.keys() >= {item.retention for item in await inventory(api.pool)}
    assert (periods["usage"]["days"], periods["session"]["days"], periods["audit"]["days"]) == (396, 30, 2_192)
    assert [name for name, each in periods.items() if each["days"] is None] == ["account", "forever", "invoice"]
    assert all(each["reason"] for each in periods.values())
    assert (shown["idle_account_days"], shown["idle_notice_days"], shown["invoice_years"]["DE"]) == (730, 30, 8)
