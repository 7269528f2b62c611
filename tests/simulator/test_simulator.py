"""The simulated provider as the real SDKs see it, and what only raw bytes show."""

import http.client
import itertools
import json
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from luntrex_proxy.simulator import ANTHROPIC_MODELS, OPENAI_MODELS
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.simulated import SECRET, SimulatedUpstream
from tests.whole import calls
from tests.whole.tokens import Tokens


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatedUpstream]:
    thread = LoopThread()
    simulated = SimulatedUpstream(thread)
    yield simulated
    simulated.stop()
    thread.stop()


def post(url: str, path: str, body: Any, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """One raw request with the right secret."""
    connection = http.client.HTTPConnection(url.removeprefix("http://").removesuffix("/v1"), timeout=10)
    try:
        sent = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"} | headers
        connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body), sent)
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("call", calls.OPENAI_CALLS, ids=calls.name_of)
async def test_openai_sdk_gets_the_same_answer_twice(simulator: SimulatedUpstream, call: calls.Call, kind: str) -> None:
    """Each OpenAI call works, with the SDK's own types, and the same request gets the same text and tokens."""
    client = calls.openai_client(simulator.url, SECRET, kind)
    first, second = await call(client, "demo-small"), await call(client, "demo-small")
    await calls.close(client)
    assert first.text
    assert (first.text, first.tokens, first.finish) == (second.text, second.tokens, second.finish)
    assert first.model == "demo-small"
    assert first.request_id.startswith("req_")
    assert first.request_id != second.request_id


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("call", calls.ANTHROPIC_CALLS, ids=calls.name_of)
async def test_anthropic_sdk_gets_the_same_answer_twice(
    simulator: SimulatedUpstream, call: calls.Call, kind: str
) -> None:
    """Each Anthropic call works, with the SDK's own types, and the same request gets the same text and tokens."""
    client = calls.anthropic_client(simulator.url, SECRET, kind)
    first, second = await call(client, "demo-claude"), await call(client, "demo-claude")
    await calls.close(client)
    assert first.text
    assert (first.text, first.tokens, first.finish) == (second.text, second.tokens, second.finish)
    assert first.other_request_id.startswith("req_")


async def test_streamed_and_whole_say_the_same(simulator: SimulatedUpstream) -> None:
    """A streamed answer adds up to the whole one, text and tokens, in each dialect."""
    client, claude = calls.openai_client(simulator.url, SECRET), calls.anthropic_client(simulator.url, SECRET)
    pairs = [
        (await calls.chat(client, "demo-small"), await calls.chat_stream_usage(client, "demo-small")),
        (await calls.response(client, "demo-small"), await calls.response_stream(client, "demo-small")),
        (await calls.message(claude, "demo-claude"), await calls.message_stream(claude, "demo-claude")),
    ]
    for whole, streamed in pairs:
        assert whole.text == streamed.text
        assert whole.tokens == streamed.tokens


def test_counts_ignore_what_a_proxy_may_splice(simulator: SimulatedUpstream) -> None:
    """Tokens depend on what was said, not on `model`, `store`, `user` or `stream_options`."""
    said = {"messages": [{"role": "user", "content": "hello " * 40}]}
    counted = []
    for more in ({"model": "demo-small"}, {"model": "demo-large", "store": False, "user": "u" * 100}):
        _, _, body = post(simulator.url, "/v1/chat/completions", said | more)
        counted.append(json.loads(body)["usage"])
    assert counted[0] == counted[1]
    assert counted[0]["prompt_tokens"] == 1 + len(json.dumps(said["messages"])) // 4


