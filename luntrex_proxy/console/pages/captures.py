"""Debug captures: started for a key, stopped, listed. What was captured is ciphertext, opened by its owner."""

import base64
import binascii
import uuid
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.clock import now
from luntrex_proxy.console.pages.keys import KEY_ID
from luntrex_proxy.console.pages.page import Access, Page, Route, WrongFieldsError
from luntrex_proxy.control import debugcapture, keys, links
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.core.capture import MINUTES_MAX, REQUESTS_MAX
from luntrex_proxy.core.roles import Permission

_SHOWN_MAX: Final = 50
_KEYS_MAX: Final = 200
_KEY_BYTES: Final = 32
DONE: Final = {
    "capture_started": "The capture runs; answers carry x-luntrex-debug-capture meanwhile.",
    "capture_stopped": "The capture has ended; what it has can be read for the rest of its 24 hours.",
}


async def _list(page: Page) -> Mapping[str, Any]:
    pool, account_id = page.services.pool, page.account.account_id
    known = await keys.list_page(pool, page.caller, account_id, None, _KEYS_MAX)
    return {
        "captures": await debugcapture.list_page(pool, page.caller, account_id, None, _SHOWN_MAX),
        "names": {key.key_id: key.name for key in known},
        "may_start": bool(await _capturable(page)),
        "url": links.console_url(page.services.settings),
        "now": now(),
    }


async def _new(page: Page) -> Mapping[str, Any]:
    return {"keys": await _capturable(page), "requests_max": REQUESTS_MAX, "minutes_max": MINUTES_MAX}


async def _start(page: Page) -> web.StreamResponse:
    wrong, counts = {}, []
    for name, most in (("requests", REQUESTS_MAX), ("minutes", MINUTES_MAX)):
        counts.append(_number(page, name, most))
        if not counts[-1]:
            wrong[name] = f"Give a whole number from 1 to {most}."
    public_key = _public_key(page.field("public_key"))
    if public_key is None:
        wrong["public_key"] = "This is not what `luntrex-proxy debug-capture keygen` prints: 44 letters and digits."
    if not KEY_ID.fullmatch(page.field("key")):
        wrong["key"] = "Choose a key."
    if wrong or public_key is None:
        raise WrongFieldsError(**wrong)
    with page.beside(bad_public_key="public_key", no_capture_consent="key", captured_already="key"):
        await debugcapture.start(
            page.services.pool, page.caller, page.account.account_id, page.field("key"), public_key, *counts
        )
    return page.go(f"{_path(page)}?done=capture_started")


async def _stop(page: Page) -> web.StreamResponse:
    try:
        capture_id = uuid.UUID(page.place("capture_id"))
    except ValueError:
        raise NotFoundError from None
    await debugcapture.stop(page.services.pool, page.caller, page.account.account_id, capture_id)
    return page.go(f"{_path(page)}?done=capture_stopped")


async def _capturable(page: Page) -> list[tuple[str, str]]:
    """Keys that who asks may capture, as (key id, words): one's own, and with keys:write the account's."""
    if page.account.account_id not in page.caller.roles:
        return []
    found = []
    for key in await keys.list_page(page.services.pool, page.caller, page.account.account_id, None, _KEYS_MAX):
        own = key.person_id == page.caller.person_id and page.may(Permission.KEYS_OWN)
        if key.state == "active" and (own or (key.person_id is None and page.may(Permission.KEYS_WRITE))):
            found.append((key.key_id, key.name if own else f"{key.name} (the account's)"))
    return found


def _number(page: Page, name: str, most: int) -> int:
    """What stands in a field; 0 when it is no number that may be."""
    given = page.field(name).strip()
    number = int(given) if given.isascii() and given.isdigit() and len(given) <= len(str(most)) else 0
    return number if number <= most else 0


def _public_key(text: str) -> bytes | None:
    try:
        found = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return found if len(found) == _KEY_BYTES else None


def _path(page: Page) -> str:
    return f"/accounts/{page.account.account_id}/captures"


_CAPTURES: Final = "/accounts/{account_id}/captures"
_CHANGE: Final = (Permission.KEYS_WRITE, Permission.KEYS_OWN)
_READ: Final = (Permission.KEYS_READ, *_CHANGE)
ROUTES: Final = (
    Route(_CAPTURES, "captures.html", _list, None, Access.MEMBER, _READ),
    Route(f"{_CAPTURES}/new", "capture_new.html", _new, _start, Access.PROVEN, _CHANGE),
    Route(f"{_CAPTURES}/{{capture_id}}/stop", "captures.html", _list, _stop, Access.MEMBER, _CHANGE),
)
