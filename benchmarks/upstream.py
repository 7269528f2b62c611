"""A fast pretend provider for benchmarks: `upstream.py PORT`. Constant answers, events as providers send them."""

import asyncio
import sys

import uvloop

EVENTS = 40
GAP_S = 0.05
_BODY = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"bench","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"' + b"x" * 400 + b'"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,'
    b'"completion_tokens":100,"total_tokens":110,"prompt_tokens_details":{"cached_tokens":0}}}'
)
_JSON = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nopenai-processing-ms: 5\r\nx-request-id: r\r\n"
    b"Content-Length: %d\r\n\r\n" % len(_BODY) + _BODY
)
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nx-request-id: r\r\n\r\n"


def _event(delta: bytes, usage: bytes) -> bytes:
    data = (
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"bench",'
        b'"service_tier":"default",'
        b'"system_fingerprint":"fp_0123456789","choices":[%b]%b,"obfuscation":"abcdefghij"}\n\n' % (delta, usage)
    )
    return b"%x\r\n%b\r\n" % (len(data), data)


_DELTA = b'{"index":0,"delta":{"content":" token and a little more"},"logprobs":null,"finish_reason":null}'
_PLAIN = _event(_DELTA, b"")
_NULL = _event(_DELTA, b',"usage":null')
_LAST = _event(b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}', b"")
_USAGE = _event(b"", b',"usage":{"prompt_tokens":10,"completion_tokens":40,"total_tokens":50}')
_DONE = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


class Provider(asyncio.Protocol):
    """Answers requests of one connection; counts nothing, checks nothing."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer + data
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            head = buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(buffer) < end + 4 + length:
                break
            body = buffer[end + 4 : end + 4 + length]
            buffer = buffer[end + 4 + length :]
            if b'"stream":true' in body:
                asyncio.get_running_loop().create_task(self.stream(b"include_usage" in body))
            else:
                self.transport.write(_JSON)
        self.buffer = buffer

    async def stream(self, with_usage: bool) -> None:
        self.transport.write(_STREAM)
        event = _NULL if with_usage else _PLAIN
        for _ in range(EVENTS - 1):
            await asyncio.sleep(GAP_S)
            if self.transport.is_closing():
                return
            self.transport.write(event)
        self.transport.write(_LAST + (_USAGE if with_usage else b"") + _DONE)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
