"""What accounts and keys may ask for: taken at station 4 before anything is sent, settled when the meter has the truth.

Nothing here is remembered between requests but by the buckets; whose account and key have no limit never gets here.
"""

import time

import msgspec

from luntrex_proxy.core.buckets import LimitedError, Limits, Room, take
from luntrex_proxy.core.outcome import UsageSource
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.core.wire.fields import Fields
from luntrex_proxy.core.wire.members import UNREADABLE
from luntrex_proxy.core.wire.ratelimits import rate_limit_headers
from luntrex_proxy.gateway.authorise import Permit
from luntrex_proxy.gateway.meter import BYTES_PER_TOKEN, UNBILLED
from luntrex_proxy.gateway.record import Draft

_OUTPUT_MEMBERS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_UNSTATED_OUTPUT = 512  # tokens, of a request that names no maximum: what answers usually have
_NO_OUTPUT = frozenset({"embeddings"})
_COUNT = msgspec.json.Decoder(int)
_NS_PER_S = 10**9


def take_room(limits: Limits, permit: Permit, draft: Draft) -> None:
    """Take what a request needs, or raise Refusal: 429 with the limit, and when to come back."""
    caller, now_ns = permit.caller, time.perf_counter_ns()
    buckets = limits.applying(caller.account_id, caller.key_id, permit.model, now_ns)
    if not buckets:
        return
    route = permit.call.route
    tokens = _estimate(route.name, permit.fields, draft.request_bytes)
    try:
        draft.room = take(buckets, tokens, streamed=draft.streamed, now_ns=now_ns)
    except LimitedError as limited:
        met = limited.bucket
        draft.limit_headers = rate_limit_headers(route.dialect, buckets, now_ns, time.time(), met)
        limit = f"{met.amount} {met.what.words} of {met.whose}"
        wait_s = -(-limited.wait_ns // _NS_PER_S)
        unit = met.what.unit
        raise Refusal(
            "tokens_limited" if unit == "tokens" else "streams_limited" if unit == "streams" else "requests_limited",
            retry_after_s=wait_s,
            limit=limit,
        ) from None
    draft.limit_headers = rate_limit_headers(route.dialect, buckets, now_ns, time.time())


def settle_room(room: Room, draft: Draft) -> None:
    """Give back or charge what was taken, once the meter has said what was used."""
    tokens = draft.tokens
    known = draft.usage_source is not UsageSource.UNKNOWN
    room.settle(tokens.input + tokens.output if known else None, time.perf_counter_ns())


def _estimate(route: str, fields: Fields | None, request_bytes: int) -> int:
    """The tokens a request may come to: its size, and the longest answer it allows."""
    if fields is None or route in UNBILLED:
        return 0
    size = -(-request_bytes // BYTES_PER_TOKEN)
    if route in _NO_OUTPUT:
        return size
    longest = max((_count(fields, name, 0) for name in _OUTPUT_MEMBERS), default=0)
    return size + (longest or _UNSTATED_OUTPUT) * _count(fields, "n", 1)


def _count(fields: Fields, name: str, otherwise: int) -> int:
    """A member that is a positive number; what is none is the upstream's to refuse."""
    try:
        return max(otherwise, _COUNT.decode(fields.members[name]))
    except (KeyError, *UNREADABLE):
        return otherwise
