"""Accounts and retention, for who runs the installation."""

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.clock import now
from luntrex_proxy.console.pages.menu import OPERATOR, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route
from luntrex_proxy.console.pages.paging import number_in, require_operator
from luntrex_proxy.control import accounts, privacy, retention
from luntrex_proxy.control.accounts import Account

DONE: Final = {
    "account_made": "The account is there. Invite somebody into it, or create a key.",
    "account_suspended": "All its keys are refused, everywhere within a second.",
    "account_resumed": "Its keys work again.",
}
_SHOWN: Final = 50


async def _accounts(page: Page) -> Mapping[str, Any]:
    require_operator(page)
    after = number_in(page.query("after"))
    found = await accounts.list_page(page.services.pool, page.caller, after, _SHOWN + 1)
    return {"found": found[:_SHOWN], "more": found[_SHOWN - 1].account_id if len(found) > _SHOWN else None}


async def _create(page: Page) -> web.StreamResponse:
    require_operator(page)
    with page.beside(**{"name_taken": "name", "": "name"}):  # without a code: it can be nobody's name
        made = await accounts.create(page.services.pool, page.field("name").strip())
    return page.go(f"/accounts/{made.account_id}/members?done=account_made")


async def _suspend(page: Page) -> web.StreamResponse:
    await accounts.suspend(page.services.pool, (await _account(page)).account_id)
    return page.go("/installation/accounts?done=account_suspended")


async def _resume(page: Page) -> web.StreamResponse:
    await accounts.resume(page.services.pool, (await _account(page)).account_id)
    return page.go("/installation/accounts?done=account_resumed")


async def _account(page: Page) -> Account:
    require_operator(page)
    return await accounts.get(page.services.pool, number_in(page.place("account_id")))


async def _retention(page: Page) -> Mapping[str, Any]:
    require_operator(page)
    settings = page.services.settings.retention
    found = await retention.look(page.services.pool, now(), settings.by_class(), settings.idle_account_days)
    return {"found": found, "periods": privacy.periods(settings.by_class()), "settings": settings, "now": now()}


_ACCOUNTS: Final = "/installation/accounts"
ROUTES: Final = (
    Route(_ACCOUNTS, "accounts.html", _accounts, _create, Access.PERSON, menu=Menu("All accounts", OPERATOR, 10)),
    Route(f"{_ACCOUNTS}/{{account_id}}/suspend", "accounts.html", _accounts, _suspend, Access.PERSON),
    Route(f"{_ACCOUNTS}/{{account_id}}/resume", "accounts.html", _accounts, _resume, Access.PERSON),
    Route("/retention", "retention.html", _retention, None, Access.PERSON, menu=Menu("Retention", OPERATOR, 60)),
)
