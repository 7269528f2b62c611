"""The console without a mouse and for a screen reader: focus that is seen and stays, regions that speak once."""

import dataclasses
from pathlib import Path
from typing import Any

from luntrex_proxy.control.services import Services
from luntrex_proxy.store import work
from luntrex_proxy.store.database import Pool
from tests.console.browser.conftest import served
from tests.console.browser.places import ADA, use_now
from tests.console.browser.test_first_call import MODELS
from tests.console.browser.window import Window, new_window
from tests.people import PASSWORD, give_password, make_person, services_of

# What has the focus, and what of it cannot be seen.
_FOCUS = """() => {
    const now = document.activeElement, box = now.getBoundingClientRect(), style = getComputedStyle(now);
    const wrong = [];
    if (style.outlineStyle === 'none' || parseFloat(style.outlineWidth) < 2) wrong.push('no outline');
    if (box.bottom < 1 || box.top >= innerHeight || box.right < 1 || box.left >= innerWidth) wrong.push('outside');
    return [(now.getAttribute('aria-label') || now.textContent).trim(), wrong];
}"""


async def tab_to(window: Window, words: str) -> None:
    """Tab until what says this has the focus; each stop on the way has to be seen."""
    for _ in range(60):
        await window.page.keyboard.press("Tab")
        said, wrong = await window.page.evaluate(_FOCUS)
        assert wrong == [], f"{said}: {wrong}"
        if said == words:
            return
    raise AssertionError(f"no way to {words!r} by the keyboard")


async def test_the_first_call_by_keyboard_alone(chromium: Any, database: Pool, tmp_path: Path) -> None:
    """In, past the menu, a key, copied; while it waits nothing takes the focus away; what arrives is said once."""
    await give_password(services_of(database, tmp_path), await make_person(database, ADA, acme="owner"))
    services = dataclasses.replace(services_of(database, tmp_path), models=lambda: MODELS)
    async with served(services) as url:
        window = await new_window(chromium, url)
        page, keys = window.page, window.page.keyboard
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await window.open("/sign-in")
        await keys.type(ADA)
        await keys.press("Tab")
        await keys.type(PASSWORD)
        await keys.press("Enter")
        await page.wait_for_selector("h1:text-is('Your first call')")
        await tab_to(window, "Skip to the content")
        await keys.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "main"
        await tab_to(window, "Create a key")
        await keys.press("Enter")
        await page.wait_for_selector("#new-key")
        key_id = (await page.text_content("#new-key"))[3:15]
        await tab_to(window, "Copy the key")
        await keys.press("Enter")
        await page.get_by_text("Copied").wait_for()
        await waits_quietly(window)
        await use_now(services, key_id)
        await page.get_by_text("It works.").wait_for()
        assert await page.evaluate("document.querySelector('[role=status]').stays"), "the region that speaks is another"
        assert await page.evaluate("document.activeElement.dataset.copy") == "new-key"
        await tab_to(window, "To the overview")
        await keys.press("Enter")
        await page.wait_for_selector("h1:text-is('Overview')")
        await tab_to(window, "As a table")
        await keys.press("Enter")
        await tab_to(window, "Requests by model, as a table")
        assert await page.is_visible("figure:first-of-type table")
        assert window.faults == [], "\n".join(window.faults)


async def waits_quietly(window: Window) -> None:
    """Asked again, the piece that waits is not put anew: a screen reader would say it every two seconds."""
    page = window.page
    await page.evaluate("for (const each of document.querySelectorAll('[role=status], #first-call')) each.stays = true")
    async with page.expect_response("**/first-call") as asked:
        pass
    assert (await asked.value).status == 204
    assert await page.evaluate("document.querySelector('#first-call').stays")
    pulse = "getComputedStyle(document.querySelector('.pulse')).animationName"
    assert await page.evaluate(pulse) == "none"
    await page.emulate_media(reduced_motion="no-preference")
    assert await page.evaluate(pulse) == "pulse"
    await page.emulate_media(reduced_motion="reduce")


# Notes what has the focus, and every change within this element.
_WATCH = """(selector) => {
    window.focused = document.activeElement, window.changes = 0;
    const watched = document.querySelector(selector);
    const count = (all) => { window.changes += all.length; };
    new MutationObserver(count).observe(watched, { subtree: true, childList: true, characterData: true });
}"""
_STAYS = "document.activeElement === window.focused"


async def asked_again(window: Window) -> None:
    """Two seconds of the page later."""
    async with window.page.expect_event("requestfinished"):
        await window.page.clock.fast_forward(2_000)


async def test_work_that_goes_on_takes_no_focus(chromium: Any, services: Services) -> None:
    """Nothing changes where nothing is new; what is new comes around what has the focus; the end is said once."""
    pool, about = services.pool, {"month": "2026-10-01"}
    await give_password(services, await make_person(pool, ADA, operator=True))
    work_id = await work.begin(pool, "export", {})
    async with served(services) as url:
        window = await new_window(chromium, url)
        page = window.page
        await window.sign_in(ADA)
        await page.clock.install()
        await window.open(f"/work/{work_id}")
        await tab_to(window, "Look again")
        await page.evaluate(_WATCH, "#work")
        await asked_again(window)
        await asked_again(window)
        assert await page.evaluate(f"[{_STAYS}, changes]") == [True, 0]
        await work.tell(pool, work_id, 3, 10)
        await asked_again(window)
        await page.get_by_text("3 of 10 rows").wait_for()
        assert await page.evaluate(_STAYS)
        await window.open("/work")
        await tab_to(window, "Copy of a person's data")
        await page.evaluate(_WATCH, "#work-rows")
        await asked_again(window)
        assert await page.evaluate(f"[{_STAYS}, changes]") == [True, 0]
        other = await work.begin(pool, "closing", about)
        await work.tell(pool, work_id, 4, 10)
        await asked_again(window)
        await page.get_by_text("Statements of 2026-10").wait_for()
        assert await page.evaluate(_STAYS)
        assert await page.get_attribute(":focus", "href") == f"/work/{work_id}"
        await window.open(f"/work/{other}")
        await page.evaluate("document.querySelector('#work [role=status]').stays = true")
        await work.end(pool, other, "done", 1, 1, {"closed": 1, "cost_pico": "0"})
        await asked_again(window)
        await page.get_by_text("1 statement closed now").wait_for()
        assert await page.evaluate("document.querySelector('#work [role=status]').stays")
        assert await page.text_content("#work [role=status]") == "done"
        assert await page.get_attribute("#work", "hx-get") is None
        assert window.faults == [], "\n".join(window.faults)


async def test_a_piece_that_cannot_be_had_leaves_the_page_as_it_is(chromium: Any, services: Services) -> None:
    """While the database is away a page that asks again keeps what it shows, and goes on asking."""
    pool = services.pool
    await give_password(services, await make_person(pool, ADA, operator=True))
    work_id = await work.begin(pool, "export", {})
    async with served(services) as url:
        window = await new_window(chromium, url)
        page = window.page
        await window.sign_in(ADA)
        await page.clock.install()
        await window.open(f"/work/{work_id}")
        await pool.execute("ALTER TABLE session RENAME TO elsewhere")
        async with page.expect_response(f"**/work/{work_id}") as asked:
            await asked_again(window)
        assert (await asked.value).status == 503
        await pool.execute("ALTER TABLE elsewhere RENAME TO session")
        await work.tell(pool, work_id, 3, 10)
        await asked_again(window)
        await page.get_by_text("3 of 10 rows").wait_for()
        assert await page.locator("main").count() == 1
        assert window.faults == [], "\n".join(window.faults)
