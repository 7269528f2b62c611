"""A raw TCP server that keeps exactly the bytes it got and answers from a script, however wrong the script is.

A script is a list of steps, or a function from the `Exchange` to one:
  bytes               written as they are
  float               seconds to sleep
  threading.Event     waited for
  CLOSE               FIN after what was written (the connection ends here)
  RESET               RST, whatever was written
  HANG                nothing more until the peer closes
After the last step the connection is kept for another request.
"""

import asyncio
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.upstreams.loop_thread import LoopThread

CLOSE, RESET, HANG = "close", "reset", "hang"
Step = bytes | float | threading.Event | str


@dataclass
class Exchange:
    """One request as it came: the head and the body as bytes, and when the peer closed the connection under it."""

    head: bytes
    body: bytes
    connection: int
    received_at: float
    finished: threading.Event = field(default_factory=threading.Event)  # the script ran to its end
    closed: threading.Event = field(default_factory=threading.Event)  # the peer closed or reset the connection
    closed_at: float = 0.0  # time.monotonic()

    @property
    def method(self) -> str:
        """The method of the request line."""
        return self.head.split(b" ", 1)[0].decode("latin-1")

    @property
    def path(self) -> str:
        """The target of the request line, as it was sent."""
        return self.head.split(b" ", 2)[1].decode("latin-1")

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Header fields in order, names in lower case."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(":") for line in lines if line)
        return [(name.lower(), value.strip()) for name, _, value in pairs]

    def header(self, name: str) -> str | None:
        """The value of one header field, None when there is none."""
        return dict(self.headers).get(name.lower())


Script = Sequence[Step] | Callable[[Exchange], Sequence[Step]]


