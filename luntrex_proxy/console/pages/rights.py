"""The pages about one's data for everybody: asking by form, confirming, how it stands, and fetching an export."""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.given import Given
from luntrex_proxy.console.pages.page import Page, Route
from luntrex_proxy.console.pages.sending import send_pieces
from luntrex_proxy.control import rights, rightsform, work
from luntrex_proxy.control.acts import RefusedError, StoreError
from luntrex_proxy.control.rights import Law, Right

_FILE: Final = "my-data.zip"
_LONGEST_S: Final = 3_600.0  # who reads more slowly than that holds a process and a snapshot of the tables


async def _form(page: Page) -> Mapping[str, Any]:
    return {
        "contact": page.services.settings.privacy.contact,
        "rights": [each.value for each in Right],
        "laws": [each.value for each in Law],
    }


async def _ask(page: Page) -> web.StreamResponse:
    given = Given(page)
    right = Right(given.one_of("right", tuple(Right)))
    law = Law(given.one_of("law", tuple(Law)))
    given.check()
    made = await rightsform.ask(page.services, page.field("address"), right, law, page.network)
    return page.show("rights_asked.html", {"reference": made.reference, "due": made.clock.due.date()})


async def _link(page: Page) -> Mapping[str, Any]:
    return {"token": page.field("token") or page.query("token")}


async def _confirm(page: Page) -> web.StreamResponse:
    done = await rightsform.confirm(page.services, page.field("token"), _now())
    shown = rights.shown(done.request, _now())
    return page.show(
        "rights_status.html", {"request": shown, "token": done.token, "by_hand": done.by_hand, "one": None}
    )


async def _status(page: Page) -> Mapping[str, Any]:
    reference = page.query("reference").strip()
    if not reference:
        return {"request": None, "token": "", "by_hand": False, "one": None}
    try:
        one = await work.of_request(page.services.pool, reference.upper())
        found = rights.shown(await rights.by_reference(page.services.pool, reference), _now())
    except RefusedError as refused:
        page.error = str(refused)
        found, one = None, None
    return {"request": found, "token": "", "by_hand": False, "one": one}


async def _download(page: Page) -> web.StreamResponse:
    """The zip, as it is written; it does not begin unless the link works."""
    days = page.services.settings.retention.by_class()
    pieces = await rights.take_export(page.services.pool, page.services.dsn, page.field("token"), days)
    headers = {"Content-Type": "application/zip", "Content-Disposition": f'attachment; filename="{_FILE}"'}
    async with asyncio.timeout(_LONGEST_S):
        try:
            return await send_pieces(page.request, page.services.settings, headers, pieces)
        except StoreError as error:
            raise RefusedError(str(error)) from None


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


ROUTES: Final = (
    Route("/rights", "rights.html", _form, _ask),
    Route(rightsform.PATH, "rights_confirm.html", _link, _confirm),
    Route("/rights/status", "rights_status.html", _status),
    Route("/rights/download", "rights_download.html", _link, _download),
)
