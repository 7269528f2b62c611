"""A browser's window on a console, watched: what its policy forbade, what it asked of others, what axe finds."""

import os
import re
from pathlib import Path
from typing import Any

from tests.people import PASSWORD

_AXE = (Path(__file__).parent.parent / "vendored" / "axe.min.js").read_text()
WIDTHS = (1280, 390)
_OF_COLOURS = ["color-contrast", "link-in-text-block"]
_OF_SIZES = ["target-size", "scrollable-region-focusable"]
# Which rules see something that no other look saw: all of them have looked at a light and wide page.
_RULES = {
    ("light", 1280): [],
    ("light", 390): _OF_COLOURS + _OF_SIZES,
    ("dark", 1280): _OF_COLOURS + _OF_SIZES,
    ("dark", 390): _OF_COLOURS + _OF_SIZES,
}
# Where somebody wants to look at the pages: LUNTREX_SCREENSHOTS=directory.
SHOTS = os.environ.get("LUNTREX_SCREENSHOTS")


class Window:
    """One window. `faults`: everything that must not be."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.faults: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("request", self._see)

    def _hear(self, message: Any) -> None:
        # An answer that says no is told by the browser as an error of the page.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.faults.append(f"{message.type}: {message.text}")

    def _see(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:", "about:")):
            self.faults.append(f"elsewhere: {request.url}")

    async def open(self, path: str) -> int:
        """Open a page; its status."""
        answer = await self.page.goto(self.url + path)
        status: int = answer.status
        return status

    async def sign_in(self, address: str) -> None:
        """Come in."""
        await self.open("/sign-in")
        await self.page.fill("#address", address)
        await self.page.fill("#password", PASSWORD)
        await self.page.click("main button")
        await self.page.wait_for_selector("#menu", state="attached")

    async def look(self, what: str) -> None:
        """Have axe look at the page: all rules as it came, then what else is there narrow and dark."""
        await self.judge(what)
        for scheme in ("light", "dark"):
            await self.page.emulate_media(color_scheme=scheme)
            for width in WIDTHS:
                await self.page.set_viewport_size({"width": width, "height": 900})
                if _RULES[scheme, width]:
                    await self._judge(f"{what} {scheme} {width}", {"runOnly": _RULES[scheme, width]})
                wider = await self.page.evaluate(
                    "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                )
                if wider > 0:
                    self.faults.append(f"{what}: {wider} pixels wider than {width}")
                if SHOTS:
                    await self.page.wait_for_timeout(400)  # charts are drawn again
                    name = re.sub(r"[^a-z0-9]+", "_", what)
                    await self.page.screenshot(path=Path(SHOTS) / f"{name}-{scheme}-{width}.png", full_page=True)

        await self.page.set_viewport_size({"width": WIDTHS[0], "height": 900})
        await self.page.emulate_media(color_scheme="light")

    async def judge(self, what: str) -> None:
        """Have axe look at the page as it is now."""
        await self.page.evaluate(_AXE)
        await self._judge(what, {})
        if SHOTS:
            await self.page.screenshot(path=Path(SHOTS) / f"{re.sub('[^a-z0-9]+', '_', what)}.png")

    async def _judge(self, what: str, options: dict[str, Any]) -> None:
        found = await self.page.evaluate(
            "(options) => axe.run(document, {...options, resultTypes: ['violations']}).then((result) =>"
            " result.violations.map((one) => one.id + ': ' + one.nodes.map((node) => node.target + ' '"
            " + node.failureSummary).join(' | ')))",
            options,
        )
        self.faults += [f"{what}: {each}" for each in found]


async def new_window(browser: Any, url: str, width: int = 1280, **more: Any) -> Window:
    """A window of its own, with cookies of its own."""
    viewport = {"width": width, "height": 900}
    context = await browser.new_context(viewport=viewport, reduced_motion="reduce", **more)
    return Window(await context.new_page(), url)
