"""Station 6, forward: send the request to the first target that takes it; the next one only while no model ran."""

import asyncio
import time
from collections.abc import Sequence

from luntrex_proxy.core.health import Verdict
from luntrex_proxy.core.ledger import LedgerFullError
from luntrex_proxy.core.outcome import REFUSED, UPSTREAM_FAILED, Ending
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.core.retrying import (
    NOT_RUN,
    Retries,
    client_retries,
    credentials_are_wrong,
    retry_after_s,
    verdict_on,
)
from luntrex_proxy.core.trail import asked, asked_last
from luntrex_proxy.core.wire.jsonbody import read_answer
from luntrex_proxy.core.wire.refused import read_error_body, read_error_event
from luntrex_proxy.core.wire.streams import stream_reader
from luntrex_proxy.gateway.accept import Call
from luntrex_proxy.gateway.answer import Answer
from luntrex_proxy.gateway.authorise import Permit
from luntrex_proxy.gateway.http.origin import OriginFullError
from luntrex_proxy.gateway.http.upstream import UpstreamConnection
from luntrex_proxy.gateway.record import Draft
from luntrex_proxy.gateway.route import Routing, Target, expected_s

_NOT_THE_UPSTREAMS_DOING = (Ending.CLIENT_GONE, Ending.CUT, REFUSED)
_ERROR_BYTES = 8192  # a longer body with status 200 is not searched for an error that could be handed on
_LOOK_AGAIN_S = 0.25  # at a stream whose head came long before its first event


def send_first(permit: Permit, targets: Sequence[Target], body: bytes, draft: Draft, routing: Routing) -> Answer | None:
    """Send a request to its first target, if nothing speaks against that: nearly always. Its answer is yet to come.

    None: nothing was sent, `forward` does all of it. Takes a `Permit`: nothing is forwarded that `authorise` has not
    let through. Raises Refusal.
    """
    target = targets[0]
    upstream = target.upstream
    if upstream.health.troubled or target.speed is not None:
        return None
    connection = upstream.origin.take()
    if connection is None:
        return None
    draft.ending = UPSTREAM_FAILED
    routing.retries.requests += 1
    draft.attempts = 1
    draft.upstream = upstream.name
    return _send(permit, target, connection, body, draft, routing)


def is_good(answer: Answer) -> bool:
    """Whether an answer that can be decided on is one for the client."""
    _read_whole(answer)
    return answer.status < 400 and not answer.failure


async def forward(
    permit: Permit,
    targets: Sequence[Target],
    body: bytes,
    draft: Draft,
    routing: Routing,
    first: Answer | None = None,
) -> Answer:
    """The first willing target's answer, as far as it takes to decide on it. Raises Refusal.

    `first` is what came of `send_first` and is not good.
    """
    retries = routing.retries
    if first is not None and first.closed_unsent:
        # Its connection was found dead before a byte was sent: it is replaced, and was no attempt.
        first, draft.attempts, draft.health = None, 0, None
    elif first is None:
        draft.ending = UPSTREAM_FAILED
        retries.requests += 1
    refused: tuple[Target, Answer] | None = None
    full = False
    for target in targets:
        upstream, sent_us = target.upstream, 0
        if first is not None:
            answer, first = first, None
        else:
            connection, is_full = await _connection_to(target, targets, draft, retries)
            full = full or is_full
            if connection is None:
                continue
            sent_us = draft.elapsed_us() if draft.attempts > 1 else 0
            answer = _send(permit, target, connection, body, draft, routing)
            if target.speed is None:
                await answer.decided()
                _read_whole(answer)
            else:
                await _measured(answer, target, targets)
            if answer.status < 400 and not answer.failure:
                if upstream.health.troubled and not answer.done:
                    upstream.health.answers(draft.request_id)
                if draft.attempts > 1:
                    draft.note(asked_last(upstream.name, sent_us))
                return answer
        _heed_wish(answer, target, permit)
        if target is targets[-1] or not _was_refused_whole(answer) or not _may_go_on(permit.call, draft, retries):
            if draft.attempts > 1:
                draft.note(asked_last(upstream.name, sent_us))
            return answer
        refused = target, answer
        draft.note(asked(upstream.name, sent_us or draft.overhead_us, draft.elapsed_us(), f"http_{_status(answer)}"))
        conclude(draft)
    return _what_was_said(draft, refused, full)


async def _connection_to(
    target: Target, targets: Sequence[Target], draft: Draft, retries: Retries
) -> tuple[UpstreamConnection | None, bool]:
    """A connection to a target, pooled or new; None when it is not asked. And whether it has as many as it may have."""
    upstream = target.upstream
    health, origin = upstream.health, upstream.origin
    if draft.attempts >= retries.tries or (health.troubled and not health.admit(origin.now, draft.request_id)):
        return None, False
    draft.attempts += 1
    draft.upstream = upstream.name
    connection = origin.take()
    if connection is not None:
        return connection, False
    begun_us = draft.elapsed_us()
    connection, is_full = await _connect(target, targets, draft.request_id)
    if connection is None:
        code = "overloaded" if is_full else "upstream_unreachable"
        draft.note(asked(upstream.name, begun_us, draft.elapsed_us(), code))
    else:
        draft.note_wait("connect", begun_us)
    return connection, is_full


def _what_was_said(draft: Draft, refused: tuple[Target, Answer] | None, full: bool) -> Answer:
    """When no target took the request: the last refusal, which says more than that nobody else was there."""
    if refused is not None:
        draft.upstream = refused[0].upstream.name
        return refused[1]
    if not draft.attempts:
        raise Refusal("no_upstream")
    raise Refusal("overloaded" if full else "upstream_unreachable")


