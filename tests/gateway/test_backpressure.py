"""Slow and stalled readers: the upstream is held back, memory stays bounded, nobody else's connection is touched."""

import asyncio
import contextlib
import socket
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from luntrex_proxy.core.outcome import Ending
from tests.fakes import Gateway, both_dialects, serving, until
from tests.gateway.wire import (
    BODY,
    HANG,
    LAST_CHUNK,
    STREAM_BODY,
    Client,
    LoopUpstream,
    ask,
    chunk,
    connected,
    head,
    post,
    sse_head,
    upstream_server,
)
from tests.upstreams.bodies import DONE, chat_delta

MIB = 1 << 20
SMALL = 4096
EVENT = chat_delta("x" * 4000)


@contextlib.asynccontextmanager
async def narrow(gateway: Gateway) -> AsyncIterator[Client]:
    """A client between which and the gateway the kernel keeps only some KiB."""
    async with connected(gateway.port, receive_bytes=SMALL) as client:
        known = set(gateway.pipeline.connections)
        await until(lambda: any(c.exchange is None for c in gateway.pipeline.connections), "the client is not there")
        for connection in known | set(gateway.pipeline.connections):
            sock = connection.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        yield client


async def second_request_works(gateway: Gateway, upstream: LoopUpstream) -> None:
    """The pooled connection that the slow client's answer came over serves the next request."""
    upstream.script = [head(200, "Content-Type: application/json", "Content-Length: 2") + b"{}"]
    answer = await asyncio.wait_for(ask(gateway.port, post()), 3)
    assert answer.status == 200


