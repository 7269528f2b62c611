"""The upstream's side of the relay: one protocol per connection, answers handed on as they come.

An upstream is trusted no more than a client: what it sends can become a status, a few listed headers and body bytes,
never framing of ours.
"""

import asyncio
from typing import Protocol, cast

from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.gateway.http.answerhead import (
    CHUNKED,
    END,
    MAX_HEAD_BYTES,
    UNTIL_CLOSE,
    AnswerHead,
    BadAnswerError,
    RepeatedAnswer,
    read_answer_head,
    remember_answer,
)
from luntrex_proxy.gateway.http.chunked import LINE_END, SMALL_SIZES, ChunkedBody
from luntrex_proxy.gateway.http.ticker import NEVER, Ticker

MAX_INFORMATIONAL = 8
MAX_UNWANTED_BYTES = 65536  # after the sink has all it wants
_WHOLE_BYTES = 65536  # of a body that may be handed on together with its head
_SWITCHING_PROTOCOLS = 101
_PROTOCOL = b"HTTP/1."
_small_size = SMALL_SIZES.get  # for every event: of what is imported, each look at an attribute makes an object
_DRAIN_S = 2.0  # how long the end of an answer whose terminal event was seen may take before the connection is closed


class AnswerSink(Protocol):
    """Who receives an upstream's answer. Calls come in order: head, then body pieces, then one of ended or failed."""

    def head_arrived(self, head: AnswerHead) -> None:
        """The final head (informational ones are skipped)."""

    def body_arrived(self, data: bytes, chunk: bytes = b"") -> None:
        """All body bytes of one read. `chunk`: the read, if it was exactly one chunk, with its size in few digits."""

    def ended(self) -> None:
        """The message is complete."""

    def failed(self, code: str) -> None:
        """No more will come; `code` is a refusal code. The connection is already closed."""

    def arrived_whole(self, head: AnswerHead, body: bytes) -> None:
        """All of a small answer, for whoever takes it whole: none of the other calls comes."""


