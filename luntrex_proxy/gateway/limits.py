"""What accounts and keys may ask for: taken at station 4 before anything is sent, settled when the meter has the truth.

Nothing here is remembered between requests but by the buckets; whose account and key have no limit never gets here.
Nobody waits but who comes faster than other processes can be told of it.
"""

import time
from collections.abc import Awaitable
from time import perf_counter_ns

from luntrex_proxy.core.buckets import AheadError, Group, LimitedError, Limits, Room, take
from luntrex_proxy.core.call import OPENAI
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.core.wire.ratelimits import rate_limit_headers, room_headers
from luntrex_proxy.gateway.authorise import Permit
from luntrex_proxy.gateway.estimate import estimate
from luntrex_proxy.gateway.ports import Teller
from luntrex_proxy.gateway.record import Draft

_NS_PER_S = 10**9
_PATIENCE_NS = 2 * _NS_PER_S  # of a request, while others before it are told of


def take_room(limits: Limits, teller: Teller, permit: Permit, draft: Draft) -> Awaitable[None] | None:
    """Take what a request needs, or raise Refusal: 429 with the limit, and when to come back.

    Nearly always at once: only when something is returned it must be awaited.
    """
    caller, now_ns = permit.caller, perf_counter_ns()
    group = limits.applying(caller.account_id, caller.key_id, permit.model, now_ns)
    if not group.buckets:
        return None
    route = permit.call.route
    draft.estimate = input_tokens, output_tokens = estimate(route.name, permit.fields, draft.request_bytes)
    tokens = input_tokens + output_tokens
    try:
        room = take(group, tokens, draft.streamed, now_ns, False)  # by place: it costs less
    except (AheadError, LimitedError):
        return _wait_for_room(teller, group, tokens, permit, draft)
    if room.is_much_untold:
        teller.wake()
    draft.room = room
    dialect = route.dialect
    draft.limit_headers = room_headers(dialect, group, 0.0 if dialect is OPENAI else time.time())
    return None


async def _wait_for_room(teller: Teller, group: Group, tokens: int, permit: Permit, draft: Draft) -> None:
    dialect = permit.call.route.dialect
    try:
        draft.room = room = await _take_when_told(teller, group, tokens, draft)
    except LimitedError as limited:
        met, now_ns = limited.bucket, perf_counter_ns()
        draft.limit_headers += rate_limit_headers(dialect, group.buckets, now_ns, time.time(), met)
        unit = met.what.unit
        raise Refusal(
            "tokens_limited" if unit == "tokens" else "streams_limited" if unit == "streams" else "requests_limited",
            retry_after_s=-(-limited.wait_ns // _NS_PER_S),
            limit=f"{met.amount} {met.what.words} of {met.whose}",
        ) from None
    if room.is_much_untold:
        teller.wake()
    draft.limit_headers += room_headers(dialect, group, time.time())


async def _take_when_told(teller: Teller, group: Group, tokens: int, draft: Draft) -> Room:
    """The same once others know of what was let in before: so fast comes only who is at the limit soon."""
    deadline_ns, begun_us = perf_counter_ns() + _PATIENCE_NS, draft.elapsed_us()
    while True:
        try:
            is_known = await teller.tell(group.buckets)
        except TimeoutError:  # a burst that keeps this process from hearing is no outage: an open limit holds
            raise Refusal("limit_unknown") from None
        now_ns = perf_counter_ns()
        if is_known and now_ns > deadline_ns:
            raise Refusal("limit_unknown")  # a burst so large that its turn has not come: the bound holds all the same
        if not is_known:
            is_open = all(bucket.is_open for bucket in group.buckets)
            draft.limit_headers = b"x-luntrex-allowance: %b\r\n" % (b"open" if is_open else b"closed")
            if not is_open:
                raise Refusal("limit_unknown")
        try:
            room = take(group, tokens, draft.streamed, now_ns, alone=not is_known)
        except AheadError:
            continue
        draft.note_wait("limits", begun_us)
        return room
