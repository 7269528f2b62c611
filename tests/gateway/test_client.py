"""The client's side: keep-alive, pipelining, bodies in any framing, Expect, HEAD, HTTP/1.0 and how connections end."""

import asyncio
import json

import pytest

from luntrex_proxy.core.outcome import Ending
from tests.fakes import both_dialects, entry, serving, until
from tests.gateway.wire import (
    BODY,
    CLOSE,
    HANG,
    STREAM_BODY,
    Step,
    ask,
    chunk,
    connected,
    echo,
    get,
    numbered,
    post,
    reply,
    sse_head,
    upstream_server,
)
from tests.upstreams.bodies import DONE, chat_delta, chat_events, stream


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


async def test_a_pipelined_request_is_not_sent_to_an_upstream_that_closed_behind_its_answer() -> None:
    """The FIN that came with the first answer is seen before the second request is sent: it gets a new connection."""
    async with upstream_server([reply(200, b"{}"), CLOSE]) as upstream, serving(both_dialects(upstream.url)) as gateway:
        async with connected(gateway.port) as client:
            await client.send(post() * 5)
            assert [(await client.reply()).status for _ in range(5)] == [200] * 5
        assert upstream.connections == len(upstream.requests) == 5


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
        assert (await gateway.outcome()).ending == Ending.CLIENT_GONE


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
    steps = begun.get(when, [reply(200, b'{"a":"' + b"x" * 300_000)[:100_000]])
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
