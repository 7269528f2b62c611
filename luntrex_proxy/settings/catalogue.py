"""The `models` of the configuration: names, targets and own prices, and building the pure `Catalogue` from them."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.catalogue import WILDCARD, Catalogue, Choice, Entry, Target
from luntrex_proxy.core.pricing import PICO_PER_TOKEN_PER_DOLLAR_PER_MILLION, Rates, Tier, fill_rates
from luntrex_proxy.settings.pricing import ServiceTiers
from luntrex_proxy.settings.section import AT_LEAST_ONE_ITEM, Count, NotEmpty, Section, fault
from luntrex_proxy.settings.upstreams import Upstream

_VISIBLE = re.compile(r"[\x21-\x7e]{1,200}")
_MAX_DOLLARS_PER_MILLION = 1_000_000
_WHOLE_PERCENT, _PARTS_PER_PERCENT = 100, 100


def _check_name(name: str) -> str:
    if not _VISIBLE.fullmatch(name):
        raise fault("must be 1 to 200 visible ASCII characters without spaces")
    if WILDCARD in name[:-1]:
        raise fault("may have one * and only at its end")
    return name


def _check_target(name: str) -> str:
    if not _VISIBLE.fullmatch(name):
        raise fault("must be 1 to 200 visible ASCII characters without spaces")
    if name.count(WILDCARD) > 1:
        raise fault("may have only one *")
    return name


def _read_dollars(value: object) -> Decimal:
    sentence = "must be dollars per million tokens: a number from 0 to 1000000 with at most 6 decimal places"
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise fault(sentence)
    try:
        # str() of a float is its shortest exact form, so 0.15 is read as it was written.
        dollars = Decimal(str(value))
    except InvalidOperation:
        raise fault(sentence) from None
    if not dollars.is_finite() or not 0 <= dollars <= _MAX_DOLLARS_PER_MILLION:
        raise fault(sentence)
    if dollars * PICO_PER_TOKEN_PER_DOLLAR_PER_MILLION % 1:
        raise fault(sentence)
    return dollars


def _read_percent(value: object) -> Decimal:
    sentence = "must be a percentage from 0.01 to 99.99 with at most 2 decimal places"
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise fault(sentence)
    try:
        percent = Decimal(str(value).removesuffix("%"))
    except InvalidOperation:
        raise fault(sentence) from None
    if not percent.is_finite() or not 0 < percent < _WHOLE_PERCENT or percent * _PARTS_PER_PERCENT % 1:
        raise fault(sentence)
    return percent


ModelName = Annotated[str, AfterValidator(_check_name)]
TargetModel = Annotated[str, AfterValidator(_check_target)]
Dollars = Annotated[
    Decimal, BeforeValidator(_read_dollars), WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]})
]

Percent = Annotated[
    Decimal, BeforeValidator(_read_percent), WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}]})
]
Weight = Annotated[int, Field(strict=True, ge=0, le=2**53)]


class ListedPrices(Section):
    """Dollars per million tokens. A class that is left out costs what the class it belongs to costs."""

    input: Dollars = Field(description="Input tokens.")
    output: Dollars = Field(description="Output tokens.")
    cached_input: Dollars | None = Field(None, description="Input read from the provider's cache. null: as input.")
    cache_write_5m: Dollars | None = Field(None, description="Input written to the cache. null: as input.")
    cache_write_1h: Dollars | None = Field(None, description="The same for one hour. null: as cache_write_5m.")
    input_audio: Dollars | None = Field(None, description="Audio input. null: as input.")
    reasoning: Dollars | None = Field(None, description="Reasoning tokens. null: as output.")
    output_audio: Dollars | None = Field(None, description="Audio output. null: as output.")

    def listed(self) -> dict[str, int]:
        """What is not left out, as pico-dollars per token."""
        given = {name: getattr(self, name) for name in ListedPrices.model_fields}
        return {
            name: int(value * PICO_PER_TOKEN_PER_DOLLAR_PER_MILLION)
            for name, value in given.items()
            if value is not None
        }


class PriceTier(ListedPrices):
    """The prices of requests with more input than so many tokens: of all of their tokens."""

    above_input_tokens: Count = Field(description="Requests with more input tokens than this cost these prices.")


def _check_tiers(tiers: tuple[PriceTier, ...]) -> tuple[PriceTier, ...]:
    if len({tier.above_input_tokens for tier in tiers}) < len(tiers):
        raise fault("must not have the same above_input_tokens twice")
    return tiers


class PriceOverride(ListedPrices):
    """An own price: its classes, what larger requests cost, and the provider's other service tiers."""

    tiers: Annotated[tuple[PriceTier, ...], Field(max_length=8), AfterValidator(_check_tiers)] = Field(
        (), description="Other prices for requests with more input."
    )
    service_tiers: ServiceTiers = Field(
        ServiceTiers(), description="Percent of these prices at the provider's other service tiers."
    )

    def rates(self) -> Rates:
        """The same as pico-dollars per token."""
        tiers = [Tier(tier.above_input_tokens, fill_rates(tier.listed())) for tier in self.tiers]
        return fill_rates(self.listed(), tiers, self.service_tiers.percents())


