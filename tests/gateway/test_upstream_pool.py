"""Connections to upstreams: reused when safe, replaced when dead, bounded, verified; and the next target."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from luntrex_proxy.gateway.http.dial import Dialer
from luntrex_proxy.gateway.http.origin import Origin, OriginFullError
from luntrex_proxy.gateway.http.ticker import Ticker
from luntrex_proxy.gateway.http.upstream import UpstreamConnection
from tests.fakes import PATIENCE_S, both_dialects, serving, until
from tests.gateway.wire import (
    CLOSE,
    HANG,
    LAST_CHUNK,
    RESET,
    STREAM_BODY,
    Step,
    ask,
    chunk,
    connected,
    head,
    post,
    reply,
    sse_head,
    upstream_server,
)
from tests.upstreams.bodies import DONE, chat_body, chat_delta

BODY = chat_body()


async def test_a_pooled_connection_is_used_again() -> None:
    """Requests one after the other share a connection, requests at the same time do not, and all of them are kept."""
    gate = asyncio.Event()
    async with upstream_server([gate, reply(200, BODY)]) as up, serving(both_dialects(up.url)) as gateway:
        together = [asyncio.ensure_future(ask(gateway.port, post())) for _ in range(4)]
        await up.wait(4)
        assert up.connections == 4
        gate.set()
        assert [answer.status for answer in await asyncio.gather(*together)] == [200] * 4
        for _ in range(6):
            assert (await ask(gateway.port, post())).status == 200
        assert up.connections == 4


async def test_a_connection_that_died_while_idle_is_replaced() -> None:
    """The upstream closes an idle connection: the next request goes over a new one, and is sent once."""
    async with upstream_server([reply(200, BODY)]) as up, serving(both_dialects(up.url)) as gateway:
        for how in ("close", "abort", "close"):
            assert (await ask(gateway.port, post())).status == 200
            for transport in list(up.open):
                getattr(transport, how)()
            await until(lambda: not up.open)
            await asyncio.sleep(0.02)
        assert (await ask(gateway.port, post())).status == 200
        assert up.connections == len(up.requests) == 4


async def test_a_request_is_never_sent_twice() -> None:
    """A pooled connection that dies under a request: 502, because the upstream may already work on it."""
    async with upstream_server([reply(200, BODY)]) as up, serving(both_dialects(up.url)) as gateway:
        assert (await ask(gateway.port, post())).status == 200
        up.script = [CLOSE]
        answer = await ask(gateway.port, post())
        assert (answer.status, answer.code) == (502, "upstream_closed")
        assert len(up.requests) == 2


async def test_the_end_after_the_terminal_event_is_drained() -> None:
    """The chunked end that follows `[DONE]` is read before the connection serves another request."""
    script: list[Step] = [sse_head(), *map(chunk, [chat_delta("a", "stop"), DONE]), 0.1, LAST_CHUNK]
    async with upstream_server(script) as up, serving(both_dialects(up.url)) as gateway:
        for _ in range(3):
            assert (await ask(gateway.port, post(STREAM_BODY))).body.endswith(DONE)
            await asyncio.sleep(0.2)
        assert up.connections == 1


@pytest.mark.parametrize("tail", [[HANG], [b"1\r\nx\r\n", 0.3] * 40], ids=["silence", "dribble"])
async def test_an_upstream_that_does_not_end_is_left(tail: list[Step]) -> None:
    """After the terminal event the upstream has a moment to end its message; then the connection is closed."""
    script: list[Step] = [sse_head(), chunk(chat_delta("a", "stop") + DONE), *tail]
    async with upstream_server(script) as up, serving(both_dialects(up.url)) as gateway:
        assert (await ask(gateway.port, post(STREAM_BODY))).body.endswith(DONE)
        await up.wait_closed()


async def test_the_number_of_connections_is_bounded() -> None:
    """An upstream at its maximum is overloaded, not unreachable; when a connection is free again it serves."""
    gate = asyncio.Event()
    async with upstream_server([gate, reply(200, BODY)]) as up, serving(both_dialects(up.url, max_connections=2)) as gw:
        running = [asyncio.ensure_future(ask(gw.port, post())) for _ in range(2)]
        await up.wait(2)
        assert (await ask(gw.port, post())).code == "overloaded"
        gate.set()
        assert [answer.status for answer in await asyncio.gather(*running)] == [200, 200]
        assert (await ask(gw.port, post())).status == 200
        assert up.connections == 2


async def test_a_connection_counts_once_while_its_request_has_not_heard_of_it() -> None:
    """A burst of requests got 503 with half of the connections that an upstream may have."""
    gate = asyncio.Event()

    class Slow:
        async def connect(self, make: Callable[[], UpstreamConnection]) -> UpstreamConnection:
            connection = make()
            connection.connection_made(asyncio.Transport())
            await gate.wait()
            return connection

    ticker = Ticker(asyncio.get_running_loop())
    origin = Origin(cast(Dialer, Slow()), ticker, max_open=2)
    first = origin.connect()
    await asyncio.sleep(0)
    assert (origin.open, origin.busy) == (1, 1)
    second = origin.connect()
    await asyncio.sleep(0)
    assert (origin.open, origin.busy) == (2, 2)
    with pytest.raises(OriginFullError):
        origin.connect()
    gate.set()
    await asyncio.gather(first, second)
    assert (origin.open, origin.busy) == (2, 2)


async def test_connections_are_counted_right_after_every_end() -> None:
    """However a request ends, its place among an upstream's connections becomes free."""
    ends: list[list[Step]] = [
        [CLOSE],
        [RESET],
        [b"junk\r\n"],
        [reply(200, BODY) + b"x"],
        [head(204)],
        [reply(500, b"")],
    ]
    async with upstream_server() as up, serving(both_dialects(up.url, max_connections=1)) as gateway:

        async def served() -> None:
            """Ask until the one place is free: a close takes a moment, a leak takes for ever."""
            deadline = asyncio.get_running_loop().time() + PATIENCE_S
            while b"upstream_unreachable" in (await ask(gateway.port, post())).body:
                assert asyncio.get_running_loop().time() < deadline, "the place never became free"
                await asyncio.sleep(0.01)

        for end in ends * 2:
            up.script = end
            await served()
        up.script = [HANG]
        asked = len(up.requests)
        async with connected(gateway.port) as client:
            await client.send(post())
            await up.wait(asked + 1)
        await gateway.idle()
        up.script = [reply(200, BODY)]
        await served()