class Owner(Protocol):
    """Whose connection it is: the origin that counts and pools it."""

    first_byte_s: float
    idle_s: float
    keep_alive_s: float
    usual_answer: RepeatedAnswer | None
    usual_stream: RepeatedAnswer | None

    def opened(self) -> None:
        """A connection is made."""

    def give_back(self, connection: "UpstreamConnection") -> None:
        """Keep a connection whose answer ended cleanly."""

    def lost(self, connection: "UpstreamConnection") -> None:
        """A connection is closed, idle or not."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to an upstream, for one request at a time."""

    __slots__ = (
        "_asked", "_chunks", "_held", "_informational", "_length", "_missing", "_origin", "_paused", "_reusable",
        "_sink", "_takes_whole", "_ticker", "_transport", "_unwanted_bytes", "closed", "deadline", "heard_at", "opened",
        "renew_at",
    )  # fmt: skip

    _transport: asyncio.Transport

    def __init__(self, origin: Owner, ticker: Ticker) -> None:
        self._origin = origin
        self._ticker = ticker
        self._sink: AnswerSink | None = None
        self._takes_whole = False
        self._asked = False  # an answer is due or under way
        self._held: bytes | None = b""  # the start of a head; None once the head is there
        self._informational = 0
        self._length = 0  # of the body, as its head says
        self._missing = 0  # bytes of a sized body that are still to come
        self._chunks: ChunkedBody | None = None  # while a chunked body arrives
        self._unwanted_bytes = 0
        self._paused = False
        self._reusable = False
        self.opened = False  # has been, whatever became of it
        self.closed = False
        self.heard_at = NEVER  # when the answer last brought something, or was asked for, on the ticker's clock
        self.deadline = NEVER
        self.renew_at = NEVER  # on the ticker's clock; the origin sets it

    def send(self, request: bytes, sink: AnswerSink, takes_whole: bool = False) -> None:
        """Send a whole request; its answer goes to `sink`, with one call if it `takes_whole` what comes in one read."""
        self._sink = sink
        self._takes_whole = takes_whole
        self._asked = True
        self._held = b""
        self._informational = self._unwanted_bytes = 0
        self.heard_at = self._ticker.now
        self.deadline = self.heard_at + self._origin.first_byte_s
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
            self.heard_at = self._ticker.now
            self.deadline = self.heard_at + self._origin.idle_s

    @property
    def silent_s(self) -> float:
        """How long nothing has come of the answer, since the request was sent."""
        return self._ticker.now - self.heard_at

    def usable(self) -> bool:
        """Whether a request may be sent: open, and nothing of an earlier one still leaving or arriving."""
        return not self.closed and not self._transport.is_closing()

    def unused(self) -> None:
        """Nothing was sent after all: back to the pool, if it is still open."""
        if self.usable():
            self.deadline = self._ticker.now + self._origin.keep_alive_s
            self._origin.give_back(self)

    def detach(self) -> None:
        """The sink has all it wants (a terminal event): read the message's end, then pool the connection."""
        self._sink = None
        if self._asked and not self.closed:
            self.deadline = self._ticker.now + _DRAIN_S

    def abandon(self) -> None:
        """Close at once, whatever is under way: upstream work stops here."""
        self._sink = None
        if not self.closed:
            self.closed = True
            self._transport.abort()

    def expire(self) -> None:
        """Ticker: nothing came in time. The reads of a body do not move the deadline: they are looked at here."""
        if self._sink is not None and self._held is None:
            self.deadline = self.heard_at + self._origin.idle_s
            if self.deadline > self._ticker.now:
                return
        self.deadline = NEVER
        self._break("upstream_timeout")

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the ticker."""
        self._transport = cast(asyncio.Transport, transport)
        self.opened = True
        self._origin.opened()
        self._ticker.members.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature; the text may quote a peer
        """Tell the sink, if it still waits.

        A pooled connection that its upstream closed before a byte of the answer came is no exception to the retry law:
        the request was written, so it may have been read and worked on, and is never sent again.
        """
        self.closed = True
        if self not in self._ticker.members:
            return  # never made, or lost already
        self._origin.lost(self)
        self._ticker.members.discard(self)
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.failed("upstream_cut" if self._held is None else "upstream_closed")

    def eof_received(self) -> None:
        """A body without length ends here; any other is cut, which `connection_lost` tells."""
        if self._asked and self._held is None and self._length == UNTIL_CLOSE:
            self._asked = False
            sink, self._sink = self._sink, None
            if sink is not None:
                sink.ended()

    def data_received(self, data: bytes) -> None:
        """Hand all body bytes of this read on in one call."""
        chunks = self._chunks
        if chunks is None:
            self._read(data)
            return
        sink = self._sink
        if chunks.held is LINE_END and sink is not None:
            # The usual read of a stream is one whole chunk. For every event: no call more than it takes.
            size_line, _, rest = data.partition(LINE_END)
            body = rest.removesuffix(LINE_END)
            if _small_size(size_line) == len(body) != len(rest):
                self.heard_at = self._ticker.now
                sink.body_arrived(body, data)
                return
        try:
            body, complete = chunks.feed(data)
        except Refusal:
            if chunks.rest and self._sink is not None:
                self._sink.body_arrived(chunks.rest)  # what came whole before the fault
            self._break("upstream_invalid")
            return
        self._hand_on(body, len(data))
        if complete and not self.closed:
            self._finish(chunks.rest)

    # Reading

    def _hand_on(self, body: bytes, read_bytes: int) -> None:
        sink = self._sink
        if sink is None:
            self._unwanted_bytes += read_bytes
            if self._unwanted_bytes > MAX_UNWANTED_BYTES:
                self.abandon()
            return
        self.heard_at = self._ticker.now
        if body:
            sink.body_arrived(body)

    def _read(self, data: bytes) -> None:
        """A head, and bodies that are not chunked."""
        if not self._asked:
            self.abandon()  # bytes nobody asked for: this connection can't be trusted with another request
            return
        if self._held is not None:
            takes_whole = self._takes_whole
            usual = self._origin.usual_answer if takes_whole else self._origin.usual_stream
            found = None if self._held or usual is None else usual.read(data)
            if found is None:
                try:
                    found = self._read_head(data)
                except BadAnswerError:
                    self._break("upstream_invalid")
                    return
                if found is None:
                    return
            head, data = found
            self._reusable = head.keep_alive
            sink = self._sink
            if takes_whole and head.length == len(data) <= _WHOLE_BYTES and sink is not None:
                self._sink = None
                self._finish(b"")
                sink.arrived_whole(head, data)
                return
            self._begin_body(head)
            if self._chunks is not None:
                if data:
                    self.data_received(data)
                return
        if self._length == UNTIL_CLOSE:
            self._hand_on(data, len(data))
            return
        missing = self._missing - len(data)
        self._missing = max(missing, 0)
        self._hand_on(data if missing >= 0 else data[:missing], len(data))
        if missing <= 0 and not self.closed:
            self._finish(data[missing:] if missing else b"")

    def _read_head(self, data: bytes) -> tuple[AnswerHead, bytes] | None:
        """The final head and what follows it; informational ones are skipped. None, and `_held`: it is not all there.

        What was held before was looked at then: a head that comes byte by byte is not searched each time.
        """
        held = self._held or b""
        scanned = len(held)
        data = held + data
        while True:
            if not data.startswith(_PROTOCOL) and not _PROTOCOL.startswith(data):
                raise BadAnswerError
            end = data.find(END, scanned - 3 if scanned > 3 else 0) + 4
            if end < 4 or end > MAX_HEAD_BYTES:
                if len(data) > MAX_HEAD_BYTES:
                    raise BadAnswerError
                self._held = data
                return None
            head = read_answer_head(data[:end])
            scanned = 0
            if head.status >= 200:
                self._remember(data[:end], head)
                return head, data[end:]
            data = data[end:]
            self._informational += 1
            if self._informational > MAX_INFORMATIONAL or head.status == _SWITCHING_PROTOCOLS:
                raise BadAnswerError

    def _remember(self, data: bytes, head: AnswerHead) -> None:
        known = remember_answer(data, head)
        if known is not None and self._takes_whole:
            self._origin.usual_answer = known
        elif known is not None:
            self._origin.usual_stream = known

    def _begin_body(self, head: AnswerHead) -> None:
        self._held = None
        self._length = head.length
        self._missing = max(head.length, 0)
        if head.length == CHUNKED:
            # A model's tokens may be as short as they are; its idle time and our client's pace bound them.
            self._chunks = ChunkedBody(None)
        if self._sink is not None:
            self.heard_at = self._ticker.now
            self.deadline = self.heard_at + self._origin.idle_s
            self._sink.head_arrived(head)

    # Ends

    def _finish(self, rest: bytes) -> None:
        """The answer is complete: pool or close the connection, then tell the sink."""
        self._chunks = None
        self._asked = False
        sink, self._sink = self._sink, None
        transport, origin = self._transport, self._origin
        # An upstream that answered before it had read all of the request will read the rest some time.
        sent = not transport.get_write_buffer_size()
        if self._reusable and sent and not rest and not self.closed and not transport.is_closing():
            if self._paused:
                self._paused = False
                transport.resume_reading()
            self.deadline = self._ticker.now + origin.keep_alive_s
            origin.give_back(self)
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
