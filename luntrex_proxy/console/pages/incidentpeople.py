"""Whom an incident reached, what they and the authority would be told, and telling them."""

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.clock import now
from luntrex_proxy.console.pages.incidents import find
from luntrex_proxy.console.pages.page import Access, Page, Route, WrongFieldsError
from luntrex_proxy.console.pages.paging import number_in
from luntrex_proxy.control import incidents
from luntrex_proxy.control.access import NotFoundError

_SHOWN: Final = 200
DONE: Final = {
    "people_told": "They are told now. How that ends for each of them is shown below.",
}


async def _affected(page: Page) -> Mapping[str, Any]:
    incident, _ = await find(page)
    found = await incidents.affected(page.services.pool, page.services.settings, incident.incident_id, now())
    first = number_in(page.query("from"))
    return {
        "incident": incident,
        "found": found,
        "people": sorted(found.people, key=lambda one: one.email)[first : first + _SHOWN],
        "accounts": sorted(found.accounts, key=lambda one: one.name)[first : first + _SHOWN],
        "first": first,
        "more": first + _SHOWN if max(len(found.people), len(found.accounts)) > first + _SHOWN else None,
    }


async def _drafts(page: Page) -> Mapping[str, Any]:
    incident, _ = await find(page)
    drafts = await incidents.draft(page.services.pool, page.services.settings, incident.incident_id, now())
    return {"incident": incident, "drafts": drafts, "missing": incidents.missing(page.services.settings, incident)}


async def _tell_form(page: Page) -> Mapping[str, Any]:
    incident, _ = await find(page)
    if incident.drill:
        raise NotFoundError("This is an exercise: nobody is told.")
    found = await incidents.affected(page.services.pool, page.services.settings, incident.incident_id, now())
    return {**await _drafts(page), "count": len(found.people), "wider": found.wider}


async def _tell(page: Page) -> web.StreamResponse:
    incident, _ = await find(page)
    if page.field("sure") != "yes":
        raise WrongFieldsError(sure="Say that they shall be told.")
    await incidents.notify(page.services.pool, page.services.settings, incident.incident_id, now())
    return page.go(f"/incidents/{incident.incident_id}?done=people_told")


async def _notices(page: Page) -> Mapping[str, Any]:
    incident, _ = await find(page)
    after = number_in(page.query("after"))
    found = await incidents.notices(page.services.pool, incident.incident_id, after, _SHOWN + 1)
    return {
        "incident": incident,
        "found": found[:_SHOWN],
        "more": found[_SHOWN - 1].notice_id if len(found) > _SHOWN else None,
    }


_ONE: Final = "/incidents/{incident_id}"
ROUTES: Final = (
    Route(f"{_ONE}/affected", "incident_affected.html", _affected, None, Access.OPERATOR),
    Route(f"{_ONE}/drafts", "incident_drafts.html", _drafts, None, Access.OPERATOR),
    Route(f"{_ONE}/notify", "incident_notify.html", _tell_form, _tell, Access.OPERATOR, proves=True),
    Route(f"{_ONE}/notices", "incident_notices.html", _notices, None, Access.OPERATOR),
)
