"""The pages of models with their prices, and of upstreams with the switch for their maintenance."""

from luntrex_proxy.core.health import Condition
from luntrex_proxy.store import maintenance
from luntrex_proxy.store.database import Pool
from tests.console.browsing import Browser
from tests.console.test_pages import Open, ada_in, opened, services_behind
from tests.people import PASSWORD, give_password, make_person

__all__ = ["opened"]
OPENAI = {"name": "openai", "dialect": "openai", "base_url": "https://api.openai.com"}
EJECTED = Condition("openai", "ejected", 0.5, 3, maintenance=False, last_error="http_502", last_error_age_s=7)
MODELS = [
    {"name": "gpt-5-mini", "targets": [{"upstream": "openai", "model": "gpt-5-mini"}]},
    {"name": "ours", "targets": [{"upstream": "openai", "model": "gpt-5"}], "price": {"input": 2, "output": "8.25"}},
    {"name": "odd", "targets": [{"upstream": "openai", "model": "nobody-knows"}]},
    {"name": "open/*", "targets": [{"upstream": "openai", "model": "*"}]},
    *({"name": f"many-{n:02}", "targets": [{"upstream": "openai", "model": "gpt-5"}]} for n in range(60)),
]


async def test_models_upstreams_and_maintenance(opened: Open, database: Pool) -> None:
    """Prices in dollars a million and where they come from; the switch is for who runs the installation only."""
    browser, _ = await ada_in(opened, upstreams=[OPENAI], models=MODELS)
    services = services_behind(browser)
    object.__setattr__(services, "upstreams", lambda _models: [EJECTED])
    base = "/accounts/1/models"
    said = (await browser.get(f"{base}?name=o")).said
    assert "ours openai as gpt-5 $2.00 $2.00 $8.25 the configuration file config-" in said
    assert "odd openai as nobody-knows unknown nobody" in said
    assert "open/* openai by name" in said
    assert "gpt-5-mini openai $0.25 $0.025 $2.00" in (await browser.get(f"{base}?name=MINI")).said
    seen = await browser.get(base)
    assert "1 to 50 of 64 models." in seen.said
    assert "51 to 64 of 64 models. Before" in (await browser.get(f"{base}?from=50")).said
    assert "There is no such model" in (await browser.get(f"{base}?name=<b>&from=x")).said
    assert (await browser.get("/upstreams")).status == 404
    await browser.get("/profile")
    assert (await browser.send("/upstreams/openai/begin-maintenance")).status == 404
    runs = Browser(browser.client, browser.url)
    await give_password(services, await make_person(database, "root@example.org", operator=True))
    await runs.send("/sign-in", address="root@example.org", password=PASSWORD)
    said = (await runs.get("/upstreams")).said
    assert "openai too many errors: asked after the others" in said
    assert "Requests under way 3 Last error http_502 , 7 seconds ago" in said
    seen = await runs.send("/upstreams/openai/begin-maintenance", **{"reason-openai": "x" * 201})
    assert seen.status == 422
    assert 'id="reason-openai-wrong"' in seen.text
    assert "x" * 201 in seen.text
    assert await maintenance.list_all(database) == {}
    seen = await runs.send("/upstreams/openai/begin-maintenance", **{"reason-openai": "new certificates"})
    assert "Nothing new goes to it" in seen.said
    assert "new certificates" in seen.said
    assert "in maintenance" in seen.said
    assert "Requests go to it again." in (await runs.send("/upstreams/openai/end-maintenance")).said
    assert await maintenance.list_all(database) == {}
    seen = await runs.send("/upstreams/opena/begin-maintenance", **{"reason-opena": ""})
    assert seen.status == 422
    assert "did you mean" in seen.said
