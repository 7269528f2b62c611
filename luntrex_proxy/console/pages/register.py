"""The register of sub-processors and requests by right with their clocks, for who runs the installation."""

import contextlib
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.clock import now
from luntrex_proxy.console.pages.menu import OPERATOR, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route
from luntrex_proxy.console.pages.paging import require_operator
from luntrex_proxy.control import acts, registry, rights
from luntrex_proxy.control.rights import Request
from luntrex_proxy.core.rights import can_be_extended

_SHOWN: Final = 50
DONE: Final = {"request_extended": "The time for the answer is extended; tell the person why."}


async def _places(page: Page) -> Mapping[str, Any]:
    require_operator(page)
    return {"found": await registry.places(page.services.pool, page.services.settings_now, now())}


async def _requests(page: Page) -> Mapping[str, Any]:
    require_operator(page)
    pool, is_all = page.services.pool, page.query("show") == "all"
    with acts.acting_as(page.caller.way):
        await acts.record_read(pool, "rights.list")
    found = await rights.listed(pool, only_open=not is_all, after=_after(page.query("after")), limit=_SHOWN + 1)
    last = found[_SHOWN - 1] if len(found) > _SHOWN else None
    return {
        "found": [(each, each.clock.due, rights.shown(each, now())["stage"]) for each in found[:_SHOWN]],
        "more": None if last is None else f"{last.received_at.isoformat()}~{last.request_id}",
        "is_all": is_all,
        "clocks": await rights.clocks(pool, now()),
        "may_extend": _may_extend,
    }


async def _extend(page: Page) -> web.StreamResponse:
    require_operator(page)
    await rights.extend(page.services.pool, page.field("reference"))
    return page.go("/rights-requests?done=request_extended")


def _may_extend(request: Request) -> bool:
    return request.closed_at is None and request.extended_at is None and can_be_extended(request.law)


def _after(word: str) -> tuple[datetime, uuid.UUID] | None:
    at, _, request_id = word.partition("~")
    with contextlib.suppress(ValueError):
        found = datetime.fromisoformat(at)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)), uuid.UUID(request_id)
    return None


_RIGHTS: Final = "/rights-requests"
ROUTES: Final = (
    Route("/registry", "registry.html", _places, None, Access.PERSON, menu=Menu("Registry", OPERATOR, 50)),
    Route(_RIGHTS, "rights_requests.html", _requests, None, Access.PERSON, menu=Menu("Rights requests", OPERATOR, 40)),
    Route(f"{_RIGHTS}/extend", "rights_requests.html", _requests, _extend, Access.PERSON),
)
