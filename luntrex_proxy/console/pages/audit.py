"""The audit log: all of it for who runs the installation, an account's part for who may see that."""

import contextlib
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from luntrex_proxy.console.pages.menu import ACCOUNT, OPERATOR, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route
from luntrex_proxy.console.pages.paging import number_in
from luntrex_proxy.control import acts, audit, members, people, spans
from luntrex_proxy.control.audit import Only
from luntrex_proxy.core.roles import Permission

_SHOWN: Final = 50
_MEMBERS_MAX: Final = 1_000
_ACT: Final = re.compile(r"[a-z_]{1,40}[.][a-z_]{1,40}")
_WHO: Final = re.compile(r"[\x21-\x7e ]{1,254}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[^Z]*[+-]\d\d:\d\d")
_WRONG: Final = {
    "act": "An act is written such as key.revoked.",
    "who": "Give a mail address, the id of a person, or a way such as command line.",
    "since": "Give a day, such as 2030-01-31.",
    "until": "Give a day, such as 2030-01-31.",
}


async def _all(page: Page) -> Mapping[str, Any]:
    if not page.query("before"):
        with acts.acting_as(page.caller.way):
            await acts.record_read(page.services.pool, "audit.list")
    values = await _entries(page, None, "UTC")
    ids = set()
    for entry in values["found"]:
        with contextlib.suppress(ValueError):
            ids.add(uuid.UUID(entry.actor.partition(":")[2]))
    found = await people.addresses(page.services.pool, ids)
    return {**values, "names": {str(person_id): address for person_id, address in found.items()}}


async def _of_account(page: Page) -> Mapping[str, Any]:
    values = await _entries(page, page.account.account_id, page.account.time_zone)
    if not page.may(Permission.MEMBERS_READ):
        return values
    found = await members.list_page(page.services.pool, page.account.account_id, None, _MEMBERS_MAX)
    return {**values, "names": {str(each.person_id): each.email for each in found}}


async def _entries(page: Page, account_id: int | None, zone: str) -> Mapping[str, Any]:
    asked = {name: page.query(name).strip() for name in _WRONG}
    act, who = (asked[name] if form.fullmatch(asked[name]) else None for name, form in (("act", _ACT), ("who", _WHO)))
    since, until = _midnight(asked["since"], zone), _midnight(asked["until"], zone, days=1)
    before = number_in(page.query("before")) or None
    found = await audit.page(page.services.pool, account_id, Only(act, who, since, until), before, _SHOWN + 1)
    read = {"act": act, "who": who, "since": since, "until": until}
    good = {name: asked[name] for name, value in read.items() if value is not None}
    return {
        "found": found[:_SHOWN],
        "more": found[_SHOWN - 1].sequence if len(found) > _SHOWN else None,
        "asked": asked,
        "filters": urlencode(good),
        "wrong": {name: _WRONG[name] for name in asked if asked[name] and name not in good},
        "is_later": before is not None,
        "names": {},
        "time_in": _time_in,
    }


def _time_in(value: Any) -> datetime | None:
    """The moment that a fact is."""
    if not isinstance(value, str) or not _TIME.match(value):
        return None
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(value)
    return None


def _midnight(text: str, zone: str, days: int = 0) -> datetime | None:
    """When a day begins in the zone, or one so many days later. None: it is no day that can be."""
    try:
        day = date.fromisoformat(text) + timedelta(days=days)
        return datetime.combine(day, datetime.min.time(), spans.zone_of(zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


ROUTES: Final = (
    Route("/audit", "audit.html", _all, None, Access.OPERATOR, menu=Menu("Audit log", OPERATOR, 70)),
    Route("/accounts/{account_id}/audit", "audit.html", _of_account, None, Access.MEMBER, (Permission.AUDIT_READ,),
          Menu("Audit log", ACCOUNT, 90)),
)  # fmt: skip
