"""One request of a client and the answer to it: the body on its way in, the pieces on their way out.

Knows how an answer is framed and what may still be said after a failure; nothing of reading heads or of deadlines,
which are its connection's (`client.py`).
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from time import perf_counter_ns
from typing import Protocol

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.gateway.http.head import RequestHead
from luntrex_proxy.gateway.http.running import Running, Signal
from luntrex_proxy.gateway.http.ticker import NEVER
from luntrex_proxy.gateway.overload import Overload

KEEP_ALIVE = b": keep-alive\n\n"  # a comment: every SSE reader skips it, and proxies see that the stream lives
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SMALL_BYTES = 4096  # most events, and many bodies, are smaller: how their sizes are written is made once
_CHUNK_END = b"\r\n"
_SIZE_LINES = [b"%x\r\n" % size for size in range(SMALL_BYTES)]
LENGTH_LINES = [b"Content-Length: %d\r\n\r\n" % size for size in range(SMALL_BYTES)]
_SMALL_PART_BYTES = 1024  # reads of a body below this are gathered
_RESET = struct.pack("ii", 1, 0)  # struct linger: on, no time
REASONS = {
    200: b"OK", 400: b"Bad Request", 401: b"Unauthorized", 402: b"Payment Required", 403: b"Forbidden",
    404: b"Not Found", 405: b"Method Not Allowed", 408: b"Request Timeout", 409: b"Conflict",
    413: b"Content Too Large", 414: b"URI Too Long", 415: b"Unsupported Media Type", 417: b"Expectation Failed",
    422: b"Unprocessable Content", 429: b"Too Many Requests", 431: b"Request Header Fields Too Large",
    500: b"Internal Server Error", 502: b"Bad Gateway", 503: b"Service Unavailable", 504: b"Gateway Timeout",
}  # fmt: skip
_STATUS_LINES = {status: b"HTTP/1.1 %d %b\r\n" % (status, reason) for status, reason in REASONS.items()}


class Closing(Protocol):
    """What says that connections shall end with the answer they carry."""

    draining: bool
    overload: Overload


class Connection(Protocol):
    """The connection that an exchange is on."""

    transport: asyncio.Transport
    write_paused: bool
    address: str
    peer: str
    forwards: bool

    @property
    def handler(self) -> Closing:
        """Whose connection it is."""

    def watch_silence(self) -> None:
        """Look at a stream again when it might have been silent for too long."""

    def answered(self) -> None:
        """The current request has its answer."""


class Room(Protocol):
    """Where the bytes of all bodies count."""

    held_bytes: int
    limit_bytes: int

    def take(self, size_bytes: int) -> bool:
        """Count bytes in; False, and not counted, when they don't fit as things are."""


