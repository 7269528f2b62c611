"""Slow and stalled peers on both sides: what waits is bounded, what stalls is ended, and nobody else notices."""

import asyncio
import contextlib
import socket
import time

import pytest

from luntrex_proxy.core.outcome import Ending, UsageSource
from tests.fakes import Gateway, both_dialects, serving, until
from tests.gateway.test_backpressure import MIB, SMALL, narrow
from tests.gateway.wire import (
    BODY,
    HANG,
    LAST_CHUNK,
    MESSAGES,
    RESPONSES,
    STREAM_BODY,
    Client,
    Request,
    Step,
    ask,
    chunk,
    connected,
    get,
    head,
    post,
    reply,
    sse_head,
    upstream_server,
)
from tests.upstreams.bodies import DONE, chat_delta, chat_events, message_events, response_events

EVENT = chat_delta("x" * 4000)
JSON = "Content-Type: application/json"
STREAMS = {
    "chat": (post(STREAM_BODY), chat_events()),
    "completions": (post(b'{"model":"m","stream":true,"prompt":"x"}', path="/v1/completions"), chat_events()),
    "responses": (post(b'{"model":"m","stream":true,"input":"x"}', path=RESPONSES), response_events()),
    "messages": (post(b'{"model":"claude","stream":true}', path=MESSAGES), message_events()),
}
ERROR_MARK = {"chat": b'data: {"error":', "completions": b'data: {"error":'}


def slow_then_fast(request: Request) -> list[Step]:
    """A stream without end for those who ask for one, a short answer for all others."""
    if b'"stream":true' in request.body:
        return [sse_head(), *[chunk(EVENT * 16)] * 2000, HANG]
    return [reply(200, b"{}")]


async def others_are_served(gateway: Gateway, within_s: float = 1.0) -> None:
    """Ten requests of other clients take no longer than they should."""
    began = time.monotonic()
    for _ in range(10):
        assert (await ask(gateway.port, post())).status == 200
    assert time.monotonic() - began < within_s


# Slow clients.


async def test_a_client_of_a_few_bytes_a_second_holds_little() -> None:
    """It reads a byte now and then: its stream waits in a bounded buffer, the upstream is paused, others are served."""
    async with upstream_server(slow_then_fast) as up, serving(both_dialects(up.url)) as gateway:
        async with narrow(gateway) as client:
            await client.send(post(STREAM_BODY))
            await client.read_until(b"\r\n\r\n")
            await until(lambda: any(c.write_paused for c in gateway.pipeline.connections))
            for _ in range(20):
                assert len(await client.read(1)) == 1
                await asyncio.sleep(0.01)
            held = up.written_bytes
            await others_are_served(gateway)
            await asyncio.sleep(0.2)
            assert up.written_bytes - held < MIB, "the upstream is still being read"
            [slow] = [c for c in gateway.pipeline.connections if c.write_paused]
            assert slow.transport.get_write_buffer_size() < 2 * MIB
        await up.wait_closed(0)
        await gateway.idle()
        assert (await gateway.outcome(11)).ending == Ending.CLIENT_GONE


async def test_many_stalled_clients_hold_little_each_and_nobody_else_waits() -> None:
    """Twenty clients that read nothing: each holds at most one buffer, and other clients' answers come at once."""
    count = 20
    async with upstream_server(slow_then_fast) as up, serving(both_dialects(up.url)) as gateway:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(count):
                await (await stack.enter_async_context(narrow(gateway))).send(post(STREAM_BODY))
            await until(lambda: sum(c.write_paused for c in gateway.pipeline.connections) == count)
            await others_are_served(gateway, 2.0)
            held = [c.transport.get_write_buffer_size() for c in gateway.pipeline.connections]
            assert max(held) < MIB
        await gateway.idle()
        await until(lambda: all(transport.is_closing() for transport in up.open) or len(up.open) <= 1)


@pytest.mark.parametrize("dialect", STREAMS)
async def test_a_client_that_stops_reading_is_gone_after_the_write_stall(dialect: str) -> None:
    """It takes nothing for `write_stall_s`: aborted, its upstream closed, the record says client_gone."""
    request, events = STREAMS[dialect]
    steps = [sse_head(), *map(chunk, events[:-1]), *[chunk(b": " + b"x" * 60_000 + b"\n\n")] * 200, HANG]
    async with (
        upstream_server(steps) as up,
        serving(both_dialects(up.url), timeouts={"write_stall_s": 0.3}) as gateway,
        narrow(gateway) as client,
    ):
        await client.send(request)
        await up.wait_closed()
        outcome = await gateway.outcome()
        assert (outcome.ending, outcome.code, outcome.status) == (Ending.CLIENT_GONE, "client_gone", 200)
        assert outcome.usage_source == UsageSource.ESTIMATED
        assert outcome.tokens.output > 0
        await gateway.idle()


