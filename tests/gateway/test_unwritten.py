"""Between the moment a record is given to the ledger and the one it is on disk: nothing leaves that rests on it."""

import asyncio

import pytest

from luntrex_proxy.core.outcome import Ending, UsageSource
from luntrex_proxy.gateway.http.dial import Dialer
from tests.fakes import Gateway, both_dialects, serving, until
from tests.gateway.wire import BODY, CLOSE, STREAM_BODY, Step, ask, connected, post, reply, upstream_server
from tests.upstreams.bodies import DONE, chat_body, chat_events, stream

MOMENT_S = 0.05  # in which nothing may come; what is waited for comes in any time


async def given(gateway: Gateway) -> None:
    """Until a record waits to be written."""
    await until(lambda: bool(gateway.ledger.unwritten))


@pytest.mark.parametrize(
    ("body", "steps", "end"),
    [(BODY, [reply(200, chat_body())], chat_body()), (STREAM_BODY, stream(chat_events(3), 0.01), DONE)],
    ids=["whole", "stream"],
)
async def test_nothing_goes_out_before_its_record(body: bytes, steps: list[Step], end: bytes) -> None:
    """Neither the request to the upstream, nor the end of the answer to the client; and both do, after it."""
    async with (
        upstream_server(steps) as up,
        serving(both_dialects(up.url)) as gateway,
        connected(gateway.port) as client,
    ):
        assert (await ask(gateway.port, post(body))).status == 200  # a connection to the upstream is there
        sent = len(up.raw)
        gateway.ledger.is_slow = True
        await client.send(post(body))
        await given(gateway)
        await asyncio.sleep(MOMENT_S)
        assert len(up.raw) == sent
        gateway.ledger.write()
        await given(gateway)
        assert len(up.requests) == 2
        await asyncio.sleep(MOMENT_S)
        while True:  # what has come so far of the answer
            try:
                client.received += await asyncio.wait_for(client.read(65536), MOMENT_S)
            except TimeoutError:
                break
        assert end not in client.received
        gateway.ledger.write()
        answer = await client.reply()
        assert answer.status == 200
        assert end in answer.body
        gateway.ledger.is_slow = False
        assert (await (await client.send(post(body))).reply()).status == 200


async def test_a_disk_that_refuses_the_opening_stops_the_request() -> None:
    """It shows after the request was accepted: 503 all the same, not a byte upstream, and its connection goes on."""
    async with upstream_server([reply(200, chat_body())]) as up, serving(both_dialects(up.url)) as gateway:
        for body in (BODY, STREAM_BODY):
            gateway.ledger.disk_full = True
            sent = len(up.raw)
            for _ in range(3):
                answer = await ask(gateway.port, post(body))
                assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "ledger_full", "1")
                assert "x-luntrex-upstream-sent" not in answer.headers
            assert len(up.raw) == sent
            gateway.ledger.disk_full = False
            assert (await ask(gateway.port, post(BODY))).status == 200
        assert up.connections == 1
        for outcome in gateway.outcomes:
            if outcome.status == 503:
                assert (outcome.ending, outcome.usage_source, outcome.input_tokens) == (Ending.REFUSED, "none", 0)


async def test_a_client_that_leaves_before_the_opening_is_written_costs_nothing() -> None:
    """Nothing is sent for it, nothing is charged, and the next request gets the connection it had."""
    async with upstream_server([reply(200, chat_body())]) as up, serving(both_dialects(up.url)) as gateway:
        assert (await ask(gateway.port, post())).status == 200
        sent = len(up.raw)
        gateway.ledger.is_slow = True
        async with connected(gateway.port) as client:
            await client.send(post())
            await given(gateway)
        await until(lambda: len(gateway.ledger.settled) == 2)
        gateway.ledger.write()
        gateway.ledger.is_slow = False
        outcome = gateway.outcomes[-1]
        assert (outcome.ending, outcome.usage_source) == (Ending.CLIENT_GONE, UsageSource.NONE.value)
        assert (outcome.input_tokens, outcome.cost_pico) == (0, 0)
        await asyncio.sleep(MOMENT_S)
        assert len(up.raw) == sent
        assert (await ask(gateway.port, post())).status == 200
        assert up.connections == 1


async def test_a_key_that_is_revoked_before_the_opening_is_written_sends_nothing() -> None:
    """The client is told, and no upstream works for it."""
    async with (
        upstream_server([reply(200, chat_body())]) as up,
        serving(both_dialects(up.url)) as gateway,
        connected(gateway.port) as client,
    ):
        assert (await ask(gateway.port, post())).status == 200
        sent = len(up.raw)
        gateway.ledger.is_slow = True
        await client.send(post())
        await given(gateway)
        gateway.pipeline.cut_keys({"k" * 12})
        answer = await client.reply()
        gateway.ledger.write()
        assert (answer.status, answer.code) == (401, "invalid_api_key")  # as the table says it
        await asyncio.sleep(MOMENT_S)
        assert len(up.raw) == sent
        outcome = gateway.outcomes[-1]
        assert (outcome.ending, outcome.usage_source, outcome.cost_pico) == (Ending.CUT, "none", 0)


