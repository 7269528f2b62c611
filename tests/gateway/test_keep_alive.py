"""Comments that keep a silent stream alive: where they may stand, where never, and what they leave alone."""

import asyncio
from typing import Any

import anthropic
import openai
import pytest

from luntrex_proxy.core.outcome import Ending, UsageSource
from tests.fakes import KEY, both_dialects, serving
from tests.gateway.test_backpressure import narrow
from tests.gateway.wire import (
    HANG,
    LAST_CHUNK,
    MESSAGES,
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
from tests.upstreams.bodies import DONE, chat_delta, chat_events, chat_usage, event, message_events, response_events

COMMENT = b": keep-alive\n\n"
QUICK = {"sse_keep_alive_s": 0.3}
STREAMS = {
    "chat": (post(STREAM_BODY), chat_events()),
    "responses": (post(b'{"model":"m","stream":true,"input":"x"}', path=RESPONSES), response_events()),
    "messages": (post(b'{"model":"claude","stream":true}', path=MESSAGES), message_events()),
}


@pytest.mark.parametrize("dialect", STREAMS)
async def test_a_silent_stream_gets_comments_between_events(dialect: str) -> None:
    """They come while the upstream says nothing, also before its first event, and change nothing else."""
    request, events = STREAMS[dialect]
    middle = len(events) // 2
    steps = [sse_head(), 2.0, *map(chunk, events[:middle]), 1.2, *map(chunk, events[middle:]), LAST_CHUNK]
    async with (
        upstream_server(steps) as up,
        serving(both_dialects(up.url, inject_usage=False), timeouts=QUICK) as gateway,
        connected(gateway.port) as client,
    ):
        answer = await (await client.send(request)).reply()
        assert answer.body.startswith(COMMENT), "none before the first event"
        assert answer.body.replace(COMMENT, b"") == b"".join(events)
        assert 3 <= answer.body.count(COMMENT) <= 8
        outcome = await gateway.outcome()
        assert (outcome.code, outcome.usage_source) == ("ok", UsageSource.REPORTED)


async def test_a_lively_stream_gets_none() -> None:
    """Each read of the upstream starts the silence anew."""
    steps: list[Step] = [sse_head()]
    for _ in range(12):
        steps += [chunk(chat_delta("a")), 0.1]
    async with (
        upstream_server([*steps, chunk(DONE), LAST_CHUNK]) as up,
        serving(both_dialects(up.url), timeouts={"sse_keep_alive_s": 0.6}) as gateway,
        connected(gateway.port) as client,
    ):
        assert COMMENT not in (await (await client.send(post(STREAM_BODY))).reply()).body


async def test_none_stands_inside_an_event() -> None:
    """Half an event of a usual size is held back, so a comment may go; inside a very large one nothing may."""
    large = event("response.image_generation_call.partial_image", sequence_number=1, partial_image_b64="A" * 700_000)
    small = response_events()[0]
    steps = [sse_head(), chunk(large[:400_000]), 1.2, chunk(large[400_000:]), chunk(small[:50]), 1.2,
             chunk(small[50:]), chunk(response_events()[-1]), LAST_CHUNK]  # fmt: skip
    async with (
        upstream_server(steps) as up,
        serving(both_dialects(up.url), timeouts=QUICK) as gateway,
        connected(gateway.port) as client,
    ):
        answer = await (await client.send(STREAMS["responses"][0])).reply()
        assert answer.body.startswith(large)
        rest = answer.body[len(large) :]
        assert rest.replace(COMMENT, b"") == small + response_events()[-1]
        assert rest.startswith(COMMENT)


async def test_an_event_that_drips_in_is_silence_to_the_client() -> None:
    """What is held back of it is nothing the client has, so comments come: as many as without a byte."""
    slow = chat_delta("x" * 40)
    drops: list[Step] = [step for at in range(0, len(slow) - 2, 5) for step in (chunk(slow[at : at + 5]), 0.07)]
    left = slow[5 * len(range(0, len(slow) - 2, 5)) :]
    steps = [sse_head(), chunk(chat_delta("a")), *drops, *([chunk(left)] if left else []), chunk(DONE), LAST_CHUNK]
    async with (
        upstream_server(steps) as up,
        serving(both_dialects(up.url), timeouts=QUICK) as gateway,
        connected(gateway.port) as client,
    ):
        answer = await (await client.send(post(STREAM_BODY))).reply()
        assert answer.body.replace(COMMENT, b"") == chat_delta("a") + slow + DONE
        assert 3 <= answer.body.count(COMMENT) <= 9
        assert (await gateway.outcome()).code == "ok"


async def test_events_that_are_withheld_are_silence_too() -> None:
    """The usage of every event is wanted by us alone: nothing goes to the client, so comments do."""
    steps: list[Step] = [sse_head(), chunk(chat_delta("a"))]
    for _ in range(20):
        steps += [chunk(chat_usage()), 0.1]
    async with (
        upstream_server([*steps, chunk(DONE), LAST_CHUNK]) as up,
        serving(both_dialects(up.url), timeouts=QUICK) as gateway,
        connected(gateway.port) as client,
    ):
        answer = await (await client.send(post(STREAM_BODY))).reply()
        assert answer.body.replace(COMMENT, b"") == chat_delta("a") + DONE
        assert answer.body.count(COMMENT) >= 3


async def test_they_do_not_keep_a_dead_upstream_alive() -> None:
    """The idle limit counts the upstream's silence alone; nothing follows the error event."""
    async with (
        upstream_server([sse_head(), chunk(chat_delta("a")), HANG]) as up,
        serving(both_dialects(up.url, idle_s=1.2), timeouts=QUICK) as gateway,
        connected(gateway.port) as client,
    ):
        answer = await asyncio.wait_for((await client.send(post(STREAM_BODY))).reply(), 4)
        assert COMMENT in answer.body
        assert answer.body.rpartition(COMMENT)[2].startswith(b'data: {"error":')
        assert (await gateway.outcome()).code == "upstream_timeout"
        await asyncio.sleep(0.8)
        assert client.received == b""
        client.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.socket.recv(100)


@pytest.mark.parametrize("value", [0, None])
async def test_they_can_be_switched_off(value: float | None) -> None:
    """0 or null: never."""
    async with (
        upstream_server([sse_head(), chunk(chat_delta("a")), 1.0, chunk(DONE), LAST_CHUNK]) as up,
        serving(both_dialects(up.url)) as gateway,
        connected(gateway.port) as client,
    ):
        gateway.pipeline.timeouts = gateway.pipeline.timeouts.model_copy(update={"sse_keep_alive_s": value})
        assert COMMENT not in (await (await client.send(post(STREAM_BODY))).reply()).body


async def test_json_gets_none() -> None:
    """Only a stream has a place for comments."""
    body = b'{"a":"' + b"x" * 100_000 + b'"}'
    steps = [head(200, "Content-Type: application/json", f"Content-Length: {len(body)}"), body[:80_000], 1.0,
             body[80_000:]]  # fmt: skip
    async with (
        upstream_server(steps) as up,
        serving(both_dialects(up.url), timeouts=QUICK) as gateway,
        connected(gateway.port) as client,
    ):
        assert (await (await client.send(post())).reply()).body == body


async def test_a_client_that_does_not_read_gets_none_and_is_still_cut() -> None:
    """Comments do not fill a full buffer, and do not move the write stall clock."""
    steps = [sse_head(), *[chunk(chat_delta("x" * 60_000))] * 200, HANG]
    async with (
        upstream_server(steps) as up,
        serving(both_dialects(up.url), timeouts=QUICK | {"write_stall_s": 1}) as gateway,
        narrow(gateway) as client,
    ):
        await client.send(post(STREAM_BODY))
        await up.wait_closed()
        assert (await gateway.outcome()).ending == Ending.CLIENT_GONE


async def test_they_go_on_after_a_slow_reader_has_caught_up() -> None:
    """A pause of the client's does not end them."""
    large = chat_delta("x" * 60_000)
    steps = [sse_head(), *[chunk(large)] * 20, 1.5, chunk(DONE), LAST_CHUNK]
    async with (
        upstream_server(steps) as up,
        serving(both_dialects(up.url), timeouts=QUICK) as gateway,
        narrow(gateway) as client,
    ):
        await client.send(post(STREAM_BODY))
        await asyncio.sleep(0.5)
        answer = await client.reply()
        assert answer.body.replace(COMMENT, b"") == large * 20 + DONE
        assert COMMENT in answer.body


async def test_the_sdks_skip_them() -> None:
    """The real clients of both dialects read through comments, before and between events."""

    def script(request: Any) -> list[Step]:
        name = "messages" if "/messages" in request.line else "responses" if "/resp" in request.line else "chat"
        events = STREAMS[name][1]
        return [sse_head(), 1.5, *map(chunk, events[:4]), 0.8, *map(chunk, events[4:]), LAST_CHUNK]

    said: list[Any] = [{"role": "user", "content": "hi"}]
    async with upstream_server(script) as up, serving(both_dialects(up.url), timeouts=QUICK) as gateway:
        url = f"http://127.0.0.1:{gateway.port}"
        async with (
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as one,
            anthropic.AsyncAnthropic(base_url=url, api_key=KEY, max_retries=0) as two,
        ):
            chats = [part async for part in await one.chat.completions.create(model="m", messages=said, stream=True)]
            parts = [part async for part in await one.responses.create(model="m", input="hi", stream=True)]
            pieces = [
                part
                async for part in await two.messages.create(model="claude", max_tokens=9, messages=said, stream=True)
            ]
        assert "".join(part.choices[0].delta.content or "" for part in chats if part.choices) == "word0 word1 word2 "
        assert parts[-1].type == "response.completed"
        assert pieces[-1].type == "message_stop"
        await gateway.outcome(3)
