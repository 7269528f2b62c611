"""The labels that keys of an account can carry: declared with their values, and taken back. A key's own: keys.py."""

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.given import Given
from luntrex_proxy.console.pages.page import Access, Page, Route
from luntrex_proxy.control import labels
from luntrex_proxy.control.labels import Declaration
from luntrex_proxy.core.labels import NAME, NAME_RULE, NAMES_MAX
from luntrex_proxy.core.roles import Permission

_VALUES_CHARACTERS_MAX: Final = 15_000
DONE: Final = {
    "label_declared": "Keys can carry the label now. Set it on the page of each key.",
    "label_removed": "No key can carry the label any more; usage of before keeps it.",
}


async def _list(page: Page) -> Mapping[str, Any]:
    found = await labels.list_declared(page.services.pool, page.account.account_id)
    return {"found": found, "may_add": len(found) < NAMES_MAX and page.may(Permission.KEYS_WRITE)}


async def _form(page: Page) -> Mapping[str, Any]:
    return {"known": await _known(page)}


async def _declare(page: Page) -> web.StreamResponse:
    known, given = await _known(page), Given(page)
    name = known.name if known else page.field("name").strip()
    if not NAME.fullmatch(name):
        given.wrong["name"] = f"A label's name is {NAME_RULE}."
    values = given.text("values", _VALUES_CHARACTERS_MAX).replace(",", " ").split()
    given.check()
    with page.beside(bad_labels="values", label_in_use="values"):
        await labels.declare(page.services.pool, page.account.account_id, name, values or None)
    return page.go(f"{_path(page)}?done=label_declared")


async def _remove(page: Page) -> web.StreamResponse:
    await labels.remove(page.services.pool, page.account.account_id, page.field("name"))
    return page.go(f"{_path(page)}?done=label_removed")


async def _known(page: Page) -> Declaration | None:
    """The label that the address names; None: it is about a new one."""
    found = await labels.list_declared(page.services.pool, page.account.account_id)
    return next((each for each in found if each.name == page.query("name")), None)


def _path(page: Page) -> str:
    return f"/accounts/{page.account.account_id}/labels"


_LABELS: Final = "/accounts/{account_id}/labels"
_WRITE: Final = (Permission.KEYS_WRITE,)
ROUTES: Final = (
    Route(_LABELS, "labels.html", _list, None, Access.MEMBER, (Permission.ACCOUNT_READ,)),
    Route(f"{_LABELS}/edit", "label_edit.html", _form, _declare, Access.MEMBER, _WRITE),
    Route(f"{_LABELS}/remove", "labels.html", _list, _remove, Access.MEMBER, _WRITE),
)
