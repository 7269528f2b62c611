"""Clients that leave: with FIN, RST or half a close, at any moment. Their upstream is closed, nothing of them stays."""

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import Callable

import pytest

from luntrex_proxy.core.outcome import Ending, UsageSource
from luntrex_proxy.gateway.answer import Answer
from luntrex_proxy.gateway.http.exchange import Exchange
from tests.fakes import Gateway, both_dialects, serving, until
from tests.gateway.test_backpressure import narrow
from tests.gateway.wire import (
    HANG,
    LAST_CHUNK,
    MESSAGES,
    RESPONSES,
    STREAM_BODY,
    Client,
    LoopUpstream,
    Request,
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
from tests.upstreams.bodies import chat_delta, chat_events, message_events, response_events

JSON = "Content-Type: application/json"
EVENT = chat_delta("x" * 4000)
LEAVING: dict[str, Callable[[Client], None]] = {
    "FIN": Client.close,
    "RST": Client.reset,
    "half": Client.half_close,
}
STREAMS = {
    "chat": (post(STREAM_BODY), chat_events()),
    "completions": (post(b'{"model":"m","stream":true,"prompt":"x"}', path="/v1/completions"), chat_events()),
    "responses": (post(b'{"model":"m","stream":true,"input":"x"}', path=RESPONSES), response_events()),
    "messages": (post(b'{"model":"claude","stream":true}', path=MESSAGES), message_events()),
}


async def gone(gateway: Gateway, up: LoopUpstream, count: int = 1) -> None:
    """The upstream connection is closed, the record is written, nothing runs."""
    await up.wait_closed()
    outcome = await gateway.outcome(count)
    assert (outcome.ending, outcome.code) == (Ending.CLIENT_GONE, "client_gone")
    await gateway.idle()
    origin = gateway.pipeline.routing.upstreams["a"].origin
    await until(lambda: origin.open == 0, "an upstream connection stays open")


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("dialect", STREAMS)
@pytest.mark.parametrize("when", ["before", "head", "first", "middle", "inside"])
async def test_a_client_leaves_its_stream(dialect: str, when: str, how: str) -> None:
    """Before the head, after it, after the first event, between events and while one is half here."""
    request, events = STREAMS[dialect]
    steps: dict[str, list[Step]] = {
        "before": [HANG],
        "head": [sse_head(), HANG],
        "first": [sse_head(), chunk(events[0]), HANG],
        "middle": [sse_head(), *map(chunk, events[:3]), HANG],
        "inside": [sse_head(), *map(chunk, events[:2]), chunk(events[2][:20]), HANG],
    }
    async with upstream_server(steps[when]) as up, serving(both_dialects(up.url, inject_usage=False)) as gateway:
        async with connected(gateway.port) as client:
            await client.send(request)
            await up.wait()
            if when in ("first", "middle", "inside"):
                await client.read_until(events[1 if when != "first" else 0][-12:])
            LEAVING[how](client)
            await gone(gateway, up)
        outcome = gateway.outcomes[-1]
        seen = when in ("first", "middle", "inside")
        assert outcome.status == (200 if seen else 0)
        assert outcome.usage_source == (UsageSource.ESTIMATED if seen else UsageSource.UNKNOWN)
        assert (outcome.tokens.output > 0) == seen


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("when", ["head of the request", "body", "before", "head", "small part", "large part"])
async def test_a_client_leaves_a_whole_answer(when: str, how: str) -> None:
    """The same without a stream, and while it still sends its request."""
    steps: dict[str, list[Step]] = {
        "before": [HANG],
        "head": [head(200, JSON, "Content-Length: 90"), HANG],
        "small part": [head(200, JSON, "Content-Length: 90") + b'{"a":', HANG],
        "large part": [head(200, JSON, "Content-Length: 900000") + b'{"a":"' + b"x" * 200_000, HANG],
    }
    async with upstream_server(steps.get(when, [HANG])) as up, serving(both_dialects(up.url)) as gateway:
        async with connected(gateway.port) as client:
            request = post()
            part = {"head of the request": 30, "body": len(request) - 4}.get(when)
            await client.send(request[:part])
            if part is None:
                await up.wait()
            elif when == "body":
                await until(lambda: gateway.pipeline.inflight == 1)
            if when == "large part":
                await client.read_until(b"xxxx")
            LEAVING[how](client)
            if part is None:
                await gone(gateway, up)
                return
        await gateway.idle()
        assert up.connections == 0
        if when == "body":
            assert (await gateway.outcome()).ending == Ending.CLIENT_GONE
            assert gateway.pipeline._held.held_bytes == 0


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_does_not_read_leaves(how: str, streamed: bool) -> None:
    """Its buffer with us is full when it goes, so nothing can be written to find out: it is noticed at once anyway."""
    streaming: list[Step] = [sse_head(), *[chunk(EVENT * 16)] * 500, HANG]
    whole: list[Step] = [
        head(200, JSON, "Content-Length: 90000000"),
        b'{"a":"',
        *[b"x" * 65536] * 500,
        HANG,
    ]
    async with (
        upstream_server(streaming if streamed else whole) as up,
        serving(both_dialects(up.url), timeouts={"write_stall_s": 60}) as gateway,
        narrow(gateway) as client,
    ):
        await client.send(post(STREAM_BODY) if streamed else post())
        await until(lambda: any(c.write_paused for c in gateway.pipeline.connections))
        LEAVING[how](client)
        await gone(gateway, up)


@pytest.mark.parametrize("how", LEAVING)
async def test_a_client_leaves_while_its_upstream_is_being_reached(how: str) -> None:
    """An upstream that accepts and never shakes hands: the attempt ends with the client, and no socket stays."""
    accepted: list[asyncio.StreamWriter] = []
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        while await reader.read(65536):
            pass
        ended.set()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, serving(both_dialects(url, connect_s=30)) as gateway:
        async with connected(gateway.port) as client:
            await client.send(post())
            await until(lambda: bool(accepted))
            LEAVING[how](client)
            await asyncio.wait_for(ended.wait(), 5)
        outcome = await gateway.outcome()
        assert (outcome.ending, outcome.status) == (Ending.CLIENT_GONE, 0)
        assert outcome.usage_source == UsageSource.NONE
        origin = gateway.pipeline.routing.upstreams["a"].origin
        assert (origin.open, origin._connecting) == (0, 0)


@pytest.mark.parametrize("tls", [False, True])
async def test_an_attempt_to_connect_that_is_cancelled_at_any_moment_leaves_nothing(tls: bool) -> None:
    """uvloop may close the socket of a cancelled attempt without telling its protocol; it is counted out all the same.

    Were it not, each such client would cost the upstream one of its `max_connections` for ever.
    """
    async with upstream_server() as up:
        url = up.url.replace("http:", "https:") if tls else up.url
        async with serving(both_dialects(url)) as gateway:
            origin = gateway.pipeline.routing.upstreams["a"].origin
            for rounds in range(60):
                attempt = asyncio.ensure_future(origin.connect())
                for _ in range(rounds):
                    await asyncio.sleep(0 if rounds % 2 else 0.0001)
                attempt.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    (await attempt).unused()
            origin.close()
            await until(lambda: origin.open == 0, f"{origin.open} connections are counted for ever")
            assert (origin._connecting, len(gateway.ticker.members)) == (0, 0)


@pytest.mark.parametrize("how", LEAVING)
async def test_a_client_leaves_with_requests_behind_its_stream(how: str) -> None:
    """Requests that were pipelined behind the answer are never asked."""
    async with (
        upstream_server([sse_head(), chunk(chat_delta("a")), HANG]) as up,
        serving(both_dialects(up.url)) as gateway,
        connected(gateway.port) as client,
    ):
        await client.send(post(STREAM_BODY) + post() * 5)
        await client.read_until(b"\n\n")
        LEAVING[how](client)
        await gone(gateway, up)
        assert len(up.requests) == len(gateway.outcomes) == 1


@pytest.mark.parametrize("how", ["FIN", "RST"])
async def test_a_client_leaves_right_after_its_answer(how: str) -> None:
    """The record says complete: it had all of it. The upstream connection is pooled, not closed."""
    events = chat_events()
    async with (
        upstream_server([sse_head(), *map(chunk, events), LAST_CHUNK]) as up,
        serving(both_dialects(up.url, inject_usage=False)) as gateway,
    ):
        for count in range(1, 6):
            async with connected(gateway.port) as client:
                await client.send(post(STREAM_BODY))
                await client.read_until(b"[DONE]\n\n")
                LEAVING[how](client)
            outcome = await gateway.outcome(count)
            assert (outcome.ending, outcome.usage_source) == (Ending.COMPLETE, UsageSource.REPORTED)
        await gateway.idle()
        assert up.connections == 1


def _mixed(request: Request) -> list[Step]:
    number = len(request.body) % 4
    scripts: list[list[Step]] = [
        [HANG],
        [sse_head(), chunk(EVENT), HANG],
        [sse_head(), *[chunk(EVENT)] * 50, HANG],
        [sse_head(), chunk(EVENT), 0.01, chunk(EVENT), chunk(b"data: [DONE]\n\n"), LAST_CHUNK],
    ]
    return scripts[number]


async def test_three_hundred_departures_leave_nothing() -> None:
    """Tasks, sockets, exchanges and answers are as many afterwards as before, and nothing was written to the gone."""
    broken: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: broken.append(what["message"]))
    async with upstream_server(_mixed) as up, serving(both_dialects(up.url)) as gateway:
        await _depart(gateway, 30)
        before = await _left(gateway, up)
        await _depart(gateway, 300)
        after = await _left(gateway, up)
        # The loop's last handles may still hold one of each.
        assert {name: count for name, count in after.items() if count > before[name] + 2} == {}
        assert len(gateway.outcomes) == len(gateway.ledger.settled) == 330
        up.script = [reply(200, b"{}")]
        assert (await ask(gateway.port, post())).status == 200
    assert not broken


