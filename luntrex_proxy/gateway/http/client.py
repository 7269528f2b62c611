"""The client's side of the relay: one protocol per connection, which reads requests and watches deadlines.

A connection reads a head, hands an `Exchange` to the pipeline, and goes on reading: a paused transport would report
neither FIN nor RST, so bytes that come while an answer is pending are kept (up to a bound); EOF means gone.
"""

import asyncio
import re
from collections.abc import Coroutine
from typing import Protocol, cast

from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.gateway.http.chunked import ChunkedBody
from luntrex_proxy.gateway.http.exchange import Exchange
from luntrex_proxy.gateway.http.head import RepeatedHead, RequestHead, parse_head, remember_head
from luntrex_proxy.gateway.http.ticker import NEVER, Ticker
from luntrex_proxy.gateway.overload import Overload
from luntrex_proxy.settings.model import GatewayLimits, GatewayTimeouts

_BLANK_LINES = re.compile(rb"\A(?:\r\n)+")
_END_OF_HEAD = b"\r\n\r\n"
_NOTHING_YET = (b"", b"\r")  # a head has not begun: a blank line may be on its way
# How long, and how much, a refused client may still send before the connection is reset under its answer.
_LINGER_S = 2.0
_BODY_GRACE_S = 20.0  # before a body's average rate counts: slow starts are no attack
_LINGER_BYTES = 16 * 1024 * 1024


class Handler(Protocol):
    """What the connections of a listener need from the pipeline."""

    limits: GatewayLimits
    timeouts: GatewayTimeouts
    connections: "set[ClientConnection]"
    draining: bool
    overload: Overload

    def handle(self, exchange: Exchange) -> Coroutine[None, None, None]:
        """Answer one request and call `Exchange.close` last. Never raises."""

    def refuse_bytes(self, code: str, received: bytes) -> bytes:
        """A whole HTTP answer for bytes that never became a request; the connection closes after it."""


