"""Security events: requests that were refused for their key, counted; of an account, or all. No address is kept."""

from collections.abc import Mapping
from typing import Any, Final

from luntrex_proxy.console.pages.menu import ACCOUNT, OPERATOR, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route
from luntrex_proxy.console.pages.paging import moment_in
from luntrex_proxy.console.pages.usage import visible_keys
from luntrex_proxy.control import acts, attempts
from luntrex_proxy.core.roles import Permission

_SHOWN_MAX: Final = 100
_PARTS: Final = 4  # of a place in the list: minute, key, network, code


async def _of_account(page: Page) -> Mapping[str, Any]:
    return {**await _found(page, page.account.account_id), "names": dict(await visible_keys(page))}


async def _all(page: Page) -> Mapping[str, Any]:
    if not page.query("after"):
        with acts.acting_as(page.caller.way):
            await acts.record_read(page.services.pool, "attempts.list")
    return {**await _found(page, None), "names": {}}


async def _found(page: Page, account_id: int | None) -> Mapping[str, Any]:
    after = _after(page.query("after"))
    found = await attempts.list_page(page.services.pool, account_id, after, _SHOWN_MAX + 1)
    shown = found[:_SHOWN_MAX]
    return {
        "found": shown,
        "more": "~".join(shown[-1].place) if len(found) > _SHOWN_MAX else "",
        "is_first": after is None,
    }


def _after(word: str) -> tuple[str, str, str, str] | None:
    parts = word.split("~")
    if len(parts) == _PARTS and word.isprintable() and moment_in(parts[0]) is not None:
        return parts[0], parts[1], parts[2], parts[3]
    return None


ROUTES: Final = (
    Route(
        "/accounts/{account_id}/attempts", "attempts.html", _of_account, None, Access.MEMBER, (Permission.KEYS_READ,),
        Menu("Security events", ACCOUNT, 80),
    ),
    Route("/attempts", "attempts.html", _all, None, Access.OPERATOR, menu=Menu("Security events", OPERATOR, 65)),
)  # fmt: skip
