"""Incidents for who runs the installation: the register with its clocks, and one of them. The forms: incidentforms.py.

Whom one reached and who was told of it is in incidentpeople.py, what people are told by the console in notices.py.
"""

from collections.abc import Mapping
from typing import Any, Final

from luntrex_proxy.console.pages.clock import now
from luntrex_proxy.console.pages.menu import OPERATOR, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route
from luntrex_proxy.console.pages.paging import number_in
from luntrex_proxy.control import acts, incidents
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.control.acts import RefusedError
from luntrex_proxy.core.incidents import Incident, Reach, clocks
from luntrex_proxy.core.roles import Permission

_SHOWN: Final = 25
_STATES: Final = {"": True, "closed": False, "all": None}  # by the word in the address: whether they are open


async def find(page: Page) -> tuple[Incident, list[Reach]]:
    """The incident of the address, and what it reached. NotFoundError: there is none."""
    try:
        return await incidents.get(page.services.pool, number_in(page.place("incident_id")))
    except RefusedError:
        raise NotFoundError from None


async def _list(page: Page) -> Mapping[str, Any]:
    state = page.query("state") if page.query("state") in _STATES else ""
    before = number_in(page.query("before")) or None
    found = await incidents.list_all(page.services.pool, before, _SHOWN + 1, is_open=_STATES[state])
    return {
        "found": [(each, *clocks(each.aware_at), each.stage(now())) for each in found[:_SHOWN]],
        "more": found[_SHOWN - 1].incident_id if len(found) > _SHOWN else None,
        "state": state,
        "is_later": before is not None,
        "now": now(),
    }


async def _one(page: Page) -> Mapping[str, Any]:
    incident, reaches = await find(page)
    decision, authority = clocks(incident.aware_at)
    pool, settings = page.services.pool, page.services.settings
    with acts.acting_as(page.caller.way):
        addresses = await incidents.addresses(pool)
    return {
        "incident": incident,
        "reaches": reaches,
        "decision": decision,
        "authority": authority,
        "stage": incident.stage(now()),
        "now": now(),
        "notices": await incidents.notices(pool, incident.incident_id, limit=_SHOWN),
        "addresses": addresses.get(incident.incident_id, ()),
        "missing": incidents.missing(settings, incident),
    }


async def _of_account(page: Page) -> Mapping[str, Any]:
    before = number_in(page.query("before")) or None
    found = await incidents.list_of_account(page.services.pool, page.account.account_id, before, _SHOWN + 1)
    return {
        "found": found[:_SHOWN],
        "more": found[_SHOWN - 1].incident_id if len(found) > _SHOWN else None,
        "contact": incidents.contact_of(page.services.settings),
    }


_ONE: Final = "/incidents/{incident_id}"
ROUTES: Final = (
    Route("/incidents", "incidents.html", _list, None, Access.OPERATOR,
          menu=Menu("Incidents", OPERATOR, 30, covers=("/child-reports",))),
    Route(_ONE, "incident.html", _one, None, Access.OPERATOR),
    Route("/accounts/{account_id}/incidents", "account_incidents.html", _of_account, None, Access.MEMBER,
          (Permission.PRIVACY_READ,)),
)  # fmt: skip