class ClientConnection(asyncio.Protocol):
    """Reads requests of one client connection, one at a time, in order."""

    __slots__ = (
        "_body_due", "_buffer", "_chunked", "_discarded_bytes", "_first_due", "_lingering", "_repeated", "_scanned",
        "_unsent_bytes", "address", "deadline", "exchange", "forwards", "handler", "loop", "peer", "ticker",
        "transport", "write_paused",
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
        self._unsent_bytes = 0  # of an answer, when last looked at; 0: not looked at yet
        self._chunked: ChunkedBody | None = None
        self._lingering = False
        self._discarded_bytes = 0
        self._first_due = NEVER
        self._body_due = NEVER
        self._repeated: RepeatedHead | None = None
        self.address = ""  # as counted for the limits; "" when it is exempt
        self.peer = ""  # the whole address of who connected, by PROXY protocol too; "" on a Unix socket
        self.forwards = False  # a trusted proxy whose X-Forwarded-For is believed

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock for the first head."""
        self.transport = cast(asyncio.Transport, transport)
        self.handler.connections.add(self)
        self.ticker.members.add(self)
        self.deadline = self._first_due = self.ticker.now + self.handler.timeouts.header_s
        if len(self.handler.connections) > self.handler.limits.connections:
            self._refuse("overloaded")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature; the text may quote a peer
        """The client is gone: stop its request."""
        self.handler.connections.discard(self)
        self.ticker.members.discard(self)
        exchange = self.exchange
        if exchange is not None:
            exchange.gone = True
            exchange.cancel()

    def data_received(self, data: bytes) -> None:
        """Give bytes to whom they belong: a head, a body, or the queue behind a pending answer."""
        if self._lingering:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > _LINGER_BYTES:
                self.transport.abort()
            return
        exchange = self.exchange
        if exchange is not None and not exchange.body_complete:
            self._read_body(exchange, data)
        elif exchange is None and not self.write_paused:
            self._read_head(self._buffer + data if self._buffer else data)
        else:
            self._buffer += data
            if len(self._buffer) > self.handler.limits.pipelined_bytes:
                self.transport.abort()

    def eof_received(self) -> None:
        """A client that will send no more is gone; a plain close would first wait for it to read what is buffered."""
        if self.exchange is not None:
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
        exchange = self.exchange
        if exchange is None:
            if not self._lingering and not self.transport.is_closing():
                self._next()
            return
        self.deadline = NEVER
        self.watch_silence()
        if exchange.on_pause is not None:
            exchange.on_pause(False)

    def watch_silence(self) -> None:
        """Look at a stream again when it might have been silent for too long."""
        keep_alive_s = self.handler.timeouts.sse_keep_alive_s
        if keep_alive_s and not self.write_paused and self.exchange is not None and self.exchange.heard_at is not None:
            self.deadline = self.ticker.now + keep_alive_s

    # Ticker

    def expire(self) -> None:
        """A deadline passed: silent close when idle, 408 for a slow request, abort for a stalled reader."""
        self.deadline = NEVER
        exchange = self.exchange
        unsent_bytes = self.transport.get_write_buffer_size()
        if self.write_paused or (exchange is None and unsent_bytes):
            if 0 < self._unsent_bytes <= unsent_bytes:
                self.transport.abort()
                return
            self._unsent_bytes = unsent_bytes  # slow, but it takes its answer
            self.deadline = self.ticker.now + self.handler.timeouts.write_stall_s
        elif exchange is not None and exchange.heard_at is not None:
            self.deadline = exchange.fill_silence(self.ticker.now, self.handler.timeouts.sse_keep_alive_s)
        elif exchange is not None and not exchange.body_complete and not exchange.head_sent:
            exchange.break_body("request_timeout")
        elif exchange is None and self._buffer not in _NOTHING_YET:
            self._refuse("request_timeout", self._buffer)
        elif exchange is None or not exchange.body_complete:
            self.transport.abort()
        # Else it has nothing to wait for but its own end, which is being put on record.

    # Reading

    def _read_head(self, data: bytes) -> None:
        limits = self.handler.limits
        repeated = self._repeated
        if repeated is not None and repeated.limits is limits:
            found = repeated.read(data)
            if found is not None:  # the usual request of a client that stays: no look at its head but this one
                self._buffer = b""
                self._scanned = 0
                self._chunked = None
                head, rest = found  # spread into arguments they would cost twice the call
                self._begin(head, rest)
                return
        if data.startswith(b"\r\n"):  # RFC 9112 2.2: empty lines before a request are ignored, however reads are cut
            data = _BLANK_LINES.sub(b"", data, 1)
        end = data.find(_END_OF_HEAD, self._scanned)
        if end < 0 or end > limits.header_bytes:
            if len(data) > limits.header_bytes:
                self._refuse("header_too_large", data)
                return
            if data not in _NOTHING_YET and self._buffer in _NOTHING_YET:  # blank lines start no new clock
                self.deadline = self.ticker.now + self.handler.timeouts.header_s
            self._buffer = data
            self._scanned = max(0, len(data) - 5)  # blank lines at the start may go before the next look
            return
        end += 4
        self._buffer = b""
        self._scanned = 0
        try:
            head, self._chunked = parse_head(data[:end], limits.header_count)
        except Refusal as refusal:
            self._refuse(refusal.row.code, data)
            return
        self._repeated = remember_head(data[:end], head, limits)
        self._begin(head, data[end:])

    def _begin(self, head: RequestHead, rest: bytes) -> None:
        """A head has come, and behind it, in the same read, the rest."""
        self.deadline = NEVER
        if head.content_length == len(rest) and not head.chunked:  # the usual request: whole in one read
            exchange = self.exchange = Exchange(self, head, rest)
        else:
            exchange = self.exchange = Exchange(self, head)
            if exchange.body_complete:
                self._buffer = rest
                if len(rest) > self.handler.limits.pipelined_bytes:  # it also grows while the next one has yet to start
                    self.exchange = None
                    self.transport.abort()
                    return
            else:
                self.deadline = self.ticker.now + self.handler.timeouts.body_idle_s
                self._body_due = self.ticker.now + _BODY_GRACE_S
                if rest:
                    self._read_body(exchange, rest)
        exchange.run(self.handler.handle(exchange))

    def _read_body(self, exchange: Exchange, data: bytes) -> None:
        # Each read must come soon, and all of them together must reach a rate: a body that drips ends at `_body_due`
        # plus the time that its bytes are worth.
        received = exchange.body_bytes + len(data)
        self.deadline = min(
            self.ticker.now + self.handler.timeouts.body_idle_s,
            self._body_due + received / self.handler.limits.body_bytes_per_s,
        )
        if self._chunked is not None:
            try:
                data, complete = self._chunked.feed(data)
            except Refusal as refusal:
                exchange.break_body(refusal.row.code)
                return
            if complete:
                self._buffer = self._chunked.rest
        else:
            missing = exchange.head.content_length - exchange.body_bytes
            complete = len(data) >= missing
            if len(data) > missing:
                self._buffer = data[missing:]
                data = data[:missing]
        if data:
            exchange.body_arrived(data)
        if complete and self.exchange is exchange:  # it was not refused with this read
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
        elif not self.write_paused:  # else its next request waits, under the stall clock, until it took this answer
            self.deadline = self.ticker.now + self.handler.timeouts.keep_alive_s
            self._unsent_bytes = 0
            if self._buffer:
                self._read_next_soon()

    def _next(self) -> None:
        self.deadline = self.ticker.now + self.handler.timeouts.keep_alive_s
        self._unsent_bytes = 0
        if self._buffer:
            self._read_next_soon()

    def _read_next_soon(self) -> None:
        # Not on this stack: a thousand pipelined requests would be as deep. And only after the loop has looked at all
        # sockets once more: an upstream that closed behind its answer must not be sent the next request.
        self.loop.call_soon(self.loop.call_soon, self._read_next)

    def _read_next(self) -> None:
        """Go on with what came while an answer was pending."""
        if self._buffer and self.exchange is None and not self._lingering and not self.transport.is_closing():
            data, self._buffer = self._buffer, b""
            self._read_head(data)

    def is_unheard(self) -> bool:
        """Whether its first request may still be on its way: nothing of it has come."""
        return self.exchange is None and not self._buffer and self.deadline == self._first_due

    def close_if_idle(self) -> None:
        """Close a connection that waits for a request that may never come."""
        if self.exchange is None:
            self.transport.close()

    def _refuse(self, code: str, received: bytes = b"") -> None:
        self.transport.write(self.handler.refuse_bytes(code, received))
        self._linger(clean=False)

    def _linger(self, *, clean: bool) -> None:
        """Close; when the client may still be sending, end our side first so that a reset can't eat the answer."""
        self._buffer = b""  # nobody reads it any more: it is no slow request either
        self._unsent_bytes = self.transport.get_write_buffer_size()
        if clean or not self.transport.can_write_eof():
            self.deadline = self.ticker.now + self.handler.timeouts.write_stall_s
            self.transport.close()
            return
        self._lingering = True
        self.deadline = self.ticker.now + _LINGER_S
        self.transport.write_eof()
