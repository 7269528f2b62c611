"""Accounts and retention, for who runs the installation."""

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.clock import now
from luntrex_proxy.console.pages.menu import OPERATOR, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route, WrongFieldsError
from luntrex_proxy.console.pages.paging import number_in
from luntrex_proxy.control import accounts, privacy, retention
from luntrex_proxy.control.accounts import Account

DONE: Final = {
    "account_made": "The account is there. Invite somebody into it, or create a key.",
    "account_suspended": "All its keys are refused, everywhere within a second.",
    "account_resumed": "Its keys work again.",
}
_SHOWN: Final = 50
_NAME_MAX: Final = 64
_STATES: Final = ("active", "suspended")
_ACCOUNTS: Final = "/installation/accounts"


async def _accounts(page: Page) -> Mapping[str, Any]:
    after, status = number_in(page.query("after")), page.query("state")
    part = "".join(filter(str.isprintable, page.query("name").strip()))[:_NAME_MAX]
    found = await accounts.list_page(
        page.services.pool, page.caller, after, _SHOWN + 1, part=part, status=status if status in _STATES else None
    )
    return {
        "found": found[:_SHOWN],
        "more": found[_SHOWN - 1].account_id if len(found) > _SHOWN else None,
        "part": part,
        "state": status if status in _STATES else "",
        "states": _STATES,
    }


async def _create(page: Page) -> web.StreamResponse:
    with page.beside(**{"name_taken": "name", "": "name"}):  # without a code: it can be nobody's name
        made = await accounts.create(page.services.pool, page.field("name").strip())
    return page.go(f"/accounts/{made.account_id}/members?done=account_made")


async def _stopping(page: Page) -> Mapping[str, Any]:
    return {"stopping": await _account(page)}


async def _suspend(page: Page) -> web.StreamResponse:
    account = await _account(page)
    if page.field("sure") != "yes":
        raise WrongFieldsError(sure="Say that all its requests shall be refused.")
    await accounts.suspend(page.services.pool, account.account_id)
    return page.go(f"/accounts/{account.account_id}/settings?done=account_suspended")


async def _resume(page: Page) -> web.StreamResponse:
    account = await _account(page)
    await accounts.resume(page.services.pool, account.account_id)
    return page.go(f"{_back(page, account)}?done=account_resumed")


async def _account(page: Page) -> Account:
    return await accounts.get(page.services.pool, number_in(page.place("account_id")))


def _back(page: Page, account: Account) -> str:
    """To the page that the button was on: the list, or the account's settings."""
    return f"/accounts/{account.account_id}/settings" if page.field("from") == "settings" else _ACCOUNTS


async def _retention(page: Page) -> Mapping[str, Any]:
    settings = page.services.settings.retention
    found = await retention.look(page.services.pool, now(), settings.by_class(), settings.idle_account_days)
    return {"found": found, "periods": privacy.periods(settings.by_class()), "settings": settings, "now": now()}


ROUTES: Final = (
    Route(_ACCOUNTS, "accounts.html", _accounts, _create, Access.OPERATOR, menu=Menu("All accounts", OPERATOR, 10)),
    Route(f"{_ACCOUNTS}/{{account_id}}/suspend", "account_suspend.html", _stopping, _suspend, Access.OPERATOR),
    Route(f"{_ACCOUNTS}/{{account_id}}/resume", "accounts.html", _accounts, _resume, Access.OPERATOR),
    Route("/retention", "retention.html", _retention, None, Access.OPERATOR, menu=Menu("Retention", OPERATOR, 60)),
)
