"""Answers that we end: a revoked key, a shutdown. The client is told in its dialect; running streams may finish."""

import asyncio
import json

import pytest

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.outcome import Ending, UsageSource
from luntrex_proxy.core.refusals import REFUSALS
from tests.fakes import KEY, both_dialects, serving, until
from tests.gateway.wire import (
    HANG,
    LAST_CHUNK,
    MESSAGES,
    RESPONSES,
    STREAM_BODY,
    Reply,
    Step,
    ask,
    chunk,
    connected,
    get,
    head,
    post,
    sse_head,
    upstream_server,
)
from tests.upstreams.bodies import (
    DONE,
    chat_delta,
    message_events,
    response_events,
)


async def test_revocation_cuts_a_running_stream() -> None:
    """A revoked key ends its running stream with an error event; other keys' streams go on."""
    go_on = asyncio.Event()
    steps: list[Step] = [sse_head(), chunk(chat_delta("a")), go_on, chunk(chat_delta("", "stop") + DONE), LAST_CHUNK]
    other = KEY.replace("k", "o")
    async with upstream_server(steps) as up, serving(both_dialects(up.url)) as gateway:
        gateway.keys.callers[other.encode()] = Caller(account_id=8, key_id="o" * 12)
        async with connected(gateway.port) as revoked, connected(gateway.port) as kept:
            await revoked.send(post(STREAM_BODY))
            await revoked.read_until(b"\n\n")
            await kept.send(post(STREAM_BODY, key=other))
            await kept.read_until(b"\n\n")
            gateway.pipeline.cut_keys({"k" * 12})
            answer = await revoked.reply()
            assert answer.body.startswith(chat_delta("a"))
            error = json.loads(answer.body.split(b"data: ")[-1])["error"]
            assert error["message"] == REFUSALS["key_revoked"].sentence
            assert b"[DONE]" not in answer.body
            assert await revoked.read_all() == b""
            await up.wait_closed(0)
            outcome = await gateway.outcome()
            assert (outcome.code, outcome.ending, outcome.status) == ("key_revoked", Ending.CUT, 200)
            assert outcome.usage_source == UsageSource.ESTIMATED
            go_on.set()
            assert (await kept.reply()).body.endswith(DONE)


@pytest.mark.parametrize(("path", "body", "event"), [
    (MESSAGES, b'{"model":"claude","stream":true}', message_events()[0]),
    (RESPONSES, b'{"model":"m","stream":true}', response_events()[0]),
])  # fmt: skip
async def test_revocation_speaks_the_dialect(path: str, body: bytes, event: bytes) -> None:
    """The cut's error event has the form of the stream's grammar."""
    async with upstream_server([sse_head(), chunk(event), HANG]) as up, serving(both_dialects(up.url)) as gateway:
        async with connected(gateway.port) as client:
            await client.send(post(body, path=path))
            await client.read_until(b"\n\n")
            gateway.pipeline.cut_keys({"k" * 12})
            answer = await client.reply()
        last = answer.body.removesuffix(b"\n\n").split(b"\n\n")[-1]
        assert last.startswith(b"event: error\ndata: ")
        said = json.loads(last.partition(b"data: ")[2])
        assert (said["type"], said["error"]["message"]) == ("error", REFUSALS["key_revoked"].sentence)


async def test_revocation_between_request_and_body() -> None:
    """A key revoked while its body arrives gets 401, and nothing goes upstream."""
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        async with connected(gateway.port) as client:
            await client.send(post()[:-3])
            await until(lambda: gateway.pipeline.inflight == 1)
            gateway.pipeline.cut_keys({"k" * 12})
            answer = await client.reply()
            assert (answer.status, answer.json()["error"]["message"]) == (401, REFUSALS["key_revoked"].sentence)
            assert await client.read_all() == b""
        assert up.connections == 0
        assert (await gateway.outcome()).ending == Ending.CUT


async def test_revocation_inside_a_large_json_breaks_it_off() -> None:
    """JSON can't carry an error event: its body stays incomplete."""
    steps: list[Step] = [
        head(200, "Content-Type: application/json", "Content-Length: 300000"),
        b'{"a":"',
        b"x" * 200_000,
        HANG,
    ]
    async with upstream_server(steps) as up, serving(both_dialects(up.url)) as gateway:
        async with connected(gateway.port) as client:
            await client.send(post())
            await client.read_until(b"\r\n\r\n")
            gateway.pipeline.cut_keys({"k" * 12})
            await client.read_all()
            assert len(client.received.partition(b"\r\n\r\n")[2]) < 300_000
        outcome = await gateway.outcome()
        assert (outcome.code, outcome.ending) == ("key_revoked", Ending.CUT)


async def test_drain_lets_streams_end() -> None:
    """At shutdown idle connections close, new requests are refused, running streams finish."""
    go_on = asyncio.Event()
    steps: list[Step] = [sse_head(), chunk(chat_delta("a")), go_on, chunk(chat_delta("", "stop") + DONE), LAST_CHUNK]
    async with upstream_server(steps) as up, serving(both_dialects(up.url)) as gateway:
        gateway.runner._shutdown_timeout = 4.0
        async with connected(gateway.port) as idle, connected(gateway.port) as running, connected(gateway.port) as late:
            await idle.send(get("/livez"))
            assert (await idle.reply()).status == 200
            await late.send(post()[:40])
            await running.send(post(STREAM_BODY))
            await running.read_until(b"\n\n")
            cleanup = asyncio.ensure_future(gateway.runner.cleanup())
            assert await idle.read_all() == b""
            with pytest.raises(OSError):
                await ask(gateway.port, post())
            await running.send(post())  # pipelined behind the stream
            go_on.set()
            answer = await running.reply()
            assert answer.body.endswith(DONE)
            rest = await running.read_all()
            assert rest == b"" or Reply(rest).status == 503
            await asyncio.wait_for(cleanup, 3)
            assert b"200 OK" not in await late.read_all()
        assert gateway.ledger.settled[0].ending == Ending.COMPLETE
        assert not gateway.pipeline.connections


async def test_who_came_a_moment_before_the_drain_is_heard_out() -> None:
    """A slow client that has connected and not yet spoken gets its answer; one that says nothing holds nobody up."""
    async with (
        upstream_server() as up,
        serving(both_dialects(up.url)) as gateway,
        connected(gateway.port) as slow,
        connected(gateway.port) as silent,
    ):
        while len(gateway.pipeline.connections) < 2:
            await asyncio.sleep(0.01)
        cleanup = asyncio.ensure_future(gateway.runner.cleanup())
        await asyncio.sleep(0.4)
        await slow.send(post())
        assert (await slow.reply()).status == 200
        assert await silent.read_all() == b""
        await asyncio.wait_for(cleanup, 5)


async def test_the_drain_deadline_cuts_with_an_error_event() -> None:
    """What still runs at the deadline ends with the dialect's error event."""
    async with (
        upstream_server([sse_head(), chunk(chat_delta("a")), HANG]) as up,
        serving(both_dialects(up.url)) as gateway,
    ):
        async with connected(gateway.port) as client:
            await client.send(post(STREAM_BODY))
            await client.read_until(b"\n\n")
            await asyncio.wait_for(gateway.runner.cleanup(), 4)
            answer = await client.reply()
            assert json.loads(answer.body.split(b"data: ")[-1])["error"]["code"] == "draining"
        outcome = await gateway.outcome()
        assert (outcome.code, outcome.ending) == ("draining", Ending.CUT)