class ModelTarget(Section):
    """One upstream that serves a model."""

    upstream: str = Field(description="The name of an upstream.")
    model: TargetModel = Field(
        description="The model's name there. With a wildcard model, * stands for what the wildcard matched."
    )
    weight: Weight = Field(
        1, description="Its share of the requests, relative to the other targets. 0: only when the others have failed."
    )
    canary: Percent | None = Field(
        None,
        description="Instead of a weight: the percentage of requests that go here first, from 0.01 to 99.99, whatever "
        "the weights of the others.",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.canary is not None and "weight" in self.model_fields_set:
            raise fault("has a weight and a canary share: give one of them")
        return self


class Model(Section):
    """A model name that clients may use."""

    name: ModelName = Field(description="The name clients send; a * at the end stands for any rest, as in groq/*.")
    targets: Annotated[tuple[ModelTarget, ...], NotEmpty] = Field(
        description="The upstreams that serve it.", json_schema_extra=AT_LEAST_ONE_ITEM
    )
    choice: Choice = Field(
        Choice.WEIGHTED,
        description="Which target is asked first: weighted (at random, by weight), least_busy (the fewest requests "
        "under way) or latency (the shortest wait for a first byte). The others follow when it fails.",
    )
    price: PriceOverride | None = Field(
        None, description="Your own price in dollars per million tokens. null: the shipped price list."
    )

    @model_validator(mode="after")
    def _somebody_is_first(self) -> Self:
        canaries = [target.canary for target in self.targets if target.canary is not None]
        if not any(target.weight for target in self.targets if target.canary is None):
            raise fault("needs a target with a weight above 0 that is no canary")
        if canaries and self.choice is not Choice.WEIGHTED:
            raise fault("has a canary, which needs the choice weighted: by load or speed there are no shares")
        if sum(canaries) >= _WHOLE_PERCENT:
            raise fault("has canaries that leave nothing to the other targets: together they must be below 100")
        return self

    def weighted(self, dialects: Mapping[str, Dialect]) -> Iterator[Target]:
        """Its targets, canaries with the weight that makes their share, among those of one dialect."""
        parts = {id(target): int((target.canary or 0) * _PARTS_PER_PERCENT) for target in self.targets}
        for dialect in dict.fromkeys(dialects[target.upstream] for target in self.targets):
            targets = [target for target in self.targets if dialects[target.upstream] is dialect]
            whole = sum(target.weight for target in targets if target.canary is None) or 1
            rest = _WHOLE_PERCENT * _PARTS_PER_PERCENT - sum(parts[id(target)] for target in targets)
            weights = [
                target.weight * rest if target.canary is None else parts[id(target)] * whole for target in targets
            ]
            common = math.gcd(*weights) or 1
            for target, weight in zip(targets, weights, strict=True):
                yield Target(target.upstream, dialect, target.model, weight // common)


def build_catalogue(models: Iterable[Model], upstreams: Iterable[Upstream]) -> Catalogue:
    """The catalogue of a checked configuration."""
    dialects = {upstream.name: upstream.dialect for upstream in upstreams}
    return Catalogue(
        Entry(
            model.name,
            tuple(model.weighted(dialects)),
            model.price.rates() if model.price else None,
            model.choice,
        )
        for model in models
    )
