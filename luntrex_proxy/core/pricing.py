"""What tokens cost: rates per token class in integer pico-dollars, and the sum over one request's counts.

    Rates (base classes, subsets, larger-input tiers, service tiers) x Tokens -> cost_pico

One dollar per million tokens is 1,000,000 pico-dollars per token. Only integers here: no float, no Decimal.
Where rates come from (price tables, overrides) belongs to `settings/prices.py`.
"""

from collections.abc import Mapping, Sequence

import msgspec

from luntrex_proxy.core.outcome import ServedTokens, Tokens

PICO_PER_TOKEN_PER_DOLLAR_PER_MILLION = 1_000_000
# What a record and a bigint column hold: nine million dollars. A dearer request is a mistake in a price or a count, and
# must still be recorded, not fail to be.
COST_LIMIT_PICO = 2**63 - 1

# A class that a price list does not name is charged as the class it belongs to. Read in this order: the hour
# falls back to the five minutes, which by then has a rate.
_FALLBACKS = (
    ("cached_input", "input"),
    ("cache_write_5m", "input"),
    ("cache_write_1h", "cache_write_5m"),
    ("input_audio", "input"),
    ("reasoning", "output"),
    ("output_audio", "output"),
)
CLASSES = ("input", "output", *(name for name, _ in _FALLBACKS))
# Stands after the version of prices that are not those of the request: what it was charged is to be looked at.
_DOUBT = "?"
SERVICE_PERCENT_MAX = 10_000
Services = tuple[tuple[str, int], ...]  # a provider's service tiers, each in percent of its standard prices


