"""API keys of an account: listed, made (the key is shown this once), rotated, limited, labelled, stopped, ended.

The key is in the answer to the form that made it and nowhere else: not in an address, and scripts take it out of the
page when it is left.
"""

import contextlib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, time, timedelta
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.clock import now
from luntrex_proxy.console.pages.menu import ACCOUNT, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route, WrongFieldsError
from luntrex_proxy.console.pages.paging import moment_in
from luntrex_proxy.control import clients, keys, labels, limits, overview, spans
from luntrex_proxy.control.access import DeniedError, NotFoundError
from luntrex_proxy.control.keys import NewKey, Terms
from luntrex_proxy.core.labels import BadLabelError, check_labels
from luntrex_proxy.core.limits import WHATS
from luntrex_proxy.core.roles import Permission
from luntrex_proxy.core.scope import ENDPOINTS, BadScopeError, Scope, read_scope

KEY_ID: Final = re.compile(r"[0-9A-Za-z]{12}")
_SHOWN_MAX: Final = 200
_READ: Final = (Permission.KEYS_READ, Permission.KEYS_WRITE, Permission.KEYS_OWN)
_CHANGE: Final = (Permission.KEYS_WRITE, Permission.KEYS_OWN)
_KINDS: Final = ("endpoints", "models", "regions", "networks")
_OVERLAPS_S: Final = {"0": 0, "1h": 3_600, "1d": 86_400, "7d": 604_800}
_DIGITS_MAX: Final = 13
_ENDED: Final = ("revoked", "expired")
DONE: Final = {
    "key_limited": "The key's limits are changed; they hold within a second.",
    "key_labelled": "The key's labels are changed from today on.",
    "key_suspended": "The key is stopped until it is resumed.",
    "key_resumed": "The key works again.",
    "key_revoked": "The key has ended for good.",
}


async def _list(page: Page) -> Mapping[str, Any]:
    after = _after(page.query("after"))
    found = await keys.list_page(page.services.pool, page.caller, page.account.account_id, after, _SHOWN_MAX + 1)
    live = [key for key in found[:_SHOWN_MAX] if key.state not in _ENDED]
    last = found[_SHOWN_MAX - 1] if len(found) > _SHOWN_MAX else None
    return {
        "live": live,
        "ended": [key for key in found[:_SHOWN_MAX] if key.state in _ENDED],
        "more": None if last is None else f"{last.created_at.isoformat()}~{last.key_id}",
        "may_make": _may_make(page),
        "now": now(),
    }


async def _new(page: Page) -> Mapping[str, Any]:
    if not _may_make(page):
        raise DeniedError
    pool, account_id = page.services.pool, page.account.account_id
    return {
        "declared": await labels.list_declared(pool, account_id),
        "endpoints": ENDPOINTS,
        "owners": owners(page),
        "tomorrow": (spans.day_of(now(), page.account.time_zone) + timedelta(days=1)).isoformat(),
    }


async def _create(page: Page) -> web.StreamResponse:
    own = page.field("owner") != "account"
    name = name_of(page)
    terms = Terms(None, _expiry(page), _scope(page), await _labels(page))
    with page.beside(name_taken="name", bad_times="expires", not_a_member="owner"):
        made = await keys.create(
            page.services, page.caller, page.account.account_id, name, terms, own=own
        )  # fmt: skip
    return await shown_once(page, made)


async def shown_once(page: Page, made: NewKey) -> web.StreamResponse:
    """The page with the new key and the lines to paste."""
    url = clients.gateway_url(page.services.settings)
    first = await overview.began_at(page.services.pool, page.account.account_id) is None
    lines = clients.lines_for(url, made.key, page.services.models())
    return page.show("key_made.html", {"made": made, "lines": lines, "url": url, "waits": first})


async def _key(page: Page) -> Mapping[str, Any]:
    pool, account_id = page.services.pool, page.account.account_id
    key = await keys.get(pool, page.caller, account_id, _key_id(page))
    by_admin = page.may(Permission.KEYS_WRITE)
    mine = key.person_id == page.caller.person_id and page.may(Permission.KEYS_OWN)
    found = []
    if by_admin or page.may(Permission.KEYS_READ):
        found = [each for each in await limits.list_all(pool, account_id) if each.key_id == key.key_id]
    return {
        "key": key,
        "ended": key.state in _ENDED,
        "may_change": by_admin or mine,
        "may_write": by_admin,
        "limited": found[0] if found else None,
        "whats": list(WHATS.values()),
        "amounts": found[0].limits.get("", {}) if found else {},
        "declared": await labels.list_declared(pool, account_id),
        "endpoints": ENDPOINTS,
        "now": now(),
    }


async def _rotate(page: Page) -> web.StreamResponse:
    overlap_s = _OVERLAPS_S.get(page.field("overlap"))
    if overlap_s is None:
        raise WrongFieldsError(overlap="Choose how long the old key works on.")
    return await shown_once(page, await keys.rotate(page.services, *_whose(page), overlap_s))


async def _limit(page: Page) -> web.StreamResponse:
    await keys.limit(page.services.pool, *_whose(page), _scope(page), _KINDS, None)
    return _back(page, "key_limited")


