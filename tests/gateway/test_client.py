"""The client's side: keep-alive, pipelining, bodies in any framing, Expect, HEAD, HTTP/1.0 and how connections end."""

import asyncio
import json

import pytest

from luntrex_proxy.core.outcome import Ending
from tests.fakes import KEY, both_dialects, entry, serving, until
from tests.gateway.wire import (
    BODY,
    HANG,
    LAST_CHUNK,
    STREAM_BODY,
    Request,
    Step,
    ask,
    chunk,
    connected,
    get,
    post,
    reply,
    sse_head,
    upstream_server,
)
from tests.upstreams.bodies import DONE, chat_delta, chat_events, stream

CHUNKED_HEAD = post(b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")


def chunked(body: bytes, size: int = 5) -> bytes:
    """A chunked chat request."""
    pieces = b"".join(chunk(body[at : at + size]) for at in range(0, len(body), size))
    return CHUNKED_HEAD + pieces + LAST_CHUNK


def echo(request: Request) -> list[Step]:
    """An answer that says which request it belongs to."""
    return [reply(200, json.dumps({"n": json.loads(request.body)["n"]}).encode())]


def numbered(n: int) -> bytes:
    """A chat request that `echo` can tell from others."""
    return post(b'{"model":"m","n":%d}' % n)


async def test_a_connection_carries_many_requests() -> None:
    """Keep-alive: requests follow each other on one connection, on our side and upstream."""
    async with upstream_server(echo) as upstream, serving(both_dialects(upstream.url)) as gateway:
        async with connected(gateway.port) as client:
            for n in range(5):
                answer = await (await client.send(numbered(n))).reply()
                assert (answer.status, answer.json()) == (200, {"n": n})
                assert "connection" not in answer.headers
        assert upstream.connections == 1
        assert len({outcome.request_id for outcome in gateway.outcomes}) == 5


@pytest.mark.parametrize("count", [2, 40])
async def test_pipelined_requests_are_answered_in_order(count: int) -> None:
    """Requests sent ahead wait for their turn: one at a time upstream, answers in the order of the requests."""
    async with upstream_server(echo) as upstream, serving(both_dialects(upstream.url)) as gateway:
        async with connected(gateway.port) as client:
            await client.send(b"".join(numbered(n) for n in range(count)))
            assert [(await client.reply()).json()["n"] for _ in range(count)] == list(range(count))
        assert [json.loads(request.body)["n"] for request in upstream.requests] == list(range(count))


async def test_pipelined_requests_of_different_kinds() -> None:
    """A refused request with a whole body, a stream and a model list keep their places in the queue."""
    script = lambda request: stream(chat_events(1)) if b'"stream":true' in request.body else echo(request)  # noqa: E731 -- two answers in one place
    async with upstream_server(script) as upstream, serving(both_dialects(upstream.url)) as gateway:
        async with connected(gateway.port) as client:
            await client.send(post(b"[]") + numbered(1) + post(STREAM_BODY) + get("/v1/models") + numbered(2))
            answers = [await client.reply() for _ in range(5)]
        assert [answer.status for answer in answers] == [400, 200, 200, 200, 200]
        assert answers[1].json() == {"n": 1}
        assert answers[2].body.endswith(DONE)
        assert answers[4].json() == {"n": 2}


async def test_junk_after_a_good_request_is_refused_after_its_answer() -> None:
    """Pipelined junk does not harm the request before it; then comes one 400 and the end."""
    async with upstream_server(echo) as upstream, serving(both_dialects(upstream.url)) as gateway:
        async with connected(gateway.port) as client:
            await client.send(numbered(1) + b"\0junk CANARY\r\n\r\n")
            assert (await client.reply()).json() == {"n": 1}
            refused = await client.reply()
            assert (refused.status, refused.code) == (400, "invalid_http")
            assert await client.read_all() == b""
            assert b"CANARY" not in refused.head + refused.body
        assert len(upstream.requests) == 1


async def test_too_much_sent_ahead_ends_the_connection() -> None:
    """Bytes kept behind a pending answer are bounded."""
    async with upstream_server([HANG]) as upstream, serving(both_dialects(upstream.url)) as gateway:
        async with connected(gateway.port) as client:
            await client.send(numbered(1))
            await upstream.wait()
            with pytest.raises(OSError):  # noqa: PT012 -- the reset may meet any of the writes
                for _ in range(100):
                    await client.send(b"x" * 65536)
        await upstream.wait_closed()
        assert (await gateway.outcome()).ending is Ending.CLIENT_GONE


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


TRAILERS = (f"Authorization: Bearer {KEY}\r\n", "Content-Encoding: gzip\r\nx-api-key: a\r\nX-Sum: 1\r\nHost: b\r\n")
FRAMING_TRAILERS = (
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "X\0: a\r\n",
    " folded\r\n",
    "X: a\nY: b\r\n",
)


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
    """A trailer that speaks of framing, or is none, is dropped or ends the connection; no second request comes of it."""
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


async def test_a_refused_client_that_never_stops_sending_is_cut() -> None:
    """The linger after a refusal ends, whatever the client does."""
    async with (
        upstream_server() as upstream,
        serving(both_dialects(upstream.url)) as gateway,
        connected(gateway.port) as client,
    ):
        await client.send(post(b"x", key="lx_wrong").replace(b"Content-Length: 1", b"Content-Length: 99999999"))
        assert (await client.reply()).status == 401
        with pytest.raises(OSError):  # noqa: PT012 -- the reset may meet any of the writes
            for _ in range(400):
                await client.send(b"x" * 1000)
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat", post()[:-30]], ids=["nothing", "half a line", "half a head"])
async def test_a_head_has_to_arrive_in_time(sent: bytes) -> None:
    """A head that does not end by its deadline closes the connection, with 408 when one was begun."""
    async with (
        upstream_server() as upstream,
        serving(both_dialects(upstream.url), timeouts={"header_s": 0.2}) as gateway,
        connected(gateway.port) as client,
    ):
        await client.send(sent)
        received = await client.read_all()
        assert received.startswith(b"HTTP/1.1 408 ") if sent else received == b"" or b" 408 " in received
        await gateway.idle()


async def test_dribbling_a_head_does_not_move_its_deadline() -> None:
    """The deadline is the whole head's, not the next byte's; also for a second head on a connection."""
    async with (
        upstream_server() as upstream,
        serving(both_dialects(upstream.url), timeouts={"header_s": 0.5}) as gateway,
        connected(gateway.port) as client,
    ):
        assert (await (await client.send(post())).reply()).status == 200
        with pytest.raises(OSError):  # noqa: PT012 -- the end may meet any of the writes
            for byte in post(b"", f"X: {'y' * 500}"):
                await client.send(bytes([byte]))
                await asyncio.sleep(0.05)
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


async def test_an_idle_connection_is_closed() -> None:
    """Keep-alive ends after its time, without an answer that nobody asked for."""
    async with (
        upstream_server() as upstream,
        serving(both_dialects(upstream.url), timeouts={"keep_alive_s": 0.2}) as gateway,
        connected(gateway.port) as client,
    ):
        assert (await (await client.send(post())).reply()).status == 200
        assert await client.read_all() == b""
        await gateway.outcome(1)


@pytest.mark.parametrize("wildcard", [False, True])
@pytest.mark.parametrize("size", [10, 200_000])
async def test_head_has_no_body(wildcard: bool, size: int) -> None:
    """HEAD gets the head of a GET and not one byte more; the connection stays usable."""
    models = [entry("*", ("a", "*"))] if wildcard else [entry("m", ("a", "m"))]
    listing = reply(200, b'{"object":"list","data":["%b"]}' % (b"x" * size))
    script: list[Step] = [listing[:70_000], 0.1, listing[70_000:]] if size > 70_000 else [listing]
    async with (
        upstream_server(script) as upstream,
        serving(both_dialects(upstream.url), models) as gateway,
        connected(gateway.port) as client,
    ):
        await client.send(get("/v1/models", method="HEAD"))
        assert (await client.reply(bodyless=True)).status == 200
        await client.send(get("/livez", method="HEAD") + get("/livez"))
        assert (await client.reply(bodyless=True)).status == 200
        assert (await client.reply()).json() == {"status": "alive"}


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


async def test_http_1_0_json_and_stream() -> None:
    """An HTTP/1.0 client gets no chunked coding and no keep-alive; a stream ends with the connection."""
    async with upstream_server() as upstream, serving(both_dialects(upstream.url)) as gateway:
        upstream.queue.extend([[reply(200, b'{"a":1}')], stream(chat_events(2), 0.01)])
        async with connected(gateway.port) as client:
            await client.send(post(BODY, "Connection: keep-alive", version="1.0"))
            assert (await client.reply()).json() == {"a": 1}
            assert await client.read_all() == b""
        async with connected(gateway.port) as client:
            answer = await (await client.send(post(STREAM_BODY, version="1.0"))).reply()
        assert "transfer-encoding" not in answer.headers
        assert answer.body.startswith(b"data: ")
        assert answer.body.endswith(DONE)
        assert (await gateway.outcome(2)).response_bytes == len(answer.body)


async def test_connection_close_is_honoured() -> None:
    """`Connection: close` gets an answer that says so, and the end."""
    async with upstream_server() as upstream, serving(both_dialects(upstream.url)) as gateway:
        async with connected(gateway.port) as client:
            answer = await (await client.send(post(BODY, "Connection: Close") + post())).reply()
            assert answer.headers["connection"] == "close"
            assert await client.read_all() == b""
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("how", ["half close", "close", "reset"])
@pytest.mark.parametrize("when", ["before the head", "in the stream", "in the JSON"])
async def test_a_client_that_leaves_stops_the_upstream(how: str, when: str) -> None:
    """FIN or RST at any time: the upstream connection is closed at once and the request recorded once."""
    begun = {"before the head": [], "in the stream": [sse_head(), chunk(chat_delta("a"))]}
    steps = begun.get(when, [reply(200, b"x" * 300_000)[:100_000]])
    body = STREAM_BODY if when == "in the stream" else BODY
    async with upstream_server([*steps, HANG]) as upstream, serving(both_dialects(upstream.url)) as gateway:
        async with connected(gateway.port) as client:
            await client.send(post(body))
            await upstream.wait()
            if steps:
                await client.read_until(b"\r\n\r\n")
            {"half close": client.half_close, "close": client.close, "reset": client.reset}[how]()
            await upstream.wait_closed()
            outcome = await gateway.outcome()
        assert (outcome.ending, outcome.code) == (Ending.CLIENT_GONE, "client_gone")
        assert outcome.status == (200 if steps else 0)
        await gateway.idle()
        await until(lambda: not upstream.open)


async def test_the_connection_cap() -> None:
    """One connection too many gets 503 with a Retry-After and is closed; when others leave there is room again."""
    async with (
        upstream_server() as upstream,
        serving(both_dialects(upstream.url), limits={"connections": 2}) as gateway,
    ):
        async with connected(gateway.port) as one, connected(gateway.port) as two:
            assert (await (await one.send(post())).reply()).status == 200
            assert (await (await two.send(post())).reply()).status == 200
            async with connected(gateway.port) as three:
                refused = await three.reply()
                assert (refused.status, refused.code) == (503, "overloaded")
                assert int(refused.headers["retry-after"]) >= 1
                assert await three.read_all() == b""
            assert (await (await one.send(post())).reply()).status == 200
        await gateway.idle()
        assert (await ask(gateway.port, post())).status == 200
