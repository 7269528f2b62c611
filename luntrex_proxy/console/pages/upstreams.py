"""How upstreams are, as this process sees them, and the switch for their maintenance; for who runs the installation."""

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.menu import OPERATOR, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route
from luntrex_proxy.control import upstreams

DONE: Final = {
    "maintained": "Nothing new goes to it, everywhere within a second; what runs there goes on.",
    "unmaintained": "Requests go to it again.",
}
# How a standing reads, and which tag it has.
_STANDINGS: Final = {
    "ready": ("ready", "good"),
    "ejected": ("too many errors: asked after the others", "warn"),
    "paused": ("said to wait: asked after the others", "warn"),
    "probe_fails": ("its probe fails: not asked", "bad"),
    "breaker_open": ("fails again and again: not asked", "bad"),
    "trying": ("one request is finding out", "warn"),
    "maintenance": ("in maintenance", "warn"),
}


async def _list(page: Page) -> Mapping[str, Any]:
    conditions = {condition.name: condition for condition in page.services.upstreams(())}
    found = await upstreams.list_all(page.services.pool, sorted(conditions), conditions.values())
    return {"found": found, "standings": _STANDINGS}


async def _begin(page: Page) -> web.StreamResponse:
    name = page.place("upstream")
    reason = f"reason-{name}"
    with page.beside(bad_text=reason):
        await upstreams.begin_maintenance(page.services.pool, _names(page), name, page.field(reason).strip())
    return page.go("/upstreams?done=maintained")


async def _end(page: Page) -> web.StreamResponse:
    await upstreams.end_maintenance(page.services.pool, _names(page), page.place("upstream"))
    return page.go("/upstreams?done=unmaintained")


def _names(page: Page) -> list[str]:
    return [condition.name for condition in page.services.upstreams(())]


ROUTES: Final = (
    Route("/upstreams", "upstreams.html", _list, None, Access.OPERATOR, menu=Menu("Upstreams", OPERATOR, 20)),
    Route("/upstreams/{upstream}/begin-maintenance", "upstreams.html", _list, _begin, Access.OPERATOR),
    Route("/upstreams/{upstream}/end-maintenance", "upstreams.html", _list, _end, Access.OPERATOR),
)