async def test_a_slow_reader_slows_the_upstream_down() -> None:
    """While a client does not read, the upstream is not read either; then everything arrives."""
    size = 32 * MIB
    pieces = [b'{"a":"' + b"x" * 65530, *[b"x" * 65536] * (size // 65536 - 2), b"x" * 65534 + b'"}']
    steps = [head(200, "Content-Type: application/json", f"Content-Length: {size}"), *pieces]
    async with upstream_server(steps) as upstream, serving(both_dialects(upstream.url)) as gateway:
        async with narrow(gateway) as client:
            await client.send(post())
            await until(lambda: upstream.written_bytes > 65536)
            await asyncio.sleep(0.4)
            held = upstream.written_bytes
            await asyncio.sleep(0.2)
            assert upstream.written_bytes == held, "the upstream is still being read"
            assert held < size / 2
            [connection] = gateway.pipeline.connections
            assert connection.transport.get_write_buffer_size() < 2 * MIB
            answer = await client.reply()
            assert len(answer.body) == size
        assert (await gateway.outcome()).response_bytes == size


async def test_a_slow_reader_of_a_stream_gets_it_all() -> None:
    """The same for a stream: paused, resumed, whole."""
    steps = [sse_head(), *[chunk(EVENT * 16)] * 100, chunk(chat_delta("", "stop") + DONE), LAST_CHUNK]
    async with upstream_server(steps) as upstream, serving(both_dialects(upstream.url)) as gateway:
        async with narrow(gateway) as client:
            await client.send(post(STREAM_BODY))
            await client.read_until(b"\r\n\r\n")
            await asyncio.sleep(0.3)
            answer = await client.reply()
            assert answer.body == EVENT * 1600 + chat_delta("", "stop") + DONE
        assert (await gateway.outcome()).events == 1601


async def test_a_stalled_reader_is_cut() -> None:
    """A client that takes nothing for `write_stall_s` is aborted, and its upstream with it."""
    steps = [sse_head(), *[chunk(EVENT * 16)] * 200, HANG]
    async with (
        upstream_server(steps) as upstream,
        serving(both_dialects(upstream.url), timeouts={"write_stall_s": 0.3}) as gateway,
        narrow(gateway) as client,
    ):
        await client.send(post(STREAM_BODY))
        await upstream.wait_closed()
        assert (await gateway.outcome()).ending == Ending.CLIENT_GONE
        await gateway.idle()


async def test_a_stalled_reader_of_a_small_answer_is_cut_too() -> None:
    """A closing connection whose last bytes nobody takes does not stay for ever."""
    body = b'{"a":"' + b"x" * 55_000 + b'"}'
    steps = [head(200, "Content-Type: application/json", f"Content-Length: {len(body)}") + body]
    async with (
        upstream_server(steps) as upstream,
        serving(both_dialects(upstream.url), timeouts={"write_stall_s": 0.3, "keep_alive_s": 0.3}) as gateway,
        narrow(gateway) as client,
    ):
        await client.send(post(BODY, "Connection: close"))
        await gateway.outcome()
        await gateway.idle()


LARGE = b'{"a":"' + b"x" * 250_000 + b'"}'
TWO_PARTS = [
    head(200, "Content-Type: application/json", f"Content-Length: {len(LARGE)}") + LARGE[:70_000],
    0.2,
    LARGE[70_000:],
]


async def test_a_slow_reader_leaves_no_paused_connection_in_the_pool() -> None:
    """The end of an answer meets a full client buffer: the upstream connection goes back to the pool able to read."""
    async with (
        upstream_server(TWO_PARTS) as upstream,
        serving(both_dialects(upstream.url)) as gateway,
        narrow(gateway) as client,
    ):
        await client.send(post())
        await asyncio.sleep(0.6)
        answer = await client.reply()
        assert answer.body == LARGE
        await second_request_works(gateway, upstream)


async def test_a_slow_reader_of_a_streams_end_leaves_no_paused_connection() -> None:
    """The same when a stream's last events come in one read."""
    end = chunk(EVENT * 40) + chunk(chat_delta("", "stop") + DONE) + LAST_CHUNK
    async with (
        upstream_server([sse_head(), chunk(EVENT), 0.2, end]) as upstream,
        serving(both_dialects(upstream.url)) as gateway,
        narrow(gateway) as client,
    ):
        await client.send(post(STREAM_BODY))
        await asyncio.sleep(0.6)
        answer = await client.reply()
        assert answer.body.endswith(DONE)
        await second_request_works(gateway, upstream)


async def test_a_slow_reader_does_not_pause_the_next_client() -> None:
    """While one client has not read the end of its answer, another one gets answers over the same pooled connection."""
    async with (
        upstream_server(TWO_PARTS) as upstream,
        serving(both_dialects(upstream.url)) as gateway,
        narrow(gateway) as client,
    ):
        await client.send(post())
        await asyncio.sleep(0.6)
        await second_request_works(gateway, upstream)
        assert (await client.reply()).body == LARGE


async def test_an_idle_connection_is_closed_after_a_slow_answer() -> None:
    """A client that was slow and has caught up is an idle client like any other: keep-alive ends."""
    async with (
        upstream_server(TWO_PARTS) as upstream,
        serving(both_dialects(upstream.url), timeouts={"keep_alive_s": 1.2}) as gateway,
        narrow(gateway) as client,
    ):
        await client.send(post())
        await asyncio.sleep(0.6)
        assert (await client.reply()).body == LARGE
        assert await client.read_all() == b""


async def test_we_do_not_stop_before_a_slow_reader_has_its_answer() -> None:
    """A drain waits, up to its deadline, for bytes that are still on their way to a client."""
    async with upstream_server(TWO_PARTS) as upstream, serving(both_dialects(upstream.url)) as gateway:
        gateway.runner._shutdown_timeout = 5.0
        async with narrow(gateway) as client:
            await client.send(post())
            await asyncio.sleep(0.6)
            stopping = asyncio.ensure_future(gateway.runner.cleanup())
            await asyncio.sleep(0.4)
            stopped_early = stopping.done()
            assert (await client.reply()).body == LARGE
            await asyncio.wait_for(stopping, 4)
            assert not stopped_early, "the loop would have ended with the answer in its buffers"


@pytest.mark.parametrize("inject", [True, False])
async def test_a_prompt_is_not_held_while_its_answer_streams(inject: bool) -> None:
    """Once the upstream has the request, nothing of ours keeps the body: a long stream must not hold megabytes."""
    go_on = asyncio.Event()
    steps = [sse_head(), chunk(EVENT), go_on, chunk(DONE), LAST_CHUNK]
    async with (
        upstream_server(steps) as upstream,
        serving(both_dialects(upstream.url, inject_usage=inject)) as gateway,
        connected(gateway.port) as client,
    ):
        body = b'{"model":"m","stream":true,"messages":[],"pad":"%b"}' % (b"x" * 8 * MIB)
        tracemalloc.start()
        try:
            await client.send(post(body))
            await client.read_until(b"\n\n")
            snapshot = tracemalloc.take_snapshot()
        finally:
            tracemalloc.stop()
        ours = snapshot.filter_traces([tracemalloc.Filter(True, "*/luntrex_proxy/*")])
        held = [(stat.size, str(stat.traceback)) for stat in ours.statistics("lineno") if stat.size > MIB]
        go_on.set()
        assert not held


async def test_a_full_house_of_bodies_refuses_the_next_one() -> None:
    """All bodies together are bounded: one more gets 503 before it is read, and room comes back."""
    limits = {"bodies_held_bytes": 150_000, "body_bytes": 100_000}
    body = b'{"model":"m","pad":"%b"}' % (b"x" * 90_000)
    async with upstream_server() as upstream, serving(both_dialects(upstream.url), limits=limits) as gateway:
        async with connected(gateway.port) as first, connected(gateway.port) as second:
            await first.send(post(body)[:-10])
            await until(lambda: gateway.pipeline.inflight == 1)
            await second.send(post(body)[:-10])
            refused = await second.reply()
            assert (refused.status, refused.code) == (503, "body_capacity")
            assert refused.headers["retry-after"] == "1"
            await first.send(post(body)[-10:])
            assert (await first.reply()).status == 200
        assert (await ask(gateway.port, post(body))).status == 200
        assert len(upstream.requests) == 2


async def test_room_for_bodies_comes_back_after_every_kind_of_end() -> None:
    """Refused, broken off or answered: what a body took is given back."""
    limits = {"bodies_held_bytes": 100_000, "body_bytes": 100_000}
    body = b'{"model":"m","pad":"%b"}' % (b"x" * 90_000)
    async with (
        upstream_server() as upstream,
        serving(both_dialects(upstream.url), limits=limits, timeouts={"body_idle_s": 0.2}) as gateway,
    ):
        for broken in (post(body)[:-10], post(body.replace(b'"m"', b'"?"')), post(body[:-1] + b"]")):
            assert (await ask(gateway.port, broken)).status in (408, 404, 400)
        async with connected(gateway.port) as client:
            await client.send(post(body)[:-10])
            await until(lambda: gateway.pipeline.inflight == 1)
        await gateway.idle()
        assert (await ask(gateway.port, post(body))).status == 200