async def _depart(gateway: Gateway, count: int) -> None:
    ways = list(LEAVING.values())

    async def one(number: int) -> None:
        async with connected(gateway.port) as client:
            done = len(gateway.ledger.opened)
            await client.send(post(b'{"model":"m","stream":true,"pad":"%b"}' % (b"x" * (number % 4))))
            await until(lambda: len(gateway.ledger.opened) > done)
            await asyncio.sleep(number % 7 / 500)
            ways[number % 3](client)
            await asyncio.sleep(0.01)

    for start in range(0, count, 10):
        await asyncio.gather(*(one(number) for number in range(start, start + 10)))


async def _left(gateway: Gateway, up: LoopUpstream) -> dict[str, int]:
    await gateway.idle()

    def nothing_open() -> bool:
        gateway.pipeline.routing.close()  # again and again: the end of a stream may still be on its way to the pool
        return gateway.pipeline.routing.upstreams["a"].origin.open == 0

    await until(nothing_open, "an upstream connection stays open")
    await until(lambda: not up.open, "the upstream still has connections")
    await asyncio.sleep(0.02)
    gc.collect()
    objects = gc.get_objects()
    return {
        "tasks": len(asyncio.all_tasks()),
        "files": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 -- names are not needed
        "exchanges": sum(type(one) is Exchange for one in objects),
        "answers": sum(type(one) is Answer for one in objects),
        "members": len(gateway.ticker.members),
        "sockets": sum(type(one) is socket.socket and one.fileno() >= 0 for one in objects),
    }
