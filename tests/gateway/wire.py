"""Both ends of the relay as sockets in the test's own loop: `Client` sends any bytes, `LoopUpstream` answers with any.

One loop makes the order of things certain: when the upstream notes that bytes have come, nothing else ran meanwhile.
A script is a list of steps, or a function from the request to one:
  bytes            written as they are
  float            seconds to sleep
  asyncio.Event    waited for
  CLOSE RESET      FIN or RST
  HANG             nothing more until the peer closes
After the last step the connection is kept for another request.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from tests.fakes import KEY, PATIENCE_S, both_dialects, serving, until
from tests.upstreams.scripted import CLOSE, HANG, LAST_CHUNK, RESET, chunk, head, reply, sse_head

__all__ = ["CLOSE", "HANG", "LAST_CHUNK", "RESET", "chunk", "head", "reply", "sse_head"]

Step = Any  # bytes | float | asyncio.Event | str; lists of one of them have to fit too


class Request:
    """One request as the upstream got it."""

    def __init__(self, head_bytes: bytes, body: bytes, connection: int) -> None:
        self.head = head_bytes
        self.body = body
        self.connection = connection
        self.peer_closed = False
        lines = head_bytes.decode("latin-1").split("\r\n")
        self.line = lines[0]
        self.headers = [
            (name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:] if line)
        ]


Script = Sequence[Step] | Callable[[Request], Sequence[Step]]


class LoopUpstream:
    """A scripted, recording upstream. `script` answers every request, `queue` the next ones."""

    def __init__(self) -> None:
        self.script: Script = [reply(200, b"{}")]
        self.queue: deque[Script] = deque()
        self.requests: list[Request] = []
        self.raw = bytearray()  # everything received
        self.connections = 0  # ever accepted
        self.open: set[Any] = set()  # transports
        self.written_bytes = 0  # taken from the scripts and given to a transport whose buffer was not full
        self.on_bytes: Callable[[], None] = lambda: None
        self.port = 0

    @property
    def url(self) -> str:
        """Base URL without a path."""
        return f"http://127.0.0.1:{self.port}"

    async def wait(self, count: int = 1) -> Request:
        """The newest request once `count` have come."""
        await until(lambda: len(self.requests) >= count, f"the upstream got {len(self.requests)} requests, not {count}")
        return self.requests[-1]

    async def wait_closed(self, index: int = -1) -> None:
        """Wait until the gateway has closed the connection under a request."""
        await self.wait()
        await until(lambda: self.requests[index].peer_closed, "the upstream connection is still open")


class _Connection(asyncio.Protocol):
    def __init__(self, upstream: LoopUpstream) -> None:
        self._upstream = upstream
        self._buffer = bytearray()
        self._request: Request | None = None
        self._task: asyncio.Task[None] | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._upstream.open.add(self._transport)
        self._upstream.connections += 1
        self._number = self._upstream.connections

    def data_received(self, data: bytes) -> None:
        self._upstream.on_bytes()
        self._upstream.raw += data
        self._buffer += data
        self._next()

    def eof_received(self) -> None:
        if self._request is not None:
            self._request.peer_closed = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.open.discard(self._transport)
        self._may_write.set()
        self.eof_received()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def _next(self) -> None:
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end < 4 or (self._task is not None and not self._task.done()):
            return
        request = Request(bytes(self._buffer[:end]), b"", self._number)
        length = int(dict(request.headers).get("content-length", "0"))
        if len(self._buffer) < end + length:
            return
        request.body = bytes(self._buffer[end : end + length])
        del self._buffer[: end + length]
        upstream = self._upstream
        script = upstream.queue.popleft() if upstream.queue else upstream.script
        self._request = request
        upstream.requests.append(request)
        self._task = asyncio.ensure_future(self._play(script(request) if callable(script) else script))

    async def _play(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, bytes):
                await self._may_write.wait()
                if self._transport.is_closing():
                    return
                self._transport.write(step)
                self._upstream.written_bytes += len(step)
            elif isinstance(step, (int, float)):
                await asyncio.sleep(step)
            elif isinstance(step, asyncio.Event):
                await step.wait()
            elif step == HANG:
                await asyncio.Event().wait()
            else:
                _end(self._transport, step)
                return
        self._task = None
        self._next()


def _end(transport: Any, how: str) -> None:
    if how == RESET:
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
    else:
        transport.close()


@contextlib.asynccontextmanager
async def upstream_server(
    script: Script | None = None, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[LoopUpstream]:
    """A listening `LoopUpstream`."""
    upstream = LoopUpstream()
    if script is not None:
        upstream.script = script
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(upstream), "127.0.0.1", 0, ssl=tls)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        for transport in list(upstream.open):
            transport.abort()
        await server.wait_closed()
        await asyncio.sleep(0.01)


class Reply:
    """One response as it came over the wire."""

    def __init__(self, head_bytes: bytes) -> None:
        lines = head_bytes.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        self.head = head_bytes
        pairs = [line.partition(":") for line in lines[1:] if line]
        self.headers = {name.lower(): value.strip() for name, _, value in pairs}
        self.body = b""

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error code of an OpenAI error body."""
        return str(self.json()["error"]["code"])


