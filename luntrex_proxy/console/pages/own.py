"""The pages of the person who is signed in: accounts and invitations, sessions, profile, second factor."""

import uuid
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web

from luntrex_proxy.console.cookies import set_cookie
from luntrex_proxy.console.pages.menu import YOU, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route
from luntrex_proxy.console.pages.rendering import qr_code
from luntrex_proxy.control import members, people, secondfactor, sessions, signin
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.core.roles import Permission

DONE: Final = {
    "name": "Your name is changed.",
    "address": "A letter is on its way to the new address; the link in it makes the change.",
    "password": "Your password is changed. All other sessions have ended.",
    "ended": "The session has ended.",
    "others": "All other sessions have ended.",
    "removed": "The second factor is removed. All other sessions have ended.",
    "accepted": "You are a member now.",
    "declined": "The invitation is turned down.",
}


async def _first(page: Page) -> web.StreamResponse:
    """On to what somebody comes for: the account at hand, or else what there is to be a member of."""
    done, account_id = page.query("done"), page.account_at_hand()
    said = f"?done={quote(done)}" if done else ""
    invited = await members.invitations_for(page.services, page.person.email)
    if invited or account_id is None or not page.caller.may(account_id, Permission.USAGE_READ):
        return page.go(f"/accounts{said}")
    return page.go(f"/accounts/{account_id}{said}")


async def _home(page: Page) -> Mapping[str, Any]:
    found = await members.invitations_for(page.services, page.person.email)
    return {"invitations": found, "by_link": not page.services.sends_mail}


async def _accept(page: Page) -> web.StreamResponse:
    await members.accept(page.services, page.person.person_id, _id(page, "invitation"))
    return page.go("/?done=accepted")


async def _turn_down(page: Page) -> web.StreamResponse:
    await members.turn_down(page.services, page.person.email, _id(page, "invitation"))
    return page.go("/?done=declined")


async def _sessions(page: Page) -> Mapping[str, Any]:
    return {"sessions": await sessions.list_own(page.services, page.person), "present": page.person.session_id}


async def _end_session(page: Page) -> web.StreamResponse:
    if not await sessions.end(page.services, page.person, _id(page, "session")):
        raise NotFoundError
    return page.go("/sessions?done=ended")


async def _end_others(page: Page) -> web.StreamResponse:
    await sessions.end_others(page.services, page.person)
    return page.go("/sessions?done=others")


async def _profile(page: Page) -> Mapping[str, Any]:
    return {"least": page.services.passwords.characters_min(has_totp=page.person.has_totp)}


async def _set_name(page: Page) -> web.StreamResponse:
    await people.set_name(page.services, page.person, page.field("name"))
    return page.go("/profile?done=name")


async def _set_address(page: Page) -> web.StreamResponse:
    await people.ask_address(page.services, page.person, page.field("address"), page.network)
    return page.go("/profile?done=address")


async def _set_password(page: Page) -> web.StreamResponse:
    with page.beside(wrong="present", weak_password="password"):  # noqa: S106 -- names of a code and of a field
        cookie = await signin.change_password(
            page.services, page.person, page.field("present"), page.field("password"), page.network
        )
    response = page.go("/profile?done=password")
    set_cookie(response, page.services.settings, cookie)
    return response


async def _factor(page: Page) -> Mapping[str, Any]:
    seed, url = await secondfactor.begun(page.services, page.person) or ("", "")
    spaced = " ".join(seed[at : at + 4] for at in range(0, len(seed), 4))
    return {"seed": spaced, "qr": qr_code(url) if url else "", "codes": ()}


async def _begin_factor(page: Page) -> web.StreamResponse:
    await secondfactor.begin(page.services, page.person)
    return page.go("/second-factor")


async def _confirm_factor(page: Page) -> web.StreamResponse:
    with page.beside(wrong="code"):
        codes = await secondfactor.confirm(page.services, page.person, page.field("code"))
    return page.show("recovery_codes.html", {"codes": codes})


async def _renew_codes(page: Page) -> web.StreamResponse:
    return page.show("recovery_codes.html", {"codes": await secondfactor.renew_codes(page.services, page.person)})


async def _remove_factor(page: Page) -> web.StreamResponse:
    with page.beside(wrong="password"):
        cookie = await signin.remove_second_factor(page.services, page.person, page.field("password"), page.network)
    response = page.go("/second-factor?done=removed")
    set_cookie(response, page.services.settings, cookie)
    return response


def _id(page: Page, name: str) -> uuid.UUID:
    try:
        return uuid.UUID(page.field(name))
    except ValueError:
        raise NotFoundError from None


ROUTES: Final = (
    Route("/", "home.html", _first, None, Access.PERSON),
    Route("/accounts", "home.html", _home, None, Access.PERSON, menu=Menu("Accounts", YOU, 0)),
    Route("/invitations/accept", "home.html", _home, _accept, Access.PERSON),
    Route("/invitations/turn-down", "home.html", _home, _turn_down, Access.PERSON),
    Route("/sessions", "sessions.html", _sessions, None, Access.PERSON, menu=Menu("Sessions", YOU, 40)),
    Route("/sessions/end", "sessions.html", _sessions, _end_session, Access.PERSON),
    Route("/sessions/end-others", "sessions.html", _sessions, _end_others, Access.PERSON),
    Route("/profile", "profile.html", _profile, None, Access.PERSON, menu=Menu("Profile", YOU, 10)),
    Route("/profile/name", "profile.html", _profile, _set_name, Access.PERSON),
    Route("/profile/address", "profile.html", _profile, _set_address, Access.PERSON, proves=True),
    Route("/profile/password", "profile.html", _profile, _set_password, Access.PERSON),
    Route("/second-factor", "second_factor.html", _factor, None, Access.FRESH, menu=Menu("Second factor", YOU, 30)),
    Route("/second-factor/begin", "second_factor.html", _factor, _begin_factor, Access.FRESH),
    Route("/second-factor/confirm", "second_factor.html", _factor, _confirm_factor, Access.FRESH),
    Route("/second-factor/codes", "second_factor.html", _factor, _renew_codes, Access.FRESH),
    Route("/second-factor/remove", "second_factor.html", _factor, _remove_factor, Access.FRESH),
)
