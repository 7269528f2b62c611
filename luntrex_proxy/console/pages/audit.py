"""The audit log: all of it for who runs the installation, an account's part for who may see that."""

import re
from collections.abc import Mapping
from typing import Any, Final

from luntrex_proxy.console.pages.menu import ACCOUNT, OPERATOR, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route
from luntrex_proxy.console.pages.paging import number_in, require_operator
from luntrex_proxy.control import acts, audit
from luntrex_proxy.core.roles import Permission

_SHOWN: Final = 50
_ACT: Final = re.compile(r"[a-z_]{1,40}[.][a-z_]{1,40}")


async def _all(page: Page) -> Mapping[str, Any]:
    require_operator(page)
    if not page.query("before"):
        with acts.acting_as(page.caller.way):
            await acts.record_read(page.services.pool, "audit.list")
    return await _entries(page, None)


async def _of_account(page: Page) -> Mapping[str, Any]:
    return await _entries(page, page.account.account_id)


async def _entries(page: Page, account_id: int | None) -> Mapping[str, Any]:
    act = page.query("act").strip()
    is_act = _ACT.fullmatch(act) is not None
    before = number_in(page.query("before")) or None
    found = await audit.page(page.services.pool, account_id, act if is_act else None, before, _SHOWN + 1)
    return {
        "found": found[:_SHOWN],
        "more": found[_SHOWN - 1].sequence if len(found) > _SHOWN else None,
        "act": act,
        "is_wrong": bool(act) and not is_act,
        "is_later": before is not None,
    }


ROUTES: Final = (
    Route("/audit", "audit.html", _all, None, Access.PERSON, menu=Menu("Audit log", OPERATOR, 70)),
    Route("/accounts/{account_id}/audit", "audit.html", _of_account, None, Access.MEMBER, (Permission.AUDIT_READ,),
          Menu("Audit log", ACCOUNT, 90)),
)  # fmt: skip
