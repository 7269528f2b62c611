"""/statements and /repricing: who sees and closes what, and what cannot be."""

import random
from dataclasses import replace
from datetime import date
from pathlib import Path

from luntrex_proxy.console.api.operations import Call
from luntrex_proxy.console.api.statements import OPERATIONS, RepricingQuery
from luntrex_proxy.control.access import Person
from luntrex_proxy.core.roles import Role
from luntrex_proxy.settings.model import Settings
from tests.console.conftest import Api
from tests.store.months import make_keys, rates_of, records, store


async def test_statements_and_repricing(api: Api, tmp_path: Path) -> None:
    """Open and closed months, page by page; another account's are not there; the operator closes and previews."""
    seed = random.Random(12)
    keys, rates = await make_keys(api.pool, ("acme", "bolt")), rates_of(seed)
    await store(api.pool, tmp_path, records(seed, keys, rates, 60))
    account_id, other = keys[0][0], keys[-1][0]
    billing = await api.token(await api.person({account_id: Role.BILLING}))
    operator = await api.token(await api.person(operator=True))
    path = f"/accounts/{account_id}/statements"
    opened = await api.ask("GET", f"{path}/2026-09", token=billing)
    assert (opened.status, opened.body["closed_at"], opened.body["month"]) == (200, None, "2026-09")
    assert opened.body["cost_pico"] == sum(line["cost_pico"] for line in opened.body["lines"]) > 0
    assert {line["labels"].get("project") for line in opened.body["lines"]} >= {"before0", "after1"}
    assert (await api.ask("POST", f"{path}/2026-09/close", token=billing)).status == 403
    closed = await api.ask("POST", f"{path}/2026-09/close", token=operator)
    assert closed.body == opened.body | {"closed_at": closed.body["closed_at"]}
    assert (await api.ask("POST", f"{path}/2026-09/close", token=operator)).body == closed.body
    await api.ask("POST", f"{path}/2026-08/close", token=operator)
    first = (await api.ask("GET", f"{path}?limit=1", token=billing)).body
    rest = (await api.ask("GET", f"{path}?limit=1&cursor={first['next_cursor']}", token=billing)).body
    assert [each["items"][0]["month"] for each in (first, rest)] == ["2026-09", "2026-08"]
    assert (await api.ask("GET", f"/accounts/{other}/statements/2026-09", token=billing)).status == 404
    for method, where, status, code in (
        ("GET", "/2026-13", 404, "not_found"),
        ("GET", "/october", 404, "not_found"),
        ("GET", "/2198-01", 422, "bad_month"),
        ("POST", "/2198-01/close", 422, "bad_month"),
    ):
        answer = await api.ask(method, path + where, token=operator)
        assert (answer.status, answer.code) == (status, code), where

    span = "since=2026-09-01&until=2026-09-30"
    preview = await api.ask("GET", f"/repricing?{span}&account_id={account_id}", token=operator)
    totals = preview.body["totals"]
    assert {each["account_id"] for each in totals} == {account_id}
    assert sum(each["before_pico"] for each in totals) == opened.body["cost_pico"]
    assert all(each["unknown"] == each["requests"] for each in totals), "no upstream of this name is configured here"
    assert (await api.ask("GET", f"/repricing?{span}", token=billing)).status == 403
    for bad, field in (
        ("since=2026-09-02&until=2026-09-01", "until"),
        ("until=2199-01-01", "until"),
        ("since=2026-09-01&until=2026-10-02", "until"),
        ("account_id=0", "account_id"),
        ("model=a%20b", "model"),
    ):
        answer = await api.ask("GET", f"/repricing?{bad}", token=operator)
        assert (answer.status, [error["field"] for error in answer.body["errors"]]) == (422, [field]), bad


async def test_a_preview_goes_by_the_settings_of_the_last_reload(api: Api, tmp_path: Path) -> None:
    """Those of the start know neither the upstreams nor the price."""
    seed = random.Random(13)
    keys, rates = await make_keys(api.pool, ("acme",)), rates_of(seed)
    await store(api.pool, tmp_path, records(seed, keys, rates, 60))
    targets = [{"upstream": name, "model": "m"} for name in ("east", "west")]
    upstreams = [{"name": name, "dialect": "openai", "base_url": "http://127.0.0.1:9/v1"} for name in ("east", "west")]
    models = [{"name": "large", "targets": targets, "price": {"input": 1, "output": 2}}]
    reloaded = Settings.model_validate({"upstreams": upstreams, "models": models})
    query = RepricingQuery(since=date(2026, 9, 1), until=date(2026, 9, 30), model="large")
    (preview,) = (operation for operation in OPERATIONS if operation.name == "repricing.preview")
    for services, known in ((api.services, False), (replace(api.services, reloaded=lambda: reloaded), True)):
        shown = await preview.handler(Call(services, Person("x"), {}, None, query))
        (total,) = shown.totals
        assert (total.unknown == 0, total.changed > 0) == (known, known)
