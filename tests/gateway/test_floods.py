"""Peers that send too much: what they cost is bounded in memory and time, and the others are served meanwhile."""

import asyncio
import contextlib
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from luntrex_proxy.core.outcome import Ending
from luntrex_proxy.core.wire.sse import EVENT_LIMIT_BYTES
from tests.fakes import Gateway, both_dialects, serving, until
from tests.gateway.test_backpressure import MIB, narrow
from tests.gateway.wire import (
    CLOSE,
    HANG,
    LAST_CHUNK,
    STREAM_BODY,
    Client,
    Request,
    Step,
    ask,
    chunk,
    connected,
    head,
    numbered,
    post,
    reply,
    sse_head,
    upstream_server,
)
from tests.upstreams.bodies import DONE, chat_delta

JSON = "Content-Type: application/json"
# How much work (CPU of this process, where all sides run) may be done at most before another client has its answer.
# Not the clock: what other processes do is not the flood's doing.
SLOW_CPU_S = 2.0
OTHER = post(b'{"model":"m","other":1}')


@contextlib.asynccontextmanager
async def others_answered(gateway: Gateway) -> AsyncIterator[None]:
    """While the block runs another client asks all the time: each answer comes, and soon."""
    worst, done = 0.0, False
    first = asyncio.Event()

    async def keep_asking() -> int:
        nonlocal worst
        count = 0
        async with connected(gateway.port) as client:
            while not done:
                began_s = time.process_time()
                assert (await (await client.send(OTHER)).reply()).status == 200
                worst = max(worst, time.process_time() - began_s)
                count += 1
                first.set()
                await asyncio.sleep(0.005)
        return count

    asking = asyncio.ensure_future(keep_asking())
    await asyncio.wait_for(first.wait(), 5)
    try:
        yield
    finally:
        done = True
        count = await asking
    assert count
    assert worst < SLOW_CPU_S, f"another client waited for {worst:.2f} s of work"


@contextlib.contextmanager
def bounded(mib: float) -> Iterator[None]:
    """Python's memory grows by no more than this while the block runs."""
    tracemalloc.start()
    try:
        level = tracemalloc.get_traced_memory()[0]
        yield
        grown = (tracemalloc.get_traced_memory()[1] - level) / MIB
    finally:
        tracemalloc.stop()
    assert grown < mib, f"{grown:.1f} MiB"


def other_or(steps: list[Step]) -> Callable[[Request], list[Step]]:
    """A script: the flood for one client, a short answer for the others."""
    return lambda request: [reply(200, b"{}")] if b'"other"' in request.body else steps


# Clients.


async def test_thousands_of_pipelined_requests_are_answered_in_order() -> None:
    """They are taken one at a time, and never more than some KiB of them are kept."""
    count = 2000

    def script(request: Request) -> list[Step]:
        return [reply(200, request.body)]

    async with upstream_server(script) as up, serving(both_dialects(up.url)) as gateway:
        async with connected(gateway.port) as client, others_answered(gateway):
            for start in range(0, count, 100):
                await client.send(b"".join(numbered(n) for n in range(start, start + 100)))
                for n in range(start, start + 100):
                    assert (await client.reply()).json()["n"] == n
        assert up.connections <= 2


async def test_a_client_that_pipelines_without_measure_is_closed() -> None:
    """More than `pipelined_bytes` behind a pending answer ends the connection, and with it the answer."""
    async with upstream_server(other_or([HANG])) as up, serving(both_dialects(up.url)) as gateway:
        async with others_answered(gateway), connected(gateway.port) as client:
            await client.send(post())
            await until(lambda: any(b'"other"' not in request.body for request in up.requests))
            with contextlib.suppress(ConnectionError):
                await client.send(post() * 2000)
            assert await client.read_all() == b""
        await gateway.idle()
        assert Ending.CLIENT_GONE in {outcome.ending for outcome in gateway.outcomes}


@pytest.mark.parametrize("what", ["one long line", "many lines", "a long target", "a long method", "blank lines"])
async def test_a_head_without_end_is_refused_at_its_bound(what: str) -> None:
    """Whatever fills it, a head is refused as soon as it is too large, and nothing of it stays."""
    floods = {
        "one long line": b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 20 * MIB,
        "many lines": b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 3_000_000,
        "a long target": b"GET /" + b"a" * 20 * MIB,
        "a long method": b"A" * 20 * MIB,
        "blank lines": b"\r\n" * 10_000_000,
    }
    data = floods[what]
    async with upstream_server() as up, serving(both_dialects(up.url), timeouts={"header_s": 2}) as gateway:
        async with others_answered(gateway), connected(gateway.port) as client:
            with bounded(4):
                with contextlib.suppress(ConnectionError, TimeoutError):
                    for at in range(0, len(data), 65536):
                        await client.send(data[at : at + 65536])
                received = await client.read_all()
        assert received == b"" or received.split(b" ")[1] in (b"400", b"408", b"414", b"431")
        await gateway.idle()


