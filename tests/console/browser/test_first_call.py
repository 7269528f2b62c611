"""From signing up to the first request seen live, in Chromium; and that a key is nowhere but on its page."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from luntrex_proxy.control import links
from luntrex_proxy.control.services import Services
from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.catalogue import Entry, Target
from luntrex_proxy.store.database import Pool
from tests.console.browser.conftest import served
from tests.console.browser.places import ADA, fill, use_now
from tests.console.browser.window import Window, new_window
from tests.people import PASSWORD, services_of

Error = pytest.importorskip("playwright.async_api", reason="playwright is not installed").Error
MODELS = [
    Entry("gpt-5-mini", (Target("up", Dialect.OPENAI, "gpt-5-mini"),)),
    Entry("claude-sonnet-5", (Target("other", Dialect.ANTHROPIC, "claude-sonnet-5"),)),
]
CAROL = "carol@example.org"
KEY = re.compile(r"lx_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}")
_WHERE_KEYS_MUST_NOT_BE = """
() => JSON.stringify([location.href, history.state, {...localStorage}, {...sessionStorage}, document.cookie,
    performance.getEntriesByType('resource').map((entry) => entry.name)])
"""


async def sign_up(window: Window, pool: Pool) -> None:
    """As a person would, the letter's link aside."""
    await window.open("/sign-up")
    await window.page.fill("#address", CAROL)
    await window.page.check("[name=affirmed_16]")
    await window.page.click("main button")
    person_id = await pool.fetchval("SELECT person_id FROM person WHERE email = $1", CAROL)
    async with pool.acquire() as connection:
        token = await links.make(connection, "setup", person_id=person_id, by_mail=True)
    await window.open(f"/link?token={token}")
    await window.page.fill("#password", PASSWORD)
    await window.page.click("main button")


async def test_the_first_two_minutes(chromium: Any, database: Pool, tmp_path: Path) -> None:
    """Sign up, create, copy, wait, see it arrive, look at the usage, leave; the key stays nowhere."""
    mail = {"host": "127.0.0.1", "port": 1, "security": "none", "sender": "proxy@example.org"}
    settings = {
        "mail": mail,
        "console": {"public_url": "http://127.0.0.1:1", "sign_up": "open"},
        "upstreams": [{"name": "up", "dialect": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": "k"}],
    }
    services = dataclasses.replace(services_of(database, tmp_path, **settings), models=lambda: MODELS)
    async with served(services) as url:
        window = await new_window(chromium, url)
        page = window.page
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await sign_up(window, database)
        assert await page.text_content("h1") == "Your first call"
        await window.look("guided first call")
        await page.click("main form button")
        key = await page.text_content("#new-key")
        assert KEY.fullmatch(key)
        lines = await page.locator("pre").all_text_contents()
        assert len(lines) > 6
        assert all(key in each for each in lines)
        await window.look("a new key")
        await page.click("[data-copy=new-key]")
        await page.get_by_text("Copied").wait_for()
        assert await page.evaluate("navigator.clipboard.readText()") == key
        assert "Waiting for your first request" in await page.text_content("#first-call")
        await use_now(services, key[3:15])
        await page.get_by_text("It works.").wait_for()
        said = await page.text_content("#first-call")
        assert "40 tokens in, 20 out" in " ".join(said.split())
        assert key not in await page.evaluate(_WHERE_KEYS_MUST_NOT_BE)
        await page.click("#first-call a.button")
        assert await page.text_content("h1") == "Overview"
        await page.wait_for_selector("canvas", state="attached")
        assert await page.locator("canvas").count() == 2
        await page.set_viewport_size({"width": 390, "height": 900})
        await page.click(".open-menu")
        await page.wait_for_selector("#menu", state="visible")
        await window.judge("the open menu")
        await page.keyboard.press("Escape")
        await page.wait_for_selector("#menu", state="hidden")
        await page.set_viewport_size({"width": 1280, "height": 900})
        # The browser has nothing of the page left: it would have to send the form again, and asks first.
        with pytest.raises(Error, match="ERR_CACHE_MISS"):
            await page.go_back()
        await page.wait_for_url(lambda url: url.startswith("chrome-error:"))
        await window.open("/accounts")
        assert key not in await page.evaluate(_WHERE_KEYS_MUST_NOT_BE)
        await window.open(f"/accounts/{await database.fetchval('SELECT account_id FROM account')}/usage")
        await page.select_option("#group", "key")
        await page.wait_for_url("**group=key**")
        assert "first" in await page.text_content("section table tbody")
        async with page.expect_download() as download:
            await page.get_by_text("Download as CSV").click()
        text = Path(await (await download.value).path()).read_text()
        assert "first,1,0,40,20,0.000100000000" in text
        assert key not in text
        await page.click("[name=theme][value=dark]")
        assert await page.get_attribute("html", "data-theme") == "dark"
        await page.click("#menu .leave button")
        assert await page.text_content("h1") == "Signed out"
        assert await page.context.cookies() == []
        await page.go_back()
        assert await page.text_content("h1") == "Sign in"
        assert window.faults == [], "\n".join(window.faults)


async def test_keys_without_a_script(chromium: Any, services: Services) -> None:
    """Made, shown once, replaced and ended by forms alone; on a narrow window the menu opens by the keyboard."""
    places = await fill(services, requests=10)
    async with served(services) as url:
        window = await new_window(chromium, url, 390, java_script_enabled=False)
        page = window.page
        await window.sign_in(ADA)
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.textContent") == "Skip to the content"
        assert not await page.is_visible("#menu")
        await page.focus(".open-menu")
        await page.keyboard.press("Enter")
        await page.click("#menu a:text-is('Keys')")
        await page.click("text=Create a key")
        await page.fill("#name", "bobs")
        await page.fill("#expires", "2040-01-31")
        await page.click("main button")
        assert "has this name" in await page.text_content("#name-wrong")
        assert await page.input_value("#expires") == "2040-01-31"
        await page.fill("#name", "script-less")
        await page.click("main button")
        assert KEY.fullmatch(await page.text_content("#new-key"))
        await window.open(f"/accounts/{places.account_id}/keys/{places.key_id}")
        await page.click("text=Replace the key")
        assert KEY.fullmatch(await page.text_content("#new-key"))
        await window.open(f"/accounts/{places.account_id}/keys/{places.key_id}")
        await page.check("[name=sure]")
        await page.click("text=End the key")
        assert "ended for good" in await page.text_content("[role=status]")
        assert window.faults == [], "\n".join(window.faults)
