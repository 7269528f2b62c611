"""Pricing records anew, by the prices that this configuration and the shipped list have now.

A record has the model's name, its upstream and the version of its prices, not the model's name there. Where that leaves
open which price it would have, none is known: the record stays as it is.
"""

from collections.abc import AsyncIterator, Iterable, Mapping

from luntrex_proxy.core.accountroutes import AccountCatalogue, AccountRoutes
from luntrex_proxy.core.catalogue import Candidate, Names, Resolution
from luntrex_proxy.core.pricing import Price
from luntrex_proxy.settings.catalogue import build_catalogue
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.prices import OWN, PriceBook
from luntrex_proxy.store import accountroutes
from luntrex_proxy.store import repricing as table
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.repricing import Selection, Tallies, Tally

__all__ = ["Selection", "Tallies", "Tally", "days_of", "reprice"]
days_of = table.days_of


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


async def reprice(
    pool: Pool, settings: Settings, selection: Selection, *, apply: bool = False
) -> AsyncIterator[Tallies]:
    """What records would cost, day by day; with `apply` each day is changed to that before it is yielded.

    Budgets keep what was charged at the time. A closed month stays as it is: the next statement has the difference.
    """
    routes = {each.account_id: each.routes for each in await accountroutes.list_all(pool)}
    prices = _PricesNow(settings, routes)
    for day in await table.days_of(pool, selection):
        yield await table.reprice_day(pool, day, selection, prices.price, apply=apply)
