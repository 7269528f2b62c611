"""Every page in Chromium: no violation of its policy, no request to another origin, nothing that axe finds."""

from typing import Any

import pytest

from luntrex_proxy.console.application import PAGES
from luntrex_proxy.console.pages.page import Access
from luntrex_proxy.control.services import Services
from tests.console.browser.conftest import served
from tests.console.browser.places import ADA, fill
from tests.console.browser.window import new_window

# One route of each page: forms are sent to addresses of their own, which show the same.
_PAGES = list({route.template: route for route in reversed(PAGES) if not route.path.endswith(".csv")}.values())


@pytest.mark.parametrize("is_in", [False, True])
async def test_every_page_is_clean(chromium: Any, services: Services, is_in: bool) -> None:
    """Those for everybody, and those for who is signed in."""
    places = await fill(services)
    async with served(services) as url:
        window = await new_window(chromium, url)
        if is_in:
            await window.sign_in(ADA)
        for route in _PAGES:
            if is_in == (route.access is Access.ANYONE):
                continue
            path = places.path(route.path)
            if await window.open(path) not in (200, 404):
                window.faults.append(f"{path}: does not open")
            await window.look(route.template.removesuffix(".html"))
        assert window.faults == [], "\n".join(window.faults)
