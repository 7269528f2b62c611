"""Station 6, forward: send the request to the first target that takes it; the next one only while no model ran."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from operator import length_hint

from luntrex_proxy.core.health import Speed, Standing, Verdict
from luntrex_proxy.core.ledger import LedgerFullError
from luntrex_proxy.core.outcome import Ending
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.core.retrying import (
    NOT_RUN,
    Retries,
    client_retries,
    credentials_are_wrong,
    retry_after_s,
    verdict_on,
)
from luntrex_proxy.core.wire.fields import Fields
from luntrex_proxy.core.wire.refused import read_error_event
from luntrex_proxy.core.wire.streams import stream_reader
from luntrex_proxy.gateway.accept import Call
from luntrex_proxy.gateway.answer import Answer
from luntrex_proxy.gateway.authorise import Permit
from luntrex_proxy.gateway.http.origin import OriginFullError
from luntrex_proxy.gateway.http.upstream import UpstreamConnection
from luntrex_proxy.gateway.record import Draft
from luntrex_proxy.gateway.route import Routing, Target

_NOT_THE_UPSTREAMS_DOING = (Ending.CLIENT_GONE, Ending.CUT, Ending.REFUSED)


async def forward(
    call: Call,
    permit: Permit,
    targets: Sequence[Target],
    body: bytes,
    fields: Fields | None,
    draft: Draft,
    routing: Routing,
) -> Answer:
    """The first willing target's answer, as far as it takes to decide on it. Raises Refusal.

    Takes a `Permit`: nothing is forwarded that `authorise` has not let through.
    """
    draft.ending = Ending.UPSTREAM_FAILED
    routing.retries.requests += 1
    left = iter(targets)
    refused: tuple[Target, Answer] | None = None
    while True:
        try:
            target, connection = await _reach(left, draft, routing.retries.tries, after_refusal=refused is not None)
        except Refusal:
            if refused is None:
                raise
            # The last refusal says more than that nobody else was there.
            draft.upstream = refused[0].upstream.name
            return refused[1]
        answer = _send(call, permit, target, connection, body, fields, draft, routing)
        if target.speed is None:
            await answer.decided()
        else:
            await _measured(answer, target.speed)
        if answer.status < 400 and not answer.failure:
            return answer
        if not _was_refused_whole(answer) or not length_hint(left) or not _may_go_on(call, draft, routing.retries):
            return answer
        refused = target, answer
        conclude(draft)


def conclude(draft: Draft) -> None:
    """Tell the upstream's health how an attempt ended; of the last one when the request is on record."""
    health = draft.health
    if health is None:
        return
    draft.health = None
    if draft.code == "ok" and not health.streak and not health.troubled:
        health.good += 1
        return
    now = asyncio.get_running_loop().time()
    answer = draft.answer
    status = 0 if answer is None else _status(answer)
    if answer is not None and status >= 400:
        health.credentials_refused += credentials_are_wrong(status)
        wait_s = retry_after_s(answer.headers, time.time()) if status in NOT_RUN else 0
        if wait_s:
            health.pause(wait_s, now)
        verdict = verdict_on(status)
    elif draft.ending in _NOT_THE_UPSTREAMS_DOING:
        verdict = Verdict.NOTHING
    else:
        verdict = Verdict.GOOD if draft.code == "ok" else Verdict.BAD
    health.note(verdict, now, draft.request_id)


async def _reach(
    left: Iterator[Target], draft: Draft, tries: int, *, after_refusal: bool
) -> tuple[Target, UpstreamConnection]:
    """The next target that can be connected to: nothing was sent to those that can't."""
    full = False
    for target in left:
        health, origin = target.upstream.health, target.upstream.origin
        if draft.attempts >= tries:
            break
        if health.troubled:
            if after_refusal and health.standing(origin.now) is Standing.PAUSED:
                continue  # it would refuse as well
            if not health.admit(origin.now, draft.request_id):
                continue
        draft.attempts += 1
        draft.upstream = target.upstream.name
        draft.health = health  # before the first wait, so that a probe whose client leaves is given up
        connection = origin.take()
        if connection is not None:
            return target, connection
        try:
            connection = await origin.connect()
            if connection.usable():
                return target, connection
            verdict = Verdict.BAD  # closed by the other side before anything was sent
        except OriginFullError:
            full = True
            verdict = Verdict.NOTHING
        except OSError:  # DNS, TCP, proxy, TLS or timeout
            verdict = Verdict.BAD
        draft.health = None
        health.note(verdict, origin.now, draft.request_id)
    if not draft.attempts:
        raise Refusal("no_upstream")
    raise Refusal("overloaded" if full else "upstream_unreachable")


def _send(
    call: Call,
    permit: Permit,
    target: Target,
    connection: UpstreamConnection,
    body: bytes,
    fields: Fields | None,
    draft: Draft,
    routing: Routing,
) -> Answer:
    try:
        draft.price = routing.prices.price(permit.resolution, target.candidate, permit.model)
        draft.model = draft.price.model
        request = target.request(call, body, fields, permit.caller.account_id)
        if draft.answer is None:
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
    answer = draft.answer = Answer(connection, reader, call.route)
    connection.send(request, answer)
    return answer


async def _measured(answer: Answer, speed: Speed) -> None:
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    await answer.decided()
    if answer.status < 400 and not answer.failure:  # an upstream that fails fast is not a fast one
        now = loop.time()
        speed.note(now - started_s, now)


def _status(answer: Answer) -> int:
    """The status of an upstream's error, in whatever form it came; 0 when it has none."""
    if answer.status >= 400:
        return answer.status
    if answer.reader is not None and answer.reader.failed:
        return read_error_event(answer.last)[0]
    return 0


def _was_refused_whole(answer: Answer) -> bool:
    """Whether the answer is complete and says that no model ran; a stream may say it in its first event."""
    if answer.status < 400:
        return answer.reader is not None and answer.reader.events == 0 and _status(answer) in NOT_RUN
    return answer.complete and answer.status in NOT_RUN


def _may_go_on(call: Call, draft: Draft, retries: Retries) -> bool:
    return (
        draft.attempts < retries.tries
        and not client_retries(call.headers)
        and retries.take(asyncio.get_running_loop().time())
    )
