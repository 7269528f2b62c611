"""What an account used, as far as who looks may see it: a member's own requests are for their own eyes.

Others than the member see totals of the member, not its single requests, keys, models or days.
"""

from luntrex_proxy.store.usage import micros
from luntrex_proxy.store.usagepages import GroupTotal, requests_page, totals_page

__all__ = ["GroupTotal", "micros", "requests_page", "totals_page"]
