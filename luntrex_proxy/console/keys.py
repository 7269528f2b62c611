"""What the pages and the API find in their application."""

from typing import Final

from aiohttp import web

from luntrex_proxy.control.services import Services

SERVICES: Final = web.AppKey("services", Services)
