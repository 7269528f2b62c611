"""Reports that a child has an account, and deciding on them, for who runs the installation."""

import uuid
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.clock import now
from luntrex_proxy.console.pages.page import Access, Page, Route, WrongFieldsError
from luntrex_proxy.console.pages.paging import place_in
from luntrex_proxy.control import acts, children
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.control.acts import RefusedError
from luntrex_proxy.control.children import ChildReport

_SHOWN: Final = 50
_SAID: Final = {"confirm": "confirmed", "dismiss": "dismissed"}
DONE: Final = {
    "child_confirmed": "The person is suspended now. The data go in a day; until then it can be taken back.",
    "child_taken_back": "Nobody is erased by it. The person stays suspended until you resume them, under People.",
    "child_dismissed": "The report has ended; the addresses in it are forgotten.",
}


async def _list(page: Page) -> Mapping[str, Any]:
    is_all, pool = page.query("show") == "all", page.services.pool
    with acts.acting_as(page.caller.way):
        await acts.record_read(pool, "child_reports.list")
    found = await children.list_page(pool, place_in(page.query("before")), _SHOWN + 1, open_only=not is_all)
    last = found[_SHOWN - 1] if len(found) > _SHOWN else None
    return {
        "found": [(each, each.stage(now())) for each in found[:_SHOWN]],
        "more": None if last is None else f"{last.received_at.isoformat()}~{last.report_id}",
        "is_all": is_all,
        "now": now(),
    }


async def _one(page: Page) -> Mapping[str, Any]:
    report = await _find(page)
    with acts.acting_as(page.caller.way):
        await acts.record_read(page.services.pool, "child_reports.get")
    return {"report": report, "stage": report.stage(now()), "now": now()}


async def _decide(page: Page) -> web.StreamResponse:
    report, way = await _find(page), page.field("decision")
    if way not in _SAID:
        raise WrongFieldsError(decision="Choose one of them.")
    with page.beside(decided="decision"):
        if way == "confirm":
            await children.confirm(page.services.pool, report.report_id, now())
        else:
            await children.dismiss(page.services.pool, report.report_id)
    return page.go(f"/child-reports/{report.report_id}?done=child_{_SAID[way]}")


async def _take_back(page: Page) -> web.StreamResponse:
    report = await _find(page)
    await children.take_back(page.services.pool, report.report_id)
    return page.go(f"/child-reports/{report.report_id}?done=child_taken_back")


async def _find(page: Page) -> ChildReport:
    try:
        return await children.get(page.services.pool, uuid.UUID(page.place("report_id")))
    except (ValueError, RefusedError):
        raise NotFoundError from None


ROUTES: Final = (
    Route("/child-reports", "child_reports.html", _list, None, Access.OPERATOR),
    Route("/child-reports/{report_id}", "child_report.html", _one, _decide, Access.OPERATOR, proves=True),
    Route("/child-reports/{report_id}/take-back", "child_report.html", _one, _take_back, Access.OPERATOR, proves=True),
)  # fmt: skip
