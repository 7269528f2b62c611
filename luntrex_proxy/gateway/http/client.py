"""The client's side of the relay: one protocol per connection, one exchange per request.

A connection reads a head, hands an `Exchange` to the pipeline, and goes on reading: a paused transport would report
neither FIN nor RST, so bytes that come while an answer is pending are kept (up to a bound); EOF means gone.
"""

import asyncio
import socket
import struct
import time
from collections.abc import Callable, Coroutine
from typing import Protocol, cast

from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.gateway.http.head import ChunkedBody, RequestHead, parse_head
from luntrex_proxy.gateway.http.ticker import NEVER, Ticker
from luntrex_proxy.settings.model import GatewayLimits, GatewayTimeouts

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_END_OF_HEAD = b"\r\n\r\n"
_RESET = struct.pack("ii", 1, 0)  # struct linger: on, no time
# How long, and how much, a refused client may still send before the connection is reset under its answer.
_LINGER_S = 2.0
_LINGER_BYTES = 16 * 1024 * 1024
REASONS = {
    200: b"OK", 400: b"Bad Request", 401: b"Unauthorized", 402: b"Payment Required", 403: b"Forbidden",
    404: b"Not Found", 405: b"Method Not Allowed", 408: b"Request Timeout", 409: b"Conflict",
    413: b"Content Too Large", 414: b"URI Too Long", 415: b"Unsupported Media Type", 417: b"Expectation Failed",
    422: b"Unprocessable Content", 429: b"Too Many Requests", 431: b"Request Header Fields Too Large",
    500: b"Internal Server Error", 502: b"Bad Gateway", 503: b"Service Unavailable", 504: b"Gateway Timeout",
}  # fmt: skip


class Handler(Protocol):
    """What the connections of a listener need from the pipeline."""

    limits: GatewayLimits
    timeouts: GatewayTimeouts
    connections: "set[ClientConnection]"
    draining: bool

    def handle(self, exchange: "Exchange") -> Coroutine[None, None, None]:
        """Answer one request and call `Exchange.close` last. Never raises."""

    def refuse_bytes(self, code: str, received: bytes) -> bytes:
        """A whole HTTP answer for bytes that never became a request; the connection closes after it."""