class Client:
    """One TCP connection to the gateway; `received` holds what was read and not yet taken by `reply`."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.received = b""

    async def send(self, data: bytes) -> "Client":
        """Write bytes."""
        await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self.socket, data), PATIENCE_S)
        return self

    async def read(self, limit: int = 65536) -> bytes:
        """What one read brings; empty at the end, also when it is a reset."""
        try:
            return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.socket, limit), PATIENCE_S)
        except ConnectionResetError:
            return b""

    async def read_until(self, mark: bytes) -> bytes:
        """Everything received once `mark` is in it."""
        while mark not in self.received:
            data = await self.read()
            assert data, f"the connection ended before {mark!r}: {self.received[-300:]!r}"
            self.received += data
        return self.received

    async def read_all(self) -> bytes:
        """Everything until the gateway closes."""
        while data := await self.read():
            self.received += data
        return self.received

    async def reply(self, *, bodyless: bool = False) -> Reply:
        """The next response, taken out of `received`. `bodyless`: the request was a HEAD."""
        await self.read_until(b"\r\n\r\n")
        head_bytes, _, self.received = self.received.partition(b"\r\n\r\n")
        answer = Reply(head_bytes)
        if bodyless:
            return answer
        if answer.headers.get("transfer-encoding") == "chunked":
            while (size := int(await self._line(), 16)) > 0:
                answer.body += (await self._take(size + 2))[:-2]
            assert await self._line() == b""
        elif "content-length" in answer.headers:
            answer.body = await self._take(int(answer.headers["content-length"]))
        else:
            answer.body = await self.read_all()
            self.received = b""
        return answer

    async def _line(self) -> bytes:
        await self.read_until(b"\r\n")
        line, _, self.received = self.received.partition(b"\r\n")
        return line

    async def _take(self, count: int) -> bytes:
        parts = [self.received]
        missing = count - len(self.received)
        while missing > 0:
            data = await self.read()
            assert data, f"the connection ended {missing} bytes early"
            parts.append(data)
            missing -= len(data)
        whole = b"".join(parts)
        self.received = whole[count:]
        return whole[:count]

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Leave with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        """Leave."""
        self.socket.close()


@contextlib.asynccontextmanager
async def connected(port: int, *, receive_bytes: int = 0) -> AsyncIterator[Client]:
    """A client. `receive_bytes` makes its kernel buffer small, so that a gateway soon has to wait for it."""
    sock = socket.socket()
    sock.setblocking(False)
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client = Client(sock)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield client
    finally:
        client.close()


CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
BODY = b'{"model":"m","messages":[]}'
STREAM_BODY = b'{"model":"m","stream":true,"messages":[]}'


def post(
    body: bytes = BODY, *headers: str, path: str = CHAT, key: str = KEY, method: str = "POST",
    version: str = "1.1",
) -> bytes:  # fmt: skip
    """One well-formed request with a length."""
    lines = [
        f"{method} {path} HTTP/{version}",
        "Host: gateway.test",
        *([f"Authorization: Bearer {key}"] if key else []),
        f"Content-Length: {len(body)}",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


def get(path: str, *headers: str, key: str = KEY, method: str = "GET") -> bytes:
    """One well-formed request without a body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway.test", f"x-api-key: {key}", *headers, "", ""]
    return "\r\n".join(lines).encode()


async def ask(port: int, request: bytes) -> Reply:
    """One request on a connection of its own."""
    async with connected(port) as client:
        return await (await client.send(request)).reply()


def echo(request: Request) -> list[Step]:
    """An answer that says which request it belongs to."""
    return [reply(200, json.dumps({"n": json.loads(request.body)["n"]}).encode())]


def numbered(n: int) -> bytes:
    """A chat request that `echo` can tell from others."""
    return post(b'{"model":"m","n":%d}' % n)


async def answered(script: Script, request: bytes | None = None) -> tuple[Reply, int]:
    """The client's answer to one request, and how many connections two more requests made upstream."""
    async with (
        upstream_server(script) as up,
        serving(both_dialects(up.url, idle_s=1, first_byte_s=1)) as gateway,
        connected(gateway.port) as client,
    ):
        answer = await (await client.send(request or post())).reply()
        assert answer.headers["x-request-id"] == (await gateway.outcome()).request_id
        up.script = [reply(200, b'{"after":1}')]
        for _ in range(2):
            after = await (await client.send(post())).reply()
            assert (after.status, after.json()) == (200, {"after": 1}), "the next request suffered"
        return answer, up.connections
