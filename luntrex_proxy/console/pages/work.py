"""Long work: begun here by who runs the installation, shown with how far it is, found again by who may see it.

Exports and erasures begin where people ask for them (data.py, rights.py) and stand in this list too. A page asks for
its piece again while something runs; without a script there is a link.
"""

import contextlib
import uuid
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.clock import now
from luntrex_proxy.console.pages.menu import OPERATOR, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route, WrongFieldsError
from luntrex_proxy.control import accounts, acts, repricing, statements, work
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.control.repricing import Selection
from luntrex_proxy.control.work import Work
from luntrex_proxy.core.months import BadMonthError, month_of, next_month, read_month

_PATH: Final = "/work"
_SHOWN_MAX: Final = 50
_COPIES_MAX: Final = 5
_MODEL_CHARACTERS_MAX: Final = 200
_FIRST_DAY: Final = date(2000, 1, 1)


async def _list(page: Page) -> Mapping[str, Any] | web.StreamResponse:
    if not page.is_fragment:
        with acts.acting_as(page.caller.way):
            await acts.record_read(page.services.pool, "work.list")
    found = await work.newest(page.services.pool, _SHOWN_MAX)
    names = await _names(page, found)
    days = page.services.settings.retention.session_days
    values = {"found": found, "names": names, "rows_at": _PATH, "asks_again": _is_running(found), "days": days}
    return page.show("work_rows.html", values) if page.is_fragment else values


async def _one(page: Page) -> Mapping[str, Any] | web.StreamResponse:
    found = await _found(page)
    values = {"one": found, "names": await _names(page, [found])}
    return page.show("work_piece.html", values) if page.is_fragment else values


async def copies_of(page: Page) -> Mapping[str, Any]:
    """What the rows of the person's own exports need."""
    found = await work.newest(page.services.pool, _COPIES_MAX, kinds=["export"], person_id=page.person.person_id)
    return {"found": found, "names": {}, "rows_at": "/your-data/copies", "asks_again": _is_running(found)}


async def _copies(page: Page) -> Mapping[str, Any] | web.StreamResponse:
    values = dict(await copies_of(page))
    awaited = page.query("awaited")
    newest = str(values["found"][0].work_id) if values["found"] else "none"
    if awaited == newest:  # what was the newest when the button was shown
        values |= {"asks_again": True, "rows_at": f"/your-data/copies?awaited={newest}"}
    return page.show("work_rows.html", values) if page.is_fragment else page.go("/your-data")


async def _closing(_page: Page) -> Mapping[str, Any]:
    today = now().date()
    return {"month": month_of(date.fromordinal(month_of(today).toordinal() - 1)).strftime("%Y-%m")}


async def _close(page: Page) -> web.StreamResponse:
    wrong = {}
    month = None
    with contextlib.suppress(BadMonthError):
        month = read_month(page.field("month").strip())
    if month is None:
        wrong["month"] = "Give a month such as 2026-10."
    elif next_month(month) > now().date():
        wrong["month"] = "This month is not over yet, in UTC."
    if page.field("sure") != "yes":
        wrong["sure"] = "Say that it shall be closed for good."
    if wrong or month is None:
        raise WrongFieldsError(**wrong)
    with page.beside(under_way="month"):
        work_id = await statements.begin_closing(page.services.pool, month)
    return page.go(f"{_PATH}/{work_id}")


async def _repricing(_page: Page) -> Mapping[str, Any]:
    today = now().date()
    return {"since": month_of(today), "until": today}


async def _preview(page: Page) -> web.StreamResponse:
    selection = await _selection(page)
    await acts.record_read(page.services.pool, "repricing.preview", selection.account_id)
    with page.beside(under_way="since"):
        work_id = await repricing.begin(page.services, selection, apply=False)
    return page.go(f"{_PATH}/{work_id}")


async def _selection(page: Page) -> Selection:
    """What the form asks for. WrongFieldsError."""
    wrong: dict[str, str] = {}
    since, until = (_day(page, name, wrong) for name in ("since", "until"))
    if not wrong and since > until:
        wrong["until"] = "This is before the first day."
    account_id = None
    if name := page.field("account").strip():
        account_id = await accounts.id_of(page.services.pool, name)
        if account_id is None:
            wrong["account"] = "There is no account of this name."
    model = page.field("model").strip()
    if not model.isprintable() or len(model) > _MODEL_CHARACTERS_MAX:
        wrong["model"] = "Give the name as usage has it."
    if wrong:
        raise WrongFieldsError(**wrong)
    return Selection(since, until, account_id, model or None)


def _day(page: Page, name: str, wrong: dict[str, str]) -> date:
    with contextlib.suppress(ValueError):
        day = date.fromisoformat(page.field(name).strip())
        if _FIRST_DAY <= day <= now().date():
            return day
        wrong[name] = "This day lies ahead, or too far back."
        return _FIRST_DAY
    wrong[name] = "Give a day such as 2027-01-31."
    return _FIRST_DAY


async def _applying(page: Page) -> Mapping[str, Any]:
    found = await _previewed(page)
    return {"one": found, "names": await _names(page, [found])}


async def _apply(page: Page) -> web.StreamResponse:
    selection = repricing.previewed(await _found(page))
    if selection is None:
        raise NotFoundError
    if page.field("sure") != "yes":
        raise WrongFieldsError(sure="Say that the records shall be changed.")
    with page.beside(under_way="sure"):
        work_id = await repricing.begin(page.services, selection, apply=True)
    return page.go(f"{_PATH}/{work_id}")


async def _previewed(page: Page) -> Work:
    """NotFoundError: it is no preview that has ended."""
    found = await _found(page)
    if repricing.previewed(found) is None:
        raise NotFoundError
    return found


async def _found(page: Page) -> Work:
    """NotFoundError: there is none, or it is another's."""
    try:
        found = await work.get(page.services.pool, uuid.UUID(page.place("work_id")))
    except ValueError:
        raise NotFoundError from None
    if found is None or not (page.person.operator or found.person_id == page.person.person_id):
        raise NotFoundError
    return found


async def _names(page: Page, found: Sequence[Work]) -> Mapping[int, str]:
    """Of the accounts that they are about."""
    ids = {each.about.get("account") for each in found}
    ids |= {row["account_id"] for each in found for row in each.result.get("totals", ())}
    return await accounts.names_of(page.services.pool, [each for each in ids if each is not None])


def _is_running(found: Sequence[Work]) -> bool:
    return any(each.state == "running" for each in found)


ROUTES: Final = (
    Route(_PATH, "work.html", _list, None, Access.OPERATOR, menu=Menu("Long work", OPERATOR, 65)),
    Route(f"{_PATH}/close", "work_close.html", _closing, _close, Access.OPERATOR),
    Route(f"{_PATH}/reprice", "work_reprice.html", _repricing, _preview, Access.OPERATOR),
    Route(f"{_PATH}/{{work_id}}", "work_one.html", _one, None, Access.PERSON),
    Route(f"{_PATH}/{{work_id}}/apply", "work_apply.html", _applying, _apply, Access.OPERATOR, proves=True),
    Route("/your-data/copies", "work_rows.html", _copies, None, Access.PERSON),
)
