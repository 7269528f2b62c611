"""Pricing records anew, by the prices that this configuration and the shipped list have now.

A record has the model's name, its upstream and the version of its prices, not the model's name there. Where that leaves
open which price it would have, none is known: the record stays as it is.
"""

import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import date
from typing import Any, Final

from luntrex_proxy.control import work
from luntrex_proxy.control.services import Services
from luntrex_proxy.core.accountroutes import AccountCatalogue, AccountRoutes
from luntrex_proxy.core.catalogue import Candidate, Names, Resolution
from luntrex_proxy.core.pricing import Price
from luntrex_proxy.settings.catalogue import build_catalogue
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.prices import OWN, PriceBook
from luntrex_proxy.store import accountroutes
from luntrex_proxy.store import repricing as table
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.repricing import Seen, Selection, Tallies, Tally

__all__ = ["Selection", "Tallies", "Tally", "begin", "days_of", "previewed", "reprice"]
days_of = table.days_of
_SHOWN_MAX: Final = 100  # of the groups of a result


class _PricesNow:
    """What records' models cost at their upstreams now; prices of the list as they were at that time of day."""

    def __init__(self, settings: Settings, routes: Mapping[int, AccountRoutes]) -> None:
        self._book = PriceBook(settings.upstreams, settings.prices.service_tiers.percents())
        self._catalogue = build_catalogue(settings.models, settings.upstreams)
        self._dialects = {upstream.name: upstream.dialect for upstream in settings.upstreams}
        # Whatever models an account may use now: it used these.
        self._own = {
            account_id: AccountCatalogue(self._catalogue, AccountRoutes(targets=own.targets), self._dialects)
            for account_id, own in routes.items()
        }

    def price(self, account_id: int, model: str, upstream: str, version: str, started_s: float) -> Price | None:
        """None: not known, or one of several."""
        dialect = self._dialects.get(upstream)
        if dialect is None:
            return None
        names: Names = self._own.get(account_id, self._catalogue)
        resolution = names.resolve(model, dialect)
        if resolution is None:  # a name of the list, of a wildcard with a beginning of its own
            found: Price | None = self._book.lookup(upstream, model, started_s)
        else:
            there = [candidate for candidate in resolution.candidates if candidate.upstream == upstream]
            found = self._only(resolution, there, model, started_s)
        if found is None or found.rates is None:
            return None
        # Of a wildcard's own price nobody can tell which wildcard it was.
        return None if version.startswith(OWN) and not found.version.startswith(OWN) else found

    def _only(self, resolution: Resolution, there: Iterable[Candidate], model: str, started_s: float) -> Price | None:
        """The price at all of these; None: they have several, or there are none."""
        found = [self._book.price(resolution, candidate, model, started_s) for candidate in there]
        return found[0] if found and all(each.rates == found[0].rates for each in found) else None


async def begin(services: Services, selection: Selection, *, apply: bool) -> uuid.UUID:
    """Do it beside whoever asks; the id of the work. Its result has the sums so far. RefusedError: one is under way."""
    settings = services.settings_now
    about = {
        "since": selection.since.isoformat(), "until": selection.until.isoformat(), "account": selection.account_id,
        "model": selection.model, "apply": apply,
    }  # fmt: skip

    async def job(progress: work.Progress) -> None:
        await _work_through(services.pool, settings, selection, progress, apply=apply)

    return await work.start(services.pool, "repricing", about, job)


def previewed(found: work.Work) -> Selection | None:
    """What a preview that has ended was about; None: it is none, or has not."""
    about = found.about
    if found.kind != "repricing" or about["apply"] or found.state != "done":
        return None
    since, until = (date.fromisoformat(about[name]) for name in ("since", "until"))
    return Selection(since, until, about["account"], about["model"])


async def _work_through(
    pool: Pool, settings: Settings, selection: Selection, progress: work.Progress, *, apply: bool
) -> None:
    days, by_day = await table.days_of(pool, selection), await table.records_by_day(pool, selection)
    expected, before, total = sum(by_day.get(day, 0) for day in days), 0, Tallies()
    progress.to(0, expected)

    def seen(records: int) -> None:
        progress.to(min(progress.done + records, expected), expected)

    passed = iter(days)
    async for tallies in reprice(pool, settings, selection, apply=apply, seen=seen):
        for whose, tally in tallies.items():
            total.setdefault(whose, Tally()).add(tally)
        before += by_day.get(next(passed), 0)  # some records are not looked at, or came meanwhile
        progress.to(before, expected)
        progress.result = _result(total)


def _result(total: Tallies) -> dict[str, Any]:
    """The largest differences, and all together."""
    whole = Tally()
    for tally in total.values():
        whole.add(tally)
    largest = sorted(total.items(), key=lambda each: -abs(each[1].after_pico - each[1].before_pico))
    shown = [{"account_id": key[0], "model": key[1]} | _in_words(tally) for key, tally in largest[:_SHOWN_MAX]]
    return {"whole": _in_words(whole), "totals": shown, "more": max(0, len(total) - _SHOWN_MAX)}


def _in_words(tally: Tally) -> dict[str, Any]:
    """As JSON takes it: money may be more than its numbers."""
    counts = {name: getattr(tally, name) for name in ("requests", "changed", "unknown")}
    return counts | {"before_pico": str(tally.before_pico), "after_pico": str(tally.after_pico)}


async def reprice(
    pool: Pool, settings: Settings, selection: Selection, *, apply: bool = False, seen: Seen = lambda _records: None
) -> AsyncIterator[Tallies]:
    """What records would cost, day by day; with `apply` each day is changed to that before it is yielded.

    Budgets keep what was charged at the time. A closed month stays as it is: the next statement has the difference.
    """
    routes = {each.account_id: each.routes for each in await accountroutes.list_all(pool)}
    prices = _PricesNow(settings, routes)
    for day in await table.days_of(pool, selection):
        yield await table.reprice_day(pool, day, selection, prices.price, apply=apply, seen=seen)
