"""An upstream that fails, each time in the way that the model's name asks for, and says things while it does.

For `privacy-check`: failures are where programs write down what they should not.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable
from typing import Final

FAILURES: Final = (
    "status-400", "status-401", "status-429", "status-500", "html-503", "error-in-200", "no-http", "bad-length",
    "cut-json", "cut-stream", "error-event", "closed", "silence",
)  # fmt: skip
_MODEL: Final = re.compile(rb'"model": ?"([a-z0-9-]+)"')
_LIMIT: Final = 1 << 20


class Misbehaving:
    """Its `url` is the base URL of both dialects. `word` makes what it says."""

    def __init__(self, word: Callable[[str], str]) -> None:
        self._word = word
        self._server: asyncio.Server | None = None
        self.url = ""

    async def start(self) -> None:
        """Listen on a loopback port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_LIMIT)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def stop(self) -> None:
        """Close the listener."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
            model = _MODEL.search(body)
            failure = model[1].decode() if model else "closed"
            if failure == "silence":
                await reader.read()  # until the other side has had enough
            writer.write(self._answer(failure))
            await writer.drain()
        writer.close()

    def _answer(self, failure: str) -> bytes:
        """`closed` and everything unknown: nothing, and the connection ends."""
        word = self._word("upstream" + failure.replace("-", ""))
        error = f'{{"type":"error","error":{{"message":"{word}","type":"{word}","code":"{word}"}}}}'
        event = f'data: {{"choices":[{{"index":0,"delta":{{"content":"{word}"}}}}]}}\n\n'
        stream = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Request-Id: {word}\r\n\r\n"
        json = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
        if failure.startswith("status-"):
            return _whole(f"{failure.removeprefix('status-')} {word}", error, word)
        answers = {
            "html-503": _whole("503 Busy", f"<html>{word}</html>", word, "text/html"),
            "error-in-200": _whole("200 OK", error, word),
            "no-http": f"{word}\r\n\r\n".encode(),
            "bad-length": f"{json}{word}\r\n\r\n".encode(),
            "cut-json": f'{json}9000\r\n\r\n{{"id":"{word}'.encode(),
            "cut-stream": f"{stream}{event}data: {{{word}".encode(),
            "error-event": f"{stream}{event}data: {error}\n\n".encode(),
        }
        return answers.get(failure, b"")


def _whole(status: str, body: str, word: str, content_type: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nRetry-After: {word}\r\nX-Request-Id: {word}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
