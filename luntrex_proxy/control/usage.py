"""What an account used, as far as who looks may see it: a member's own requests are for their own eyes.

Others than the member see totals of the member, not its single requests, keys, models or days.
"""

from luntrex_proxy.core.trail import Passage, Recorded, timeline
from luntrex_proxy.store.usage import UsageRequest, micros
from luntrex_proxy.store.usagepages import GroupTotal, Only, one_request, requests_page, totals_page
from luntrex_proxy.store.usageseries import Asked, Group, choices, series

__all__ = [
    "Asked",
    "Group",
    "GroupTotal",
    "Only",
    "Passage",
    "choices",
    "micros",
    "one_request",
    "requests_page",
    "series",
    "timeline_of",
    "totals_page",
]


def timeline_of(request: UsageRequest) -> list[Passage]:
    """Where its time went, and which upstreams were not asked."""
    return timeline(Recorded(**{name: getattr(request, name) for name in Recorded.__slots__}))
