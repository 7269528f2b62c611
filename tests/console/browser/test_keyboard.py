"""The console without a mouse and for a screen reader: focus that is seen and stays, regions that speak once."""

import dataclasses
from pathlib import Path
from typing import Any

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