class Exchange:
    """One request and its answer on a client connection."""

    __slots__ = (
        "_arrived_ns", "_broken", "_connection", "_discard", "_head_sent", "_parts", "_waiter", "body_bytes",
        "body_complete", "body_limit", "cut_code", "first_byte_us", "gone", "head", "key_id", "on_pause",
        "response_bytes", "streaming", "task",
    )  # fmt: skip

    def __init__(self, connection: "ClientConnection", head: RequestHead) -> None:
        self._connection = connection
        self._parts: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._head_sent = False
        self._broken = ""
        self._discard = False
        self.head = head
        self.body_bytes = 0
        self.body_limit = 0  # 0 until the pipeline has asked for the body
        self.body_complete = not head.chunked and head.content_length == 0
        self.task: asyncio.Task[None] | None = None
        self.on_pause: Callable[[bool], None] | None = None  # set while an upstream can be slowed down
        self.gone = False  # the client left
        self.cut_code = ""  # why we cut the answer, if we do
        self.key_id = ""  # set once authenticated, so that revocation finds what runs
        self.streaming = False  # the body is chunked (or ends with the connection for HTTP/1.0)
        self.response_bytes = 0  # of the body, framing not counted
        self.first_byte_us = 0  # from the head to the first answer byte
        self._arrived_ns = time.perf_counter_ns()

    # Reading.

    async def read_body(self, limit: int) -> bytes:
        """The whole body. Raises Refusal when it is too large (as soon as that is certain), malformed or too slow."""
        self.body_limit = limit
        if self.head.content_length > limit or self.body_bytes > limit:
            raise Refusal("body_too_large")
        if not self.body_complete and not self._broken:
            if self.head.expects_continue:
                self._connection.transport.write(_CONTINUE)
            self._waiter = self._connection.loop.create_future()
            await self._waiter
        if self._broken:
            raise Refusal(self._broken)
        parts = self._parts
        self._parts = []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def discard_body(self) -> None:
        """Nobody will read the body: what comes of it is not kept."""
        self._discard = True
        self._parts.clear()

    def body_arrived(self, data: bytes) -> None:
        """Called by the connection with each piece of the body."""
        self.body_bytes += len(data)
        if self._discard:
            return
        if self.body_limit and self.body_bytes > self.body_limit:
            self._parts.clear()
            self.break_body("body_too_large")
        else:
            self._parts.append(data)

    def break_body(self, code: str) -> None:
        """Called by the connection when the body can't be had: `read_body` raises the refusal."""
        self._broken = code
        self.body_ended()

    def body_ended(self) -> None:
        """Called by the connection after the last piece: `read_body` goes on."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # Answering.

    @property
    def head_sent(self) -> bool:
        """Whether a status has been sent, so that only the stream can tell of a failure."""
        return self._head_sent

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """Send a whole answer in one write. `headers` are complete lines."""
        closing = b"" if self._can_stay() else b"Connection: close\r\n"
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        self._send_head(status, b"".join((headers, closing, length, b"" if self.head.method == b"HEAD" else body)))

    def start_sized(self, status: int, headers: bytes, length_bytes: int) -> None:
        """Begin an answer of known length; the body follows through `send` and `finish`."""
        closing = b"" if self._can_stay() else b"Connection: close\r\n"
        self._send_head(status, b"".join((headers, closing, b"Content-Length: %d\r\n\r\n" % length_bytes)))

    def start_stream(self, status: int, headers: bytes, first: bytes) -> None:
        """Begin an answer of unknown length; `first` goes out with the head in one write."""
        self.streaming = True
        if self.head.version == "1.0":
            self.head.keep_alive = False
            self.response_bytes += len(first)
            self._send_head(status, b"".join((headers, b"Connection: close\r\n\r\n", first)))
            return
        closing = b"" if self._can_stay() else b"Connection: close\r\n"
        self.response_bytes += len(first)
        framed = b"%x\r\n%b\r\n" % (len(first), first) if first else b""
        self._send_head(status, b"".join((headers, closing, b"Transfer-Encoding: chunked\r\n\r\n", framed)))

    def send(self, data: bytes) -> None:
        """Send a piece of the body."""
        if self.head.method == b"HEAD":
            return
        self.response_bytes += len(data)
        if self.streaming and self.head.version != "1.0":
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._connection.transport.write(data)

    def finish(self, last: bytes = b"") -> None:
        """Send the last piece together with the end of the body."""
        if self.head.method == b"HEAD":
            return
        self.response_bytes += len(last)
        if self.streaming and self.head.version != "1.0":
            last = b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last) if last else b"0\r\n\r\n"
        if last:
            self._connection.transport.write(last)

    def abort(self) -> None:
        """Break the connection so that the client sees an incomplete body."""
        transport = self._connection.transport
        if self.head.version == "1.0":
            # A body that ends with the connection looks whole after a FIN; only a reset tells the truth.
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()

    def cut(self, code: str) -> None:
        """End the answer from our side, with the refusal `code`."""
        if self.task is not None and not self.cut_code:
            self.cut_code = code
            self.task.cancel()

    def close(self) -> None:
        """The pipeline is done with this request: the connection may read the next one."""
        self._connection.answered()

    @property
    def client_paused(self) -> bool:
        """Whether the client's write buffer is full right now."""
        return self._connection.write_paused

    def _can_stay(self) -> bool:
        """Whether the connection may carry another request after this answer."""
        if not self.body_complete or self._connection.handler.draining:
            self.head.keep_alive = False  # an unread body must never be read as a request
        return self.head.keep_alive

    def _send_head(self, status: int, rest: bytes) -> None:
        self._head_sent = True
        self.first_byte_us = self.elapsed_us()
        self._connection.transport.write(b"HTTP/1.1 %d %b\r\n%b" % (status, REASONS.get(status, b"Status"), rest))

    def elapsed_us(self) -> int:
        """Microseconds since the head arrived."""
        return (time.perf_counter_ns() - self._arrived_ns) // 1000


