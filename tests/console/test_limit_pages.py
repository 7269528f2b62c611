"""The pages of limits and budgets, without a script: set, refused beside the field with what was typed, cleared."""

from luntrex_proxy.store import apikeys, budgets, labels, limits
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.keyrows import Terms
from tests.console.browsing import Browser
from tests.console.test_pages import ADA, Open, ada_in, opened, services_behind
from tests.people import PASSWORD, give_password, make_person

__all__ = ["opened"]
LEVEL = (
    "INSERT INTO limit_level SELECT limit_id, account_id, '', 'requests/day', 40, 0, now() FROM usage_limit",
    "INSERT INTO limit_streams SELECT limit_id, account_id, '', gen_random_uuid(), 2, now() FROM usage_limit",
)


async def key_of(browser: Browser) -> str:
    """A key of acme; the label project is declared."""
    services = services_behind(browser)
    await labels.declare(services.pool, "acme", "project", ["search"])
    made = await apikeys.create(services.pool, services.lookup, "acme", "ci", Terms(), bcrypt_cost=4)
    return made.info.key_id


async def test_limits_of_a_key(opened: Open, database: Pool) -> None:
    """What was typed stays beside what is wrong with it; then they are set, used, and cleared."""
    browser, _ = await ada_in(opened)
    key_id = await key_of(browser)
    base = "/accounts/1/limits"
    assert "There is no limit." in (await browser.get(base)).said
    edit = f"{base}/edit?whose=key:{key_id}"
    assert "Limits of key ci" in (await browser.get(edit)).said
    good = {"requests_per_day": "100", "streams": "5", "when_away": "closed"}
    for field, typed, said in (
        ("requests_per_day", "1,5", "Give a whole number"),
        ("requests_per_day", "0", "is 1 to"),
        ("requests_per_minute", "200", "can never be reached"),
        ("model", "<b>", "Give a name as clients write it"),
        ("when_away", "x", "Choose one of them."),
    ):
        seen = await browser.send(edit, **good | {field: typed})
        assert seen.status == 422, field
        assert said in seen.said
        assert f'id="{field}-wrong"' in seen.text
        assert 'value="5"' in seen.text
        assert await limits.list_all(database) == []
    assert "The limits are changed" in (await browser.send(edit, **good)).said
    for statement in LEVEL:
        await database.execute(statement)
    said = (await browser.get(base)).said
    assert "100 requests per day all together 40 60" in said
    assert "5 streams at once all together 2 3" in said
    assert "refuses while nobody can say" in said
    seen = await browser.get(edit)
    assert 'value="100"' in seen.text
    assert "There is no limit." in (await browser.send(edit, when_away="open")).said
    for whose in ("account", "key:abcdefghijkl", "member:x", "label:project=search", "x"):
        seen = await browser.send(f"{base}/edit?whose={whose}", **good)
        assert seen.status == (403 if whose == "account" else 404), whose
    assert (await browser.send(f"{base}/time-zone", time_zone="Europe/Berlin")).status == 404


async def test_budgets_of_everybody(opened: Open, database: Pool) -> None:
    """A key, a member and a label; the account's own by who runs the installation, who is not its member."""
    browser, ada = await ada_in(opened)
    key_id = await key_of(browser)
    base = "/accounts/1/limits/budgets"
    edit = f"{base}?whose=key:{key_id}"
    await browser.get(edit)
    good = {"month_dollars": "2.50", "month_hard": "yes", "month_alerts": "50, 100", "month_away": "closed"}
    for field, typed, said in (
        ("month_dollars", "2,50", "An amount is in dollars"),
        ("month_dollars", "0", "more than 0"),
        ("month_alerts", "x", "whole percentages"),
        ("day_dollars", "7", "can never be reached"),
    ):
        seen = await browser.send(edit, **{"day_hard": "yes"} | good | {field: typed})
        assert seen.status == 422, field
        assert said in seen.said
        assert f'id="{field}-wrong"' in seen.text
        assert f'value="{typed}"' in seen.text
        assert await budgets.list_all(database) == []
    seen = await browser.send(edit, **good | {"month_hard": "no", "month_alerts": ""})
    assert "neither stops nor tells" in seen.said
    for whose in (f"key:{key_id}", f"member:{ada}", "label:project=search"):
        seen = await browser.send(f"{base}?whose={whose}", **good)
        assert "The budgets are changed" in seen.said, seen.said
        assert f"whose={whose.replace(':', '%3A').replace('=', '%3D')}" in seen.text
    assert seen.said.count("$2.50 left of $2.50") == 3
    assert "Notice is given at 50 %, 100 % of it." in seen.said
    assert f"member {ADA}, each month" in seen.said
    assert 'value="2.50"' in (await browser.get(edit)).text
    assert (await browser.send(edit)).said.count("left of") == 2
    for whose in ("label:project=other", "label:x=y", "key:abcdefghijkl"):
        assert (await browser.send(f"{base}?whose={whose}", **good)).status == 404
    assert (await browser.get(f"{base}?whose=account")).status == 403
    runs = Browser(browser.client, browser.url)
    services = services_behind(browser)
    await give_password(services, await make_person(database, "root@example.org", operator=True))
    await runs.send("/sign-in", address="root@example.org", password=PASSWORD)
    await runs.get(f"{base}?whose=account")
    assert "$9.00 left of $9.00" in (await runs.send(f"{base}?whose=account", total_dollars="9", total_hard="yes")).said
    seen = await runs.send("/accounts/1/limits/time-zone", time_zone="Mars/North")
    assert "There is no such time zone" in seen.said
    assert 'value="Mars/North"' in seen.text
    seen = await runs.send("/accounts/1/limits/time-zone", time_zone="Europe/Berlin")
    assert "begin in the new zone" in seen.said
