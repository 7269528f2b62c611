"""Pages of long work, without a script: begun by a form, left, found again, and what is said of how it ended."""

import asyncio
import random
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

from luntrex_proxy.control import rights, work
from luntrex_proxy.store.database import Pool
from tests.console.browsing import Browser, Seen
from tests.console.test_installation_pages import operator
from tests.console.test_pages import Open, ada_in, opened, services_behind
from tests.people import make_person
from tests.store.months import make_keys, rates_of, records, store

__all__ = ["opened"]
MODELS = [{"name": name, "targets": [{"upstream": "east", "model": name}]} for name in ("large", "small")]
OWN = {
    "upstreams": [{"name": "east", "dialect": "openai", "base_url": "http://127.0.0.1:1/v1"}],
    "models": [{**each, "price": {"input": 3, "output": 9}} for each in MODELS],
}
FAR = {"since": "2026-09-01", "until": "2026-09-30"}


async def over(browser: Browser, path: str) -> Seen:
    """The page at this path, when what it shows has ended."""
    async with asyncio.timeout(30):
        while "Look again" in (seen := await browser.get(path)).said:
            await asyncio.sleep(0.05)
    return seen


async def test_records_are_priced_anew_by_two_forms(opened: Open, database: Pool, tmp_path: Path) -> None:
    """First a look, then the change, each with its own page, both in the list; a wrong field changes nothing."""
    browser, _ = await ada_in(opened, **OWN)
    seed = random.Random(2)
    keys = await make_keys(database, ("bolt", "core"))
    await store(database, tmp_path, records(seed, keys, rates_of(seed), 200, days=3))
    runs = await operator(browser)
    await runs.get("/work/reprice")
    seen = await runs.send("/work/reprice", since="2199-01-01", until="x", account="nobody", model="large")
    assert seen.status == 422
    for name in ("since", "until", "account"):
        assert f'id="{name}-wrong"' in seen.text
    assert 'value="nobody"' in seen.text
    assert await work.newest(database, 9) == []
    seen = await runs.send("/work/reprice", **FAR, account="bolt", model="")
    look = f"/work/{(await work.newest(database, 1))[0].work_id}"
    seen = await over(runs, look)
    assert "What new prices would change, 2026-09-01 to 2026-09-30, bolt" in seen.said
    assert "records would change; in sum they would cost $" in seen.said
    changed = await database.fetchval("SELECT count(*) FROM usage WHERE price_version LIKE 'config-%'")
    assert changed == 0
    await runs.get(f"{look}/apply")
    assert 'id="sure-wrong"' in (await runs.send(f"{look}/apply")).text
    await runs.send(f"{look}/apply", sure="yes")
    made = f"/work/{(await work.newest(database, 1))[0].work_id}"
    assert made != look
    seen = await over(runs, made)
    changed = await database.fetchval("SELECT count(*) FROM usage WHERE price_version LIKE 'config-%'")
    assert changed > 0
    assert f"{changed} of" in seen.said
    assert "records changed; in sum they cost $" in seen.said
    assert (await runs.get(f"{made}/apply")).status == 404
    listed = await runs.get("/work")
    assert look in listed.text
    assert "by root@example.org" in listed.said
    runs.headers["HX-Request"] = "true"
    assert "<html" not in (await runs.get(made)).text
    assert (await browser.get(made)).status == 404


async def test_a_month_is_closed_for_all(opened: Open, database: Pool, tmp_path: Path) -> None:
    """One that is over, by who says so; to others there are no such pages."""
    browser, _ = await ada_in(opened)
    seed = random.Random(2)
    await store(database, tmp_path, records(seed, await make_keys(database, ("bolt",)), rates_of(seed), 50, days=3))
    runs = await operator(browser)
    await runs.get("/work/close")
    seen = await runs.send("/work/close", month="2199-01")
    assert (seen.status, 'id="month-wrong"' in seen.text, 'id="sure-wrong"' in seen.text) == (422, True, True)
    assert 'value="2199-01"' in seen.text
    await runs.send("/work/close", month="2026-09", sure="yes")
    seen = await over(runs, f"/work/{(await work.newest(database, 1))[0].work_id}")
    assert "Statements of 2026-09, all accounts" in seen.said
    assert "1 statement closed now" in seen.said
    for path in ("/work", "/work/close", "/work/reprice"):
        assert (await browser.get(path)).status == 404
        assert (await browser.send(path, month="2026-08", sure="yes", **FAR)).status in (404, 405)


async def test_a_copy_stands_under_ones_data(opened: Open, database: Pool, database_dsn: str) -> None:
    """Its progress is asked for from when the button is shown; others find nothing of it. What was cut off is said."""
    browser, ada = await ada_in(opened)
    object.__setattr__(services_behind(browser), "dsn", database_dsn)
    await browser.get("/your-data")
    seen = await browser.send("/your-data/export")
    asks = 'hx-get="/your-data/copies?awaited=none" hx-trigger="every 2s"'
    assert asks in seen.text
    form, headers = {"token": seen.hidden("token")}, {"Sec-Fetch-Site": "same-origin"}
    browser.headers["HX-Request"] = "true"
    assert asks in (await browser.get("/your-data/copies?awaited=none")).text
    async with browser.client.post(f"{browser.url}/rights/download", data=form, headers=headers) as answer:
        await answer.read()
    seen = await browser.get("/your-data/copies?awaited=none")
    assert "hx-get" not in seen.text
    assert "done" in seen.said
    assert "fetched to the end" in seen.said
    del browser.headers["HX-Request"]
    await work.begin(database, "export", {}, ada)
    seen = await browser.get("/your-data")
    assert "runs it has just begun" in seen.said
    assert "Look again" in seen.said
    await database.execute("UPDATE work SET told_at = told_at - interval '1 minute'")
    seen = await browser.get("/your-data")
    assert "interrupted" in seen.said
    assert "The program ended meanwhile. Nothing of it is left here. Get another copy." in seen.said
    mine = (await work.newest(database, 1))[0].work_id
    assert "Copy of your data" in (await browser.get(f"/work/{mine}")).said
    bob = await make_person(database, "bob@example.org")
    theirs = await work.begin(database, "export", {}, bob)
    for wrong in (theirs.work_id, uuid.uuid4(), "x"):
        assert (await browser.get(f"/work/{wrong}")).status == 404


async def test_an_erasure_is_followed_by_its_reference(opened: Open, database: Pool) -> None:
    """By whoever has that: who is erased cannot sign in any more."""
    browser, ada = await ada_in(opened)
    now = datetime.fromtimestamp(time.time(), UTC)
    asked = await rights.ask_erasure(database, ada, now, timedelta(days=7))
    about = {"request": str(asked.request_id), "reference": asked.reference}
    begun = await work.begin(database, "erasure", about)
    await work.table.tell(database, begun.work_id, 3, 12)
    browser.jar = {}
    seen = await browser.get(f"/rights/status?reference={asked.reference}")
    assert "3 of 12 steps, 25 %" in seen.said
    assert "being carried out" in seen.said
    assert "can be withdrawn" not in seen.said
    await database.execute("UPDATE work SET told_at = told_at - interval '1 minute'")
    seen = await browser.get(f"/rights/status?reference={asked.reference}")
    assert "It goes on by itself when the program starts again." in seen.said
