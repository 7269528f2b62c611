"""Whatever byte an upstream's answer ends at: the client has whole events, then the true end or one error event.

JSON has no error event: it is a real status while nothing was sent, and visibly incomplete after that.
"""

import json

import pytest

from luntrex_proxy.core.outcome import Ending, UsageSource
from luntrex_proxy.core.refusals import REFUSALS
from tests.core.wire.samples import SAMPLES
from tests.fakes import Gateway, both_dialects, serving
from tests.gateway.cuts import HOWS, cuts, judge
from tests.gateway.wire import (
    CLOSE,
    HANG,
    LAST_CHUNK,
    MESSAGES,
    RESET,
    RESPONSES,
    STREAM_BODY,
    Step,
    chunk,
    connected,
    head,
    post,
    sse_head,
    upstream_server,
)
from tests.upstreams.bodies import DONE, chat_body, chat_delta, event, message_body, message_events, response_body

JSON = "Content-Type: application/json"
TE = "Transfer-Encoding: chunked"


@pytest.mark.parametrize("how", HOWS)
async def test_every_cut_of_every_sample(how: str) -> None:
    """Around every end of an event and at bytes in between (`tests/long/every_cut.py` takes each byte)."""
    cases = list(cuts(211, hows=[how]))
    counted = await judge(cases)
    assert sum(counted.values()) == len(cases)
    assert counted["ok"] >= sum(sample.complete and not sample.failed for sample in SAMPLES)


WHOLE = {
    "chat": (post(), chat_body()),
    "messages": (post(b'{"model":"claude"}', path=MESSAGES), message_body()),
    "responses": (post(b'{"model":"m","input":"x"}', path=RESPONSES), response_body()),
}


def json_steps(body: bytes, at: int, framing: str) -> list[Step]:
    """A JSON answer that ends after `at` bytes."""
    part = body[:at]
    return {
        "length": [head(200, JSON, f"Content-Length: {len(body)}") + part, CLOSE],
        "chunk": [head(200, JSON, TE), *([chunk(part)] if part else []), CLOSE],
        "ended": [head(200, JSON, TE), *([chunk(part)] if part else []), LAST_CHUNK],
        "close": [head(200, JSON, "Connection: close") + part, CLOSE],
        "reset": [head(200, JSON, f"Content-Length: {len(body)}") + part, 0.002, RESET],
    }[framing]


@pytest.mark.parametrize("framing", ["length", "chunk", "ended", "close", "reset"])
@pytest.mark.parametrize("dialect", WHOLE)
async def test_every_cut_of_a_json_answer(dialect: str, framing: str) -> None:
    """It is whole, or a 502 in the client's dialect: never a 200 that an SDK would fail to read, or half read."""
    request, body = WHOLE[dialect]
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway, connected(gateway.port) as client:
        for count, at in enumerate([*range(0, len(body), 5), len(body) - 1, len(body)], start=1):
            up.queue.append(json_steps(body, at, framing))
            answer = await (await client.send(request)).reply()
            outcome = await gateway.outcome(count)
            if at == len(body) and framing != "chunk":
                assert (answer.status, answer.body, outcome.code) == (200, body, "ok")
                assert outcome.usage_source == UsageSource.REPORTED
                continue
            assert (answer.status, outcome.status, outcome.ending) == (502, 502, Ending.UPSTREAM_FAILED)
            assert outcome.code in ("upstream_cut", "upstream_invalid")
            assert answer.json()["error"]["message"] == REFUSALS[outcome.code].sentence
            assert outcome.usage_source == (UsageSource.ESTIMATED if at else UsageSource.UNKNOWN)
            assert ("type" in answer.json()) == (dialect == "messages")


BIG_CHAT = chat_body("x" * 200_000)


@pytest.mark.parametrize("framing", ["length", "chunk", "ended", "close", "reset"])
@pytest.mark.parametrize("at", [70_000, 130_000, len(BIG_CHAT) - 10])
async def test_a_large_json_answer_that_is_cut_never_looks_whole(framing: str, at: int) -> None:
    """Its head went out already, so the body stays incomplete: no last chunk, or fewer bytes than were said."""
    async with upstream_server(json_steps(BIG_CHAT, at, framing)) as up, serving(both_dialects(up.url)) as gateway:
        async with connected(gateway.port) as client:
            received = await (await client.send(post())).read_all()
        outcome = await gateway.outcome()
        assert (outcome.code, outcome.ending) == ("upstream_cut", Ending.UPSTREAM_FAILED)
        assert outcome.usage_source != UsageSource.REPORTED
        assert not received.endswith(LAST_CHUNK)
        top, _, body = received.partition(b"\r\n\r\n")
        if top.startswith(b"HTTP/1.1 200"):
            assert b"chunked" in top or len(body) < len(BIG_CHAT)


