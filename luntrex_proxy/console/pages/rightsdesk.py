"""Requests by right for who has to answer them: listed with their clocks, one of them, answered, refused, given time.

How each of these is told to the person is written to the address that the page shows: no letter goes out by itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.clock import now
from luntrex_proxy.console.pages.menu import OPERATOR, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route, WrongFieldsError
from luntrex_proxy.console.pages.paging import place_in
from luntrex_proxy.control import acts, rights
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.control.acts import RefusedError
from luntrex_proxy.control.rights import Request, Right, State
from luntrex_proxy.core.rights import ENDED, Answer, Delay, Refusal, can_be_extended

_SHOWN: Final = 50
ANSWERS: Final = (
    (Answer.ANSWERED, "answered by letter"),
    (Answer.GIVEN, "the data were given"),
    (Answer.CORRECTED, "it was corrected"),
    (Answer.RESTRICTED, "it is only stored now"),
    (Answer.ERASED_BY_HAND, "it was erased"),
    (Answer.NOTHING_KEPT, "nothing is kept of this person"),
)
REFUSALS: Final = (
    (Refusal.IDENTITY_NOT_PROVEN, "nobody proved to be this person"),
    (Refusal.MANIFESTLY_UNFOUNDED, "it is manifestly unfounded"),
    (Refusal.EXCESSIVE, "it is excessive: asked again and again"),
    (Refusal.KEPT_BY_LAW, "a law says that it has to be kept"),
    (Refusal.RIGHTS_OF_OTHERS, "it would harm the rights of others"),
)
DELAYS: Final = ((Delay.COMPLEX, "it is complex"), (Delay.MANY_REQUESTS, "there are many requests"))
DONE: Final = {
    "request_extended": "The time for the answer is extended; tell the person why.",
    "request_answered": "The request is answered.",
    "request_refused": "The request is refused; tell the person why, and where to complain.",
}


async def _list(page: Page) -> Mapping[str, Any]:
    pool, kind, state = page.services.pool, _word(page, "right", Right), _word(page, "state", State)
    only_open = page.query("state") == ""
    with acts.acting_as(page.caller.way):
        await acts.record_read(pool, "rights.list")
    found = await rights.listed(
        pool, only_open=only_open, after=place_in(page.query("after")), limit=_SHOWN + 1,
        kind=Right(kind) if kind else None, state=State(state) if state else None,
    )  # fmt: skip
    last = found[_SHOWN - 1] if len(found) > _SHOWN else None
    return {
        "found": [(each, each.clock.due, rights.shown(each, now())["stage"]) for each in found[:_SHOWN]],
        "more": None if last is None else f"{last.received_at.isoformat()}~{last.request_id}",
        "state": state or ("" if only_open else "all"),
        "right": kind,
        "states": [each.value for each in State],
        "rights": [each.value for each in Right],
        "clocks": await rights.clocks(pool, now()),
        "now": now(),
    }


async def _one(page: Page) -> Mapping[str, Any]:
    request = await _find(page)
    with acts.acting_as(page.caller.way):
        await acts.record_read(page.services.pool, "rights.get")
    return {
        "request": request,
        "stage": rights.shown(request, now())["stage"],
        "is_open": request.state not in ENDED,
        "may_extend": _may_extend(request),
        "answers": ANSWERS,
        "refusals": REFUSALS,
        "delays": DELAYS,
        "words": dict((*ANSWERS, *REFUSALS)),
        "now": now(),
    }


async def _answer(page: Page) -> web.StreamResponse:
    outcome = _chosen(page, "answer", ANSWERS)
    await rights.answer(page.services.pool, page.place("reference"), refused=False, outcome=outcome)
    return page.go(f"/rights-requests/{page.place('reference')}?done=request_answered")


async def _refuse(page: Page) -> web.StreamResponse:
    outcome = _chosen(page, "refusal", REFUSALS)
    await rights.answer(page.services.pool, page.place("reference"), refused=True, outcome=outcome)
    return page.go(f"/rights-requests/{page.place('reference')}?done=request_refused")


async def _extend(page: Page) -> web.StreamResponse:
    reason = _chosen(page, "delay", DELAYS)
    await rights.extend(page.services.pool, page.place("reference"), reason)
    return page.go(f"/rights-requests/{page.place('reference')}?done=request_extended")


async def _find(page: Page) -> Request:
    try:
        return await rights.to_answer(page.services.pool, page.place("reference"))
    except RefusedError:
        raise NotFoundError from None


def _chosen(page: Page, name: str, known: Sequence[tuple[str, str]]) -> str:
    if page.field(name) not in dict(known):
        raise WrongFieldsError(**{name: "Choose one of them."})
    return page.field(name)


def _word(page: Page, name: str, words: type[Right] | type[State]) -> str:
    given = page.query(name)
    return given if given in {each.value for each in words} else ""


def _may_extend(request: Request) -> bool:
    return request.closed_at is None and request.extended_at is None and can_be_extended(request.law)


_LIST: Final = "/rights-requests"
_ONE: Final = f"{_LIST}/{{reference}}"
ROUTES: Final = (
    Route(_LIST, "rights_requests.html", _list, None, Access.OPERATOR, menu=Menu("Rights requests", OPERATOR, 40)),
    Route(_ONE, "rights_request.html", _one, None, Access.OPERATOR),
    Route(f"{_ONE}/answer", "rights_request.html", _one, _answer, Access.OPERATOR),
    Route(f"{_ONE}/refuse", "rights_request.html", _one, _refuse, Access.OPERATOR),
    Route(f"{_ONE}/extend", "rights_request.html", _one, _extend, Access.OPERATOR),
)
