"""The upstream's side of the relay: pooled connections, requests built from zero, answers handed on as they come.

An upstream is trusted no more than a client: what it sends can become a status, a few listed headers and body bytes,
never framing of ours.
"""

import asyncio
from typing import Protocol, cast

import httptools

from luntrex_proxy.gateway.http.ticker import NEVER, Ticker

MAX_BARE_BYTES = 65536
MAX_INFORMATIONAL = 8
_IDLE_S = 15.0  # an idle connection is closed before most servers do it, so that a request rarely meets a dead one
_DRAIN_S = 2.0  # how long the end of an answer whose terminal event was seen may take before the connection is closed
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"content-type", b"content-encoding"})


class AnswerSink(Protocol):
    """Who receives an upstream's answer. Calls come in order: head, then body pieces, then one of ended or failed."""

    def head_arrived(self, status: int, headers: dict[bytes, bytes]) -> None:
        """The final head (informational ones are skipped)."""

    def body_arrived(self, data: bytes) -> None:
        """All body bytes of one read."""

    def ended(self) -> None:
        """The message is complete."""

    def failed(self, code: str) -> None:
        """No more will come; `code` is a refusal code. The connection is already closed."""


class Owner(Protocol):
    """Whose connection it is: the origin that counts and pools it."""

    open: int
    first_byte_s: float
    idle_s: float

    def give_back(self, connection: "UpstreamConnection") -> None:
        """Keep a connection whose answer ended cleanly."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to an upstream, for one request at a time."""

    __slots__ = (
        "_bad", "_bare_bytes", "_complete",
        "_head_done",
        "_headers",
        "_informational",
        "_origin",
        "_parser",
        "_paused",
        "_pieces",
        "_rest_bytes",
        "_reusable",
        "_sink",
        "_ticker",
        "_transport",
        "closed",
        "deadline",
    )  # fmt: skip

    _transport: asyncio.Transport

    def __init__(self, origin: Owner, ticker: Ticker) -> None:
        self._origin = origin
        self._ticker = ticker
        self._sink: AnswerSink | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._headers: dict[bytes, bytes] = {}
        self._head_done = False
        self._informational = 0
        self._pieces: list[bytes] = []
        self._complete = False
        self._paused = False
        self._bare_bytes = 0  # since the last piece of body that somebody wanted: heads, framing, trailers
        self._reusable = False
        self._bad = False  # the head broke a rule of ours
        self.closed = False
        self.deadline = NEVER

    def send(self, request: bytes, sink: AnswerSink) -> None:
        """Send a whole request; its answer goes to `sink`."""
        self._sink = sink
        self._headers = {}
        self._head_done = self._complete = self._reusable = self._bad = False
        self._informational = self._bare_bytes = 0
        self._parser = httptools.HttpResponseParser(self)
        self.deadline = self._ticker.now + self._origin.first_byte_s
        self._transport.write(request)

    def pause(self, paused: bool) -> None:
        """Stop or resume reading, for a client that is slower than the upstream."""
        if self.closed:
            return
        self._paused = paused
        if paused:
            self._transport.pause_reading()
            self.deadline = NEVER  # the client's own stall clock runs now
        else:
            self._transport.resume_reading()
            self.deadline = self._ticker.now + self._origin.idle_s

    def usable(self) -> bool:
        """Whether a request may be sent: open, and nothing of an earlier one still leaving or arriving."""
        return not self.closed and not self._transport.is_closing()

    def unused(self) -> None:
        """Nothing was sent after all: back to the pool."""
        self.deadline = self._ticker.now + _IDLE_S
        self._origin.give_back(self)

    def detach(self) -> None:
        """The sink has all it wants (a terminal event): read the message's end, then pool the connection."""
        self._sink = None
        if self.closed or self._parser is None:
            return
        self.deadline = self._ticker.now + _DRAIN_S

    def abandon(self) -> None:
        """Close at once, whatever is under way: upstream work stops here."""
        self._sink = None
        if not self.closed:
            self.closed = True
            self._transport.abort()

    def expire(self) -> None:
        """Ticker: nothing came in time."""
        self.deadline = NEVER
        self._break("upstream_timeout")

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the ticker."""
        self._transport = cast(asyncio.Transport, transport)
        self._origin.open += 1
        self._ticker.members.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature; the text may quote a peer
        """Tell the sink, if it still waits."""
        self.closed = True
        self._origin.open -= 1
        self._ticker.members.discard(self)
        self._parser = None  # the parser holds this object
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.failed("upstream_cut" if self._head_done else "upstream_closed")

    def eof_received(self) -> None:
        """A body without length ends here; any other is cut, which `connection_lost` tells."""
        if self._head_done and not self._complete and not self._framed():
            self._complete = True
            sink, self._sink = self._sink, None
            if sink is not None:
                sink.ended()

    def data_received(self, data: bytes) -> None:
        """Parse, then hand all body bytes of this read on in one call."""
        parser = self._parser
        if parser is None:
            self.abandon()  # bytes nobody asked for: this connection can't be trusted with another request
            return
        if not self._head_done and not self._bare_bytes and not b"HTTP/1.".startswith(data[:7]):
            self._break("upstream_invalid")  # llhttp reads RTSP and ICE as well
            return
        self._bare_bytes += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._reusable = False
            self._bad = self._bad or not self._complete
        if self._head_done and self._sink is not None:
            self.deadline = self._ticker.now + self._origin.idle_s
        pieces = self._pieces
        if pieces:
            self._pieces = []
            if self._sink is not None:
                self._bare_bytes = 0
                self._sink.body_arrived(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self._bad or self._bare_bytes > MAX_BARE_BYTES:
            self._break("upstream_invalid")  # after what came whole before it
        elif self._complete:
            self._finish()

    # httptools

    def on_message_begin(self) -> None:
        """A second message in one read is nobody's answer."""
        if self._complete:
            self._reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect the head; what comes after it is a trailer, and discarded."""
        if self._head_done:
            return
        name = name.lower()
        if name in self._headers and name in _FRAMING:
            self._bad = True
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        """Pass a final head on; skip informational ones."""
        if self._complete or self._head_done or self._parser is None:
            return
        status = self._parser.get_status_code()
        self._bad = self._bad or self._parser.get_http_version() not in ("1.1", "1.0") or not 100 <= status < 600
        if status < 200:
            self._informational += 1
            self._headers = {}
            self._bad = self._bad or self._informational > MAX_INFORMATIONAL
            return
        headers = self._headers
        coding = headers.get(b"transfer-encoding")
        encoding = headers.get(b"content-encoding")
        if (
            (coding is not None and (coding.lower() != b"chunked" or b"content-length" in headers))
            or (encoding is not None and encoding.lower() != b"identity")
            or self._bad
        ):
            self._bad = True
            return
        self._head_done = True
        if self._sink is not None:
            self._sink.head_arrived(status, headers)

    def on_body(self, data: bytes) -> None:
        """Gather the pieces of one read."""
        if not self._complete:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        """The end of an informational head (llhttp says so for each) or of the answer."""
        if self._head_done and not self._complete and self._parser is not None:
            self._complete = True
            self._reusable = self._parser.should_keep_alive() and self._framed()

    # Ends

    def _framed(self) -> bool:
        return b"content-length" in self._headers or b"transfer-encoding" in self._headers

    def _finish(self) -> None:
        """The answer is complete: pool or close the connection, then tell the sink."""
        self._parser = None
        sink, self._sink = self._sink, None
        # An upstream that answered before it had read all of the request will read the rest some time.
        sent = self._transport.get_write_buffer_size() == 0
        if self._reusable and sent and self.usable():
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
            self.deadline = self._ticker.now + _IDLE_S
            self._origin.give_back(self)
        else:
            self.abandon()
        if sink is not None:
            sink.ended()

    def _break(self, code: str) -> None:
        """Close because of what the upstream did or did not do."""
        sink = self._sink
        self.abandon()
        if sink is not None:
            sink.failed(code)