def whole_json(body: bytes, framing: str) -> list[Step]:
    """A JSON answer whose framing says that it is whole."""
    return {
        "length": [head(200, JSON, f"Content-Length: {len(body)}") + body],
        "ended": [head(200, JSON, TE), chunk(body[:50_000]), 0.02, chunk(body[50_000:]), LAST_CHUNK],
        "close": [head(200, JSON, "Connection: close") + body, 0.02, CLOSE],
    }[framing]


@pytest.mark.parametrize("framing", ["length", "ended", "close"])
async def test_a_large_json_answer_is_looked_at_whatever_its_framing_says(framing: str) -> None:
    """An upstream that counted its bytes well may still have written half an object, or two."""
    nested = BIG_CHAT[:-1] + b', "x": {"a": [{"b": 1}]}, "y": {}}'
    inner = nested.index(b"1}]}")
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        for count, (body, code) in enumerate(
            [
                (nested, "ok"),
                (nested + b"\n \n", "ok"),
                (nested[: inner + 2], "upstream_cut"),
                (nested[: inner + 4], "upstream_cut"),
                (nested[:-1], "upstream_cut"),
                (nested + b"}", "upstream_invalid"),
                (nested + nested, "upstream_invalid"),
            ],
            start=1,
        ):
            up.script = whole_json(body, framing)
            async with connected(gateway.port) as client:
                await client.send(post(b'{"model":"m","messages":[]}', "Connection: close"))
                if code == "ok":
                    assert (await client.reply()).body == body
                else:
                    top, _, received = (await client.read_all()).partition(b"\r\n\r\n")
                    assert len(received) < len(body) if b"Content-Length" in top else not received.endswith(LAST_CHUNK)
            outcome = await gateway.outcome(count)
            assert outcome.code == code, body[-40:]
            assert outcome.ending == (Ending.COMPLETE if code == "ok" else Ending.UPSTREAM_FAILED)


@pytest.mark.parametrize("framing", ["length", "ended", "close"])
async def test_a_large_answer_that_is_no_object_has_a_real_status(framing: str) -> None:
    """Its first byte says so, and nothing was sent yet."""
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway, connected(gateway.port) as client:
        for count, body in enumerate([b"<html>" * 20_000, b"[" + BIG_CHAT + b"]", b" " * 100_000], start=1):
            up.script = whole_json(body, framing)
            answer = await (await client.send(post())).reply()
            outcome = await gateway.outcome(count)
            assert (answer.status, answer.json()["error"]["code"], outcome.code) == (502, *["upstream_invalid"] * 2)


def choice(index: int, text: str, finish: str | None = None) -> bytes:
    """A chat event of one of several choices."""
    part = {"index": index, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [part]}).encode() + b"\n\n"


@pytest.mark.parametrize("chunked", [True, False])
async def test_one_choice_of_two_that_has_ended_is_no_whole_stream(chunked: bool) -> None:
    """Without `[DONE]` a stream is whole only when every choice that began has its finish_reason."""
    events = [choice(0, "a"), choice(1, "b"), choice(0, "", "stop"), choice(1, "half")]
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        for more, code in (([], "upstream_cut"), ([choice(1, "", "stop")], "ok")):
            parts = [*map(chunk, events + more), LAST_CHUNK] if chunked else [*events, *more, 0.02, CLOSE]
            up.script = [sse_head(chunked=chunked), *parts]
            async with connected(gateway.port) as client:
                answer = await (await client.send(post(STREAM_BODY))).reply()
            assert gateway.outcomes[-1].code == code
            assert (b'"upstream_cut"' in answer.body) is (code != "ok")


# An event of 700 KB: larger than what is held, so its first bytes have gone to the client when it is cut.
LARGE_EVENT = event("response.image_generation_call.partial_image", sequence_number=1, partial_image_b64="A" * 700_000)
RESPONSES_STREAM = post(b'{"model":"m","stream":true,"input":"x"}', path=RESPONSES)


async def stream_bytes(gateway: Gateway, request: bytes) -> bytes:
    """Everything of one answer on the wire; the connection has ended."""
    async with connected(gateway.port) as client:
        return await (await client.send(request)).read_all()


