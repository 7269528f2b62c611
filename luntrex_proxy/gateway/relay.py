"""Station 7, relay: decide what the client gets of an answer, and let everything but its last piece go.

Before the first byte every failure is a real status. After it, only the stream itself can tell: an error event in the
client's dialect, or a connection that breaks off.
"""

from luntrex_proxy.core.call import Route
from luntrex_proxy.core.refusals import REFUSALS, Refusal
from luntrex_proxy.core.retrying import OUR_CREDENTIALS_REFUSED
from luntrex_proxy.core.wire.ends import error_event
from luntrex_proxy.core.wire.errors import upstream_error_body
from luntrex_proxy.core.wire.headers import TO_CLIENT, WAIT_HEADERS, copy_allowed
from luntrex_proxy.core.wire.jsonbody import begins_as_object, read_answer
from luntrex_proxy.core.wire.refused import read_error_event
from luntrex_proxy.core.wire.sse import StreamReader
from luntrex_proxy.gateway.answer import Answer
from luntrex_proxy.gateway.http.exchange import Exchange

_STREAM_HEADERS = b"Cache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n"
_JSON = b"Content-Type: application/json\r\n"


class Relayed:
    """What is left to send once the request is on record: the last piece, or the whole of a small answer."""

    __slots__ = ("_body", "_exchange", "_headers", "code", "cut", "status")

    def __init__(self, exchange: Exchange, code: str, body: bytes, status: int = 0, headers: bytes = b"") -> None:
        self._exchange = exchange
        self._body = body
        self._headers = headers
        self.code = code  # "ok" or a refusal code
        self.status = status  # 0 when the head has gone out already
        self.cut = False  # the answer can't be ended cleanly: break the connection

    @property
    def body_bytes(self) -> int:
        """How much `release` will send."""
        return 0 if self.cut else len(self._body)

    def release(self) -> None:
        """Let the client have the end of its answer."""
        if self.cut:
            self._exchange.abort()
        elif self.status:
            self._exchange.respond(self.status, self._headers, self._body)
        else:
            self._exchange.finish(self._body)


async def relay(route: Route, request_id: str, own_headers: bytes, answer: Answer, exchange: Exchange) -> Relayed:
    """Relay an answer that can be decided on. Raises Refusal while nothing has been sent."""
    if answer.status >= 400:
        body = answer.gathered() if answer.complete else b""
        return _relay_refusal(route, request_id, own_headers, answer, exchange, answer.status, body)
    if answer.is_stream:
        return await _relay_stream(route, request_id, own_headers, answer, exchange)
    kind = answer.headers.get(b"content-type", b"").lower()
    if answer.status == 200 and answer.reader is None and kind.startswith(b"application/json"):
        return await _relay_body(route, own_headers, answer, exchange)
    if answer.failure:
        raise Refusal(answer.failure)
    raise Refusal("upstream_invalid")  # HTML, a redirect, or no stream where one was asked for


def _relay_refusal(
    route: Route, request_id: str, own_headers: bytes, answer: Answer, exchange: Exchange, status: int, body: bytes
) -> Relayed:
    """The upstream's own error keeps its status and, when it has the dialect's form, its words."""
    if status in OUR_CREDENTIALS_REFUSED:
        raise Refusal("upstream_auth")
    lines = [own_headers, _JSON]
    copy_allowed(WAIT_HEADERS, answer.headers, lines)
    body = upstream_error_body(route.dialect, status, body, request_id)
    return Relayed(exchange, "upstream_error", body, status, b"".join(lines))


async def _relay_stream(
    route: Route, request_id: str, own_headers: bytes, answer: Answer, exchange: Exchange
) -> Relayed:
    assert answer.reader is not None  # noqa: S101 -- a stream has a reader; narrows the type
    if answer.failure and not answer.reader.events:  # nothing was said: the client can still have a real status
        if answer.reader.failed:
            status, body = read_error_event(answer.last)
            if status:
                return _relay_refusal(route, request_id, own_headers, answer, exchange, status, body)
        raise Refusal(answer.failure)
    first = answer.gathered()
    lines = [own_headers, _STREAM_HEADERS]
    copy_allowed(TO_CLIENT, answer.headers, lines)
    answer.relayed = True
    exchange.start_stream(200, b"".join(lines), first)
    answer.push_to(exchange)
    await answer.finished()
    if not answer.failure:
        return Relayed(exchange, "ok", answer.last)
    last = answer.last or broken_end(route, answer.reader, answer.failure, request_id)
    relayed = Relayed(exchange, answer.failure, last)
    relayed.cut = answer.reader.mid_event  # a half-sent event can't be followed by another one
    return relayed


def broken_end(route: Route, reader: StreamReader, code: str, request_id: str) -> bytes:
    """The error event that ends a stream after what `reader` has let go."""
    return error_event(route.grammar, code, REFUSALS[code].sentence, request_id, sequence_number=reader.events)


async def _relay_body(route: Route, own_headers: bytes, answer: Answer, exchange: Exchange) -> Relayed:
    if answer.failure:
        raise Refusal(answer.failure)
    body = answer.gathered()
    lines = [own_headers]
    copy_allowed(TO_CLIENT, answer.headers, lines)
    headers = b"".join(lines)
    if answer.done:
        wrong, answer.usage = read_answer(body, route)
        if wrong:
            raise Refusal(wrong)  # both SDKs would take an error with status 200 for an answer
        answer.relayed = True
        return Relayed(exchange, "ok", body, 200, headers)
    if not begins_as_object(body):
        raise Refusal("upstream_invalid")  # nothing has been sent: it can still have a real status
    answer.relayed = True
    length = answer.headers.get(b"content-length")
    if length is not None:
        exchange.start_sized(200, headers, int(length))
    else:
        exchange.start_stream(200, headers, b"")
    answer.push_to(exchange)
    answer.body_arrived(body)  # through the same door as what follows
    await answer.finished()
    if answer.json is not None:
        answer.usage = answer.json.usage()
        if not answer.failure:
            answer.failure = answer.json.fault() or ("upstream_error" if answer.json.has_error() else "")
    relayed = Relayed(exchange, answer.code, answer.last)
    relayed.cut = answer.code != "ok"  # JSON can't say that it was cut: an incomplete body does
    return relayed
