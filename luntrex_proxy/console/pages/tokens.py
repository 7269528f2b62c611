"""One's own personal access tokens: what programs send to the API of this console. Made, shown this once, ended."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.clock import now
from luntrex_proxy.console.pages.given import Given
from luntrex_proxy.console.pages.menu import YOU, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route
from luntrex_proxy.control import links, tokens
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.core.roles import Permission

_SHOWN: Final = 100
_TOKEN_ID: Final = re.compile(r"[0-9A-Za-z]{12}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DAYS: Final = {"7": "a week", "30": "30 days", "90": "90 days", "365": "a year"}
WORDS: Final = {
    Permission.ACCOUNT_READ: "see accounts, their models and labels",
    Permission.ACCOUNT_WRITE: "change policies of accounts",
    Permission.ACCOUNT_ERASE: "erase accounts",
    Permission.MEMBERS_READ: "see members and invitations",
    Permission.MEMBERS_WRITE: "invite, change and remove members",
    Permission.KEYS_READ: "see keys, limits and budgets",
    Permission.KEYS_OWN: "make and change your own keys",
    Permission.KEYS_WRITE: "make and change all keys, limits and budgets",
    Permission.USAGE_READ: "see usage",
    Permission.USAGE_MEMBERS: "see single requests of members, where the account agreed to it",
    Permission.BILLING_READ: "see bills and statements",
    Permission.BILLING_WRITE: "change billing",
    Permission.CONSENTS_READ: "see consents",
    Permission.CONSENTS_WRITE: "give and take back consents",
    Permission.PRIVACY_READ: "see incidents and objections",
    Permission.PRIVACY_WRITE: "object to sub-processors",
    Permission.AUDIT_READ: "read the audit log",
}
DONE: Final = {"token_revoked": "The token has ended for good."}


async def _list(page: Page) -> Mapping[str, Any]:
    after = page.query("after") if _TOKEN_ID.fullmatch(page.query("after")) else ""
    found = await tokens.list_page(page.services.pool, str(page.person.person_id), after, _SHOWN + 1)
    return {
        "found": found[:_SHOWN],
        "more": found[_SHOWN - 1].token_id if len(found) > _SHOWN else "",
        "now": now(),
        "words": WORDS,
    }


async def _new(_page: Page) -> Mapping[str, Any]:
    return {"scopes": WORDS.items(), "periods": tuple(_DAYS.items())}


async def _create(page: Page) -> web.StreamResponse:
    given, name = Given(page), page.field("name").strip()
    if not _NAME.fullmatch(name):
        given.wrong["name"] = "A name has letters, digits, dots, dashes or underscores, 64 at most."
    days = given.one_of("days", tuple(_DAYS))
    scopes = [each for each in Permission if page.field(f"scope-{each.value}") == "yes"]
    if not scopes:
        given.wrong["scopes"] = "Choose what it may do: one thing at least."
    given.check()
    made = await tokens.create(page.services.pool, page.caller, name, scopes, now() + timedelta(days=int(days)))
    values = {"made": made, "url": links.console_url(page.services.settings), "words": WORDS}
    return page.show("token_made.html", values)


async def _revoke(page: Page) -> web.StreamResponse:
    token_id = page.place("token_id")
    if not _TOKEN_ID.fullmatch(token_id):
        raise NotFoundError
    if await tokens.revoke(page.services.pool, str(page.person.person_id), token_id) is None:
        raise NotFoundError
    return page.go("/tokens?done=token_revoked")


ROUTES: Final = (
    Route("/tokens", "tokens.html", _list, None, Access.PERSON, menu=Menu("Access tokens", YOU, 35)),
    Route("/tokens/new", "token_new.html", _new, _create, Access.PERSON, proves=True),
    Route("/tokens/{token_id}/revoke", "tokens.html", _list, _revoke, Access.PERSON),
)
