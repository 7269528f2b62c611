"""The account at a glance; before its first request, a guided first call: create a key, paste, see it arrive."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages import keys
from luntrex_proxy.console.pages.charting import Charted, charted
from luntrex_proxy.console.pages.clock import now
from luntrex_proxy.console.pages.menu import ACCOUNT, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route
from luntrex_proxy.control import clients, overview, usage
from luntrex_proxy.control import keys as api_keys
from luntrex_proxy.control.keys import Terms
from luntrex_proxy.control.overview import Overview
from luntrex_proxy.core.roles import Permission

_WORDS: Final = {"today": "today", "7d": "7 days", "30d": "30 days"}


async def _overview(page: Page) -> Mapping[str, Any]:
    pool, account = page.services.pool, page.account
    period = page.query("period") if page.query("period") in _WORDS else "7d"
    values: dict[str, Any] = {
        "began": await overview.began_at(pool, account.account_id),
        "owners": keys.owners(page),
        "models": clients.example_models(page.services.models()),
        "period": period,
        "periods": _WORDS,
    }
    if values["began"] is None:
        return values
    found = await overview.look(
        pool, account.account_id, page.caller.person_id, account.time_zone, period, now()
    )  # fmt: skip
    return values | {
        "found": found,
        "requests": _charted(found, "requests"),
        "cost": _charted(found, "cost"),
        "budgets": await overview.budgets_of(pool, account.account_id, page.caller.person_id),
    }


def _charted(found: Overview, metric: str) -> Charted:
    return charted(found.models, metric, found.since, found.until, found.step, found.zone)


async def _start(page: Page) -> web.StreamResponse:
    """A first key, by one click."""
    own = keys.owners(page)[0][0] == "me"
    with page.beside(name_taken="name"):
        made = await api_keys.create(
            page.services, page.caller, page.account.account_id, keys.name_of(page), Terms(), own=own
        )  # fmt: skip
    return await keys.shown_once(page, made)


async def _first_call(page: Page) -> Mapping[str, Any] | web.StreamResponse:
    """The newest request of an account that may be waiting for its first; for a script, that piece alone."""
    until = now() + timedelta(hours=1)  # a gateway's clock ahead of ours hides nothing
    found = await usage.own_requests(
        page.services.pool,
        page.account.account_id,
        page.caller.person_id,
        (until - timedelta(days=2), until),
        usage.Only(),
        None,
        1,
    )
    if page.is_fragment and not found:
        return web.Response(status=204)  # the piece that waits stays as it is
    values = {"request": found[0] if found else None}
    return page.show("first_call.html", values) if page.is_fragment else values


_ACCOUNT: Final = "/accounts/{account_id}"
_MAKES: Final = (Permission.KEYS_WRITE, Permission.KEYS_OWN)
ROUTES: Final = (
    Route(_ACCOUNT, "overview.html", _overview, None, Access.MEMBER, (Permission.USAGE_READ,),
          Menu("Overview", ACCOUNT, 0)),
    Route(f"{_ACCOUNT}/start", "overview.html", _overview, _start, Access.PROVEN, _MAKES),
    Route(f"{_ACCOUNT}/first-call", "first_call_page.html", _first_call, None, Access.MEMBER, (Permission.USAGE_READ,)),
)  # fmt: skip
