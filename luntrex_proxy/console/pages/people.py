"""Everybody there is, for who runs the installation: found, made, stopped, resumed, given a link for a new password.

Who runs the installation, too, is said on the command line only.
"""

import uuid
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.given import Given
from luntrex_proxy.console.pages.menu import OPERATOR, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route, WrongFieldsError
from luntrex_proxy.control import acts, people
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.control.people import PersonInfo
from luntrex_proxy.core.roles import Role

_SHOWN: Final = 50
_ADDRESS_MAX: Final = 254
_STATES: Final = ("active", "restricted", "suspended", "unverified")
_ROLES: Final = tuple((role.value, role.value) for role in Role)
DONE: Final = {
    "person_made": "The person is there. A letter with a link to set a password is on its way.",
    "person_suspended": "Nobody gets in as this person any more: sessions, tokens and own keys have stopped.",
    "person_resumed": "The person can sign in again. Own keys stay suspended until they are resumed.",
    "person_reset": "A letter with a link to set another password is on its way.",
}


async def _list(page: Page) -> Mapping[str, Any]:
    part = "".join(filter(str.isprintable, page.query("address").strip().lower()))[:_ADDRESS_MAX]
    state = page.query("state") if page.query("state") in _STATES else ""
    with acts.acting_as(page.caller.way):
        await acts.record_read(page.services.pool, "people.list")
    found = await people.list_page(
        page.services.pool, _uuid(page.query("after")), _SHOWN + 1, part=part, status=state or None
    )
    return {
        "found": found[:_SHOWN],
        "more": found[_SHOWN - 1].person_id if len(found) > _SHOWN else None,
        "part": part,
        "state": state,
        "states": _STATES,
    }


async def _one(page: Page) -> Mapping[str, Any]:
    found = await _find(page)
    with acts.acting_as(page.caller.way):
        await acts.record_read(page.services.pool, "people.get", person_id=str(found.person_id))
    return {"person": found}


async def _new(_page: Page) -> Mapping[str, Any]:
    return {"roles": _ROLES}


async def _create(page: Page) -> web.StreamResponse:
    given = Given(page)
    role = given.one_of("role", tuple(word for word, _ in _ROLES))
    if page.field("affirmed_16") != "yes":
        given.wrong["affirmed_16"] = "There is no room here for anybody under 16."
    given.check()
    with page.beside(bad_address="email", address_taken="email", bad_name="name", no_account="account"):
        made = await people.create(
            page.services, page.field("email"), page.field("name"), affirmed_16=True,
            account=page.field("account").strip() or None, role=Role(role), by=page.caller,
        )  # fmt: skip
    person = await people.find(page.services.pool, made.email)
    if made.link is not None:
        return page.show("person_link.html", {"person": person, "link": made.link})
    return page.go(f"/people/{person.person_id}?done=person_made")


async def _suspend(page: Page) -> web.StreamResponse:
    person = await _find(page)
    if page.field("sure") != "yes":
        raise WrongFieldsError(sure="Say that nobody shall get in as this person.")
    with page.beside(last_owner="sure", last_operator="sure"):
        await people.suspend(page.services.pool, person.person_id)
    return page.go(f"/people/{person.person_id}?done=person_suspended")


async def _resume(page: Page) -> web.StreamResponse:
    person = await _find(page)
    await people.resume(page.services.pool, person.person_id)
    return page.go(f"/people/{person.person_id}?done=person_resumed")


async def _reset(page: Page) -> web.StreamResponse:
    person = await _find(page)
    made = await people.reset(page.services, person.email)
    if made.link is not None:
        return page.show("person_link.html", {"person": person, "link": made.link})
    return page.go(f"/people/{person.person_id}?done=person_reset")


async def _find(page: Page) -> PersonInfo:
    person_id = _uuid(page.place("person_id"))
    if person_id is None:
        raise NotFoundError
    return await people.get(page.services.pool, person_id)


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


_ONE: Final = "/people/{person_id}"
ROUTES: Final = (
    Route("/people", "people.html", _list, None, Access.OPERATOR, menu=Menu("People", OPERATOR, 15)),
    Route("/people/new", "person_new.html", _new, _create, Access.OPERATOR, proves=True),
    Route(_ONE, "person.html", _one, None, Access.OPERATOR),
    Route(f"{_ONE}/suspend", "person.html", _one, _suspend, Access.OPERATOR),
    Route(f"{_ONE}/resume", "person.html", _one, _resume, Access.OPERATOR),
    Route(f"{_ONE}/reset", "person_reset.html", _one, _reset, Access.OPERATOR, proves=True),
)
