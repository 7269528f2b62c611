"""The pages by which people come in: sign-in and code, sign-up, reset, one-time links, proving it again, leaving."""

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.cookies import drop_cookie, set_cookie
from luntrex_proxy.console.pages.page import Access, Page, Route, no_values
from luntrex_proxy.control import links, members, people, sessions, signin
from luntrex_proxy.control.links import DeadLinkError
from luntrex_proxy.control.signin import Begun

_ASKED: Final = "If somebody has this address here, a letter with a link is on its way to it."
_SIGNED_UP: Final = "A letter is on its way to this address; the link in it leads on."


async def _sign_in(page: Page) -> web.StreamResponse:
    begun = await signin.sign_in(page.services, page.field("address"), page.field("password"), page.network)
    return _entered(page, begun, page.next_path())


async def _give_code(page: Page) -> web.StreamResponse:
    if page.half is None:
        return page.go("/sign-in")
    with page.beside(wrong="code"):
        cookie = await signin.give_code(page.services, page.half, page.field("code"), page.network)
    return _entered(page, Begun(cookie, awaits_code=False), page.next_path())


async def _sign_out(page: Page) -> web.StreamResponse:
    who = page.who or page.half
    if who is not None:
        await sessions.end(page.services, who, who.session_id)
    page.who = page.half = None
    response = page.show("message.html", {"heading": "Signed out", "sentence": "The session has ended here."})
    response.headers["Clear-Site-Data"] = '"cookies", "storage"'
    drop_cookie(response, page.services.settings)
    return response


async def _confirm(page: Page) -> web.StreamResponse:
    with page.beside(wrong="password"):
        cookie = await signin.confirm(page.services, page.person, page.field("password"), page.network)
    response = page.go(page.next_path())
    set_cookie(response, page.services.settings, cookie)
    return response


async def _sign_up(page: Page) -> web.StreamResponse:
    await people.sign_up(
        page.services, page.field("address"), page.field("name"), page.network, affirmed_16=_is_affirmed(page)
    )
    return page.show("message.html", {"heading": "Look into your mail", "sentence": _SIGNED_UP})


async def _reset(page: Page) -> web.StreamResponse:
    await people.ask_reset(page.services, page.field("address"), page.network)
    return page.show("message.html", {"heading": "Look into your mail", "sentence": _ASKED})


async def _show_link(page: Page) -> Mapping[str, Any]:
    """What the link lets do. Looking at it uses nothing up, however often."""
    token = page.field("token") or page.query("token")
    link = await links.look_at(page.services, token)
    values: dict[str, Any] = {
        "token": token,
        "kind": link.kind,
        "email": link.email,
        "invitation": None,
        "known": False,
        "mine": False,
    }
    if link.invitation_id is not None:
        values["invitation"], values["known"] = await members.of_link(page.services, link.invitation_id)
        values["mine"] = page.who is not None and page.who.email == values["invitation"].email
    has_totp = False
    if link.person_id is not None:
        person = await people.of_link(page.services, link)
        values["email"], has_totp = link.email or person.email, person.has_totp
    return values | {"least": page.services.passwords.characters_min(has_totp=has_totp)}


async def _use_link(page: Page) -> web.StreamResponse:
    token, password = page.field("token"), page.field("password")
    kind = (await links.look_at(page.services, token)).kind
    if kind == "invitation" and page.who is not None and (await _show_link(page))["mine"]:
        await members.accept_by_link(page.services, page.who, token)
        return page.go("/?done=accepted")
    if kind == "address":
        email = await people.set_address_by_link(page.services, token)
        return page.show("message.html", {"heading": "The address is changed", "sentence": f"It is {email} now."})
    if kind == "first":
        begun = await people.come_first(
            page.services, token, page.field("address"), page.field("name"), password, page.network,
            affirmed_16=_is_affirmed(page),
        )  # fmt: skip
    elif kind == "invitation":
        begun = await people.come_invited(
            page.services, token, page.field("name"), password, page.network, affirmed_16=_is_affirmed(page)
        )
    elif kind in ("setup", "reset"):
        begun = await people.set_password_by_link(page.services, token, password, page.network)
    else:
        raise DeadLinkError
    return _entered(page, begun, "/")


def _entered(page: Page, begun: Begun, path: str) -> web.Response:
    """Into the console, or to the code that is still asked for."""
    response = page.go(f"/sign-in/code?next={path}" if begun.awaits_code else f"{path}?entered=1")
    set_cookie(response, page.services.settings, begun.cookie)
    return response


def _is_affirmed(page: Page) -> bool:
    return page.field("affirmed_16") == "yes"


async def _for_half(page: Page) -> Mapping[str, Any]:
    return {"waits": page.half is not None}


ROUTES: Final = (
    Route("/sign-in", "sign_in.html", no_values, _sign_in),
    Route("/sign-in/code", "code.html", _for_half, _give_code),
    Route("/sign-out", "sign_out.html", no_values, _sign_out),
    Route("/confirm", "confirm.html", no_values, _confirm, Access.PERSON),
    Route("/sign-up", "sign_up.html", no_values, _sign_up),
    Route("/reset", "reset.html", no_values, _reset),
    Route(links.PATH, "link.html", _show_link, _use_link),
)