async def test_a_connection_that_dies_before_the_opening_is_written_is_replaced() -> None:
    """Nothing was sent on it, so it is no attempt: the client, the record and the upstream's health see none of it."""
    async with upstream_server([reply(200, chat_body()), 0.2, CLOSE]) as up, serving(both_dialects(up.url)) as gateway:
        assert (await ask(gateway.port, post())).status == 200
        gateway.ledger.is_slow = True
        async with connected(gateway.port) as client:
            await client.send(post())
            await given(gateway)
            await until(lambda: not up.open)
            await asyncio.sleep(MOMENT_S)
            gateway.ledger.is_slow = False
            gateway.ledger.write()
            answer = await client.reply()
        assert (answer.status, answer.body) == (200, chat_body())
        assert (len(up.requests), up.connections) == (2, 2)
        outcome = gateway.outcomes[-1]
        assert (outcome.ending, outcome.attempts, outcome.upstream) == (Ending.COMPLETE, 1, "a")
        assert [each.request_id for each in gateway.ledger.opened].count(outcome.request_id) == 1


async def test_a_dead_connection_that_cannot_be_replaced_is_one_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known against the upstream is that it could not be reached; its breaker counts that once."""

    async def refuse(_dialer: Dialer, _make: object) -> None:
        raise ConnectionRefusedError

    async with upstream_server([reply(200, chat_body()), 0.2, CLOSE]) as up, serving(both_dialects(up.url)) as gateway:
        assert (await ask(gateway.port, post())).status == 200
        gateway.ledger.is_slow = True
        async with connected(gateway.port) as client:
            await client.send(post())
            await given(gateway)
            monkeypatch.setattr(Dialer, "connect", refuse)
            await until(lambda: not up.open)
            await asyncio.sleep(MOMENT_S)
            gateway.ledger.is_slow = False
            gateway.ledger.write()
            answer = await client.reply()
        assert (answer.status, answer.code) == (502, "upstream_unreachable")
        assert gateway.pipeline.routing.upstreams["a"].health.streak == 1
        assert gateway.outcomes[-1].usage_source == "none"


async def test_an_answer_on_record_is_not_cut_any_more() -> None:
    """A key that is revoked, or a drain that ends, while its record is being written: the client gets what it says."""
    async with (
        upstream_server([reply(200, chat_body())]) as up,
        serving(both_dialects(up.url)) as gateway,
        connected(gateway.port) as client,
    ):
        gateway.ledger.is_slow = True
        await client.send(post())
        await given(gateway)
        gateway.ledger.write()
        await given(gateway)  # its end
        gateway.pipeline.cut_keys({"k" * 12})
        gateway.pipeline.cut_all()
        gateway.ledger.write()
        answer = await client.reply()
        assert (answer.status, answer.body) == (200, chat_body())
        (outcome,) = gateway.outcomes
        assert outcome.ending == Ending.COMPLETE


async def test_a_client_that_leaves_before_its_answer_is_let_go_harms_nobody() -> None:
    """Its answer is on record as whole; nothing is written to a connection that is gone, nothing stays behind."""
    broken: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: broken.append(what["message"]))
    async with upstream_server([reply(200, chat_body())]) as up, serving(both_dialects(up.url)) as gateway:
        gateway.ledger.is_slow = True
        async with connected(gateway.port) as client:
            await client.send(post())
            await given(gateway)
            gateway.ledger.write()
            await given(gateway)
        await until(lambda: not gateway.pipeline.connections)
        gateway.ledger.write()
        assert not gateway.pipeline.inflight
        gateway.ledger.is_slow = False
        assert (await ask(gateway.port, post())).status == 200
        assert [outcome.ending for outcome in gateway.outcomes] == [Ending.COMPLETE] * 2
    assert not broken


async def test_pipelined_requests_wait_for_the_answer_on_record() -> None:
    """In order, one at a time, however long a record takes; a close that was asked for comes after the last byte."""
    async with (
        upstream_server([reply(200, chat_body())]) as up,
        serving(both_dialects(up.url)) as gateway,
        connected(gateway.port) as client,
    ):
        gateway.ledger.is_slow = True
        closing = post().replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        await client.send(post() + closing)
        for _ in range(4):
            await given(gateway)
            assert len(gateway.ledger.unwritten) == 1
            gateway.ledger.write()
        for _ in range(2):
            assert (await client.reply()).body == chat_body()
        assert await client.read(1) == b""
