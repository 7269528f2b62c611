"""Bills of an account: its months, each as a page to print and as CSV, and its invoices that are written down.

Months are in UTC. One that is not closed is shown as it would be if it were closed now.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.clock import now
from luntrex_proxy.console.pages.menu import ACCOUNT, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route, WrongFieldsError
from luntrex_proxy.console.pages.wording import as_text
from luntrex_proxy.control import billing, statements
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.control.statements import Statement
from luntrex_proxy.core.months import BadMonthError, in_words, month_of, next_month, read_month
from luntrex_proxy.core.roles import Permission

_SHOWN_MAX: Final = 120  # ten years
DONE: Final = {"month_closed": "The month is closed: its lines stay as they are."}
# What a line counts, in the order in which it is shown, and how columns of a CSV call it.
_COUNTS: Final = (
    "requests", "errors", "input_tokens", "cached_input_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
    "input_audio_tokens", "output_tokens", "reasoning_tokens", "output_audio_tokens",
)  # fmt: skip


async def _list(page: Page) -> Mapping[str, Any]:
    pool, account_id = page.services.pool, page.account.account_id
    closed = await statements.list_page(pool, account_id, None, _SHOWN_MAX)
    this_month = month_of(now().date())
    before = month_of(date.fromordinal(this_month.toordinal() - 1))
    open_months = [this_month] + ([] if any(each.month == before for each in closed) else [before])
    return {
        "open": [await statements.get(pool, account_id, month) for month in open_months],
        "closed": closed,
        "invoices": await billing.list_page(pool, account_id, None, _SHOWN_MAX),
        "in_words": in_words,
        "today": now().date(),
    }


async def _statement(page: Page) -> Mapping[str, Any]:
    found = await _found(page)
    return {
        "found": found,
        "month": in_words(found.month),
        "name": f"{found.month:%B %Y}",
        "last_day": date.fromordinal(next_month(found.month).toordinal() - 1),
        "is_over": next_month(found.month) <= now().date(),
        "late": [line for line in found.lines if line.usage_month != found.month],
        "lines": [line for line in found.lines if line.usage_month == found.month],
        "in_words": in_words,
        "now": now(),
    }


async def _close(page: Page) -> web.StreamResponse:
    """By who runs the installation."""
    if not page.person.operator:
        raise NotFoundError
    month = _month(page)
    if page.field("sure") != "yes":
        raise WrongFieldsError(sure="Say that it shall be closed for good.")
    await statements.close(page.services.pool, page.account.account_id, month)
    return page.go(f"/accounts/{page.account.account_id}/billing/{in_words(month)}?done=month_closed")


async def _csv(page: Page) -> web.StreamResponse:
    found = await _found(page)
    text = io.StringIO(newline="")
    csv.writer(text).writerows(_lines(found))
    name = f"statement-{found.account}-{in_words(found.month)}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return web.Response(text=text.getvalue(), content_type="text/csv", charset="utf-8", headers=headers)


def _lines(found: Statement) -> Iterator[Sequence[Any]]:
    yield "month", "usage_month", "model", "labels", *_COUNTS, "cost_usd"
    for line in found.lines:
        labels = " ".join(f"{name}={value}" for name, value in sorted(line.labels.items()))
        counts = [line.sums[name] for name in _COUNTS]
        sign, size = ("-" if line.cost_pico < 0 else ""), abs(line.cost_pico)
        dollars = f"{sign}{size // 10**12}.{size % 10**12:012d}"
        months = in_words(found.month), in_words(line.usage_month)
        yield *months, as_text(line.model), as_text(labels), *counts, dollars


async def _found(page: Page) -> Statement:
    return await statements.get(page.services.pool, page.account.account_id, _month(page))


def _month(page: Page) -> date:
    try:
        month = read_month(page.place("month"))
    except BadMonthError:
        raise NotFoundError from None
    if month > now().date():
        raise NotFoundError
    return month


_BILLING: Final = "/accounts/{account_id}/billing"
_MONTH: Final = f"{_BILLING}/{{month}}"
_READ: Final = (Permission.BILLING_READ,)
ROUTES: Final = (
    Route(_BILLING, "billing.html", _list, None, Access.MEMBER, _READ, Menu("Billing", ACCOUNT, 40)),
    Route(_MONTH, "statement.html", _statement, None, Access.MEMBER, _READ),
    Route(f"{_MONTH}/lines.csv", "statement.html", _csv, None, Access.MEMBER, _READ),
    Route(f"{_MONTH}/close", "statement.html", _statement, _close, Access.MEMBER, _READ),
)
