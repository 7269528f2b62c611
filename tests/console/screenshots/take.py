"""Takes the pictures of the README anew: `.venv/bin/python -m tests.console.screenshots.take`.

A console with made-up usage in a private PostgreSQL, in Chromium; what the pictures show is nobody's.
"""

import asyncio
import datetime
import tempfile
from pathlib import Path
from typing import Any

from playwright.async_api import async_playwright

from luntrex_proxy.control.services import Services
from luntrex_proxy.store import budgets
from luntrex_proxy.store.database import close_pool, open_pool
from luntrex_proxy.store.embedded import EmbeddedPostgres
from luntrex_proxy.store.migrate import migrate
from tests.console.browser.conftest import _MODELS, _UPSTREAMS, BINARY, served
from tests.console.browser.places import ADA, SUMS, Places, fill
from tests.console.browser.window import new_window
from tests.people import give_password, make_person, services_of

HERE = Path(__file__).parent
SIZE = {"width": 1180, "height": 860}
GRACE = "grace@example.org"
# Weekdays busier than weekends, nights quiet, and one model that is asked more than the others.
_BELIEVABLE = (
    "DELETE FROM usage WHERE extract(isodow FROM started_at) > 5 AND get_byte(uuid_send(request_id), 0) < 170",
    "UPDATE usage SET model = 'gpt-5-mini', upstream = 'openai' WHERE get_byte(uuid_send(request_id), 1) < 90",
    "UPDATE usage SET upstream = 'anthropic' WHERE trail LIKE '%;anthropic@%'",
    "UPDATE usage SET status = 200, code = 'ok' WHERE get_byte(uuid_send(request_id), 2) < 200",
    "UPDATE usage SET cost_pico = cost_pico * (8 + get_byte(uuid_send(request_id), 3) % 40)",
)
_SUMMED_ANEW = ("DELETE FROM usage_rollup", "DELETE FROM usage_rollup_daily", "DELETE FROM first_byte", *SUMS)


async def take() -> None:
    """The three pictures, over the old ones."""
    directory = Path(tempfile.mkdtemp())
    server = EmbeddedPostgres(directory / "postgres")
    pool = await open_pool(server.start())
    try:
        await migrate(pool, post=True)
        services = services_of(pool, directory, upstreams=_UPSTREAMS, models=_MODELS)
        places = await _made(services)
        async with served(services) as url, async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=BINARY, args=["--no-sandbox"])
            await _pictures(browser, url, places)
            await browser.close()
    finally:
        await close_pool(pool)
        server.stop()


async def _made(services: Services) -> Places:
    pool = services.pool
    places = await fill(services, requests=6_000)
    async with pool.acquire() as connection, connection.transaction():
        for statement in (*_BELIEVABLE, *_SUMMED_ANEW):
            await connection.execute(statement)
    first = (await pool.fetchval("SELECT now()")).date().replace(day=1)
    begins_at = datetime.datetime.combine(first, datetime.time(), datetime.UTC)
    spent = await pool.fetchval("SELECT sum(cost_pico) FROM usage WHERE started_at >= $1", begins_at)
    await budgets.change(
        pool, budgets.Whose(places.account_id), {"month": int(spent * 8 // 5) // 10**13 * 10**13}, budgets.Terms()
    )
    await pool.execute("UPDATE budget_window SET spent_pico = $1", spent)
    grace = await make_person(pool, GRACE, grace="owner")
    await give_password(services, grace)
    return places


async def _pictures(browser: Any, url: str, places: Places) -> None:
    ada, grace = await new_window(browser, url), await new_window(browser, url)
    for window in (ada, grace):
        await window.page.set_viewport_size(SIZE)
    await ada.sign_in(ADA)
    await ada.open(f"/accounts/{places.account_id}?period=30d")
    await _save(ada.page, "overview")
    await ada.page.emulate_media(color_scheme="dark")
    await ada.open(f"/accounts/{places.account_id}/requests/{places.request_id}")
    await _save(ada.page, "request")
    await grace.sign_in(GRACE)
    await grace.page.click("main form button")
    await grace.page.wait_for_selector("#new-key")
    key = await grace.page.text_content("#new-key")
    shown = "(shown) => { for (const each of document.querySelectorAll('[data-secret]'))"
    shown += " each.textContent = each.textContent.replaceAll(shown, shown.slice(0, 16) + '…'); }"
    await grace.page.evaluate(shown, key)  # whoever looks for keys in repositories finds none
    await _save(grace.page, "key")


async def _save(page: Any, name: str) -> None:
    await page.wait_for_timeout(500)  # a chart is drawn
    await page.screenshot(path=HERE / f"{name}.png")
    print(name, (HERE / f"{name}.png").stat().st_size, "bytes")


if __name__ == "__main__":
    asyncio.run(take())
