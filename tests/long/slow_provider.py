"""A provider in a process of its own, so that neither side runs out of files: it answers each request after a while."""

import asyncio
import contextlib
import json
import resource
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from multiprocessing.sharedctypes import Synchronized

ANSWERS_AFTER_S = 8.0


class _Answering(asyncio.Protocol):
    def __init__(self, tokens: "Synchronized[int]") -> None:
        self._tokens = tokens
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        size = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        if len(body) < size:
            return
        self._received = body[size:]
        asyncio.get_running_loop().call_later(ANSWERS_AFTER_S, self._answer)

    def _answer(self) -> None:
        tokens = self._tokens.value
        usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1 + tokens}
        body = json.dumps({"object": "chat.completion", "choices": [], "usage": usage}).encode()
        if not self._transport.is_closing():
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            self._transport.write(head + body)


def _serve(told: Connection, tokens: "Synchronized[int]") -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Answering(tokens), "127.0.0.1", backlog=4_096)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


@contextlib.contextmanager
def provider(context: SpawnContext) -> Iterator[tuple[int, "Synchronized[int]"]]:
    """Its port, and how many tokens each answer has from now on."""
    tokens = context.Value("i", 0)
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, tokens), daemon=True)
    process.start()
    try:
        yield here.recv(), tokens
    finally:
        process.terminate()
        process.join(10)