async def _set_amounts(page: Page) -> web.StreamResponse:
    if not page.may(Permission.KEYS_WRITE):
        raise DeniedError
    amounts, wrong = {}, {}
    for word in WHATS:
        name = word.replace("/", "_per_")
        given = page.field(name).strip().replace(",", "")
        if given.isascii() and given.isdigit() and len(given) <= _DIGITS_MAX and int(given):
            amounts[word] = int(given)
        elif given:
            wrong[name] = "Give a whole number of at least 1, or nothing for no limit."
    if wrong:
        raise WrongFieldsError(**wrong)
    await limits.set_of_key(page.services.pool, page.account.account_id, _key_id(page), "", amounts)
    return _back(page, "key_limited")


async def _label(page: Page) -> web.StreamResponse:
    if not page.may(Permission.KEYS_WRITE):
        raise DeniedError
    wanted: dict[str, str | None] = dict.fromkeys(await _declared_names(page))
    wanted |= await _labels(page)
    pool, account_id = page.services.pool, page.account.account_id
    await labels.of_key(pool, account_id, _key_id(page), wanted, None)
    return _back(page, "key_labelled")


async def _suspend(page: Page) -> web.StreamResponse:
    await keys.suspend(page.services.pool, *_whose(page))
    return _back(page, "key_suspended")


async def _resume(page: Page) -> web.StreamResponse:
    await keys.resume(page.services.pool, *_whose(page))
    return _back(page, "key_resumed")


async def _revoke(page: Page) -> web.StreamResponse:
    if page.field("sure") != "yes":
        raise WrongFieldsError(sure="Say that it shall end for good.")
    await keys.revoke(page.services.pool, *_whose(page))
    return page.go(f"/accounts/{page.account.account_id}/keys?done=key_revoked")


def _key_id(page: Page) -> str:
    key_id = page.place("key_id")
    if not KEY_ID.fullmatch(key_id):
        raise NotFoundError
    return key_id


def _whose(page: Page) -> tuple[Any, int, str]:
    return page.caller, page.account.account_id, _key_id(page)


def _back(page: Page, done: str) -> web.Response:
    return page.go(f"/accounts/{page.account.account_id}/keys/{_key_id(page)}?done={done}")


def owners(page: Page) -> list[tuple[str, str]]:
    """Whose a new key can be, as (value, words)."""
    found = []
    if page.account.account_id in page.caller.roles and page.may(Permission.KEYS_OWN):
        found.append(("me", "mine"))
    if page.may(Permission.KEYS_WRITE):
        found.append(("account", "the account's, for a service"))
    return found


def _may_make(page: Page) -> bool:
    return bool(owners(page))


def name_of(page: Page) -> str:
    """The name that a new key shall have. WrongFieldsError: none can."""
    name = page.field("name").strip()
    if not keys.NAME.fullmatch(name):
        raise WrongFieldsError(name=f"A key name is {keys.NAME_RULE}, such as laptop or ci.")
    return name


def _expiry(page: Page) -> datetime | None:
    """The end of the day that was given, in the account's zone."""
    given = page.field("expires").strip()
    if not given:
        return None
    with contextlib.suppress(ValueError, OverflowError):
        day = datetime.combine(datetime.fromisoformat(given).date(), time()).date()
        return spans.begin_of(day + timedelta(days=1), page.account.time_zone)
    raise WrongFieldsError(expires="Give a date such as 2027-01-31, or nothing for no end.")


def _scope(page: Page) -> Scope:
    words: dict[str, list[str]] = {"endpoints": [name for name in ENDPOINTS if page.field(f"endpoint-{name}") == "yes"]}
    wrong = {}
    for kind in _KINDS[1:]:
        words[kind] = page.field(kind).replace(",", " ").split()
        try:
            read_scope(**{kind: words[kind]})
        except BadScopeError as error:
            wrong[kind] = str(error)
    if wrong:
        raise WrongFieldsError(**wrong)
    return read_scope(**words)


async def _labels(page: Page) -> dict[str, str]:
    declared = await labels.list_declared(page.services.pool, page.account.account_id)
    found, wrong = {}, {}
    for each in declared:
        value = page.field(f"label-{each.name}").strip()
        try:
            if value:
                check_labels({each.name: value}, {each.name: None if each.allowed is None else frozenset(each.allowed)})
                found[each.name] = value
        except BadLabelError as error:
            wrong[f"label-{each.name}"] = str(error)
    if wrong:
        raise WrongFieldsError(**wrong)
    return found


async def _declared_names(page: Page) -> Iterable[str]:
    return [each.name for each in await labels.list_declared(page.services.pool, page.account.account_id)]


def _after(word: str) -> tuple[datetime, str] | None:
    text, _, key_id = word.partition("~")
    at = moment_in(text)
    return (at, key_id) if at is not None and KEY_ID.fullmatch(key_id) else None


_KEYS: Final = "/accounts/{account_id}/keys"
_KEY: Final = f"{_KEYS}/{{key_id}}"
ROUTES: Final = (
    Route(_KEYS, "keys.html", _list, None, Access.MEMBER, _READ, Menu("Keys", ACCOUNT, 20)),
    Route(f"{_KEYS}/new", "key_new.html", _new, _create, Access.PROVEN, _CHANGE),
    Route(_KEY, "key.html", _key, None, Access.MEMBER, _READ),
    Route(f"{_KEY}/rotate", "key.html", _key, _rotate, Access.PROVEN, _CHANGE),
    *(
        Route(f"{_KEY}/{verb}", "key.html", _key, submit, Access.MEMBER, _CHANGE)
        for verb, submit in (
            ("scope", _limit),
            ("limits", _set_amounts),
            ("labels", _label),
            ("suspend", _suspend),
            ("resume", _resume),
            ("revoke", _revoke),
        )
    ),
)