async def test_pipelined_answers_that_nobody_reads_do_not_pile_up() -> None:
    """Requests behind answers that the client does not take wait: answering them would fill memory without end."""
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway, narrow(gateway) as client:
        some = get("/livez") * 200
        [connection] = gateway.pipeline.connections
        for _ in range(60):
            try:
                await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(client.socket, some), 0.2)
            except (TimeoutError, ConnectionError):
                break  # it is no longer read, or closed: both are bounds
            for _ in range(100):
                if connection.exchange is None:
                    break
                await asyncio.sleep(0.002)
        assert connection.transport.get_write_buffer_size() < 256 * 1024
        assert len(connection._buffer) <= 65_536 + len(some)


async def test_a_reader_that_stalls_between_pipelined_answers_is_cut() -> None:
    """The write stall clock runs on while further requests wait behind an answer that is not taken."""
    body = b'{"a":"' + b"x" * 60_000 + b'"}'
    async with (
        upstream_server([head(200, JSON, f"Content-Length: {len(body)}") + body]) as up,
        serving(both_dialects(up.url), timeouts={"write_stall_s": 0.3, "keep_alive_s": 60}) as gateway,
        narrow(gateway) as client,
    ):
        await client.send(post(BODY) * 60)
        await until(lambda: any(c.write_paused for c in gateway.pipeline.connections))
        await gateway.idle()
        assert len(up.requests) < 60


async def test_pipelined_requests_go_on_when_a_slow_reader_catches_up() -> None:
    """Waiting is all: each of them is answered, in order, once the client reads."""
    body = b'{"a":"' + b"x" * 60_000 + b'"}'
    count = 40
    async with (
        upstream_server([head(200, JSON, f"Content-Length: {len(body)}") + body]) as up,
        serving(both_dialects(up.url)) as gateway,
        narrow(gateway) as client,
    ):
        await client.send(post(BODY) * count)
        await until(lambda: any(c.write_paused for c in gateway.pipeline.connections))
        for _ in range(count):
            assert (await client.reply()).body == body
        await gateway.outcome(count)


async def test_a_slow_head_is_refused_in_time() -> None:
    """One byte at a time does not move the deadline of a head: 408, then closed."""
    async with (
        upstream_server() as up,
        serving(both_dialects(up.url), timeouts={"header_s": 0.4}) as gateway,
        connected(gateway.port) as client,
    ):
        began = time.monotonic()
        sender = asyncio.ensure_future(_dribble(client, post(), 0.05))
        answer = await client.reply()
        sender.cancel()
        assert (answer.status, answer.code) == (408, "request_timeout")
        assert time.monotonic() - began < 2
        assert up.connections == 0


async def test_a_body_that_stalls_is_refused_in_time() -> None:
    """Silence inside a body ends it: 408, the room it took is given back, nothing went upstream."""
    async with upstream_server() as up, serving(both_dialects(up.url), timeouts={"body_idle_s": 0.3}) as gateway:
        async with connected(gateway.port) as client:
            await client.send(post()[:-5])
            answer = await client.reply()
            assert (answer.status, answer.code) == (408, "request_timeout")
            assert await client.read_all() == b""
        assert up.connections == 0
        assert gateway.pipeline._held.held_bytes == 0


async def _dribble(client: Client, data: bytes, gap_s: float) -> None:
    for at in range(len(data)):
        await client.send(data[at : at + 1])
        await asyncio.sleep(gap_s)


# Slow upstreams.


