"""The public pages: the privacy policy, what is kept, who else gets data, and the form for reports of children."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.page import Page, Route
from luntrex_proxy.control import children, policytext, privacy, subprocessors

_RECEIVED: Final = (
    "Thank you. An operator looks at the report; if it is so, the account is closed at once and everything about the "
    "child is erased within 72 hours."
)


async def _policy(_page: Page) -> Mapping[str, Any]:
    return {"policy": policytext.load()}


async def _inventory(page: Page) -> Mapping[str, Any]:
    items = sorted(await privacy.inventory(page.services.pool), key=lambda item: (item.table, item.column))
    tables = [(name, list(rows)) for name, rows in groupby(items, key=lambda item: item.table)]
    settings = page.services.settings.retention
    return {"tables": tables, "periods": privacy.periods(settings.by_class()), "days": settings}


async def _subprocessors(page: Page) -> Mapping[str, Any]:
    return {"found": await subprocessors.public_list(page.services)}


async def _report(page: Page) -> web.StreamResponse:
    with page.beside(bad_reporter="reporter", invalid="relation"):
        await children.receive(
            page.services, page.field("address"), page.field("reporter"), page.field("relation"), page.network
        )
    return page.show("message.html", {"heading": "The report is received", "sentence": _RECEIVED})


async def _relations(_page: Page) -> Mapping[str, Any]:
    return {"relations": children.RELATIONS}


ROUTES: Final = (
    Route("/privacy", "privacy.html", _policy),
    Route("/privacy/inventory", "inventory.html", _inventory),
    Route("/subprocessors", "subprocessors.html", _subprocessors),
    Route("/report-child", "report_child.html", _relations, _report),
)
