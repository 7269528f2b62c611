"""What people are told of incidents where no mail goes out, and for operators the open ones with whom to write to.

The banner above every page leads to `/notices` until its person says that it was read: that is the proof.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.menu import OPERATOR, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route
from luntrex_proxy.control import incidents
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.core.incidents import clocks, opening, told

DONE: Final = {"read": "Thank you. That you have read it is noted."}


async def _notices(page: Page) -> Mapping[str, Any]:
    contact = incidents.contact_of(page.services.settings)
    return {"notices": [(each, opening(each), told(each, contact)) for each in page.banners]}


async def _read(page: Page) -> web.StreamResponse:
    number = page.field("incident")
    if not number.isascii() or not number.isdigit() or len(number) > 18:
        raise NotFoundError
    await incidents.confirm_banner(page.services.pool, page.person.person_id, int(number))
    return page.go("/?done=read")


async def _open(page: Page) -> Mapping[str, Any]:
    if not page.person.operator:
        raise NotFoundError
    listed = await incidents.list_all(page.services.pool)
    found = [each for each in listed if each.closed_at is None]
    return {
        "closed": [each for each in listed if each.closed_at is not None],
        "found": [(each, *clocks(each.aware_at), each.stage(_now())) for each in found],
        "addresses": await incidents.addresses(page.services.pool, page.person.person_id) if found else {},
    }


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


ROUTES: Final = (
    Route("/notices", "notices.html", _notices, None, Access.PERSON),
    Route("/notices/read", "notices.html", _notices, _read, Access.PERSON),
    Route("/incidents", "incidents.html", _open, None, Access.PERSON, menu=Menu("Incidents", OPERATOR, 30)),
)