class Exchange(Running):
    """One request and its answer on a client connection; runs who answers it."""

    __slots__ = (
        "_body_limit", "_broken", "_chunked", "_counted_bytes", "_discard", "_parts", "_room", "_waiter", "_write",
        "address", "arrived_ns", "body_bytes", "body_complete", "caller", "connection", "cut_code", "first_byte_us",
        "gone", "head", "head_sent", "heard_at", "on_pause", "response_bytes",
    )  # fmt: skip

    _body_limit: int  # while there is a room
    _counted_bytes: int  # there

    def __init__(self, connection: Connection, head: RequestHead, body: bytes | None = None) -> None:
        """`body` is all of it, where it came in one read with the head."""
        self.running = self._cancelled = False  # as in Running, without the call
        self.arrived_ns = perf_counter_ns()
        self.connection = connection
        self.head = head
        self._write = connection.transport.write
        if body is None:
            self._parts: list[bytes | bytearray] = []
            self.body_bytes = 0
            self.body_complete = not head.chunked and head.content_length == 0
        else:
            self._parts = [body]
            self.body_bytes = len(body)
            self.body_complete = True
        self._waiter: Signal | None = None
        self._broken = ""
        self._discard = False
        self._room: Room | None = None  # where the body's bytes count, from `take_body` to `leave_room`
        self.head_sent = False  # a status has been sent: only the stream can tell of a failure
        self._chunked = False  # the answer's body is sent in chunks
        self.on_pause: Callable[[bool], None] | None = None  # set while an upstream can be slowed down
        self.heard_at: Callable[[], float] | None = None  # of a running stream: when its upstream last said something
        self.gone = False  # the client left
        self.cut_code = ""  # why we cut the answer, if we do
        self.address = ""  # what the request is counted as, once it is
        self.caller: Caller | None = None  # set once authenticated, so that revocation finds what runs
        self.response_bytes = 0  # of the body, framing not counted
        self.first_byte_us = 0  # from the head to the first answer byte of what goes out in pieces

    # Reading.

    def take_body(self, limit: int, room: Room) -> bytes | None:
        """The whole body if it is here, else None: `rest_of_body` waits for it.

        It counts in `room` as it arrives and until `leave_room`. Raises Refusal when it is too large or finds no room
        (as soon as that is certain), malformed or too slow.
        """
        here_bytes = size_bytes = self.body_bytes
        if not self.body_complete:
            size_bytes = max(here_bytes, self.head.content_length)  # a chunked one states no length
        if size_bytes > limit:
            raise Refusal("body_too_large")
        if room.held_bytes + size_bytes > room.limit_bytes:  # those to come must fit too, as things are
            raise Refusal("body_capacity")
        room.held_bytes += here_bytes
        self._body_limit, self._room, self._counted_bytes = limit, room, here_bytes
        if self._broken:
            raise Refusal(self._broken)
        if not self.body_complete:
            return None
        parts, self._parts = self._parts, []
        return b"".join(parts)  # of one part: the very same object

    async def rest_of_body(self) -> bytes:
        """The whole body, once it has come. Raises Refusal as `take_body` does."""
        if self.head.expects_continue:
            self.connection.transport.write(_CONTINUE)
        self._waiter = Signal()
        await self._waiter
        if self._broken:
            raise Refusal(self._broken)
        parts, self._parts = self._parts, []
        return b"".join(parts)

    def leave_room(self) -> None:
        """The body is needed no more, however far it came: it counts no longer."""
        room, self._room = self._room, None
        if room is not None:
            room.held_bytes -= self._counted_bytes

    def discard_body(self) -> None:
        """Nobody will read the body: what comes of it is not kept."""
        self._discard = True
        self._parts.clear()

    def body_arrived(self, data: bytes) -> None:
        """Called by the connection with each piece of the body."""
        self.body_bytes += len(data)
        if self._discard:
            return
        if self._room is not None and not self._counts(self._room, len(data)):
            return
        if len(data) >= _SMALL_PART_BYTES:
            self._parts.append(data)
        elif self._parts and type(self._parts[-1]) is bytearray:
            self._parts[-1] += data  # an object for each of many small reads would take many times their bytes
        else:
            self._parts.append(bytearray(data) if self._parts else data)

    def _counts(self, room: Room, size_bytes: int) -> bool:
        """Count a piece that came while the pipeline waits for the body; False when it was one too many."""
        if self.body_bytes > self._body_limit:
            code = "body_too_large"
        elif not room.take(size_bytes):
            code = "body_capacity"
        else:
            self._counted_bytes += size_bytes
            return True
        self.discard_body()
        self.break_body(code)
        return False

    def break_body(self, code: str) -> None:
        """Called by the connection when the body can't be had: who waits for it gets the refusal."""
        self._broken = code
        self.body_ended()

    def body_ended(self) -> None:
        """Called by the connection after the last piece: who waits for it goes on."""
        if self._waiter is not None:
            self._waiter.fire()

    # Answering.

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """Send a whole answer in one write. `headers` are complete lines."""
        self.head_sent = True
        line = _STATUS_LINES.get(status) or _status_line(status)
        size = len(body)
        length = LENGTH_LINES[size] if size < SMALL_BYTES else b"Content-Length: %d\r\n\r\n" % size
        shown = b"" if self.head.method == b"HEAD" else body
        self._write(b"".join((line, headers, self._closing(), length, shown)))

    def start_sized(self, status: int, headers: bytes, length_bytes: int) -> None:
        """Begin an answer of known length; the body follows through `send` and `finish`."""
        self._start(status, headers, b"%bContent-Length: %d\r\n\r\n" % (self._closing(), length_bytes))

    def start_stream(self, status: int, headers: bytes, first: bytes) -> None:
        """Begin an answer of unknown length; `first` goes out with the head in one write."""
        self.response_bytes += len(first)
        if self.head.version == "1.0":  # the body ends with the connection
            self.head.keep_alive = False
            self._start(status, headers, b"Connection: close\r\n\r\n", first)
            return
        self._chunked = self.head.method != b"HEAD"
        framed = b"%x\r\n%b\r\n" % (len(first), first) if first else b""
        self._start(status, headers, b"%bTransfer-Encoding: chunked\r\n\r\n" % self._closing(), framed)

    def send(self, data: bytes) -> None:
        """Send a piece of the body."""
        size = len(data)
        self.response_bytes += size
        if self._chunked:
            if size < SMALL_BYTES:
                self._write(_SIZE_LINES[size] + data + b"\r\n")  # of so few bytes quicker than a join
            else:
                self._write(b"%x\r\n%b\r\n" % (size, data))
        elif self.head.method != b"HEAD":
            self._write(data)

    def send_chunk(self, chunk: bytes, size: int) -> None:
        """The same of a piece of so many bytes that its sender has framed as we would: it goes as it came."""
        if self._chunked:
            self.response_bytes += size
            self._write(chunk)
        else:
            self.send(chunk[-size - len(_CHUNK_END) : -len(_CHUNK_END)])

    def keep_alive(self, heard_at: Callable[[], float]) -> None:
        """From now on comments fill the stream's silence; `heard_at` is NEVER where one would stand in an event."""
        self.heard_at = heard_at
        self.connection.watch_silence()

    def fill_silence(self, now: float, keep_alive_s: float | None) -> float:
        """Send a comment if the upstream has said nothing for so long; when to look again."""
        heard_at = NEVER if self.heard_at is None else self.heard_at()
        if not keep_alive_s:  # switched off by a reload
            return NEVER
        if heard_at != NEVER:
            if now - heard_at < keep_alive_s:
                return heard_at + keep_alive_s
            self.send(KEEP_ALIVE)
        return now + keep_alive_s

    def finish(self, last: bytes = b"") -> None:
        """Send the last piece together with the end of the body."""
        if self.head.method == b"HEAD":
            return
        self.response_bytes += len(last)
        if self._chunked:
            last = b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last) if last else b"0\r\n\r\n"
        if last:
            self._write(last)

    def abort(self) -> None:
        """Break the connection so that the client sees an incomplete body."""
        transport = self.connection.transport
        if self.head.version == "1.0":
            # A body that ends with the connection looks whole after a FIN; only a reset tells the truth.
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()

    def cut(self, code: str) -> None:
        """End the answer from our side, with the refusal `code`."""
        if not self.cut_code:
            self.cut_code = code
            self.cancel()

    def divert(self, see: Callable[[bytes], bytes], connection: Connection) -> None:
        """Let `see` have each write of the answer first, and `connection` the word that it is over."""
        write = self._write
        self._write = lambda data: write(see(bytes(data)))
        self.connection = connection

    def close(self) -> None:
        """The pipeline is done with this request: the connection may read the next one."""
        self.connection.answered()

    @property
    def client_paused(self) -> bool:
        """Whether the client's write buffer is full right now."""
        return self.connection.write_paused

    def _closing(self) -> bytes:
        """What the head says when the connection can't carry another request after this answer."""
        head = self.head
        handler = self.connection.handler
        if not self.body_complete or handler.draining or handler.overload.stage:
            head.keep_alive = False  # an unread body must never be read as a request
        return b"" if head.keep_alive else b"Connection: close\r\n"

    def _start(self, status: int, headers: bytes, framing: bytes, first: bytes = b"") -> None:
        self.head_sent = True
        self.first_byte_us = (perf_counter_ns() - self.arrived_ns) // 1000
        line = _STATUS_LINES.get(status) or _status_line(status)
        self._write(b"".join((line, headers, framing, first)))


def _status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d Status\r\n" % status