class ScriptedUpstream:
    """The server. Set `script` for every request, or `queue` scripts for the next ones; read `exchanges`."""

    def __init__(self, thread: LoopThread, tls: ssl.SSLContext | None = None) -> None:
        self.script: Script = [reply(200, b"{}")]
        self.exchanges: list[Exchange] = []
        self.connections = 0  # ever accepted
        self.open_connections = 0
        self.raw = bytearray()  # everything received, whether it was a request or not
        self._queue: deque[Script] = deque()
        self._arrived = threading.Condition()
        self._thread = thread
        self._tls = tls
        self._transports: set[asyncio.Transport] = set()
        self._server: asyncio.Server
        self.port = 0
        thread.run(self._start())

    @property
    def url(self) -> str:
        """Base URL without a path."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def queue(self, *scripts: Script) -> None:
        """Scripts for the next requests, one each; then `script` holds again."""
        self._queue.extend(scripts)

    def forget(self) -> None:
        """Drop what was recorded and queued, before another test."""
        with self._arrived:
            self.exchanges = []
            self.raw = bytearray()
            self._queue.clear()

    def wait(self, count: int = 1, timeout_seconds: float = 10) -> Exchange:
        """The newest exchange once at least `count` requests have come whole."""
        with self._arrived:
            enough = self._arrived.wait_for(lambda: len(self.exchanges) >= count, timeout_seconds)
            assert enough, f"the upstream got {len(self.exchanges)} requests, not {count}"
            return self.exchanges[-1]

    def stop(self) -> None:
        """Stop listening and close every connection."""
        self._thread.run(self._stop())

    def refuse(self) -> None:
        """Stop listening, so that a new connection is refused; `listen_again` undoes it."""
        self._thread.run(self._stop())

    def listen_again(self) -> None:
        """Listen on the same port again."""
        self._thread.run(self._start())

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        for transport in list(self._transports):
            transport.abort()
        await self._server.wait_closed()

    def _take_script(self, exchange: Exchange) -> Sequence[Step]:
        script = self._queue.popleft() if self._queue else self.script
        return script(exchange) if callable(script) else script

    def _record(self, exchange: Exchange) -> None:
        with self._arrived:
            self.exchanges.append(exchange)
            self._arrived.notify_all()


class _Connection(asyncio.Protocol):
    def __init__(self, upstream: ScriptedUpstream) -> None:
        self._upstream = upstream
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._exchange: Exchange | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._upstream._transports.add(transport)
        self._upstream.connections += 1
        self._upstream.open_connections += 1
        self._number = self._upstream.connections

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._upstream.raw += data
        self._next()

    def eof_received(self) -> bool:
        self._peer_closed()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._peer_closed()
        self._upstream._transports.discard(self._transport)
        self._upstream.open_connections -= 1
        if self._task:
            self._task.cancel()

    def _peer_closed(self) -> None:
        if self._exchange and not self._exchange.closed.is_set():
            self._exchange.closed_at = time.monotonic()
            self._exchange.closed.set()

    def _next(self) -> None:
        if self._task and not self._task.done():
            return
        taken = _take_request(self._buffer)
        if taken:
            self._exchange = Exchange(*taken, self._number, time.monotonic())
            steps = self._upstream._take_script(self._exchange)
            self._upstream._record(self._exchange)
            self._task = asyncio.get_running_loop().create_task(self._play(self._exchange, steps))

    async def _play(self, exchange: Exchange, steps: Sequence[Step]) -> None:
        for step in steps:
            if self._transport.is_closing():
                return
            if isinstance(step, bytes):
                self._transport.write(step)
            elif isinstance(step, (float, int)):
                await asyncio.sleep(step)
            elif isinstance(step, threading.Event):
                while not step.is_set():
                    await asyncio.sleep(0.002)
            elif step == HANG:
                await asyncio.Event().wait()
            else:
                exchange.finished.set()
                self._end(step)
                return
        exchange.finished.set()
        self._task = None
        self._next()

    def _end(self, how: str) -> None:
        if how == RESET:
            linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._transport.abort()
        else:
            self._transport.close()


def _take_request(buffer: bytearray) -> tuple[bytes, bytes] | None:
    """Remove one whole request from the buffer: (head with its blank line, body with the framing taken off)."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(buffer[: end + 4])
    fields = dict(line.partition(b":")[::2] for line in head.lower().split(b"\r\n")[1:] if line)
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        taken = _dechunk(buffer, end + 4)
        if taken is None:
            return None
        body, stop = taken
    else:
        stop = end + 4 + int(fields.get(b"content-length", b"0"))
        if len(buffer) < stop:
            return None
        body = bytes(buffer[end + 4 : stop])
    del buffer[:stop]
    return head, body


def _dechunk(buffer: bytearray, start: int) -> tuple[bytes, int] | None:
    body = b""
    while True:
        line_end = buffer.find(b"\r\n", start)
        if line_end < 0:
            return None
        size = int(bytes(buffer[start:line_end]).split(b";")[0], 16)
        start = line_end + 2 + size + 2
        if len(buffer) < start:
            return None
        if size == 0:
            return body, start
        body += bytes(buffer[line_end + 2 : line_end + 2 + size])


def head(status: int = 200, *fields: str, reason: str = "Answer") -> bytes:
    """A response head with exactly these header fields."""
    return "\r\n".join([f"HTTP/1.1 {status} {reason}", *fields, "", ""]).encode("latin-1")


def reply(status: int, body: bytes, *fields: str, content_type: str = "application/json") -> bytes:
    """A whole response with a Content-Length."""
    return head(status, f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *fields) + body


def sse_head(*fields: str, chunked: bool = True) -> bytes:
    """The head of an event stream, chunked or ended by the close."""
    framing = ("Transfer-Encoding: chunked",) if chunked else ("Connection: close",)
    return head(200, "Content-Type: text/event-stream", *framing, *fields)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def split_everywhere(data: bytes, size: int = 1) -> list[Any]:
    """The same bytes in small writes, to find out what depends on where reads are cut."""
    return [data[at : at + size] for at in range(0, len(data), size)]
