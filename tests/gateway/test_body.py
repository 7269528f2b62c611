"""Request bodies in any framing: whole, in pieces, with trailers, too large, too slow; and `Expect: 100-continue`."""

import asyncio
import json

import pytest

from luntrex_proxy.core.outcome import Ending
from tests.fakes import KEY, both_dialects, serving
from tests.gateway.wire import (
    BODY,
    LAST_CHUNK,
    ask,
    chunk,
    connected,
    echo,
    get,
    numbered,
    post,
    upstream_server,
)

CHUNKED_HEAD = post(b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
BAD_CHUNKS = {
    "not hex": b"xyz\r\n", "minus": b"-1\r\n", "0x": b"0x5\r\nhello\r\n", "space first": b" 5\r\nhello\r\n",
    "plus": b"+5\r\nhello\r\n", "underscore": b"1_0\r\n", "empty": b"\r\n", "overflow": b"F" * 17 + b"\r\n",
    "overflow by zeros": b"1" + b"0" * 16 + b"\r\n",
    "LF": b"5\nhello\n", "CR": b"5\rhello\r", "no end": b"5\r\nhelloX\r\n",
    "LF after data": b"5\r\nhello\n0\r\n\r\n", "NUL": b"5\0\r\nhello\r\n", "LF in extension": b"5;a\nb\r\nhello\r\n",
    "CR in extension": b"5;a\rb\r\nhello\r\n", "NUL in extension": b"5;a\0b\r\nhello\r\n",
    "space after": b"5 \r\nhello\r\n",
    "comma": b"5,5\r\nhello\r\n", "huge extension": b"5;" + b"e" * 100_000 + b"\r\nhello\r\n",
}  # fmt: skip
TRAILERS = (f"Authorization: Bearer {KEY}\r\n", "Content-Encoding: gzip\r\nx-api-key: a\r\nX-Sum: 1\r\nHost: b\r\n")
FRAMING_TRAILERS = (
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "X\0: a\r\n",
    " folded\r\n",
    "X: a\nY: b\r\n",
)


def chunked(body: bytes, size: int = 5) -> bytes:
    """A chunked chat request."""
    pieces = b"".join(chunk(body[at : at + size]) for at in range(0, len(body), size))
    return CHUNKED_HEAD + pieces + LAST_CHUNK


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_a_chunked_body_arrives_whole(size: int) -> None:
    """A chunked request goes upstream framed by its length; the next request on the connection works."""
    body = json.dumps({"model": "m", "n": 1, "text": "ü" * 3000}).encode()
    async with (
        upstream_server(echo) as upstream,
        serving(both_dialects(upstream.url)) as gateway,
        connected(gateway.port) as client,
    ):
        assert (await (await client.send(chunked(body, size))).reply()).status == 200
        assert upstream.requests[0].body == body
        assert ("content-length", str(len(body))) in upstream.requests[0].headers
        assert (await (await client.send(numbered(2))).reply()).json() == {"n": 2}


@pytest.mark.parametrize("data", [chunked(b'{"model":"m","n":3}'), numbered(3)], ids=["chunked", "length"])
async def test_a_request_may_come_byte_by_byte(data: bytes) -> None:
    """Where reads are cut changes nothing."""
    async with (
        upstream_server(echo) as upstream,
        serving(both_dialects(upstream.url)) as gateway,
        connected(gateway.port) as client,
    ):
        for at in range(len(data)):
            await client.send(data[at : at + 1])
            await asyncio.sleep(0)
        assert (await client.reply()).json() == {"n": 3}


@pytest.mark.parametrize("bad", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
async def test_bad_chunks_are_refused(bad: bytes) -> None:
    """A chunk that two readers could cut in two ways ends the connection with 400, and nothing goes upstream."""
    async with upstream_server() as upstream, serving(both_dialects(upstream.url)) as gateway:
        async with connected(gateway.port) as client:
            await client.send(CHUNKED_HEAD + bad + LAST_CHUNK + numbered(9))
            answer = await client.reply()
            assert (answer.status, answer.code) == (400, "invalid_http")
            assert await client.read_all() == b""
        assert bytes(upstream.raw) == b""
        assert (await gateway.outcome()).code == "invalid_http"


@pytest.mark.parametrize("trailer", TRAILERS)
async def test_trailers_decide_nothing(trailer: str) -> None:
    """Trailers are discarded: they neither authenticate nor go upstream nor change the framing."""
    body = b'{"model":"m","n":1}'
    data = CHUNKED_HEAD + chunk(body) + b"0\r\n" + trailer.encode() + b"\r\n"
    anonymous = data.replace(f"Authorization: Bearer {KEY}\r\n".encode(), b"", 1)
    async with upstream_server(echo) as upstream, serving(both_dialects(upstream.url)) as gateway:
        async with connected(gateway.port) as client:
            assert (await (await client.send(data)).reply()).status == 200
            assert (await (await client.send(numbered(2))).reply()).json() == {"n": 2}
        assert (await ask(gateway.port, anonymous)).status == 401
        assert len(upstream.requests) == 2
        assert b"x-sum" not in bytes(upstream.raw).lower()


@pytest.mark.parametrize("trailer", FRAMING_TRAILERS)
async def test_trailers_never_frame(trailer: str) -> None:
    """A trailer that speaks of framing, or is none, is dropped or ends the connection; no request comes of it."""
    data = CHUNKED_HEAD + chunk(b'{"model":"m","n":1}') + b"0\r\n" + trailer.encode() + b"\r\n" + numbered(2)
    async with (
        upstream_server(echo) as upstream,
        serving(both_dialects(upstream.url)) as gateway,
        connected(gateway.port) as client,
    ):
        answer = await (await client.send(data)).reply()
        assert answer.status in (200, 400)
        if answer.headers.get("connection") == "close":
            assert await client.read_all() == b""
            assert len(upstream.requests) == (answer.status == 200)
        else:
            assert (await client.reply()).json() == {"n": 2}


async def test_endless_trailers_are_refused() -> None:
    """What follows the last chunk is bounded like a head; it must not be gathered for ever."""
    async with upstream_server() as upstream, serving(both_dialects(upstream.url)) as gateway:
        async with connected(gateway.port) as client:
            await client.send(CHUNKED_HEAD + chunk(BODY) + b"0\r\nX-Endless: ")
            with pytest.raises(OSError):  # noqa: PT012 -- the end may meet any of the writes
                for _ in range(300):  # 19 MB
                    await client.send(b"x" * 65536)
                pytest.fail("all of it was taken")
        assert upstream.requests == []


async def test_bytes_after_a_chunked_body_never_leak_into_it() -> None:
    """A request pipelined behind a chunked body is answered after it, or the connection closes; nothing else."""
    first, second = b'{"model":"m","n":1}', numbered(2)
    async with upstream_server(echo) as upstream, serving(both_dialects(upstream.url)) as gateway:
        async with connected(gateway.port) as client:
            await client.send(chunked(first) + second)
            answer = await client.reply()
            assert answer.json() == {"n": 1}
            rest = await client.read_all() if answer.headers.get("connection") == "close" else None
            if rest is None:
                assert (await client.reply()).json() == {"n": 2}
            else:
                assert rest == b""
        assert upstream.requests[0].body == first


async def test_continue_is_said_only_to_a_good_key() -> None:
    """`Expect: 100-continue` is answered after authentication; a wrong key gets its 401 without sending the body."""
    ask_first = post(BODY, "Expect: 100-continue")[: -len(BODY)]
    async with upstream_server() as upstream, serving(both_dialects(upstream.url)) as gateway:
        async with connected(gateway.port) as client:
            await client.send(ask_first)
            assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.received = b""
            assert (await (await client.send(BODY)).reply()).status == 200
        async with connected(gateway.port) as client:
            await client.send(ask_first.replace(KEY.encode(), b"lx_wrong"))
            assert (await client.reply()).status == 401
            assert await client.read_all() == b""
        assert len(upstream.requests) == 1


async def test_continue_is_not_said_to_a_body_that_is_too_large_or_there() -> None:
    """A length above the limit is refused at once; a body that came with its head needs no permission."""
    big = post(b"", "Expect: 100-continue").replace(b"Content-Length: 0", b"Content-Length: 5000")
    async with (
        upstream_server() as upstream,
        serving(both_dialects(upstream.url), limits={"body_bytes": 1000}) as gateway,
    ):
        assert (await ask(gateway.port, big)).status == 413
        assert (await ask(gateway.port, post(BODY, "Expect: 100-continue"))).status == 200
        assert (await ask(gateway.port, get("/v1/models", "Expect: 100-continue"))).status == 200


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_client_that_is_still_sending_gets_its_413(framing: str) -> None:
    """A body over the limit is refused as soon as that is certain, and the answer survives what is still coming."""
    body = b"x" * 3_000_000
    data = post(body) if framing == "length" else chunked(body, 60_000)
    async with (
        upstream_server() as upstream,
        serving(both_dialects(upstream.url), limits={"body_bytes": 100_000}) as gateway,
    ):
        async with connected(gateway.port) as client:
            sending = asyncio.ensure_future(client.send(data))
            answer = await client.reply()
            assert (answer.status, answer.code, answer.headers["connection"]) == (413, "body_too_large", "close")
            await sending
            client.half_close()
            assert await client.read_all() == b""
        assert upstream.connections == 0
        assert (await gateway.outcome()).request_bytes == 0
        await gateway.idle()


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_body_has_to_arrive_in_time(framing: str) -> None:
    """Silence inside a body is answered with 408 and the end."""
    data = post()[:-5] if framing == "length" else chunked(BODY)[:-20]
    async with upstream_server() as upstream, serving(both_dialects(upstream.url), timeouts={"body_idle_s": 0.2}) as g:
        async with connected(g.port) as client:
            answer = await (await client.send(data)).reply()
            assert (answer.status, answer.code) == (408, "request_timeout")
            assert await client.read_all() == b""
        assert upstream.connections == 0
        outcome = await g.outcome()
        assert (outcome.code, outcome.ending, outcome.account_id) == ("request_timeout", Ending.REFUSED, 7)


async def test_a_body_on_get_is_never_read_as_a_request() -> None:
    """A GET with a body is answered and the connection closed: the body can't become the next request."""
    hidden = post(b'{"model":"m","hidden":1}')
    async with upstream_server() as upstream, serving(both_dialects(upstream.url)) as gateway:
        for path in ("/v1/models", "/livez", "/nowhere"):
            async with connected(gateway.port) as client:
                await client.send(get(path, f"Content-Length: {len(hidden) + 5}") + hidden)
                assert (await client.reply()).headers["connection"] == "close"
                assert await client.read_all() == b""
        assert upstream.connections == 0
