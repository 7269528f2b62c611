"""Single requests of an account: metadata, never what was said. All that is chosen stands in the address.

The account's own and those of who looks. Other members' are for their own eyes, unless the account lets its owners see
those that came since then (control/usage.py): then each page that shows some is a look, and recorded.
"""

import contextlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from luntrex_proxy.console.pages.clock import now
from luntrex_proxy.console.pages.keys import KEY_ID
from luntrex_proxy.console.pages.menu import ACCOUNT, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route
from luntrex_proxy.console.pages.usage import visible_keys
from luntrex_proxy.control import consents, keys, members, spans, usage
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.control.usage import Only, Passage
from luntrex_proxy.core.roles import Permission

_SHOWN_MAX: Final = 50
_KEYS_MAX: Final = 200
_MEMBERS_MAX: Final = 1_000
_DAYS: Final = 7
_WORD_CHARACTERS_MAX: Final = 200
_EARLIEST, _LATEST = date(2000, 1, 1), date(2200, 1, 1)
_WIDTH: Final = 1_000  # of the pictures of a timeline, in their own units


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What the address says; a word that cannot be counts as none."""

    since: date
    until: date
    key: str
    model: str
    upstream: str
    outcome: str  # failed, or nothing

    @property
    def is_narrow(self) -> bool:
        """Whether more is chosen than a span of time."""
        return bool(self.key or self.model or self.upstream or self.outcome)

    def words(self, **other: str) -> str:
        """The address's query."""
        given = {"since": self.since.isoformat(), "until": self.until.isoformat(), "key": self.key}
        given |= {"model": self.model, "upstream": self.upstream, "outcome": self.outcome} | other
        return urlencode({name: value for name, value in given.items() if value})


@dataclass(frozen=True, slots=True)
class Stretch:
    """A passage of a request, and where it stands in a picture of the whole; width 0: not asked, or over at once."""

    passage: Passage
    start: int
    width: int


async def _list(page: Page) -> Mapping[str, Any]:
    pool, account = page.services.pool, page.account
    chosen, problems = _read(page)
    times = (
        spans.begin_of(chosen.since, account.time_zone),
        spans.begin_of(chosen.until + timedelta(days=1), account.time_zone),
    )
    only = Only(chosen.key or None, chosen.model or None, chosen.upstream or None, chosen.outcome == "failed")
    found = await usage.requests_seen(
        pool, page.caller, account.account_id, times, only, _after(page.query("after")), _SHOWN_MAX
    )
    shown = found[:_SHOWN_MAX]
    more = f"{shown[-1].started_at.isoformat()}~{shown[-1].request_id}" if len(found) > _SHOWN_MAX else ""
    models, upstreams = await usage.choices(pool, account.account_id, *times)
    since = (await consents.member_requests_since(pool, [account.account_id])).get(account.account_id)
    sees_members = since is not None and page.may(Permission.USAGE_MEMBERS)
    return {
        "members_since": since,
        "sees_members": sees_members,
        "names": await _names(page) if sees_members else {},
        "chosen": chosen,
        "problems": problems,
        "found": shown,
        "more": more,
        "is_first": not page.query("after"),
        "models": models,
        "upstreams": upstreams,
        "keys": await (_all_keys(page) if sees_members else visible_keys(page)),
    }


async def _names(page: Page) -> dict[str, str]:
    """What members are called, in short: an address is broken up where there is little room."""
    found = await members.list_page(page.services.pool, page.account.account_id, None, _MEMBERS_MAX)
    return {str(each.person_id): each.name or each.email.partition("@")[0] for each in found}


async def _all_keys(page: Page) -> list[tuple[str, str]]:
    found = await keys.list_page(page.services.pool, page.caller, page.account.account_id, None, _KEYS_MAX)
    return [(key.key_id, key.name) for key in found]


async def _one(page: Page) -> Mapping[str, Any]:
    try:
        request_id = uuid.UUID(page.place("request_id"))
    except ValueError:
        raise NotFoundError from None
    pool, account_id = page.services.pool, page.account.account_id
    found = await usage.request_seen(pool, page.caller, account_id, str(request_id))
    if found is None:
        raise NotFoundError
    of_member = found.member_id if found.member_id != page.caller.person_id else None
    name = (await _names(page)).get(of_member, "a member who left") if of_member else ""
    return {
        "one": found,
        "member": name,
        "stretches": stretches(usage.timeline_of(found), found.duration_us),
        "width": _WIDTH,
    }


def stretches(passages: list[Passage], whole_us: int) -> list[Stretch]:
    """Passages with their places in a picture of a request that took `whole_us`."""
    found = []
    for each in passages:
        if each.start_us is None or each.took_us is None or whole_us <= 0:
            found.append(Stretch(each, 0, 0))
            continue
        start = min(_WIDTH, each.start_us * _WIDTH // whole_us)
        found.append(Stretch(each, start, min(_WIDTH - start, each.took_us * _WIDTH // whole_us)))
    return found


def _read(page: Page) -> tuple[_Chosen, list[str]]:
    """What was chosen, and sentences about what could not be."""
    problems: list[str] = []
    until = _day(page.query("until"), spans.day_of(now(), page.account.time_zone), problems)
    since = _day(page.query("since"), until - timedelta(days=_DAYS - 1), problems)
    key = page.query("key")
    chosen = _Chosen(
        min(since, until),
        max(since, until),
        key if KEY_ID.fullmatch(key) else "",
        _word(page.query("model")),
        _word(page.query("upstream")),
        "failed" if page.query("outcome") == "failed" else "",
    )
    return chosen, problems


def _day(text: str, otherwise: date, problems: list[str]) -> date:
    with contextlib.suppress(ValueError):
        if not text or _EARLIEST <= date.fromisoformat(text) <= _LATEST:
            return date.fromisoformat(text) if text else otherwise
    problems.append("A day is written such as 2027-01-31.")
    return otherwise


def _word(text: str) -> str:
    return text if text.isprintable() and len(text) <= _WORD_CHARACTERS_MAX else ""


def _after(word: str) -> tuple[datetime, str] | None:
    at, _, request_id = word.partition("~")
    with contextlib.suppress(ValueError):
        moment = datetime.fromisoformat(at)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)), str(uuid.UUID(request_id))
    return None


_REQUESTS: Final = "/accounts/{account_id}/requests"
_READ: Final = (Permission.USAGE_READ,)
ROUTES: Final = (
    Route(_REQUESTS, "requests.html", _list, None, Access.MEMBER, _READ, Menu("Requests", ACCOUNT, 15)),
    Route(f"{_REQUESTS}/{{request_id}}", "request.html", _one, None, Access.MEMBER, _READ),
)