class Rates(msgspec.Struct, frozen=True):
    """Pico-dollars per token of each class. `tiers` ascend; the last one exceeded replaces all rates of the request."""

    input: int
    output: int
    cached_input: int
    cache_write_5m: int
    cache_write_1h: int
    input_audio: int
    reasoning: int
    output_audio: int
    tiers: "tuple[Tier, ...]" = ()
    services: Services = ()
    audio_listed: bool = True  # False: nobody says what audio costs, and it costs more than text where it is priced

    def at(self, input_tokens: int) -> "Rates":
        """Those of a request with so much input."""
        return next((tier.rates for tier in reversed(self.tiers) if input_tokens > tier.above_input_tokens), self)

    def dearest(self, input_tokens: int) -> tuple[int, int, int]:
        """The most that a token of such a request may cost before it is counted: written to a cache, or reasoning.

        Of input, of output, and in percent of these what the dearest service tier costs.
        """
        rates = self.at(input_tokens)
        percent = max((100, *(percent for _, percent in self.services)))
        return max(rates.input, rates.cache_write_1h), max(rates.output, rates.reasoning), percent

    def served(self, percent: int) -> "Rates":
        """In percent of these, rounded to the nearest pico-dollar, tiers included."""
        scaled = {name: (getattr(self, name) * percent + 50) // 100 for name in CLASSES}
        return Rates(
            audio_listed=self.audio_listed,
            **scaled,
            tiers=tuple(Tier(each.above_input_tokens, each.rates.served(percent)) for each in self.tiers),
        )


class Tier(msgspec.Struct, frozen=True):
    """Rates of requests with more than `above_input_tokens` input tokens."""

    above_input_tokens: int
    rates: Rates


class Price(msgspec.Struct, frozen=True):
    """What is known of one model's price: `rates` None means unknown (cost 0, version "")."""

    rates: Rates | None
    model: str  # the name to record: the catalogue's, the price table's, or "other"; never the client's string
    version: str  # of the price list: "config-<digest>", "genai-<version>", with "/<service tier>", or ""

    def served(self, service: str) -> "Price":
        """The price at a service tier of the provider's. Of one without a price it is the standard one, in doubt.

        Of a model without a price the tier is kept, so that it counts once there is one.
        """
        if not service:
            return self
        if self.rates is None:
            return Price(None, self.model, f"/{service}{_DOUBT}")
        percent = dict(self.rates.services).get(service)
        if percent is None:
            return Price(self.rates, self.model, f"{self.version}/{service}{_DOUBT}")
        return Price(self.rates.served(percent), self.model, f"{self.version}/{service}")

    def of(self, tokens: Tokens) -> "Price":
        """The price that these tokens have, where they are no plain ones.

        At the service tier that the upstream says it served them at; in doubt for audio that the list has no price for.
        """
        price = self.served(tokens.service) if isinstance(tokens, ServedTokens) else self
        if price.rates is None or price.rates.audio_listed or not (tokens.input_audio or tokens.output_audio):
            return price
        return Price(price.rates, price.model, price.version.removesuffix(_DOUBT) + _DOUBT)

    def cost_pico(self, tokens: Tokens) -> int:
        """What `tokens` cost in pico-dollars; 0 when the price is unknown."""
        rates = self.rates
        if rates is None:
            return 0
        if (
            rates.tiers
            or tokens.cached_input
            or tokens.cache_write_5m
            or tokens.reasoning
            or tokens.cache_write_1h
            or tokens.input_audio
            or tokens.output_audio
        ):
            return cost_pico(rates, tokens)
        into, out = tokens.input, tokens.output  # nearly all requests have nothing but these, at one rate each
        if into < 0 or out < 0:
            return cost_pico(rates, tokens)
        cost = into * rates.input + out * rates.output
        return cost if cost < COST_LIMIT_PICO else COST_LIMIT_PICO

    def input_cost_pico(self, tokens: int) -> int:
        """What so much input costs without any output."""
        rates = self.rates
        if rates is None:
            return 0
        if rates.tiers:
            return cost_pico(rates, Tokens(tokens))
        cost = tokens * rates.input
        return cost if cost < COST_LIMIT_PICO else COST_LIMIT_PICO


def is_in_doubt(version: str) -> bool:
    """Whether what was charged at this version of prices is not known to be the price: none was known, or another's."""
    return not version or version.endswith(_DOUBT)


def service_of(version: str) -> str:
    """The service tier in the version of a record's prices; "" for the standard one."""
    return version.partition("/")[2].removesuffix(_DOUBT)


def fill_rates(listed: Mapping[str, int], tiers: Sequence[Tier] = (), services: Services = ()) -> Rates:
    """Complete a price list (class name -> pico-dollars per token); missing base classes are free."""
    rates = {"input": 0, "output": 0, **listed}
    for name, base in _FALLBACKS:
        rates.setdefault(name, rates[base])
    ascending = tuple(sorted(tiers, key=lambda tier: tier.above_input_tokens))
    return Rates(**rates, tiers=ascending, services=services, audio_listed=True)


def cost_pico(rates: Rates, tokens: Tokens) -> int:
    """Each subset at its own rate, what is left at the base rate; never more tokens than `input` and `output` say.

    At most COST_LIMIT_PICO.
    """
    if rates.tiers:
        rates = rates.at(tokens.input)
    cost = _split(
        tokens.input,
        rates.input,
        (tokens.cached_input, rates.cached_input),
        (tokens.cache_write_5m, rates.cache_write_5m),
        (tokens.cache_write_1h, rates.cache_write_1h),
        (tokens.input_audio, rates.input_audio),
    ) + _split(
        tokens.output,
        rates.output,
        (tokens.reasoning, rates.reasoning),
        (tokens.output_audio, rates.output_audio),
    )
    return min(cost, COST_LIMIT_PICO)


def _split(total: int, base_rate: int, *subsets: tuple[int, int]) -> int:
    # Subsets can overlap (cached audio) or be nonsense from an upstream: a token is charged once, by the first
    # class that claims it.
    left = max(total, 0)
    cost = 0
    for count, rate in subsets:
        if count > 0:
            part = min(count, left)
            cost += part * rate
            left -= part
    return cost + left * base_rate
