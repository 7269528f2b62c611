"""The first page about privacy, on one's own data, signed in: see it, get a copy, correct, restrict, object, erase.
Without signing in: rights.py.

Whatever gives data out or changes what happens to it asks for the password when the last time is ten minutes ago.
"""

import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.given import Given
from luntrex_proxy.console.pages.menu import YOU, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route, WrongFieldsError
from luntrex_proxy.console.pages.work import copies_of
from luntrex_proxy.control import consents, policytext, rights
from luntrex_proxy.control.rights import Law

_PATH: Final = "/your-data"
DONE: Final = {
    "noted": "Your words stand beside the record.",
    "restricted": "Your data is only stored from now on.",
    "unrestricted": "The restriction has ended.",
    "objected": "New usage does not lead to your keys any more.",
    "objection_ended": "The objection has ended.",
    "erasure_asked": "You are going to be erased. How it stands is below.",
    "withdrawn": "The request is withdrawn.",
}
# One entry for all that is about privacy: the pages have privacy_nav.html in common.
_MENU: Final = Menu(
    "Privacy",
    YOU,
    50,
    ("/privacy", "/subprocessors", *(f"/accounts/{{account_id}}/{of}" for of in ("privacy", "captures", "incidents"))),
)
_SHOWN_MAX: Final = 30  # of what was asked for, the newest; all of it is in the API


async def _data(page: Page) -> Mapping[str, Any]:
    pool, person_id = page.services.pool, page.person.person_id
    asked = await rights.listed(pool, person_id=person_id, only_open=False, limit=_SHOWN_MAX, newest_first=True)
    since = await consents.member_requests_since(pool, [each.account_id for each in page.person.members])
    return {
        **await copies_of(page),
        "seen_since": [(each, since.get(each.account_id)) for each in page.person.members],
        "asked": [rights.shown(each, _now()) for each in asked],
        "objecting": await rights.is_objecting(pool, person_id),
        "grace_days": page.services.settings.privacy.erasure_grace_days,
        "laws": [each.value for each in Law],
        "contact": page.services.settings.privacy.contact,
        "policy": policytext.load(),
    }


async def _access(page: Page) -> web.StreamResponse:
    days = page.services.settings.retention.by_class()
    _, report = await rights.access(page.services.pool, page.person.person_id, _now(), days)
    return page.show("data_access.html", {"report": report})


async def _export(page: Page) -> web.StreamResponse:
    _, token, until = await rights.offer_export(page.services.pool, page.person.person_id)
    copies = dict(await copies_of(page))
    newest = copies["found"][0].work_id if copies["found"] else "none"
    copies |= {"asks_again": True, "rows_at": f"/your-data/copies?awaited={newest}"}
    return page.show("data_export.html", copies | {"token": token, "until": until})


async def _name(page: Page) -> web.StreamResponse:
    await rights.correct_name(page.services.pool, page.person.person_id, page.field("name"))
    return page.go(f"{_PATH}?done=name")


async def _note(page: Page) -> web.StreamResponse:
    try:
        request_id = uuid.UUID(page.field("request").strip())
    except ValueError:
        raise WrongFieldsError(request="Give the id of the request: the value of its answer's x-request-id.") from None
    with page.beside(not_found="request", bad_note="note"):
        await rights.annotate(page.services.pool, page.person.person_id, request_id, page.field("note"))
    return page.go(f"{_PATH}?done=noted")


async def _restrict(page: Page) -> web.StreamResponse:
    on = page.field("on") == "yes"
    await rights.restrict(page.services.pool, page.person.person_id, on=on)
    return page.go(f"{_PATH}?done={'restricted' if on else 'unrestricted'}")


async def _object(page: Page) -> web.StreamResponse:
    on = page.field("on") == "yes"
    await rights.object_to_analytics(page.services.pool, page.person.person_id, on=on)
    return page.go(f"{_PATH}?done={'objected' if on else 'objection_ended'}")


async def _erase(page: Page) -> web.StreamResponse:
    given = Given(page)
    law = Law(given.one_of("law", tuple(Law)))
    if page.field("sure") != "yes":
        given.wrong["sure"] = "Say that you want to be erased."
    given.check()
    grace = timedelta(days=page.services.settings.privacy.erasure_grace_days)
    with page.beside(last_owner="sure"):
        await rights.ask_erasure(page.services.pool, page.person.person_id, _now(), grace, law=law)
    return page.go(f"{_PATH}?done=erasure_asked")


async def _withdraw(page: Page) -> web.StreamResponse:
    await rights.withdraw(page.services.pool, page.field("reference"), page.person.person_id)
    return page.go(f"{_PATH}?done=withdrawn")


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


ROUTES: Final = (
    Route(_PATH, "data.html", _data, None, Access.PERSON, menu=_MENU),
    Route(f"{_PATH}/withdraw", "data.html", _data, _withdraw, Access.PERSON),
    *(
        Route(f"{_PATH}/{verb}", "data.html", _data, submit, Access.PERSON, proves=True)
        for verb, submit in (
            ("access", _access),
            ("export", _export),
            ("name", _name),
            ("note", _note),
            ("restrict", _restrict),
            ("object", _object),
            ("erase", _erase),
        )
    ),
)
