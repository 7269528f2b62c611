"""Forms of an incident: entered, changed, widened by what it reached, exercised, closed. Telling: incidentpeople.py."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.clock import now
from luntrex_proxy.console.pages.given import Given
from luntrex_proxy.console.pages.incidents import find
from luntrex_proxy.console.pages.page import Access, Page, Route, WrongFieldsError
from luntrex_proxy.control import incidents
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.core.incidents import OBJECT, TEXT_CHARACTERS_MAX, TITLE_CHARACTERS_MAX, Incident, Reach

KINDS: Final = (("key", "an API key"), ("upstream", "an upstream"), ("table", "a table of the database"))
_TEXTS: Final = ("nature", "consequences", "measures")
DONE: Final = {
    "incident_opened": "The incident is in the register and its clocks run. Say next what it reached.",
    "incident_changed": "The incident is changed.",
    "incident_widened": "What it reached is noted. Whom that means is shown below.",
    "incident_closed": "The incident is closed. It stays in the register.",
    "exercised": "The exercise is done and closed: nobody was told. Its notices show what would be missing.",
}


async def _new(_page: Page) -> Mapping[str, Any]:
    return {"incident": None, "now": now()}


async def _open(page: Page) -> web.StreamResponse:
    given = Given(page)
    title, texts = given.line("title", TITLE_CHARACTERS_MAX, needed=True), _texts(given)
    aware_at = given.moment("aware_at", needed=True)
    given.check()
    with page.beside(ahead="aware_at", bad_text="title"):
        made = await incidents.open_(page.services.pool, title, aware_at or now(), (), texts)
    return page.go(f"/incidents/{made.incident_id}?done=incident_opened")


async def _form(page: Page) -> Mapping[str, Any]:
    return {"incident": await _still_open(page), "now": now()}


async def _change(page: Page) -> web.StreamResponse:
    incident, given = await _still_open(page), Given(page)
    wanted: dict[str, str | datetime] = {"title": given.line("title", TITLE_CHARACTERS_MAX, needed=True)}
    wanted |= _texts(given)
    told_at = given.moment("authority_notified_at")
    given.check()
    if told_at is not None:
        wanted["authority_notified_at"] = told_at
    changes = {name: value for name, value in wanted.items() if value != _as_typed(getattr(incident, name))}
    if not changes:
        raise WrongFieldsError(title="All of it says so already.")
    with page.beside(ahead="authority_notified_at", bad_text="title"):
        await incidents.change(page.services.pool, incident.incident_id, changes, ())
    return page.go(f"/incidents/{incident.incident_id}?done=incident_changed")


async def _reach_form(page: Page) -> Mapping[str, Any]:
    return {"incident": await _still_open(page), "kinds": KINDS, **_at_hand(page)}


async def _widen(page: Page) -> web.StreamResponse:
    incident, reach = await _still_open(page), _reach(page)
    with page.beside(bad_reach="object"):
        await incidents.change(page.services.pool, incident.incident_id, {}, [reach])
    return page.go(f"/incidents/{incident.incident_id}?done=incident_widened")


async def _drill_form(page: Page) -> Mapping[str, Any]:
    return {"incident": None, "kinds": KINDS, **_at_hand(page)}


async def _drill(page: Page) -> web.StreamResponse:
    reach = _reach(page)
    with page.beside(bad_reach="object"):
        done = await incidents.drill(page.services.pool, page.services.settings, [reach], now())
    return page.go(f"/incidents/{done.number}?done=exercised")


async def _close(page: Page) -> web.StreamResponse:
    incident, given = await _still_open(page), Given(page)
    conclusion = given.text("conclusion", TEXT_CHARACTERS_MAX, needed=True)
    given.check()
    with page.beside(bad_text="conclusion"):
        await incidents.close(page.services.pool, incident.incident_id, conclusion)
    return page.go(f"/incidents/{incident.incident_id}?done=incident_closed")


async def _still_open(page: Page) -> Incident:
    incident, _ = await find(page)
    if incident.closed_at is not None:
        raise NotFoundError("This incident is closed: it stays as it is.")
    return incident


def _texts(given: Given) -> dict[str, str]:
    return {name: given.text(name, TEXT_CHARACTERS_MAX) for name in _TEXTS}


def _as_typed(value: str | datetime | None) -> str | datetime | None:
    """As the form has it: moments to the minute."""
    return value.replace(second=0, microsecond=0) if isinstance(value, datetime) else value


def _reach(page: Page) -> Reach:
    given = Given(page)
    kind = given.one_of("kind", tuple(word for word, _ in KINDS))
    name = given.line("object", 128, needed=True).removeprefix("lx_" if kind == "key" else "")
    if not OBJECT.fullmatch(name):
        given.wrong.setdefault("object", "Give the id of a key, or the name of an upstream or a table.")
    begins_at, ends_at = given.moment("begins_at", needed=True), given.moment("ends_at")
    given.check()
    return Reach(kind, name, begins_at or now(), ends_at or now())


def _at_hand(page: Page) -> dict[str, Any]:
    return {"upstreams": sorted(each.name for each in page.services.upstreams(()))}


_ONE: Final = "/incidents/{incident_id}"
ROUTES: Final = (
    Route("/incidents/new", "incident_edit.html", _new, _open, Access.OPERATOR),
    Route("/incidents/exercise", "incident_reach.html", _drill_form, _drill, Access.OPERATOR),
    Route(f"{_ONE}/edit", "incident_edit.html", _form, _change, Access.OPERATOR),
    Route(f"{_ONE}/reach", "incident_reach.html", _reach_form, _widen, Access.OPERATOR),
    Route(f"{_ONE}/close", "incident_close.html", _form, _close, Access.OPERATOR, proves=True),
)
