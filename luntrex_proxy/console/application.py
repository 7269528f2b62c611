"""Joins the pages and the API to the control plane's application."""

from typing import Final

from aiohttp import web

from luntrex_proxy.console.api.routing import add_api
from luntrex_proxy.console.keys import SERVICES
from luntrex_proxy.console.pages import data, entrance, incidents, own, privacy, rights
from luntrex_proxy.console.pages.frame import add_pages
from luntrex_proxy.control.services import Services

PAGES: Final = (
    *entrance.ROUTES,
    *own.ROUTES,
    *data.ROUTES,
    *incidents.ROUTES,
    *privacy.ROUTES,
    *rights.ROUTES,
)


def add_console(app: web.Application, services: Services) -> None:
    """Add every page and the API. `/metrics`, `/livez` and `/readyz` are there without it."""
    app[SERVICES] = services
    add_api(app, services)
    add_pages(app, PAGES)