async def test_a_body_in_tiny_chunks_stays_small_and_others_are_served() -> None:
    """A million one-byte chunks: refused or taken, they hold no more than the body they make."""
    request = post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    chunks = b"1\r\nx\r\n" * 10_000
    async with upstream_server() as up, serving(both_dialects(up.url), timeouts={"body_idle_s": 1}) as gateway:
        async with others_answered(gateway), connected(gateway.port) as client:
            with bounded(24), contextlib.suppress(ConnectionError, TimeoutError):
                await client.send(request)
                for _ in range(20):
                    await client.send(chunks)
            answer = await client.reply()
            assert answer.status in (400, 408, 413)
        await gateway.idle()
        assert gateway.pipeline._held.held_bytes == 0


async def test_more_connections_than_allowed_are_told_so() -> None:
    """One too many gets 503 at once; those that are there go on, and room comes back."""
    async with (
        upstream_server() as up,
        serving(both_dialects(up.url), limits={"connections": 20}) as gateway,
        contextlib.AsyncExitStack() as stack,
    ):
        clients: list[Client] = []
        for _ in range(20):
            clients.append(await stack.enter_async_context(connected(gateway.port)))
        await until(lambda: len(gateway.pipeline.connections) == 20)
        for _ in range(50):
            async with connected(gateway.port) as extra:
                assert (await extra.reply()).status == 503
        for client in clients:
            assert (await (await client.send(post())).reply()).status == 200
            client.close()
        await gateway.idle()
        assert (await ask(gateway.port, post())).status == 200


async def test_connections_that_come_and_go_leave_nothing() -> None:
    """A thousand connects with and without a byte: no record of theirs, no deadline, no buffer stays."""
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        async with others_answered(gateway):
            for number in range(1000):
                async with connected(gateway.port) as client:
                    if number % 3 == 0:
                        await client.send(post()[: number % 100])
                    if number % 2:
                        client.reset()
        await gateway.idle()
        assert len(gateway.ticker.members) <= 1  # the pooled upstream connection


# Upstreams.


async def test_a_long_run_of_spaces_in_an_upstreams_head_holds_nobody_up() -> None:
    """It is read in time that grows with its length, not with the square of it."""
    spaces = b"A: x" + b" " * 60_000 + b"x\r\nB: y \r\n"
    steps: list[Step] = [head(200, JSON, "Content-Length: 2")[:-2] + spaces + b"\r\n{}"]
    async with (
        upstream_server(other_or(steps)) as up,
        serving(both_dialects(up.url)) as gateway,
        others_answered(gateway),
    ):
        assert (await ask(gateway.port, post())).status == 200


@pytest.mark.parametrize(
    "steps",
    [
        [b"HTTP/1.1 200 OK\r\nA: ", *[b"a" * 65536] * 300],
        [b"HTTP/1.1 200 OK\r\n", *[b"a: b\r\n" * 10_000] * 300],
        [b"HTTP/1.1 200 " + b"a" * 65536, *[b"a" * 65536] * 300],
        [b"HTTP/1.1 103 Early\r\n\r\n" * 100, *[b"HTTP/1.1 103 Early\r\n\r\n" * 2000] * 300],
        [sse_head(), b"1;a=" + b"a" * 65536, *[b"a" * 65536] * 300],
    ],
    ids=["a long field", "many fields", "a long reason", "informational heads", "a chunk extension"],
)
@pytest.mark.parametrize("request_bytes", [post(), post(STREAM_BODY)], ids=["whole", "stream"])
async def test_an_upstreams_head_without_end_is_given_up(steps: list[Step], request_bytes: bytes) -> None:
    """No byte of it becomes memory beyond a bound, and the client has an answer at once."""
    async with upstream_server(other_or([*steps, HANG])) as up, serving(both_dialects(up.url)) as gateway:
        async with others_answered(gateway), connected(gateway.port) as client:
            with bounded(4):
                answer = await (await client.send(request_bytes)).reply()
            assert answer.status in (200, 502)
            assert b"upstream_invalid" in answer.body
        outcome = next(one for one in gateway.outcomes if one.code != "ok")
        assert (outcome.code, outcome.ending) == ("upstream_invalid", Ending.UPSTREAM_FAILED)


