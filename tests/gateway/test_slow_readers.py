"""Clients that take the end of their answer slowly, or not at all, while their connection waits, closes or drains."""

import asyncio
import contextlib
import time

import pytest

from luntrex_proxy.core.outcome import Ending
from tests.fakes import both_dialects, serving, until
from tests.gateway.test_backpressure import SMALL, narrow
from tests.gateway.wire import BODY, HANG, STREAM_BODY, Client, chunk, get, head, post, sse_head, upstream_server

JSON = b'{"a":"' + b"x" * 50_000 + b'"}'  # less than what makes a transport say that its buffer is full
ANSWER = [head(200, "Content-Type: application/json", f"Content-Length: {len(JSON)}") + JSON]
LARGE = 8 * (1 << 20)


async def _read_steadily(client: Client, count: int) -> bytes:
    received = b""
    while len(received) < count and (data := await client.read(SMALL)):
        received += data
        await asyncio.sleep(0.15)
    return received


@pytest.mark.parametrize("more", [(), ("Connection: close",)])
@pytest.mark.parametrize("behind", [b"", get("/livez", "Connection: close")])
async def test_a_slow_and_steady_reader_gets_the_end_of_its_answer(more: tuple[str, ...], behind: bytes) -> None:
    """Neither the keep-alive clock nor the close takes an answer away from a client that is reading it."""
    async with (
        upstream_server(ANSWER) as up,
        serving(both_dialects(up.url), timeouts={"keep_alive_s": 0.3, "write_stall_s": 0.9}) as gateway,
        narrow(gateway) as client,
    ):
        await client.send(post(BODY, *more) + behind)
        await gateway.outcome()
        answer = await _read_steadily(client, len(JSON) + 100)
        assert answer.startswith(b"HTTP/1.1 200")
        assert JSON in answer + await client.read_all()


@pytest.mark.parametrize("more", [(), ("Connection: close",)])
async def test_who_reads_some_and_stops_is_cut(more: tuple[str, ...]) -> None:
    """Progress is measured, not granted for ever."""
    async with (
        upstream_server(ANSWER) as up,
        serving(both_dialects(up.url), timeouts={"keep_alive_s": 0.3, "write_stall_s": 0.4}) as gateway,
        narrow(gateway) as client,
    ):
        await client.send(post(BODY, *more))
        await gateway.outcome()
        await _read_steadily(client, 3 * SMALL)
        await gateway.idle()


async def test_a_caught_up_reader_is_as_good_as_any() -> None:
    """What one answer left unread says nothing about the next one: each is measured from its own begin."""
    async with (
        upstream_server(ANSWER) as up,
        serving(both_dialects(up.url), timeouts={"keep_alive_s": 0.5, "write_stall_s": 0.9}) as gateway,
        narrow(gateway) as client,
    ):
        for _ in range(2):
            await client.send(post())
            received = await _read_steadily(client, len(JSON) - 3 * SMALL)
            client.received = received
            assert (await client.reply()).body == JSON


async def test_nothing_is_said_behind_the_last_answer() -> None:
    """Half a head behind an answer that ends the connection is no slow request: no 408, one record."""
    async with (
        upstream_server(ANSWER) as up,
        serving(
            both_dialects(up.url), timeouts={"keep_alive_s": 0.3, "write_stall_s": 0.8, "header_s": 0.3}
        ) as gateway,
        narrow(gateway) as client,
    ):
        await client.send(post(BODY, "Connection: close") + b"GET /livez HTTP/1.1\r\nHos")
        await gateway.outcome()
        answer = await _read_steadily(client, len(JSON) + 100) + await client.read_all()
        assert answer.endswith(JSON)
        assert answer.count(b"HTTP/1.1 ") == 1
        await gateway.idle()
        assert [outcome.status for outcome in gateway.outcomes] == [200]


@pytest.mark.parametrize("after_an_answer", [False, True])
@pytest.mark.parametrize("pieces", [(b"\r\n",), (b"\r", b"\n")])
async def test_blank_lines_keep_no_connection_open(after_an_answer: bool, pieces: tuple[bytes, ...]) -> None:
    """An empty line now and then, in one read or two, is no request, and starts no clock anew."""
    async with (
        upstream_server() as up,
        serving(both_dialects(up.url), timeouts={"header_s": 0.5, "keep_alive_s": 0.5}) as gateway,
        narrow(gateway) as client,
    ):
        if after_an_answer:
            assert (await (await client.send(post())).reply()).status == 200
        began = time.monotonic()
        ended = asyncio.ensure_future(client.read_all())
        with contextlib.suppress(ConnectionError):
            while not ended.done() and time.monotonic() - began < 3:
                for piece in pieces:
                    await client.send(piece)
                    await asyncio.sleep(0.1)
        assert ended.done(), "it is open for ever"
        assert await ended == b""
        assert len(gateway.outcomes) == int(after_an_answer)


async def test_a_process_ends_although_clients_read_nothing() -> None:
    """Megabytes that nobody takes, while an answer runs and after one: the drain deadline is kept."""
    event = chunk(b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"x" * 60_000))
    sized = [
        head(200, "Content-Type: application/json", f"Content-Length: {LARGE}"),
        b'{"a":"' + b"x" * 65530,
        *[b"x" * 65536] * (LARGE // 65536 - 2),
        b"x" * 65534 + b'"}',
    ]
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        up.script = lambda request: (
            [sse_head(), *[event] * 100, HANG]
            if b"stream" in request.body
            else sized
            if b"pad" in request.body
            else ANSWER
        )
        requests = (post(STREAM_BODY), post(b'{"model":"m","pad":1}'), post(), post(BODY, "Connection: close"))
        async with contextlib.AsyncExitStack() as stack:
            for request in requests:
                await (await stack.enter_async_context(narrow(gateway))).send(request)
            await until(lambda: sum(c.write_paused for c in gateway.pipeline.connections) == 2)
            await gateway.outcome(2)
            began = time.monotonic()
            await gateway.runner.cleanup()
            assert time.monotonic() - began < 3
            assert not gateway.pipeline.connections
            await gateway.idle()
        assert {outcome.ending for outcome in gateway.outcomes} == {Ending.COMPLETE, Ending.CUT}
