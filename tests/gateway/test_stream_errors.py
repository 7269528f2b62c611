"""Errors that an upstream puts elsewhere than SDKs look: the record says failed, and the real SDK raises."""

from typing import Any

import openai
import pytest

from luntrex_proxy.core.outcome import Ending
from tests.core.wire.test_chat_streams import ERRORS
from tests.fakes import KEY, both_dialects, serving
from tests.gateway.wire import LAST_CHUNK, STREAM_BODY, ask, chunk, post, sse_head, upstream_server
from tests.upstreams.bodies import DONE, chat_delta


@pytest.mark.parametrize("kind", ERRORS)
async def test_the_sdk_raises(kind: str) -> None:
    """After the text that came before, with the upstream's words; `[DONE]` behind it does not make it good."""
    event, told = ERRORS[kind]
    steps = [sse_head(), chunk(chat_delta("a")), chunk(event), chunk(DONE), LAST_CHUNK]
    async with upstream_server(steps) as up, serving(both_dialects(up.url)) as gateway:
        url = f"http://127.0.0.1:{gateway.port}/v1"
        texts = []

        async def read(client: openai.AsyncOpenAI) -> None:
            said: Any = [{"role": "user", "content": "x"}]
            async for part in await client.chat.completions.create(model="m", messages=said, stream=True):
                texts.append(part.choices[0].delta.content)

        async with openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
            with pytest.raises(openai.APIError) as raised:
                await read(client)
        assert texts == ["a"]
        assert raised.value.message == told["message"]
        outcome = await gateway.outcome()
        assert (outcome.code, outcome.ending) == ("upstream_error", Ending.UPSTREAM_FAILED)


async def test_the_first_event_gives_its_status() -> None:
    """Nothing was sent: what the error says of its status becomes the answer's."""
    for kind, status in (("in a choice", 502), ("object", 500)):
        steps = [sse_head(), chunk(ERRORS[kind][0]), chunk(DONE), LAST_CHUNK]
        async with upstream_server(steps) as up, serving(both_dialects(up.url)) as gateway:
            answer = await ask(gateway.port, post(STREAM_BODY))
            assert (answer.status, answer.json()) == (status, {"error": ERRORS[kind][1]})
