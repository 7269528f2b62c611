"""The service tier that an answer says it was served at: read where the upstream puts it, and nowhere else."""

import json
from typing import Any

import pytest

from luntrex_proxy.core.call import ROUTES, Grammar
from luntrex_proxy.core.outcome import ServedTokens, Tokens
from luntrex_proxy.core.wire.jsonbody import TAIL_BYTES, JsonReader, read_answer
from luntrex_proxy.core.wire.streams import stream_reader
from tests.core.wire.samples import CHAT_USAGE, DONE, RESPONSES_USAGE, compact

ROUTE = {route.name: route for route in ROUTES}
MESSAGES_USAGE = {"input_tokens": 3, "output_tokens": 4}


def service(tokens: Tokens | None) -> str:
    """The tier that goes with the counts; "" for the standard one."""
    assert tokens is not None
    return tokens.service if isinstance(tokens, ServedTokens) else ""


@pytest.mark.parametrize(
    ("said", "tier"),
    [("flex", "flex"), ("priority", "priority"), ("default", ""), ("auto", ""), ("x" * 999, ""), (None, ""), (7, "")],
)
def test_in_json_and_in_streams(said: Any, tier: str) -> None:
    """Both of OpenAI's grammars; a word that has no price of its own is dropped."""
    chat = {"choices": [], "usage": CHAT_USAGE, "service_tier": said}
    assert service(read_answer(compact(chat), ROUTE["chat.completions"])[1]) == tier
    answer = {"object": "response", "service_tier": said, "usage": RESPONSES_USAGE}
    assert service(read_answer(compact(answer), ROUTE["responses"])[1]) == tier
    reader = stream_reader(Grammar.CHAT)
    reader.feed(b"data: %b\n\n" % compact(chat) + DONE)
    assert service(reader.usage) == tier
    reader = stream_reader(Grammar.RESPONSES)
    event = {"type": "response.completed", "response": answer}
    reader.feed(b"event: response.completed\ndata: %b\n\n" % compact(event))
    assert service(reader.usage) == tier


@pytest.mark.parametrize(
    ("more", "tier"),
    [
        ({"service_tier": "batch"}, "batch"),
        ({"service_tier": "standard"}, ""),
        ({"service_tier": "priority"}, "priority"),
        ({"service_tier": "standard", "speed": "fast"}, "fast"),
        ({"speed": "standard"}, ""),
        ({"service_tier": []}, ""),
    ],
)
def test_in_messages(more: dict[str, Any], tier: str) -> None:
    """Anthropic's is in the usage, and its fast mode beside it; in a stream the first event says it."""
    assert service(read_answer(compact({"usage": MESSAGES_USAGE | more}), ROUTE["messages"])[1]) == tier
    reader = stream_reader(Grammar.MESSAGES)
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1} | more}}
    reader.feed(b"event: message_start\ndata: %b\n\n" % compact(start))
    delta = {"type": "message_delta", "usage": {"output_tokens": 4}}
    reader.feed(b"event: message_delta\ndata: %b\n\n" % compact(delta))
    assert service(reader.usage) == tier
    assert reader.usage is not None
    assert (reader.usage.input, reader.usage.output) == (3, 4)


def test_large_answers() -> None:
    """Of what is too large to be kept the end is looked at, at its own depth."""
    text = "x" * (2 * TAIL_BYTES)
    for answer, tier in (
        ({"choices": [{"message": {"content": text}}], "usage": CHAT_USAGE, "service_tier": "flex"}, "flex"),
        ({"choices": [{"message": {"content": text}}], "usage": CHAT_USAGE, "meta": {"service_tier": "flex"}}, ""),
    ):
        reader = JsonReader(ROUTE["chat.completions"])
        reader.feed(json.dumps(answer).encode())
        assert service(reader.usage()) == tier


def test_a_client_cannot_say_it() -> None:
    """What it asked for comes back in metadata and in text: neither is the upstream's word."""
    text = '"service_tier":"flex"'
    answer = {
        "object": "response",
        "metadata": {"service_tier": "flex"},
        "output": [{"content": [{"text": text}]}],
        "usage": RESPONSES_USAGE,
    }
    assert service(read_answer(compact(answer), ROUTE["responses"])[1]) == ""
    large = {**answer, "output": [{"content": [{"text": text * TAIL_BYTES}]}]}
    reader = JsonReader(ROUTE["responses"])
    reader.feed(compact(large))
    assert service(reader.usage()) == ""