@pytest.mark.parametrize("end", [CLOSE, RESET, HANG, LAST_CHUNK])
async def test_a_cut_inside_a_very_large_event_breaks_the_body(end: Step) -> None:
    """Nothing can follow half an event, so the chunked body has no end: every client sees that."""
    steps = [sse_head(), chunk(LARGE_EVENT[:500_000]), 0.05, end]
    async with upstream_server(steps) as up, serving(both_dialects(up.url, idle_s=0.5)) as gateway:
        received = await stream_bytes(gateway, RESPONSES_STREAM)
        assert received.startswith(b"HTTP/1.1 200")
        assert not received.endswith(LAST_CHUNK)
        assert b'"type":"error"' not in received
        outcome = await gateway.outcome()
        assert outcome.ending == Ending.UPSTREAM_FAILED
        assert outcome.code == ("upstream_timeout" if end == HANG else "upstream_cut")


async def test_a_cut_behind_a_very_large_event_has_its_error_event() -> None:
    """Once the large event is whole the stream can tell again."""
    steps = [sse_head(), chunk(LARGE_EVENT), 0.05, CLOSE]
    async with upstream_server(steps) as up, serving(both_dialects(up.url)) as gateway:
        async with connected(gateway.port) as client:
            answer = await (await client.send(RESPONSES_STREAM)).reply()
        assert answer.body.startswith(LARGE_EVENT)
        assert json.loads(answer.body[len(LARGE_EVENT) :].partition(b"data: ")[2])["type"] == "error"


async def test_an_http_1_0_client_sees_a_broken_stream_as_such() -> None:
    """Its body ends with the connection: the error event goes before a FIN, and half an event ends in a reset."""
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        up.script = [sse_head(), chunk(chat_delta("a")), CLOSE]
        answer = await stream_bytes(gateway, post(STREAM_BODY, version="1.0"))
        assert json.loads(answer.rpartition(b"data: ")[2])["error"]["code"] == "upstream_cut"
        up.script = [sse_head(), chunk(LARGE_EVENT[:500_000]), 0.05, CLOSE]
        async with connected(gateway.port) as client:
            await client.send(RESPONSES_STREAM.replace(b"HTTP/1.1", b"HTTP/1.0"))
            await client.read_until(b"AAAA")
            assert await ends_with_reset(client.socket)


async def ends_with_reset(sock: object) -> bool:
    """Whether the connection under a socket ends with a reset rather than a FIN."""
    import asyncio

    loop = asyncio.get_running_loop()
    try:
        while await asyncio.wait_for(loop.sock_recv(sock, 1 << 20), 5):  # type: ignore[arg-type] -- a socket
            pass
    except ConnectionResetError:
        return True
    return False


async def test_nothing_follows_the_true_end() -> None:
    """What an upstream sends behind its terminal event, an error included, reaches nobody."""
    after = b'data: {"error":{"message":"late"}}\n\n'
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        for behind in (after, DONE, chat_delta("more"), b"\n\n\n", b"<html>"):
            up.script = [sse_head(), chunk(chat_delta("a", "stop") + DONE + behind), chunk(behind), CLOSE]
            async with connected(gateway.port) as client:
                answer = await (await client.send(post(STREAM_BODY))).reply()
                assert answer.body == chat_delta("a", "stop") + DONE
                assert client.received == b""
        assert {outcome.code for outcome in gateway.outcomes} == {"ok"}


async def test_usage_is_counted_up_to_the_cut() -> None:
    """A message that breaks has its input from `message_start`, and a quarter of the bytes of its words as output."""
    events = message_events(20)[:15]
    text_bytes = len("".join(f"word{n} " for n in range(12)))  # three events before them have no words
    async with (
        upstream_server([sse_head(), *map(chunk, events), CLOSE]) as up,
        serving(both_dialects(up.url)) as gateway,
        connected(gateway.port) as client,
    ):
        await (await client.send(post(b'{"model":"claude","stream":true}', path=MESSAGES))).reply()
        outcome = await gateway.outcome()
        assert outcome.usage_source == UsageSource.ESTIMATED
        assert outcome.tokens.input == 21
        assert outcome.tokens.cached_input == 6
        assert outcome.events == 15
        assert outcome.tokens.output == -(-text_bytes // 4) == 19
        assert outcome.cost_pico == 3 * 21 + 5 * 19
