"""The price of a model at an upstream: the configuration's own, else genai-prices' shipped table, else unknown.

The table is read once, offline. Each (provider, model) is looked up once per half hour, because prices in the table
can begin at a date or a time of day, all of them at half hours. Only the table's own model names leave this file,
never the string a client sent.
"""

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import astuple, replace

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.catalogue import Candidate, Resolution
from luntrex_proxy.core.pricing import (
    PICO_PER_TOKEN_PER_DOLLAR_PER_MILLION,
    Price,
    Rates,
    Services,
    Tier,
    fill_rates,
)
from luntrex_proxy.settings.upstreams import Upstream

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice, Provider

OTHER: Final = "other"
OWN: Final = "config-"  # how versions of prices of the configuration begin
_MAX_CACHED: Final = 1_000
_MAX_MODEL_CHARS: Final = 200  # no model has a longer name, and a lookup reads all of it
_HALF_HOUR_S: Final = 1_800

# Our class -> the table's keys, the first present wins.
_TABLE_KEYS: Final = {
    "input": ("input_mtok",),
    "cached_input": ("cache_read_mtok",),
    "cache_write_5m": ("cache_write_5m_mtok", "cache_write_mtok"),
    "cache_write_1h": ("cache_write_1h_mtok", "cache_write_mtok"),
    "input_audio": ("input_audio_mtok",),
    "output": ("output_mtok",),
    "reasoning": ("output_reasoning_mtok",),
    "output_audio": ("output_audio_mtok",),
}
# What providers list for their other service tiers, in percent of the standard prices. OpenAI's flex is priced as its
# batches, which cost half (developers.openai.com/api/docs/guides/flex-processing), and so is Anthropic's batch
# (platform.claude.com/docs/en/about-claude/pricing). What priority and fast cost is not one share for all models.
_SERVICES: Final[Mapping[str, Services]] = {
    "openai": (("flex", 50), ("batch", 50)),
    "anthropic": (("batch", 50),),
}
_UNKNOWN: Final = Price(rates=None, model=OTHER, version="")