def conclude(draft: Draft) -> None:
    """Tell the upstream's health how an attempt ended; of the last one when the request is on record.

    `draft.health` is there only together with that upstream's answer: what another one said never counts for it.
    """
    health = draft.health
    answer = draft.answer
    if health is None or answer is None:
        return
    draft.health = None
    if draft.code == "ok" and not health.streak and not health.troubled:
        health.good += 1
        return
    status, error = _status(answer), draft.code
    if status >= 400:
        error = f"http_{status}"
        health.credentials_refused += credentials_are_wrong(status)
        verdict = verdict_on(status)
    elif draft.ending in _NOT_THE_UPSTREAMS_DOING:
        verdict = Verdict.NOTHING
    elif draft.code == "upstream_error":
        verdict = Verdict.ALIVE  # it said so itself, in words we don't know: as likely as not the client's mistake
    else:
        verdict = Verdict.GOOD if draft.code == "ok" else Verdict.BAD
    health.note(verdict, asyncio.get_running_loop().time(), draft.request_id, error)


async def _connect(
    target: Target, targets: Sequence[Target], request_id: str
) -> tuple[UpstreamConnection | None, bool]:
    """A new connection, or None when it can't be made, which is then known of the target; and whether we are full.

    Who can't be connected to was sent nothing and is at no expense, so it costs no retry budget, which keeps load from
    multiplying. `tries` bounds such attempts, and after a few the breaker does.
    """
    health, origin = target.upstream.health, target.upstream.origin
    started_s = asyncio.get_running_loop().time()
    verdict = Verdict.NOTHING  # we are full, or the client left: a probe is given up
    try:
        connection = await origin.connect()
        if connection.usable():
            verdict = Verdict.GOOD
            return connection, False
        verdict = Verdict.BAD  # closed by the other side before anything was sent
    except OriginFullError:
        return None, True
    except OSError:  # DNS, TCP, proxy, TLS or timeout
        verdict = Verdict.BAD
    finally:
        if verdict is not Verdict.GOOD:
            _note_wait(target, targets, started_s, in_vain=True)
            health.note(verdict, origin.now, request_id, "upstream_unreachable")
    return None, False


def _send(
    permit: Permit, target: Target, connection: UpstreamConnection, body: bytes, draft: Draft, routing: Routing
) -> Answer:
    upstream = target.upstream
    try:
        draft.price = target.price or routing.prices.price(permit.resolution, target.candidate, permit.model)
        draft.model = draft.price.model
        request = target.request(permit, body)
        route, fields = permit.call.route, permit.fields
        reader = None
        if fields is not None and fields.stream:
            reader = stream_reader(route.grammar, withhold_usage=target.injects_usage(route, fields))
        answer = Answer(connection, request, reader, route)
        if draft.answer is None:
            # On record before the first byte goes out: an upstream that works is never unaccounted for.
            draft.open(answer.begin, answer.refuse)
        else:
            answer.begin()
    except BaseException as error:
        connection.unused()
        upstream.health.note(Verdict.NOTHING, upstream.origin.now, draft.request_id)
        draft.ending = REFUSED
        if isinstance(error, LedgerFullError):
            raise Refusal("ledger_full") from None
        raise
    draft.answer = answer
    draft.health = upstream.health
    return answer


async def _measured(answer: Answer, target: Target, targets: Sequence[Target]) -> None:
    started_s = asyncio.get_running_loop().time()
    try:
        await answer.decided()
    except BaseException:
        _note_wait(target, targets, started_s, in_vain=True)
        raise
    _read_whole(answer)
    _measure(answer, target, targets, started_s)


def _measure(answer: Answer, target: Target, targets: Sequence[Target], started_s: float) -> None:
    """Note how long an answer took to say something; the head of a stream alone may come at once and says nothing."""
    events = answer.reader.events if answer.is_stream and answer.reader is not None else 0
    if answer.is_stream and not events and not answer.done:
        asyncio.get_running_loop().call_later(_LOOK_AGAIN_S, _measure, answer, target, targets, started_s)
        return
    _note_wait(target, targets, started_s, in_vain=answer.status >= 400 or not (events or answer.code == "ok"))


def _note_wait(target: Target, targets: Sequence[Target], started_s: float, *, in_vain: bool) -> None:
    """One measurement. In vain: it would have taken longer, and who fails fast is no faster than was expected."""
    if target.speed is None:
        return
    now = asyncio.get_running_loop().time()
    wait_s = now - started_s
    if in_vain:
        wait_s = max(wait_s, expected_s(targets)[targets.index(target)])
    target.speed.note(wait_s, now)


def _read_whole(answer: Answer) -> None:
    """Look into an answer that came whole; an error in spite of its 200 gets the status it states (OpenRouter's do)."""
    if answer.status != 200 or answer.is_stream or not answer.complete:
        return
    body = answer.peek()
    if answer.head.is_json and answer.reader is None:
        answer.verdict, answer.usage = read_answer(body, answer.route)
        if not answer.verdict:
            return
    if len(body) <= _ERROR_BYTES:
        answer.status = read_error_body(body) or 200


def _heed_wish(answer: Answer, target: Target, permit: Permit) -> None:
    """An upstream that says Retry-After is asked for this model after the others."""
    if _status(answer) in NOT_RUN:
        wait_s = retry_after_s(answer.head.headers, time.time())
        if wait_s:
            now = asyncio.get_running_loop().time()
            target.upstream.health.pause(target.model_there(permit), wait_s, now)


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
