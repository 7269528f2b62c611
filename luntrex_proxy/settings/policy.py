"""The privacy policy that holds for accounts without one of their own, and which upstreams lie outside it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from luntrex_proxy.core import policy as core
from luntrex_proxy.core.policy import RetentionKind, Training
from luntrex_proxy.settings.section import AT_LEAST_ONE_ITEM, NotEmpty, Section
from luntrex_proxy.settings.upstreams import Region, Retention, yes_is_a_word

if TYPE_CHECKING:
    from luntrex_proxy.settings.model import Settings


class Policy(Section):
    """The most that an upstream may do with a request; what an upstream does not state counts as the worst."""

    regions: Annotated[tuple[Region, ...], NotEmpty] | None = Field(
        None,
        description="Where requests may be processed, in the words of upstreams[].region. null: anywhere.",
        json_schema_extra=AT_LEAST_ONE_ITEM,
    )
    retention: Retention = Field(
        Retention(kind=RetentionKind.ABUSE_MONITORING, days=30),
        description="The most that may be kept: none, unknown (anything), or "
        "{kind: abuse_monitoring | application_state, days: N}.",
    )
    training: Annotated[Training, yes_is_a_word] = Field(
        Training.NEVER,
        description="The most training there may be: never, unless_opted_out, yes or unknown (anything). Only accounts "
        "whose owner consents to training get more than never.",
    )

    def bound(self) -> core.Policy:
        """The same as the way of a request uses it."""
        regions = None if self.regions is None else frozenset(self.regions)
        return core.Policy.of(regions, self.retention.kind, self.retention.days, self.training)


def outsiders(settings: "Settings") -> Iterator[str]:
    """One sentence for each upstream that accounts without a policy and consents of their own can't use."""
    bound = settings.policy.bound()
    asked = bound.without_consent(bound, training=False, keeping=False)
    for upstream in settings.upstreams:
        names = bound.excluded_by(upstream.traits)
        if not names and asked.excluded_by(upstream.traits):
            yield (
                f"Upstream {upstream.name} may train on what it is sent: requests for it get 403, except from accounts "
                "whose owner consents to training (`luntrex-proxy consents give ACCOUNT training`)."
            )
        if names:
            unstated = [name for name in names if getattr(upstream, name) in _UNSTATED]
            advice = f"state {' and '.join(unstated)} with the upstream" if unstated else "widen the section policy"
            yield (
                f"Upstream {upstream.name} is outside the default privacy policy because of its {' and '.join(names)}: "
                f"requests for it get 403. If that is not meant, {advice}."
            )


_UNSTATED = (None, Retention(kind=RetentionKind.UNKNOWN), Training.UNKNOWN)