class PriceBook:
    """Prices by upstream and model. Asked once per request; answers from memory."""

    def __init__(
        self,
        upstreams: Iterable[Upstream],
        service_tiers: Services = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`service_tiers` are the operator's own, for all models."""
        # Imported here: the table costs a quarter of a second, which command line verbs should not pay.
        import genai_prices  # noqa: PLC0415 -- see above
        from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 -- see above

        self._clock = clock
        self._version = f"genai-{genai_prices.__version__}"
        self._providers: list[Provider] = get_snapshot().providers
        self._provider_of = {upstream.name: self._find_provider(upstream) for upstream in upstreams}
        self._service_tiers = service_tiers
        self._cache: OrderedDict[tuple[str, str], tuple[int, Price]] = OrderedDict()
        self._own: dict[object, Price] = {}  # as many as models are configured, of wildcards times the table's names

    def price(self, resolution: Resolution, candidate: Candidate, asked: str, at_s: float | None = None) -> Price:
        """The price, and the name to record, of the model the client `asked` for when `candidate` serves it.

        At a time (unix seconds; None: now), because prices of the table can begin and end.
        """
        if resolution.name is not None and resolution.rates is not None:
            return self._own.get(resolution) or self._own_price(resolution, resolution.rates, resolution.name)
        found = self.lookup(candidate.upstream, candidate.model or asked, at_s)
        name = found.model if resolution.name is None else resolution.name
        if resolution.rates is not None:
            key = resolution.rates, name
            return self._own.get(key) or self._own_price(key, *key)
        return found if name == found.model else Price(found.rates, name, found.version)

    def _own_price(self, key: object, rates: Rates, name: str) -> Price:
        """Of the configuration, made once. Its version tells one price from another: the same numbers have the same."""
        priced = replace(rates, services=_merged(self._service_tiers, rates.services))
        digest = hashlib.blake2b(msgspec.msgpack.encode(astuple(priced)), digest_size=4).hexdigest()
        price = self._own[key] = Price(priced, name, f"{OWN}{digest}")
        return price

    def lookup(self, upstream: str, model: str, at_s: float | None = None) -> Price:
        """The table's price and name of `model` at a configured upstream, now or at a time."""
        provider = self._provider_of.get(upstream)
        if provider is None or len(model) > _MAX_MODEL_CHARS:
            return _UNKNOWN
        key = (upstream, model)
        now_s = self._clock() if at_s is None else at_s
        half_hour = int(now_s // _HALF_HOUR_S)
        cached = self._cache.get(key)
        if cached and cached[0] == half_hour:
            self._cache.move_to_end(key)
            return cached[1]
        price = self._read_table(provider, model, now_s)
        self._cache[key] = (half_hour, price)
        self._cache.move_to_end(key)
        if len(self._cache) > _MAX_CACHED:
            self._cache.popitem(last=False)
        return price

    def _find_provider(self, upstream: Upstream) -> "Provider | None":
        """By its URL; an unknown host is taken for a relay to the dialect's own provider."""

        for provider in self._providers:
            if re.match(provider.api_pattern, upstream.base_url):
                return provider
        own = {Dialect.OPENAI: "openai", Dialect.ANTHROPIC: "anthropic"}[upstream.dialect]
        return next((provider for provider in self._providers if provider.id == own), None)

    def _read_table(self, provider: "Provider", model: str, now_s: float) -> Price:
        # Not the package's own lookup: it remembers every name it was ever asked for, without bound.
        found = provider.find_model(model, all_providers=self._providers)
        if found is None:
            return _UNKNOWN
        services = _merged(_SERVICES.get(provider.id, ()), self._service_tiers)
        rates = _rates(found.get_prices(datetime.fromtimestamp(now_s, UTC)), services)
        return Price(rates, found.id, self._version if rates else "")


def _merged(known: Services, stated: Services) -> Services:
    return tuple({**dict(known), **dict(stated)}.items())


def _rates(listed: "ModelPrice", services: Services = ()) -> Rates | None:
    """The table's dollars per million as integers; None when it does not price tokens."""
    prices = {name: _first(listed, keys) for name, keys in _TABLE_KEYS.items()}
    if prices["input"] is None and prices["output"] is None:
        return None
    starts = sorted({tier.start for price in prices.values() for tier in getattr(price, "tiers", ())})
    tiers = [Tier(start, fill_rates(_pico_at(prices, start + 1))) for start in starts]
    listed_audio = any(prices[name] is not None for name in ("input_audio", "output_audio"))
    return replace(fill_rates(_pico_at(prices, 0), tiers, services), audio_listed=listed_audio)


def _first(listed: "ModelPrice", keys: Iterable[str]) -> object:
    return next((listed.__dict__[key] for key in keys if listed.__dict__.get(key) is not None), None)


def _pico_at(prices: dict[str, object], input_tokens: int) -> dict[str, int]:
    return {name: _pico(_dollars_at(price, input_tokens)) for name, price in prices.items() if price is not None}


def _dollars_at(price: object, input_tokens: int) -> Decimal:
    """A flat price, or the one of the highest tier below `input_tokens`."""
    if isinstance(price, Decimal):
        return price
    chosen: Decimal = price.base  # type: ignore[attr-defined]  # TieredPrices, the only other kind in the table
    for tier in price.tiers:  # type: ignore[attr-defined]  # as above; tiers are sorted
        if input_tokens > tier.start:
            chosen = tier.price
    return chosen


def _pico(dollars: Decimal) -> int:
    # A few resellers list fractions of a pico-dollar; half of one per token is lost at most.
    return int((dollars * PICO_PER_TOKEN_PER_DOLLAR_PER_MILLION).to_integral_value(ROUND_HALF_EVEN))
