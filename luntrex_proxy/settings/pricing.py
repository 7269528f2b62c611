"""The section `prices`: what is done where no price is known, and what other service tiers of providers cost."""

from typing import Annotated, Literal

from pydantic import Field

from luntrex_proxy.core.pricing import SERVICE_PERCENT_MAX, Services
from luntrex_proxy.settings.section import Section

Percent = Annotated[int, Field(strict=True, ge=0, le=SERVICE_PERCENT_MAX)]


class ServiceTiers(Section):
    """Percent of the standard prices, by the service tier that an answer says it was served at."""

    flex: Percent | None = Field(None, description="Slower and cheaper. null: as the provider lists it, 50 at OpenAI.")
    priority: Percent | None = Field(
        None, description="Faster and dearer. null: not known, so charged as standard and in doubt."
    )
    batch: Percent | None = Field(None, description="null: as the provider lists it, 50 at OpenAI and Anthropic.")
    fast: Percent | None = Field(None, description="Anthropic's fast mode. null: not known, as for priority.")

    def percents(self) -> Services:
        """Those that are stated."""
        return tuple((name, percent) for name, percent in self if percent is not None)


class Prices(Section):
    """What requests cost where the models say nothing of their own."""

    unknown: Literal["zero", "refuse"] = Field(
        "zero",
        description="A model without a known price costs nothing and its records say so (zero), or is refused.",
    )
    service_tiers: ServiceTiers = Field(ServiceTiers(), description="What other service tiers of providers cost.")