async def test_an_event_without_end_streams_through_a_bounded_window() -> None:
    """100 MB without a blank line are never held: the client gets them as they come, memory stays flat."""
    total = 100 * MIB
    piece = b"x" * 65536
    steps: list[Step] = [sse_head(), chunk(b'data: {"a":"'), *[chunk(piece)] * (total // len(piece)), CLOSE]
    async with upstream_server(other_or(steps)) as up, serving(both_dialects(up.url)) as gateway:
        async with others_answered(gateway), connected(gateway.port) as client:
            await client.send(post(STREAM_BODY))
            with bounded(8):
                received = await _count(client)
        assert received > total - 2 * EVENT_LIMIT_BYTES
        outcome = next(one for one in gateway.outcomes if one.code != "ok")
        assert (outcome.code, outcome.ending) == ("upstream_cut", Ending.UPSTREAM_FAILED)


async def _count(client: Client) -> int:
    total = 0
    while data := await client.read(1 << 18):
        total += len(data)
    return total


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_large_body_against_a_slow_reader_holds_little(framing: str) -> None:
    """A gigabyte offered, a client that takes a few KiB: what is read of it stays within two buffers."""
    begin, piece = (
        piece if framing == "length" else chunk(piece) for piece in (b'{"a":"' + b"x" * 65530, b"x" * 65536)
    )
    first = head(200, JSON, "Content-Length: 1073741824" if framing == "length" else "Transfer-Encoding: chunked")
    steps: list[Step] = [first, begin, *[piece] * 16383]
    async with upstream_server(other_or(steps)) as up, serving(both_dialects(up.url)) as gateway:
        async with others_answered(gateway), narrow(gateway) as client:
            await client.send(post())
            await until(lambda: any(c.write_paused for c in gateway.pipeline.connections))
            with bounded(2):
                for _ in range(100):
                    assert await client.read(1024)
                    await asyncio.sleep(0.002)
            assert up.written_bytes < 64 * MIB
            assert max(c.transport.get_write_buffer_size() for c in gateway.pipeline.connections) < MIB
        await gateway.idle()


@pytest.mark.parametrize(
    "flood",
    [b"\n\n" * 32_768, b"data:\n\n" * 9_000, b": x\n\n" * 12_000, b"data: {}\n\n" * 6_000, b"data: [DONE\n\n" * 5_000],
    ids=["blank lines", "empty events", "comments", "small events", "not quite the end"],
)
async def test_a_flood_of_tiny_events_leaves_others_their_share(flood: bytes) -> None:
    """Two MB of the smallest events there are: all pass, and other clients are answered in between."""
    steps: list[Step] = [sse_head(), *[chunk(flood)] * 32, chunk(DONE), LAST_CHUNK]
    async with upstream_server(other_or(steps)) as up, serving(both_dialects(up.url)) as gateway:
        async with others_answered(gateway), connected(gateway.port) as client:
            answer = await (await client.send(post(STREAM_BODY))).reply()
        assert answer.body == flood * 32 + DONE


async def test_one_byte_chunks_of_an_upstream_leave_others_their_share() -> None:
    """An event in chunks of one byte comes out whole; parsing them does not stop the loop."""
    data = chat_delta("x" * 100_000) + DONE
    wire = b"".join(b"1\r\n%c\r\n" % byte for byte in data)
    async with (
        upstream_server(other_or([sse_head(), wire, LAST_CHUNK])) as up,
        serving(both_dialects(up.url, inject_usage=False)) as gateway,
        others_answered(gateway),
        connected(gateway.port) as client,
    ):
        assert (await (await client.send(post(STREAM_BODY))).reply()).body == data


async def test_bytes_behind_a_whole_answer_cost_the_upstream_its_connection() -> None:
    """An upstream that goes on talking is closed; the client's answer is whole and the next one is its own."""
    noise: list[Step] = [reply(200, b'{"a":1}'), *[b"x" * 65536] * 200]
    async with upstream_server(noise) as up, serving(both_dialects(up.url)) as gateway:
        async with others_answered(gateway), connected(gateway.port) as client:
            for _ in range(5):
                answer = await (await client.send(post())).reply()
                assert (answer.status, answer.body) == (200, b'{"a":1}')
        assert up.connections >= 5