class ClientConnection(asyncio.Protocol):
    """Reads requests of one client connection, one at a time, in order."""

    __slots__ = (
        "_buffer", "_chunked", "_discarded_bytes", "_lingering", "_scanned", "_unsent_bytes", "deadline", "exchange",
        "handler", "loop", "ticker", "transport", "write_paused",
    )  # fmt: skip

    transport: asyncio.Transport

    def __init__(self, handler: Handler, ticker: Ticker, loop: asyncio.AbstractEventLoop) -> None:
        self.handler = handler
        self.ticker = ticker
        self.loop = loop
        self.exchange: Exchange | None = None
        self.deadline = NEVER
        self.write_paused = False
        self._buffer = b""  # an unfinished head, or what came while an answer was pending
        self._scanned = 0
        self._unsent_bytes = 0
        self._chunked: ChunkedBody | None = None
        self._lingering = False
        self._discarded_bytes = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock for the first head."""
        self.transport = cast(asyncio.Transport, transport)
        self.handler.connections.add(self)
        self.ticker.members.add(self)
        self.deadline = self.ticker.now + self.handler.timeouts.header_s
        if len(self.handler.connections) > self.handler.limits.connections:
            self._refuse("overloaded")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature; the text may quote a peer
        """The client is gone: stop its request."""
        self.handler.connections.discard(self)
        self.ticker.members.discard(self)
        exchange = self.exchange
        if exchange is not None and exchange.task is not None:
            exchange.gone = True
            exchange.task.cancel()

    def data_received(self, data: bytes) -> None:
        """Give bytes to whom they belong: a head, a body, or the queue behind a pending answer."""
        if self._lingering:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > _LINGER_BYTES:
                self.transport.abort()
            return
        exchange = self.exchange
        if exchange is None:
            self._read_head(self._buffer + data if self._buffer else data)
        elif not exchange.body_complete:
            self._read_body(exchange, data)
        else:
            self._buffer += data
            if len(self._buffer) > self.handler.limits.pipelined_bytes:
                self.transport.abort()

    def pause_writing(self) -> None:
        """The client reads too slowly: slow the upstream down and start the stall clock."""
        self.write_paused = True
        self._unsent_bytes = self.transport.get_write_buffer_size()
        self.deadline = self.ticker.now + self.handler.timeouts.write_stall_s
        if self.exchange is not None and self.exchange.on_pause is not None:
            self.exchange.on_pause(True)

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.write_paused = False
        if not self._lingering:
            self.deadline = NEVER if self.exchange is not None else self.ticker.now + self.handler.timeouts.keep_alive_s
        if self.exchange is not None and self.exchange.on_pause is not None:
            self.exchange.on_pause(False)

    # Ticker

    def expire(self) -> None:
        """A deadline passed: silent close when idle, 408 for a slow request, abort for a stalled reader."""
        self.deadline = NEVER
        exchange = self.exchange
        unsent_bytes = self.transport.get_write_buffer_size()
        if self.write_paused and unsent_bytes < self._unsent_bytes:  # slow, but it takes its answer
            self._unsent_bytes = unsent_bytes
            self.deadline = self.ticker.now + self.handler.timeouts.write_stall_s
        elif exchange is not None and not exchange.body_complete and not exchange.head_sent:
            exchange.break_body("request_timeout")
        elif exchange is None and self._buffer:
            self._refuse("request_timeout", self._buffer)
        else:
            self.transport.abort()

    # Reading

    def _read_head(self, data: bytes) -> None:
        if data.startswith(b"\r\n"):  # RFC 9112 2.2: an empty line before a request is ignored
            data = data[2:]
        end = data.find(_END_OF_HEAD, max(0, self._scanned - 5))
        limits = self.handler.limits
        if end < 0 or end > limits.header_bytes:
            if len(data) > limits.header_bytes:
                self._refuse("header_too_large", data)
                return
            if data and not self._buffer:
                self.deadline = self.ticker.now + self.handler.timeouts.header_s
            self._buffer = data
            self._scanned = len(data)
            return
        end += 4
        self._buffer = b""
        self._scanned = 0
        try:
            head, self._chunked = parse_head(data[:end], limits.header_count)
        except Refusal as refusal:
            self._refuse(refusal.row.code, data)
            return
        self.deadline = NEVER
        exchange = self.exchange = Exchange(self, head)
        if exchange.body_complete:
            self._buffer = data[end:]
        else:
            self.deadline = self.ticker.now + self.handler.timeouts.body_idle_s
            if len(data) > end:
                self._read_body(exchange, data[end:])
        exchange.task = self.loop.create_task(self.handler.handle(exchange))

    def _read_body(self, exchange: Exchange, data: bytes) -> None:
        self.deadline = self.ticker.now + self.handler.timeouts.body_idle_s
        if self._chunked is not None:
            try:
                data, complete = self._chunked.feed(data)
            except Refusal as refusal:
                exchange.break_body(refusal.row.code)
                return
            if self._chunked.extra:
                exchange.head.keep_alive = False
        else:
            missing = exchange.head.content_length - exchange.body_bytes
            complete = len(data) >= missing
            if len(data) > missing:
                self._buffer = data[missing:]
                data = data[:missing]
        if data:
            exchange.body_arrived(data)
        if complete:
            self.deadline = NEVER
            exchange.body_complete = True
            exchange.body_ended()

    def answered(self) -> None:
        """The current request has its answer: close, or go on with the next request."""
        exchange = self.exchange
        self.exchange = None
        transport = self.transport
        if exchange is None or transport.is_closing():
            return
        if not exchange.head.keep_alive or self.handler.draining:
            self._linger(clean=exchange.body_complete)
            return
        self.deadline = self.ticker.now + self.handler.timeouts.keep_alive_s
        if self._buffer:
            data, self._buffer = self._buffer, b""
            self._read_head(data)

    def close_if_idle(self) -> None:
        """Close a connection that waits for a request that may never come."""
        if self.exchange is None:
            self.transport.close()

    def _refuse(self, code: str, received: bytes = b"") -> None:
        self.transport.write(self.handler.refuse_bytes(code, received))
        self._linger(clean=False)

    def _linger(self, *, clean: bool) -> None:
        """Close; when the client may still be sending, end our side first so that a reset can't eat the answer."""
        if clean or not self.transport.can_write_eof():
            self.deadline = self.ticker.now + self.handler.timeouts.write_stall_s
            self.transport.close()
            return
        self._lingering = True
        self._buffer = b""
        self.deadline = self.ticker.now + _LINGER_S
        self.transport.write_eof()
