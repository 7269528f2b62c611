"""The session's cookie, and whether a request that changes something comes from one of our own pages.

Behind TLS the cookie is `__Host-luntrex`, Secure. On plain HTTP, which is loopback only, not every browser takes
Secure cookies, so there it is `luntrex` without it. Beside it are two cookies of taste, worth nothing to anybody: how
light pages are, and which of several accounts was looked at last.
"""

from typing import Final

from aiohttp import web

from luntrex_proxy.console.keys import SERVICES
from luntrex_proxy.control.sessions import SignedIn, signed_in
from luntrex_proxy.settings.model import Settings

THEME: Final = "luntrex-theme"
ACCOUNT: Final = "luntrex-account"
_TASTE_S: Final = 400 * 86_400  # as long as browsers keep any
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def is_behind_tls(settings: Settings) -> bool:
    """Whether browsers reach the console over TLS."""
    return settings.control.tls is not None or (settings.console.public_url or "").startswith("https:")


def cookie_name(settings: Settings) -> str:
    """The one cookie there is."""
    return "__Host-luntrex" if is_behind_tls(settings) else "luntrex"


def cookie_of(request: web.Request) -> str | None:
    """The session cookie that a request brings."""
    return request.cookies.get(cookie_name(request.app[SERVICES].settings))


async def person_of(request: web.Request) -> SignedIn | None:
    """The signed-in person of a request by its cookie; whoever still owes the second factor is nobody yet."""
    who = await signed_in(request.app[SERVICES], cookie_of(request))
    return None if who is None or who.awaits_code else who


def set_cookie(response: web.StreamResponse, settings: Settings, token: str) -> None:
    """Give the browser its session, until it is closed; how long a session lasts is the database's matter."""
    response.set_cookie(
        cookie_name(settings), token, path="/", secure=is_behind_tls(settings), httponly=True, samesite="Strict"
    )


def drop_cookie(response: web.StreamResponse, settings: Settings) -> None:
    """Take the session from the browser."""
    response.del_cookie(
        cookie_name(settings), path="/", secure=is_behind_tls(settings), httponly=True, samesite="Strict"
    )


def set_taste(response: web.StreamResponse, settings: Settings, name: str, value: str) -> None:
    """Have the browser remember a preference."""
    response.set_cookie(
        name, value, path="/", max_age=_TASTE_S, secure=is_behind_tls(settings), httponly=True, samesite="Lax"
    )


def is_from_our_pages(request: web.Request) -> bool:
    """Whether a request that changes something was sent by a page of this origin, as the browser says.

    `Sec-Fetch-Site` is sent by every browser of today and cannot be set by a page; `Origin` is for the older ones.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    scheme = "https" if is_behind_tls(request.app[SERVICES].settings) else "http"
    return request.headers.get("Origin") == f"{scheme}://{request.headers.get('Host', '')}"