@pytest.mark.parametrize("dialect", STREAMS)
@pytest.mark.parametrize("where", ["never", "half head", "head only", "after an event", "inside an event"])
async def test_a_stalled_upstream_is_given_up(dialect: str, where: str) -> None:
    """It answers nothing, or stops: a 504 while nothing was sent, an error event after; its connection is closed."""
    request, events = STREAMS[dialect]
    scripts: dict[str, list[Step]] = {
        "never": [HANG],
        "half head": [sse_head()[:40], HANG],
        "head only": [sse_head(), HANG],
        "after an event": [sse_head(), *map(chunk, events[:2]), HANG],
        "inside an event": [sse_head(), *map(chunk, events[:2]), chunk(events[2][:30]), HANG],
    }
    async with (
        upstream_server(scripts[where]) as up,
        serving(both_dialects(up.url, idle_s=0.4, first_byte_s=0.4)) as gateway,
        connected(gateway.port) as client,
    ):
        answer = await (await client.send(request)).reply()
        outcome = await gateway.outcome()
        assert (outcome.code, outcome.ending) == ("upstream_timeout", Ending.UPSTREAM_FAILED)
        await up.wait_closed()
        if not where.endswith("event"):
            assert answer.status == outcome.status == 504
            assert outcome.usage_source == UsageSource.UNKNOWN
            return
        assert answer.status == outcome.status == 200
        last = answer.body.removesuffix(b"\n\n").rpartition(b"\n\n")[2]
        assert last.startswith(ERROR_MARK.get(dialect, b'event: error\ndata: {"type":"error"'))
        assert answer.body.removesuffix(last + b"\n\n").count(b"\n\n") >= 1
        assert outcome.usage_source == UsageSource.ESTIMATED
        assert outcome.events == 2
        assert (await (await client.send(get("/livez"))).reply()).status == 200, "the client's connection is good"


async def test_a_stalled_upstreams_head_alone_reaches_the_client_in_time() -> None:
    """After the grace the client gets the stream's head, so that its own first-byte clock does not run out."""
    async with (
        upstream_server([sse_head(), HANG]) as up,
        serving(both_dialects(up.url, idle_s=2.5)) as gateway,
        connected(gateway.port) as client,
    ):
        await client.send(post(STREAM_BODY))
        began = time.monotonic()
        await client.read_until(b"\r\n\r\n")
        assert time.monotonic() - began < 2.2
        answer = await client.reply()
        assert (answer.status, b"upstream_timeout" in answer.body) == (200, True)
        assert (await gateway.outcome()).code == "upstream_timeout"


@pytest.mark.parametrize("dialect", STREAMS)
async def test_a_trickling_upstream_is_waited_for(dialect: str) -> None:
    """A byte every few milliseconds is slow, not dead: every event arrives whole, and only whole."""
    request, events = STREAMS[dialect]
    data = b"".join(events)
    wire = sse_head() + chunk(data) + LAST_CHUNK
    steps: list[Step] = [step for at in range(0, len(wire), 7) for step in (wire[at : at + 7], 0.001)]
    async with (
        upstream_server(steps) as up,
        serving(both_dialects(up.url, idle_s=1, first_byte_s=5, inject_usage=False)) as gateway,
        connected(gateway.port) as client,
    ):
        answer = await (await client.send(request)).reply()
        assert answer.body == data
        assert (await gateway.outcome()).code == "ok"


async def test_an_upstream_that_never_reads_its_request_is_given_up() -> None:
    """A large prompt that nobody takes: 504 at the first-byte limit, and what was buffered is let go."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    with listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with serving(both_dialects(url, first_byte_s=0.5)) as gateway:
            answer = await ask(gateway.port, post(b'{"model":"m","pad":"%b"}' % (b"x" * 8 * MIB)))
            assert (answer.status, answer.code) == (504, "upstream_timeout")
            assert (await gateway.outcome()).usage_source == UsageSource.UNKNOWN
            await gateway.idle()


async def test_an_idle_limit_is_not_moved_by_a_full_client() -> None:
    """While the client does not read, the silence is ours: the upstream is not blamed, and all arrives."""
    steps = [sse_head(), *[chunk(EVENT * 16)] * 40, chunk(DONE), LAST_CHUNK]
    async with (
        upstream_server(steps) as up,
        serving(both_dialects(up.url, idle_s=0.4)) as gateway,
        narrow(gateway) as client,
    ):
        await client.send(post(STREAM_BODY))
        await asyncio.sleep(1.2)
        answer = await client.reply()
        assert answer.body == EVENT * 640 + DONE
        assert (await gateway.outcome()).code == "ok"


async def test_connections_that_say_nothing_are_closed() -> None:
    """A client that connects and never sends is closed without a word, however many there are."""
    async with upstream_server() as up, serving(both_dialects(up.url), timeouts={"header_s": 0.3}) as gateway:
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connected(gateway.port)) for _ in range(50)]
            for client in clients:
                assert await client.read_all() == b""
        await gateway.idle()
        assert not gateway.outcomes
        assert up.connections == 0
