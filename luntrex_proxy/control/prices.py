"""Models that an account may use and what they cost, as the configuration and the shipped price list say now."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from luntrex_proxy.control import routes
from luntrex_proxy.control.services import Services
from luntrex_proxy.core.accountroutes import AccountCatalogue
from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.catalogue import WILDCARD, Candidate, Catalogue, Resolution
from luntrex_proxy.core.pricing import Price
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.prices import OWN, PriceBook

# A name that the list does not have takes it 24 ms to miss: such are looked up beside the loop, and remembered.
_lock: Final = threading.Lock()
_kept: Final[list[tuple[Settings, PriceBook]]] = []  # of the settings that were asked about last


@dataclass(frozen=True, slots=True)
class Offer:
    """An upstream that serves a model. Weight 0: only when others failed. `price` None: each name has its own."""

    upstream: str
    model: str  # its name there
    weight: int
    price: Price | None

    @property
    def is_own(self) -> bool:
        """Whether the price is the configuration's, not the list's."""
        return self.price is not None and self.price.version.startswith(OWN)


@dataclass(frozen=True, slots=True)
class Model:
    """A name that clients may send, or a beginning of names and `*`."""

    name: str
    offers: list[Offer]


async def offered(
    services: Services, account_id: int, part: str, first: int, count: int
) -> tuple[list[Model], int]:  # fmt: skip
    """Models with `part` in their names, `count` of them from number `first` on by name, and how many there are."""
    own = await routes.of_account(services.pool, account_id)
    settings, entries = services.settings_now, services.models()
    dialects = {upstream.name: upstream.dialect for upstream in settings.upstreams}
    names = AccountCatalogue(Catalogue(entries), own, dialects)
    known = {name for dialect in Dialect for name in names.list_models(dialect)}
    beginnings = {entry.name for entry in entries if entry.is_wildcard} | {
        name for name in own.targets if name.endswith(WILDCARD)
    }
    if own.models is not None:  # what others begin with may not be used, or only in part
        beginnings = {name for name in own.models if name.endswith(WILDCARD)}
    found = sorted(name for name in known | beginnings if part.lower() in name.lower())
    return await asyncio.to_thread(_priced, settings, names, found[first : first + count]), len(found)


def _priced(settings: Settings, names: AccountCatalogue, found: Sequence[str]) -> list[Model]:
    with _lock:
        if not _kept or _kept[0][0] is not settings:
            _kept[:] = [(settings, PriceBook(settings.upstreams, settings.prices.service_tiers.percents()))]
        return [Model(name, _offers(names, _kept[0][1], name)) for name in found]


def _offers(names: AccountCatalogue, book: PriceBook, name: str) -> list[Offer]:
    # A beginning is asked about as if its `*` were the rest of a name.
    offers: dict[tuple[str, str], Offer] = {}
    for dialect in Dialect:
        resolution = names.resolve(name, dialect)
        if resolution is None:
            continue
        for each in resolution.candidates:
            there = each.model or name
            offers[each.upstream, there] = Offer(
                each.upstream, there, each.weight, _price(book, resolution, each, name)
            )
    return list(offers.values())


def _price(book: PriceBook, resolution: Resolution, candidate: Candidate, asked: str) -> Price | None:
    if asked.endswith(WILDCARD) and resolution.rates is None:
        return None
    return book.price(resolution, candidate, asked)
