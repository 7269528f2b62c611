"""Every page in Chromium: no violation of its policy, no request to another origin, nothing that axe finds."""

import time
from typing import Any

import pytest

from luntrex_proxy.console.application import PAGES
from luntrex_proxy.console.pages.page import Access
from luntrex_proxy.control.services import Services
from luntrex_proxy.core.totp import STEP_S, code_at, from_text
from tests.console.browser.conftest import served
from tests.console.browser.places import ADA, fill
from tests.console.browser.window import new_window
from tests.people import PASSWORD

# One route of each page: forms are sent to addresses of their own, which show the same. The first page leads elsewhere.
_PAGES = list(
    {
        route.template: route for route in reversed(PAGES) if not route.path.endswith(".csv") and route.path != "/"
    }.values()
)
_PARTS = 2  # so that no worker is left with all of them at the end


@pytest.mark.parametrize("part", range(_PARTS))
@pytest.mark.parametrize("is_in", [False, True])
async def test_every_page_is_clean(chromium: Any, services: Services, is_in: bool, part: int) -> None:
    """Those for everybody, and those for who is signed in."""
    places = await fill(services, requests=300)
    async with served(services) as url:
        window = await new_window(chromium, url)
        if is_in:
            await window.sign_in(ADA)
        for route in [each for each in _PAGES if is_in != (each.access is Access.ANYONE)][part::_PARTS]:
            path = places.path(route.path)
            if await window.open(path) not in (200, 404):
                window.faults.append(f"{path}: does not open")
            await window.look(route.template.removesuffix(".html"))
        assert window.faults == [], "\n".join(window.faults)


async def test_the_first_load_is_light(chromium: Any, services: Services) -> None:
    """The overview of a month with all its files into an empty cache: 150 KB as they are sent."""
    places = await fill(services)
    async with served(services) as url:
        window = await new_window(chromium, url)
        await window.sign_in(ADA)
        await (await window.page.context.new_cdp_session(window.page)).send("Network.clearBrowserCache")
        await window.open(f"/accounts/{places.account_id}?period=30d")
        await window.page.wait_for_selector("canvas", state="attached")
        sent = await window.page.evaluate(
            "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
            ".map((entry) => [entry.name.replace(location.origin, ''), entry.transferSize])"
        )
        sizes = dict(reversed(sent))  # what a page names twice is asked for once
        assert len(sizes) >= 6, sent
        assert all(sizes.values()), f"from a cache: {sent}"
        assert sum(sizes.values()) <= 150_000, sent


async def test_a_statement_fits_on_paper(chromium: Any, services: Services) -> None:
    """On A4 between its margins, whatever long name a model has; without the shadow that tells of more to scroll to."""
    places = await fill(services)
    await services.pool.execute("UPDATE usage_rollup_daily SET model = $1 WHERE model = 'gpt-5-mini'", "M" * 128)
    async with served(services) as url:
        window = await new_window(chromium, url, 658)  # 174 mm
        await window.sign_in(ADA)
        await window.page.emulate_media(media="print")
        await window.open(places.path("/accounts/{account_id}/billing/{month}"))
        assert "M" * 128 in await window.page.inner_text("table")
        width, background = await window.page.evaluate(
            "[document.documentElement.scrollWidth,"
            " getComputedStyle(document.querySelector('.scroll')).backgroundImage]"
        )
        assert width <= 658
        assert background == "none"
        assert window.faults == [], "\n".join(window.faults)


async def test_without_a_script_no_button_does_nothing(chromium: Any, services: Services) -> None:
    """What copies needs one; the key can be selected by one click."""
    await fill(services, requests=1)
    async with served(services) as url:
        window = await new_window(chromium, url, java_script_enabled=False)
        page = window.page
        await window.open("/sign-in")
        await page.fill("#address", ADA)
        await page.fill("#password", PASSWORD)
        await page.click("main button")
        await window.open("/tokens/new")
        await page.fill("#name", "laptop")
        await page.check("[name='scope-usage:read']")
        await page.click("main form button")
        assert await page.inner_text("#new-token")
        assert not await page.is_visible("[data-copy]")


async def test_a_page_that_is_left_keeps_no_second_factor(chromium: Any, services: Services) -> None:
    """Neither its key, nor the picture of that, nor recovery codes: the browser may keep the page as it was."""
    leave = "dispatchEvent(new PageTransitionEvent('pagehide'))"
    await fill(services, requests=1)
    async with served(services) as url:
        window = await new_window(chromium, url)
        page = window.page
        await window.sign_in(ADA)
        await window.open("/second-factor")
        await page.click("main form button")
        seed = await page.text_content(".key")
        code = code_at(from_text(seed.replace(" ", "")), int(time.time() // STEP_S))
        await page.evaluate(leave)
        assert seed not in await page.content()
        assert await page.locator("svg.qr").count() == 0
        await page.fill("#code", code)
        await page.click("main .steps form button")
        first = await page.text_content(".codes li")
        await page.evaluate(leave)
        assert first not in await page.content()
