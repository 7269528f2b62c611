"""Joins the pages and the API to the control plane's application."""

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Final

from aiohttp import web

from luntrex_proxy.console import pages
from luntrex_proxy.console.api.routing import add_api
from luntrex_proxy.console.keys import SERVICES
from luntrex_proxy.console.pages.frame import add_pages
from luntrex_proxy.console.pages.page import Route
from luntrex_proxy.control import work
from luntrex_proxy.control.services import Services


def _modules() -> Iterator[ModuleType]:
    for found in sorted(pkgutil.iter_modules(pages.__path__), key=lambda each: each.name):
        module = importlib.import_module(f"{pages.__name__}.{found.name}")
        if isinstance(getattr(module, "ROUTES", None), tuple):
            yield module


# Every module in pages/ that has ROUTES, so that a new one is a new file; what it says after its forms is its DONE.
PAGES: Final[tuple[Route, ...]] = tuple(route for module in _modules() for route in module.ROUTES)
SAID: Final[dict[str, str]] = {
    word: sentence for module in _modules() for word, sentence in getattr(module, "DONE", {}).items()
}


def add_console(app: web.Application, services: Services) -> None:
    """Add every page and the API. `/metrics`, `/livez` and `/readyz` are there without it."""
    app[SERVICES] = services
    add_api(app, services)
    add_pages(app, PAGES, SAID)
    app.on_shutdown.append(_stop_work)


async def _stop_work(_app: web.Application) -> None:
    await work.stop()
