"""Station 7, relay: decide what the client gets of an answer, and let everything but its last piece go.

Before the first byte every failure is a real status. After it, only the stream itself can tell: an error event in the
client's dialect, or a connection that breaks off.
"""

import msgspec

from luntrex_proxy.core.call import Route
from luntrex_proxy.core.refusals import REFUSALS, Refusal
from luntrex_proxy.core.retrying import OUR_CREDENTIALS_REFUSED
from luntrex_proxy.core.wire.ends import error_event
from luntrex_proxy.core.wire.errors import upstream_error_body
from luntrex_proxy.core.wire.headers import TO_CLIENT, WAIT_HEADERS, copy_allowed
from luntrex_proxy.core.wire.jsonbody import begins_as_object
from luntrex_proxy.core.wire.refused import read_error_event
from luntrex_proxy.core.wire.sse import StreamReader
from luntrex_proxy.gateway.answer import Answer
from luntrex_proxy.gateway.http.answerhead import AnswerHead
from luntrex_proxy.gateway.http.exchange import Exchange

_STREAM_HEADERS = b"Cache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n"
_JSON = b"Content-Type: application/json\r\n"


class Relayed(msgspec.Struct, eq=False):
    """What is left to send once the request is on record: the last piece, or the whole of a small answer."""

    code: str  # "ok" or a refusal code
    body: bytes
    status: int = 0  # 0 when the head has gone out already
    headers: bytes = b""
    cut: bool = False  # the answer can't be ended cleanly: break the connection

    def __repr__(self) -> str:
        return "Relayed()"  # never an answer's words in a traceback


def begin_relay(
    route: Route, request_id: str, own_headers: bytes, answer: Answer, exchange: Exchange
) -> Relayed | None:
    """Relay an answer that can be decided on. None: it has begun, and once it is finished `end_relay` says how.

    Raises Refusal while nothing has been sent.
    """
    if answer.status != 200 or answer.reader is not None or not answer.head.is_json:
        return _begin_other(route, request_id, own_headers, answer, exchange)
    if answer.failure:
        raise Refusal(answer.failure)
    body = answer.gathered()
    headers = own_headers + (answer.head.passed or _passed(answer.head))
    if answer.done:
        if answer.verdict:
            raise Refusal(answer.verdict)  # both SDKs would take an error with status 200 for an answer
        return Relayed("ok", body, 200, headers)
    if not begins_as_object(body):
        raise Refusal("upstream_invalid")  # nothing has been sent: it can still have a real status
    if answer.head.length >= 0:
        exchange.start_sized(200, headers, answer.head.length)
    else:
        exchange.start_stream(200, headers, b"")
    answer.push_to(exchange)
    answer.body_arrived(body)  # through the same door as what follows
    return None


def _begin_other(
    route: Route, request_id: str, own_headers: bytes, answer: Answer, exchange: Exchange
) -> Relayed | None:
    """The same of a stream, and of what is no answer of a model."""
    if answer.status >= 400:
        body = answer.gathered() if answer.complete else b""
        return _relay_refusal(route, request_id, own_headers, answer, answer.status, body)
    if answer.is_stream:
        return _begin_stream(route, request_id, own_headers, answer, exchange)
    if answer.failure:
        raise Refusal(answer.failure)
    raise Refusal("upstream_invalid")  # HTML, a redirect, or no stream where one was asked for


def end_relay(route: Route, request_id: str, answer: Answer) -> Relayed:
    """The end of an answer that was pushed to the client until it was finished."""
    if answer.reader is not None:
        if not answer.failure:
            return Relayed("ok", answer.last)
        last = answer.last or broken_end(route, answer.reader, answer.failure, request_id)
        # A half-sent event can't be followed by another one.
        return Relayed(answer.failure, last, cut=answer.reader.mid_event)
    if answer.json is not None:
        answer.usage = answer.json.usage()
        if not answer.failure:
            answer.failure = answer.json.fault() or ("upstream_error" if answer.json.has_error() else "")
    # JSON can't say that it was cut: an incomplete body does.
    return Relayed(answer.failure or "ok", answer.last, cut=answer.failure != "")


def _passed(head: AnswerHead) -> bytes:
    """The lines of an answer's head that the client gets; a head that came before has them already."""
    passed = head.passed
    if passed is None:
        lines: list[bytes] = []
        copy_allowed(TO_CLIENT, head.headers, lines)
        passed = head.passed = b"".join(lines)
    return passed


def _relay_refusal(
    route: Route, request_id: str, own_headers: bytes, answer: Answer, status: int, body: bytes
) -> Relayed:
    """The upstream's own error keeps its status and, when it has the dialect's form, its words."""
    if status in OUR_CREDENTIALS_REFUSED:
        raise Refusal("upstream_auth")
    lines = [own_headers, _JSON]
    copy_allowed(WAIT_HEADERS, answer.head.headers, lines)
    body = upstream_error_body(route.dialect, status, body, request_id)
    return Relayed("upstream_error", body, status, b"".join(lines))


def _begin_stream(
    route: Route, request_id: str, own_headers: bytes, answer: Answer, exchange: Exchange
) -> Relayed | None:
    assert answer.reader is not None  # noqa: S101 -- a stream has a reader; narrows the type
    if answer.failure and not answer.reader.events:  # nothing was said: the client can still have a real status
        if answer.reader.failed:
            status, body = read_error_event(answer.last)
            if status:
                return _relay_refusal(route, request_id, own_headers, answer, status, body)
        raise Refusal(answer.failure)
    first = answer.gathered()
    exchange.start_stream(200, b"".join((own_headers, _STREAM_HEADERS, _passed(answer.head))), first)
    answer.push_to(exchange)
    return None


def broken_end(route: Route, reader: StreamReader, code: str, request_id: str) -> bytes:
    """The error event that ends a stream after what `reader` has let go."""
    return error_event(route.grammar, code, REFUSALS[code].sentence, request_id, sequence_number=reader.events)
