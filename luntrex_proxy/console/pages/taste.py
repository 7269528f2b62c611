"""What somebody likes: whether pages are light or dark, or as the system has it. Kept by the browser, in a cookie."""

from typing import Final

from aiohttp import web

from luntrex_proxy.console import cookies
from luntrex_proxy.console.pages.page import THEMES, Page, Route


async def _set_theme(page: Page) -> web.StreamResponse:
    response = page.go(page.next_path())
    theme = page.field("theme")
    cookies.set_taste(response, page.services.settings, cookies.THEME, theme if theme in THEMES else "")
    return response


ROUTES: Final = (Route("/theme", "theme.html", submit=_set_theme),)
