"""What accounts and keys may ask for: taken at station 4 before anything is sent, settled when the meter has the truth.

Nothing here is remembered between requests but by the buckets; whose account and key have no limit never gets here.
Nobody waits but who comes faster than other processes can be told of it.
"""

import time

from luntrex_proxy.core.buckets import AheadError, Bucket, LimitedError, Limits, Room, take
from luntrex_proxy.core.outcome import UsageSource
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.core.wire.ratelimits import rate_limit_headers
from luntrex_proxy.gateway.authorise import Permit
from luntrex_proxy.gateway.estimate import estimate
from luntrex_proxy.gateway.ports import Teller
from luntrex_proxy.gateway.record import Draft

_NS_PER_S = 10**9
_PATIENCE_NS = 2 * _NS_PER_S  # of a request, while others before it are told of


async def take_room(limits: Limits, teller: Teller, permit: Permit, draft: Draft) -> None:
    """Take what a request needs, or raise Refusal: 429 with the limit, and when to come back."""
    caller, now_ns = permit.caller, time.perf_counter_ns()
    buckets = limits.applying(caller.account_id, caller.key_id, permit.model, now_ns)
    if not buckets:
        return
    route = permit.call.route
    tokens = sum(estimate(route.name, permit.fields, draft.request_bytes))
    try:
        try:
            draft.room = take(buckets, tokens, streamed=draft.streamed, now_ns=now_ns, alone=False)
        except (AheadError, LimitedError):
            draft.room = await _take_when_told(teller, buckets, tokens, draft)
            now_ns = time.perf_counter_ns()
    except LimitedError as limited:
        met, now_ns = limited.bucket, time.perf_counter_ns()
        draft.limit_headers += rate_limit_headers(route.dialect, buckets, now_ns, time.time(), met)
        unit = met.what.unit
        raise Refusal(
            "tokens_limited" if unit == "tokens" else "streams_limited" if unit == "streams" else "requests_limited",
            retry_after_s=-(-limited.wait_ns // _NS_PER_S),
            limit=f"{met.amount} {met.what.words} of {met.whose}",
        ) from None
    for bucket in buckets:
        if bucket.untold << 1 >= bucket.block:
            teller.wake()
            break
    draft.limit_headers += rate_limit_headers(route.dialect, buckets, now_ns, time.time())


async def _take_when_told(teller: Teller, buckets: tuple[Bucket, ...], tokens: int, draft: Draft) -> Room:
    """The same once others know of what was let in before: so fast comes only who is at the limit soon."""
    deadline_ns, begun_us = time.perf_counter_ns() + _PATIENCE_NS, draft.elapsed_us()
    while True:
        is_known = await teller.tell(buckets)
        now_ns = time.perf_counter_ns()
        if is_known and now_ns > deadline_ns:
            raise Refusal("limit_unknown")  # a burst so large that its turn has not come: the bound holds all the same
        if not is_known:
            is_open = all(bucket.is_open for bucket in buckets)
            draft.limit_headers = b"x-luntrex-allowance: %b\r\n" % (b"open" if is_open else b"closed")
            if not is_open:
                raise Refusal("limit_unknown")
        try:
            room = take(buckets, tokens, streamed=draft.streamed, now_ns=now_ns, alone=not is_known)
        except AheadError:
            continue
        draft.note_wait("limits", begun_us)
        return room


def settle_room(room: Room, draft: Draft) -> None:
    """Give back or charge what was taken, once the meter has said what was used."""
    tokens = draft.tokens
    known = draft.usage_source is not UsageSource.UNKNOWN
    room.settle(tokens.input + tokens.output if known else None, time.perf_counter_ns())
