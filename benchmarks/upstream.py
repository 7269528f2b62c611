"""A fast pretend provider: `upstream.py PORT [ADDRESSES] [CERTIFICATE KEY]`. Sends what providers send, checks nothing.

A request steers its answer with two fields that every gateway passes on: `max_tokens` is the number of events of a
stream, `seed` the microseconds between them (0: as fast as they are taken). Each event carries the CLOCK_MONOTONIC time
of its sending in `obfuscation` (20 digits), so a client on the same machine knows how long it was on its way.
"""

import asyncio
import re
import ssl
import sys
import time
from collections.abc import Callable

import uvloop

DEFAULT_EVENTS = 40
DEFAULT_GAP_S = 0.05
_BURST = 16
_WHOLE_BYTES = 8192
_EDGE_BYTES = 2048
# Some gateways send max_tokens on as max_completion_tokens.
_PLAN = re.compile(rb'"(stream|seed|include_usage|max_(?:completion_)?tokens)"\s*:\s*(true|\d+)')
REPLY = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"bench","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"' + b"x" * 400 + b'"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,'
    b'"completion_tokens":100,"total_tokens":110,"prompt_tokens_details":{"cached_tokens":0}}}'
)
_REPLY_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nopenai-processing-ms: 5\r\nx-request-id: r\r\n"
_REPLY = _REPLY_HEAD + b"Content-Length: %d\r\n\r\n" % len(REPLY) + REPLY
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n"
    b"x-request-id: r\r\n\r\n"
)
# Real tokens are of many lengths: whole events of 250 to 400 bytes.
_TEXTS = (b" a", b" token", b" and a little more of it", b" " + b"word " * 15, b" " + b"many words " * 9)
_STAMP = b"%020d"


def _event(choices: bytes, usage: bytes) -> bytes:
    return (
        b'data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1,"model":"bench",'
        b'"service_tier":"default","system_fingerprint":"fp_0123456789","choices":[%b]%b,"obfuscation":"@"}\n\n'
        % (choices, usage)
    )


def _delta(text: bytes) -> bytes:
    return b'{"index":0,"delta":{"content":"' + text + b'"},"logprobs":null,"finish_reason":null}'


_FINISH = b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}'
_NULL = b',"usage":null'
_USAGE = b',"usage":{"prompt_tokens":10,"completion_tokens":40,"total_tokens":50}'
_DONE = b"data: [DONE]\n\n"


def event_templates(*, with_usage: bool) -> tuple[bytes, ...]:
    """The events that a stream repeats in turn, with `@` where the time of sending stands."""
    return tuple(_event(_delta(text), _NULL if with_usage else b"") for text in _TEXTS)


def end_templates(*, with_usage: bool) -> tuple[bytes, ...]:
    """The events that end a stream."""
    finish = _event(_FINISH, _NULL if with_usage else b"")
    return (finish, _event(b"", _USAGE), _DONE) if with_usage else (finish, _DONE)


def _chunked(event: bytes) -> bytes:
    """An event framed as a chunk, with the stamp's format in place of its mark."""
    event = event.replace(b"%", b"%%").replace(b"@", _STAMP)
    length = len(event) + (20 - len(_STAMP)) * event.count(_STAMP)
    return b"%x\r\n%b\r\n" % (length, event)


_EVENTS = {usage: tuple(map(_chunked, event_templates(with_usage=usage))) for usage in (False, True)}
_ENDS = {
    usage: b"".join(map(_chunked, end_templates(with_usage=usage))).replace(_STAMP, b"0" * 20) + b"0\r\n\r\n"
    for usage in (False, True)
}


class Provider(asyncio.Protocol):
    """Answers the requests of one connection in order."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # servers get a full transport
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._wanted = 1
        self._writable = True
        self._resume: Callable[[], None] | None = None

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._resume is not None:
            resume, self._resume = self._resume, None
            resume()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= self._wanted:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(buffer[:end]).lower()
            self._wanted = size = end + 4 + _content_length(head)
            if len(buffer) < size:
                return
            body = bytes(buffer[end + 4 : size])
            del buffer[:size]
            self._wanted = 1
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        if b'"stream"' not in body:
            self._transport.write(_REPLY)
            return
        # A prompt of megabytes is not searched: no gateway moves these fields into the middle of it.
        plan = body if len(body) <= _WHOLE_BYTES else body[:_EDGE_BYTES] + body[-_EDGE_BYTES:]
        fields = dict(_PLAN.findall(plan))
        if fields.get(b"stream") != b"true":
            self._transport.write(_REPLY)
            return
        count = int(fields.get(b"max_tokens") or fields.get(b"max_completion_tokens") or DEFAULT_EVENTS)
        gap_s = int(fields[b"seed"]) / 1e6 if b"seed" in fields else DEFAULT_GAP_S
        self._transport.write(_STREAM_HEAD)
        with_usage = b"include_usage" in fields
        if gap_s:
            self._pace(with_usage, count, gap_s, self._loop.time() + gap_s, 0)
        else:
            self._burst(with_usage, count, 0)

    def _pace(self, with_usage: bool, count: int, gap_s: float, due_s: float, number: int) -> None:
        """Send event `number` at its time. Times are counted from the start, so a late event delays no other."""
        if self._transport.is_closing():
            return
        if number:
            self._send(with_usage, number)
        if number == count:
            self._transport.write(_ENDS[with_usage])
            return
        self._loop.call_at(due_s, self._pace, with_usage, count, gap_s, due_s + gap_s, number + 1)

    def _burst(self, with_usage: bool, count: int, number: int) -> None:
        """Send events as fast as they are taken, each in a write of its own, as a provider's server would."""
        for _ in range(_BURST):
            if self._transport.is_closing():
                return
            if number == count:
                self._transport.write(_ENDS[with_usage])
                return
            number += 1
            self._send(with_usage, number)
        if self._writable:
            self._loop.call_soon(self._burst, with_usage, count, number)
        else:
            self._resume = lambda: self._burst(with_usage, count, number)

    def _send(self, with_usage: bool, number: int) -> None:
        events = _EVENTS[with_usage]
        self._transport.write(events[number % len(events)] % time.monotonic_ns())


def _content_length(head: bytes) -> int:
    at = head.find(b"\ncontent-length:")
    return int(head[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


async def serve(port: int, addresses: int, tls: ssl.SSLContext | None) -> None:
    """Listen on `port` of the first loopback addresses: 127.0.0.1, 127.0.0.2, ..."""
    hosts = [f"127.0.0.{number + 1}" for number in range(addresses)]
    server = await asyncio.get_running_loop().create_server(Provider, hosts, port, backlog=16384, ssl=tls)
    await server.serve_forever()


def main() -> None:
    """Read the arguments and serve until ended."""
    tls = None
    if len(sys.argv) > 4:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(sys.argv[3], sys.argv[4])
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1, tls))


if __name__ == "__main__":
    main()
