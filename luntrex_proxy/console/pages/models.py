"""Models and prices, as the account may use them. Only read: the configuration file says what there is."""

from collections.abc import Mapping
from typing import Any, Final

from luntrex_proxy.console.pages.menu import ACCOUNT, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route
from luntrex_proxy.console.pages.paging import number_in
from luntrex_proxy.control import prices
from luntrex_proxy.core.roles import Permission

_SHOWN: Final = 50
_CHARACTERS_MAX: Final = 200


async def _list(page: Page) -> Mapping[str, Any]:
    part = page.query("name").strip()[:_CHARACTERS_MAX]
    first = number_in(page.query("from"))
    found, total = await prices.offered(page.services, page.account.account_id, part, first, _SHOWN)
    return {
        "found": found,
        "total": total,
        "part": part,
        "first": first,
        "count_shown": _SHOWN,
    }


ROUTES: Final = (
    Route("/accounts/{account_id}/models", "models.html", _list, None, Access.MEMBER, (Permission.ACCOUNT_READ,),
          Menu("Models and prices", ACCOUNT, 25)),
)  # fmt: skip
