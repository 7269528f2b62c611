"""What people are told of incidents where no mail goes out.

The banner above every page leads to `/notices` until its person says that it was read: that is the proof.
"""

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.page import Access, Page, Route
from luntrex_proxy.control import incidents
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.core.incidents import opening, told

_DIGITS_MAX: Final = 18
DONE: Final = {"read": "Thank you. That you have read it is noted."}


async def _notices(page: Page) -> Mapping[str, Any]:
    contact = incidents.contact_of(page.services.settings)
    return {"notices": [(each, opening(each), told(each, contact)) for each in page.banners]}


async def _read(page: Page) -> web.StreamResponse:
    number = page.field("incident")
    if not number.isascii() or not number.isdigit() or len(number) > _DIGITS_MAX:
        raise NotFoundError
    await incidents.confirm_banner(page.services.pool, page.person.person_id, int(number))
    return page.go("/?done=read")


ROUTES: Final = (
    Route("/notices", "notices.html", _notices, None, Access.PERSON),
    Route("/notices/read", "notices.html", _notices, _read, Access.PERSON),
)
