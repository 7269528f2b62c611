"""Single requests of an account: metadata, never what was said. All that is chosen stands in the address.

The account's own and those of who looks. Other members' are for their own eyes, unless the account lets its owners see
those that came since then (control/usage.py): then each page that shows some is a look, and recorded.
"""

import asyncio
import contextlib
import csv
import io
import uuid
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from luntrex_proxy.console.pages.clock import now
from luntrex_proxy.console.pages.keys import KEY_ID
from luntrex_proxy.console.pages.menu import ACCOUNT, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route
from luntrex_proxy.console.pages.paging import place_in
from luntrex_proxy.console.pages.sending import send_pieces
from luntrex_proxy.console.pages.usage import visible_keys
from luntrex_proxy.console.pages.wording import as_text
from luntrex_proxy.control import consents, keys, members, spans, usage
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.control.usage import Only, Passage, UsageRequest
from luntrex_proxy.core.roles import Permission

_SHOWN_MAX: Final = 50
_CSV_MAX: Final = 10_000
_PIECE: Final = 500  # lines of a file that are read at a time, which is one look
_WRITTEN: Final = 100  # and written; both are some milliseconds of work
_COLUMNS: Final = (
    "request_id", "started_at", "key_id", "key_name", "member_id", "route", "status", "code", "ending", "model",
    "upstream", "streamed", "usage_source", "input_tokens", "cached_input_tokens", "cache_write_5m_tokens",
    "cache_write_1h_tokens", "input_audio_tokens", "output_tokens", "reasoning_tokens", "output_audio_tokens",
    "price_version", "price_known", "request_bytes", "response_bytes", "events", "attempts", "duration_us",
    "first_byte_us", "overhead_us",
)  # fmt: skip
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

    @property
    def only(self) -> Only:
        """The same, for control, but for the span of time."""
        return Only(self.key or None, self.model or None, self.upstream or None, self.outcome == "failed")

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
    times = _times(page, chosen)
    found = await usage.requests_seen(
        pool, page.caller, account.account_id, times, chosen.only, _after(page.query("after")), _SHOWN_MAX
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
        "csv_max": _CSV_MAX,
        "models": models,
        "upstreams": upstreams,
        "keys": await (_all_keys(page) if sees_members else visible_keys(page)),
    }


async def _csv(page: Page) -> web.StreamResponse:
    """What is chosen, the newest of it, as far as a file goes."""
    chosen, _ = _read(page)
    name = f"requests-{page.account.name}-{chosen.since}-{chosen.until}.csv"
    headers = {
        "Content-Type": "text/csv; charset=utf-8", "Content-Disposition": f'attachment; filename="{name}"'
    }  # fmt: skip
    return await send_pieces(page.request, page.services.settings, headers, _pieces(page, chosen))


async def _pieces(page: Page, chosen: _Chosen) -> AsyncGenerator[bytes, None]:
    """Lines as they are read: all at once would hold up what else this process does."""
    heading: list[Sequence[Any]] = [(*_COLUMNS, "cost_usd", "labels")]
    after, times = None, _times(page, chosen)
    for _ in range(_CSV_MAX // _PIECE):
        found = await usage.requests_seen(
            page.services.pool, page.caller, page.account.account_id, times, chosen.only, after, _PIECE
        )
        for start in range(0, _PIECE, _WRITTEN):
            yield _as_csv([*heading, *_lines(found[start : min(start + _WRITTEN, _PIECE)])])
            await asyncio.sleep(0)
            heading = []
        if len(found) <= _PIECE:
            return
        after = found[_PIECE - 1].started_at, found[_PIECE - 1].request_id


def _as_csv(lines: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(lines)
    return text.getvalue().encode()


def _lines(found: Sequence[UsageRequest]) -> Iterator[Sequence[Any]]:
    for one in found:
        cells = [getattr(one, name) for name in _COLUMNS]
        labels = " ".join(f"{name}={value}" for name, value in sorted(one.labels.items()))
        dollars = f"{one.cost_pico // 10**12}.{one.cost_pico % 10**12:012d}"
        started_at = one.started_at.astimezone(UTC).isoformat()
        texts = ["" if cell is None else as_text(cell) if isinstance(cell, str) else cell for cell in cells]
        yield texts[0], started_at, *texts[2:], dollars, as_text(labels)


def _times(page: Page, chosen: _Chosen) -> tuple[datetime, datetime]:
    zone = page.account.time_zone
    return spans.begin_of(chosen.since, zone), spans.begin_of(chosen.until + timedelta(days=1), zone)


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
        "back": _read(page)[0].words() if page.request.query else "",
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
    place = place_in(word)
    return None if place is None else (place[0], str(place[1]))


_REQUESTS: Final = "/accounts/{account_id}/requests"
_READ: Final = (Permission.USAGE_READ,)
ROUTES: Final = (
    Route(_REQUESTS, "requests.html", _list, None, Access.MEMBER, _READ, Menu("Requests", ACCOUNT, 15)),
    Route(f"{_REQUESTS}.csv", "requests.html", _csv, None, Access.MEMBER, _READ),
    Route(f"{_REQUESTS}/{{request_id}}", "request.html", _one, None, Access.MEMBER, _READ),
)
