"""Station 6, forward: send the request to the first target that takes it; the next one only while nothing was sent."""

import asyncio

from luntrex_proxy.core.ledger import LedgerFullError
from luntrex_proxy.core.outcome import Ending
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.core.wire.fields import Fields
from luntrex_proxy.core.wire.streams import stream_reader
from luntrex_proxy.gateway.accept import Call
from luntrex_proxy.gateway.answer import Answer
from luntrex_proxy.gateway.authorise import Permit
from luntrex_proxy.gateway.http.origin import OriginFullError
from luntrex_proxy.gateway.http.upstream import UpstreamConnection
from luntrex_proxy.gateway.ports import Prices
from luntrex_proxy.gateway.record import Draft
from luntrex_proxy.gateway.route import Target


async def forward(
    call: Call, permit: Permit, targets: list[Target], body: bytes, fields: Fields | None, draft: Draft, prices: Prices
) -> Answer:
    """The first reachable target's answer, as far as it takes to decide on it. Raises Refusal.

    Takes a `Permit`: nothing is forwarded that `authorise` has not let through.
    """
    draft.ending = Ending.UPSTREAM_FAILED
    target, connection = await _connect(targets, draft)
    try:
        draft.price = prices.price(permit.resolution, target.candidate, permit.model)
        draft.model = draft.price.model
        request = target.request(call, body, fields)
        # On record before the first byte goes out: an upstream that works is never unaccounted for.
        draft.open()
    except BaseException as error:
        connection.unused()
        draft.ending = Ending.REFUSED
        if isinstance(error, LedgerFullError):
            raise Refusal("ledger_full") from None
        raise
    reader = None
    if fields is not None and fields.stream:
        reader = stream_reader(call.route.grammar, withhold_usage=target.injects_usage(call.route, fields))
    answer = draft.answer = Answer(connection, asyncio.get_running_loop(), reader, call.route)
    connection.send(request, answer)
    await answer.decided()
    return answer


async def _connect(targets: list[Target], draft: Draft) -> tuple[Target, UpstreamConnection]:
    full = False
    for target in targets:
        draft.attempts += 1
        draft.upstream = target.upstream.name
        origin = target.upstream.origin
        connection = origin.take()
        if connection is not None:
            return target, connection
        try:
            return target, await origin.connect()
        except OriginFullError:
            full = True
        except OSError:  # DNS, TCP, TLS or timeout: nothing was sent, so the next target may have it
            continue
    raise Refusal("overloaded" if full else "upstream_unreachable")