def test_long_prompts_are_partly_cached_and_effort_reasons(simulator: SimulatedUpstream) -> None:
    """Usage has a cached class for a long prompt and a reasoning class when effort was asked for."""
    said = {"model": "demo-small", "messages": [{"role": "user", "content": "x" * 8000}], "reasoning_effort": "high"}
    _, _, body = post(simulator.url, "/v1/chat/completions", said)
    usage = json.loads(body)["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 896
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 256
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_claude_counts_cache_and_thinking_apart(simulator: SimulatedUpstream) -> None:
    """Anthropic's usage: input excludes what the cache read and wrote, thinking is part of the output."""
    client = calls.anthropic_client(simulator.url, SECRET)
    cached = await calls.message_cached(client, "demo-claude")
    thinking = await calls.message_thinking(client, "demo-claude")
    assert isinstance(cached.tokens, Tokens)
    assert isinstance(thinking.tokens, Tokens)
    assert 0 < cached.tokens.cache_write < cached.tokens.cached < cached.tokens.input
    assert 0 < thinking.tokens.reasoning < thinking.tokens.output


def _events(body: bytes) -> list[bytes]:
    assert body.endswith(b"\n\n")
    return body.split(b"\n\n")[:-1]


def test_include_usage_is_exactly_openais(simulator: SimulatedUpstream) -> None:
    """Asked for: `usage: null` on each chunk, then one chunk with `choices: []`. Not asked for: no `usage` anywhere."""
    said: dict[str, Any] = {"model": "demo-small", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    _, headers, body = post(simulator.url, "/v1/chat/completions", said)
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    *chunks, done = _events(body)
    assert done == b"data: [DONE]"
    assert all("usage" not in json.loads(chunk[6:]) for chunk in chunks)
    assert all(json.loads(chunk[6:])["obfuscation"] for chunk in chunks)

    options = {"include_usage": True, "include_obfuscation": False}
    _, _, body = post(simulator.url, "/v1/chat/completions", said | {"stream_options": options})
    *chunks, last, _ = [json.loads(event[6:]) if event != b"data: [DONE]" else {} for event in _events(body)]
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == sum(1 for c in chunks if c["choices"][0]["delta"].get("content"))
    assert all("obfuscation" not in chunk for chunk in [*chunks, last])


def test_responses_events_are_numbered(simulator: SimulatedUpstream) -> None:
    """Responses: sequence numbers without a gap, an empty output at first, the terminal event last, no `[DONE]`."""
    _, _, body = post(
        simulator.url,
        "/v1/responses",
        {"model": "demo-large", "input": "hi", "stream": True, "reasoning": {"effort": "low"}},
    )
    events = [json.loads(event.split(b"data: ", 1)[1]) for event in _events(body)]
    names = [event.split(b"\n")[0].removeprefix(b"event: ").decode() for event in _events(body)]
    assert names == [event["type"] for event in events]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[0]["type"] == "response.created"
    assert events[0]["response"]["output"] == []
    assert events[0]["response"]["usage"] is None
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["reasoning", "message"]
    assert events[-1]["type"] == "response.completed"


def test_messages_events_come_in_anthropics_order(simulator: SimulatedUpstream) -> None:
    """Messages: start, block with a ping, delta with usage, stop; thinking comes first and is signed."""
    asked = {
        "model": "demo-claude",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "thinking": {"type": "adaptive"},
    }
    _, headers, body = post(simulator.url, "/v1/messages", asked, **{"anthropic-version": "2026-10-21"})
    events = [json.loads(event.split(b"data: ", 1)[1]) for event in _events(body)]
    kinds = [kind for kind, _ in itertools.groupby(event["type"] for event in events)]
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert kinds == ["message_start", block[0], "ping", *block[1:], *block, "message_delta", "message_stop"]
    assert events[-3]["type"] == "content_block_stop"
    deltas = [event["delta"]["type"] for event in events if event["type"] == "content_block_delta"]
    assert [kind for kind, _ in itertools.groupby(deltas)] == ["thinking_delta", "signature_delta", "text_delta"]
    assert headers["request-id"].startswith("req_")


def test_max_tokens_cuts_the_answer(simulator: SimulatedUpstream) -> None:
    """A limit shortens the answer and says so, in each dialect's words."""
    said = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    _, _, body = post(simulator.url, "/v1/chat/completions", said | {"model": "demo-small"})
    assert json.loads(body)["choices"][0]["finish_reason"] == "length"
    assert json.loads(body)["usage"]["completion_tokens"] == 3
    _, _, body = post(
        simulator.url, "/v1/messages", said | {"model": "demo-claude"}, **{"anthropic-version": "2026-10-21"}
    )
    assert json.loads(body)["stop_reason"] == "max_tokens"


def test_models(simulator: SimulatedUpstream) -> None:
    """Each dialect lists and gets its own models."""
    client, claude = calls.openai_client(simulator.url, SECRET), calls.anthropic_client(simulator.url, SECRET)
    assert tuple(model.id for model in client.models.list()) == OPENAI_MODELS
    assert client.models.retrieve("demo-small").id == "demo-small"
    assert tuple(model.id for model in claude.models.list()) == ANTHROPIC_MODELS
    assert claude.models.retrieve("demo-claude").type == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("demo-claude")
    with pytest.raises(anthropic.NotFoundError):
        claude.models.retrieve("demo-small")


async def test_wrong_secret_and_unknown_model_raise_their_exceptions(simulator: SimulatedUpstream) -> None:
    """Errors come in the dialect that was spoken, so that the SDKs raise their proper exceptions."""
    client, claude = calls.openai_client(simulator.url, SECRET), calls.anthropic_client(simulator.url, SECRET)
    with pytest.raises(openai.NotFoundError) as not_found:
        await calls.chat(client, "gpt-unknown")
    assert not_found.value.code == "model_not_found"
    with pytest.raises(anthropic.NotFoundError) as claude_not_found:
        await calls.message(claude, "claude-unknown")
    assert claude_not_found.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(openai.AuthenticationError):
        await calls.chat(calls.openai_client(simulator.url, "wrong"), "demo-small")
    with pytest.raises(anthropic.AuthenticationError):
        await calls.message(calls.anthropic_client(simulator.url, "wrong"), "demo-claude")


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/v1/chat/completions", b"{not json", {}, 400),
        ("/v1/chat/completions", b'{"model":"demo-small"}', {}, 400),
        ("/v1/chat/completions", b'{"model":7}', {}, 400),
        ("/v1/messages", b'{"model":"demo-claude","max_tokens":1,"messages":[]}', {}, 400),
        ("/v1/messages", b'{"model":"demo-claude","messages":[]}', {"anthropic-version": "2026-10-21"}, 400),
        ("/v1/nothing", b"{}", {}, 404),
    ],
    ids=["not-json", "nothing-said", "wrong-type", "no-version", "no-max-tokens", "unknown-path"],
)
def test_bad_requests_are_refused(
    simulator: SimulatedUpstream, path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    """What a provider refuses is refused, in the dialect's envelope, with nothing of the request in it."""
    got, _, answer = post(simulator.url, path, body, **headers)
    assert got == status
    assert "error" in json.loads(answer)
    assert b"demo-" not in answer


def test_tokens_are_paced() -> None:
    """With a gap, tokens come one after the other and the first one does not wait for the last."""
    thread = LoopThread()
    simulator = SimulatedUpstream(thread, token_gap_seconds=0.02)
    started = time.monotonic()
    client = calls.openai_client(simulator.url, SECRET)
    messages: Any = [{"role": "user", "content": "hi"}]
    arrived = [
        time.monotonic() - started
        for _ in client.chat.completions.create(model="demo-small", messages=messages, stream=True)
    ]
    simulator.stop()
    thread.stop()
    assert arrived[-1] - arrived[0] >= 0.02 * (len(arrived) - 1) * 0.8
    assert arrived[0] < arrived[-1] / 2
