"""What request bodies hold: counted as it arrives, no room for what never comes, and all of it given back."""

import asyncio
import contextlib
import tracemalloc
from typing import Any

import pytest

from luntrex_proxy.core.access import Caller
from tests.fakes import KEY, Gateway, both_dialects, serving, until
from tests.gateway.test_body import CHUNKED_HEAD, chunked
from tests.gateway.wire import (
    HANG,
    LAST_CHUNK,
    STREAM_BODY,
    Client,
    ask,
    chunk,
    connected,
    get,
    post,
    reply,
    sse_head,
    upstream_server,
)

LIMITS = {"bodies_held_bytes": 150_000, "body_bytes": 100_000}
LARGE = b'{"model":"m","pad":"%b"}' % (b"x" * 90_000)
MIB = 1 << 20


@contextlib.asynccontextmanager
async def many(port: int, count: int) -> Any:
    """So many clients."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(connected(port)) for _ in range(count)]


def held(gateway: Gateway) -> int:
    """Bytes that count right now."""
    return gateway.pipeline._held.held_bytes


@pytest.mark.parametrize("start", [CHUNKED_HEAD, CHUNKED_HEAD + b"1\r\n{\r\n", post(LARGE)[: -len(LARGE) + 1]])
async def test_idle_bodies_shut_nobody_out(start: bytes) -> None:
    """Whoever announces bodies and sends none of them takes no room from others."""
    async with (
        upstream_server() as up,
        serving(both_dialects(up.url), limits=LIMITS) as gateway,
        many(gateway.port, 32) as idle,
    ):
        for client in idle:
            await client.send(start)
        await until(lambda: gateway.pipeline.inflight == 32)
        assert held(gateway) <= 32
        assert (await ask(gateway.port, post(LARGE))).status == 200
        assert (await ask(gateway.port, chunked(LARGE, 5000))).status == 200


async def test_a_body_that_grows_beyond_the_room_is_refused_and_closed() -> None:
    """The piece that does not fit is the end of its own body alone: 503, closed, its room is free again."""
    async with upstream_server() as up, serving(both_dialects(up.url), limits=LIMITS) as gateway:
        async with connected(gateway.port) as first, connected(gateway.port) as second:
            await first.send(CHUNKED_HEAD + chunk(LARGE[:-1]))
            await until(lambda: held(gateway) == len(LARGE) - 1)
            await second.send(CHUNKED_HEAD + chunk(LARGE[:50_000]))
            await until(lambda: held(gateway) == len(LARGE) - 1 + 50_000)
            await second.send(chunk(LARGE[50_000:]) + LAST_CHUNK)
            refused = await second.reply()
            assert (refused.status, refused.code) == (503, "body_capacity")
            assert (refused.headers["connection"], refused.headers["retry-after"]) == ("close", "1")
            assert await second.read_all() == b""
            assert held(gateway) == len(LARGE) - 1
            await first.send(chunk(LARGE[-1:]) + LAST_CHUNK)
            assert (await first.reply()).status == 200
        await gateway.idle()
        assert held(gateway) == 0
        assert [request.body for request in up.requests] == [LARGE]


async def test_bodies_with_a_length_that_meet_in_a_full_house() -> None:
    """Two that would each have fitted when they began: one gets its answer, the other 503, nobody hangs."""
    async with upstream_server() as up, serving(both_dialects(up.url), limits=LIMITS) as gateway:
        async with connected(gateway.port) as first, connected(gateway.port) as second:
            head_bytes = post(LARGE)[: -len(LARGE)]
            await first.send(head_bytes)
            await second.send(head_bytes)
            await until(lambda: gateway.pipeline.inflight == 2)
            await first.send(LARGE[:-1])
            await until(lambda: held(gateway) == len(LARGE) - 1)
            with contextlib.suppress(ConnectionError):
                await second.send(LARGE)
            assert (await second.reply()).code == "body_capacity"
            await first.send(LARGE[-1:])
            assert (await first.reply()).status == 200
        await gateway.idle()
        assert held(gateway) == 0


async def _ends(client: Client, data: bytes, *, reset: bool = False) -> None:
    with contextlib.suppress(ConnectionError, BrokenPipeError):
        await client.send(data)
        await asyncio.sleep(0.05)
    if reset:
        client.reset()
    else:
        await client.read_all()


async def test_room_comes_back_exactly_once_however_requests_end() -> None:
    """Answered, refused, malformed, too large, too slow, gone, cut, shut out: afterwards nothing counts."""
    other = b"lx_" + b"o" * 12 + b"_" + b"s" * 49
    part = chunk(LARGE[:7000])
    close = "Connection: close"
    wanting = post(LARGE, close)[:-1]
    async with (
        upstream_server() as up,
        serving(both_dialects(up.url), limits=LIMITS, timeouts={"body_idle_s": 0.6}) as gateway,
    ):
        gateway.keys.callers[other] = Caller(account_id=8, key_id="o" * 12)
        cut = CHUNKED_HEAD.replace(KEY.encode(), other) + chunk(LARGE[:11_000])
        up.script = lambda request: [sse_head(), HANG] if b"stream" in request.body else [reply(200, b"{}")]
        endings: list[tuple[bytes, bool]] = [
            (post(LARGE, close), False),
            (post(LARGE[:-1] + b"]", close), False),  # no JSON
            (post(b'{"model":"?"}', close), False),  # no such model
            (post(LARGE, close, key="lx_wrong"), False),
            (post(b'{"model":"nowhere"}', close), False),  # no upstream
            (get("/v1/models", close), False),
            (post(b"x" * 100_001, close), False),  # too large, as it says
            (CHUNKED_HEAD + chunk(LARGE) + chunk(LARGE), False),  # too large, as it turns out
            (CHUNKED_HEAD + part + b"zz\r\n", False),  # malformed
            (CHUNKED_HEAD + b"zz\r\n", False),
            (CHUNKED_HEAD + part, False),  # too slow
            (wanting, False),
            (CHUNKED_HEAD + part, True),  # gone
            (wanting, True),
            (post(STREAM_BODY), True),  # gone while it is answered
            (cut, False),  # its key is revoked
        ]
        for concurrently in (False, True):
            async with many(gateway.port, len(endings)) as clients:
                tasks = []
                for client, (data, reset) in zip(clients, endings, strict=True):
                    tasks.append(asyncio.ensure_future(_ends(client, data, reset=reset)))
                    if not concurrently:
                        await until(lambda: held(gateway) >= 0)
                        if data == cut:
                            await until(lambda: held(gateway) == 11_000)
                            gateway.pipeline.cut_keys({"o" * 12})
                        await tasks[-1]
                        await gateway_quiet(gateway)
                        assert held(gateway) == 0, data[-40:]
                await asyncio.gather(*tasks)
            await gateway_quiet(gateway)
            assert held(gateway) == 0
        assert {"ok", "body_capacity", "body_too_large", "request_timeout", "client_gone", "key_revoked"} <= {
            outcome.code for outcome in gateway.outcomes
        }


async def gateway_quiet(gateway: Gateway) -> None:
    """Wait until no request runs."""
    await until(lambda: not gateway.pipeline.inflight, "a request does not end")


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_body_in_tiny_reads_holds_little_more_than_itself(framing: str) -> None:
    """Many reads of a few bytes are gathered: an object for each would take many times what counts as held."""
    size = MIB // 4
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway, connected(gateway.port) as client:
        await client.send(CHUNKED_HEAD if framing == "chunks" else post(b"x" * size)[:-size])
        await until(lambda: gateway.pipeline.inflight == 1)
        [connection] = gateway.pipeline.connections
        piece = chunk(b"xxxxxxxx") if framing == "chunks" else b"x"
        count = 30_000 if framing == "chunks" else size - 1
        tracemalloc.start()
        try:
            for _ in range(count):
                connection.data_received(bytes(bytearray(piece)))  # as reads of the socket: an object of its own each
            used, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert connection.exchange is not None
        assert connection.exchange.body_bytes == held(gateway) >= 200_000
        assert used < 2 * held(gateway) + 65_536
        assert len(connection.exchange._parts) <= 2
