"""What an account agreed to beyond serving requests, and which sub-processors it objected to."""

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.page import Access, Page, Route, WrongFieldsError
from luntrex_proxy.control import consents, subprocessors
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.control.consents import Consent, Purpose
from luntrex_proxy.core.roles import Permission

NAMES: Final = {
    Purpose.TRAINING: "Providers that train",
    Purpose.BENCHMARKING: "Comparing models",
    Purpose.PROVIDER_RETENTION: "Providers that keep requests longer",
    Purpose.DEBUG_CAPTURE: "Debug capture of service keys",
    Purpose.PRODUCT_MAIL: "Letters about the product",
    Purpose.MEMBER_REQUESTS: "Owners see members' single requests",
}
DONE: Final = {
    "consent_given": "You have agreed; it counts within a second.",
    "consent_withdrawn": "You agree no more; it counts everywhere within a second.",
    "objection_made": "Nothing of the account goes there any more, within seconds.",
    "objection_withdrawn": "The objection is taken back.",
}


async def _list(page: Page) -> Mapping[str, Any]:
    pool, account_id = page.services.pool, page.account.account_id
    history = await consents.history(pool, account_id) if page.may(Permission.CONSENTS_READ) else []
    sees_objections = page.may(Permission.PRIVACY_READ)
    return {
        "purposes": [(each, NAMES[each], consents.text_of(each), _in_force(history, each)) for each in Purpose],
        "history": [(NAMES[Purpose(each.purpose)], each) for each in history],
        "sees_consents": page.may(Permission.CONSENTS_READ),
        "sees_objections": sees_objections,
        "objections": await subprocessors.objections(page.services, account_id) if sees_objections else (),
        "found": [one for one in await subprocessors.public_list(page.services) if not one.effective_on],
    }


async def _one(page: Page) -> Mapping[str, Any]:
    purpose = _purpose(page)
    history = await consents.history(page.services.pool, page.account.account_id)
    return {
        "purpose": purpose,
        "name": NAMES[purpose],
        "text": consents.text_of(purpose),
        "version": consents.version_of(purpose),
        "given": _in_force(history, purpose),
    }


async def _give(page: Page) -> web.StreamResponse:
    purpose = _purpose(page)
    if page.field("sure") != "yes":
        raise WrongFieldsError(sure="Say that the account agrees.")
    if page.field("version") != str(consents.version_of(purpose)):
        raise WrongFieldsError(sure="The words have changed since you opened the page; read them again.")
    await consents.give(page.services.pool, page.account.account_id, purpose)
    return page.go(f"{_path(page)}?done=consent_given")


async def _withdraw(page: Page) -> web.StreamResponse:
    await consents.withdraw(page.services.pool, page.account.account_id, _purpose(page))
    return page.go(f"{_path(page)}?done=consent_withdrawn")


async def _object(page: Page) -> web.StreamResponse:
    on = page.field("on") == "yes"
    act = subprocessors.object_to if on else subprocessors.withdraw
    await act(page.services, page.account.account_id, page.field("name"))
    return page.go(f"{_path(page)}?done={'objection_made' if on else 'objection_withdrawn'}")


def _in_force(history: list[Consent], purpose: Purpose) -> Consent | None:
    return next((each for each in history if each.purpose == purpose and each.withdrawn_at is None), None)


def _purpose(page: Page) -> Purpose:
    try:
        return Purpose(page.place("purpose"))
    except ValueError:
        raise NotFoundError from None


def _path(page: Page) -> str:
    return f"/accounts/{page.account.account_id}/privacy"


_PRIVACY: Final = "/accounts/{account_id}/privacy"
_CONSENT: Final = f"{_PRIVACY}/consents/{{purpose}}"
_READ: Final = (Permission.CONSENTS_READ, Permission.PRIVACY_READ)
_WRITE: Final = (Permission.CONSENTS_WRITE,)
ROUTES: Final = (
    Route(_PRIVACY, "consents.html", _list, None, Access.MEMBER, _READ),
    Route(_CONSENT, "consent.html", _one, _give, Access.PROVEN, _WRITE),
    Route(f"{_CONSENT}/withdraw", "consents.html", _list, _withdraw, Access.MEMBER, _WRITE),
    Route(f"{_PRIVACY}/objections", "consents.html", _list, _object, Access.MEMBER, (Permission.PRIVACY_WRITE,)),
)
