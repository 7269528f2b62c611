"""/accounts/{account_id}/models: models that an account may use, who serves them, and what they cost."""

from typing import Final

from pydantic import Field

from luntrex_proxy.console.api.operations import Call, Listed, Operation, PageQuery, Shown, page
from luntrex_proxy.control import prices
from luntrex_proxy.control.prices import Model, Offer
from luntrex_proxy.core.pricing import Rates
from luntrex_proxy.core.roles import Permission

_PER_MILLION: Final = "Picodollars for a token: millionths of a dollar for a million of them."


class OffersQuery(PageQuery):
    """Which models."""

    name: str | None = Field(
        None, pattern="^[A-Za-z0-9][A-Za-z0-9._:@/*-]{0,199}$", description="Only those with this in their name."
    )


class TierShown(Shown):
    """What tokens cost in a prompt of more than so many of them."""

    above_input_tokens: int
    input_pico: int
    output_pico: int


class RatesShown(Shown):
    """What tokens cost."""

    input_pico: int = Field(description=_PER_MILLION)
    cached_input_pico: int
    output_pico: int
    tiers: list[TierShown]


class OfferShown(Shown):
    """An upstream that serves a model."""

    upstream: str
    model: str = Field(description="Its name there; `*`: what the wildcard matched.")
    weight: int = Field(description="0: only when the others have failed.")
    rates: RatesShown | None = Field(description="null: not known, or each name has its own.")
    price_version: str | None = Field(description="Where the price is from; null: each name has its own.")


class OfferedShown(Shown):
    """A model that an account may use."""

    name: str = Field(description="A name, or a beginning and `*`.")
    offers: list[OfferShown] = Field(description="Empty: nobody serves it now.")


async def _list(call: Call) -> Listed:
    first: int = 0 if call.after is None else call.after[0]
    found, _ = await prices.offered(call.services, call.account_id, call.query.name or "", first, call.rows)
    return page(call, found, _shown, lambda _: (first + call.query.limit,))


def _shown(model: Model) -> OfferedShown:
    return OfferedShown(name=model.name, offers=[_offer(each) for each in model.offers])


def _offer(offer: Offer) -> OfferShown:
    price = offer.price
    return OfferShown(
        upstream=offer.upstream,
        model=offer.model,
        weight=offer.weight,
        rates=None if price is None or price.rates is None else _rates(price.rates),
        price_version=None if price is None else price.version,
    )


def _rates(rates: Rates) -> RatesShown:
    tiers = [
        TierShown(
            above_input_tokens=each.above_input_tokens, input_pico=each.rates.input, output_pico=each.rates.output
        )
        for each in rates.tiers
    ]
    return RatesShown(
        input_pico=rates.input, cached_input_pico=rates.cached_input, output_pico=rates.output, tiers=tiers
    )


OPERATIONS: Final = (
    Operation(
        name="models.list_of_account", method="GET", path="/accounts/{account_id}/models",
        summary="List the models that an account may use, by name, with who serves them and what they cost now.",
        access=(Permission.ACCOUNT_READ,), handler=_list, query=OffersQuery, answer=OfferedShown,
    ),
)  # fmt: skip
