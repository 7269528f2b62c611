"""Pricing records anew, by the prices that this configuration and the shipped list have now."""

from collections.abc import AsyncIterator

from luntrex_proxy.core.catalogue import Candidate
from luntrex_proxy.core.pricing import Price
from luntrex_proxy.settings.catalogue import build_catalogue
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.prices import OWN, PriceBook
from luntrex_proxy.store import repricing as table
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.repricing import Selection, Tallies, Tally

__all__ = ["Selection", "Tallies", "Tally", "days_of", "reprice"]
days_of = table.days_of


class _PricesNow:
    """What a record's model costs at its upstream now; prices of the list as they were at the record's time of day."""

    def __init__(self, settings: Settings) -> None:
        self._book = PriceBook(settings.upstreams, settings.prices.service_tiers.percents())
        self._catalogue = build_catalogue(settings.models, settings.upstreams)
        self._dialects = {upstream.name: upstream.dialect for upstream in settings.upstreams}

    def price(self, model: str, upstream: str, version: str, started_s: float) -> Price | None:
        """None: not known, or the record's was the configuration's own and nobody can tell of which model."""
        dialect = self._dialects.get(upstream)
        if dialect is None:
            return None
        resolution = self._catalogue.resolve(model, dialect)
        if resolution is None:
            found = self._book.lookup(upstream, model, started_s)
        else:
            there = [candidate for candidate in resolution.candidates if candidate.upstream == upstream]
            candidate = there[0] if there else Candidate(upstream, None, 1)
            found = self._book.price(resolution, candidate, model, started_s)
        is_lost = version.startswith(OWN) and not found.version.startswith(OWN)
        return None if found.rates is None or is_lost else found


async def reprice(
    pool: Pool, settings: Settings, selection: Selection, *, apply: bool = False
) -> AsyncIterator[Tallies]:
    """What records would cost, day by day; with `apply` each day is changed to that before it is yielded.

    Budgets keep what was charged at the time. A closed month stays as it is: the next statement has the difference.
    """
    prices = _PricesNow(settings)
    for day in await table.days_of(pool, selection):
        yield await table.reprice_day(pool, day, selection, prices.price, apply=apply)
