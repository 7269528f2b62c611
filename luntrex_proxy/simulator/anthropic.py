"""Anthropic's Messages API: the message, its events, count_tokens and the list of models."""

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from luntrex_proxy.simulator.answers import Answer, Ask

MODELS_CREATED_AT = "2026-01-01T00:00:00Z"


def usage(given: Answer) -> dict[str, Any]:
    """`usage` of a message; here `input_tokens` excludes what was read from or written to the cache."""
    return _input_usage(given) | {
        "output_tokens": given.output_tokens,
        "output_tokens_details": {"thinking_tokens": given.reasoning_tokens},
    }


def message(ask: Ask, given: Answer) -> dict[str, Any]:
    """A whole message."""
    return _envelope(ask) | {"content": _blocks(given), "stop_reason": _stop_reason(given), "usage": usage(given)}


def message_events(ask: Ask, given: Answer) -> Iterator[bytes]:
    """The events of a streamed message, from `message_start` to `message_stop`, a `ping` among them."""
    started = _envelope(ask) | {"content": [], "usage": _input_usage(given) | {"output_tokens": 1}}
    yield _event("message_start", {"message": started})
    for index, block in enumerate(_blocks(given)):
        yield _event("content_block_start", {"index": index, "content_block": _empty(block)})
        if index == 0:
            yield _event("ping", {})
        for delta in _deltas(block, given):
            yield _event("content_block_delta", {"index": index, "delta": delta})
        yield _event("content_block_stop", {"index": index})
    delta = {"stop_reason": _stop_reason(given), "stop_sequence": None}
    yield _event("message_delta", {"delta": delta, "usage": usage(given)})
    yield _event("message_stop", {})


def model(name: str) -> dict[str, Any]:
    """One entry of the list of models."""
    return {"type": "model", "id": name, "display_name": name, "created_at": MODELS_CREATED_AT}


def models(names: Sequence[str]) -> dict[str, Any]:
    """The list of models, on one page."""
    ends = {"first_id": names[0], "last_id": names[-1]} if names else {"first_id": None, "last_id": None}
    return {"data": [model(name) for name in names], "has_more": False} | ends


def _envelope(ask: Ask) -> dict[str, Any]:
    return {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "stop_reason": None,
        "stop_sequence": None,
    }


def _input_usage(given: Answer) -> dict[str, Any]:
    written = given.cache_write_tokens
    return {
        "input_tokens": given.input_tokens - given.cached_tokens - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": given.cached_tokens,
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
        "service_tier": "standard",
    }


def _blocks(given: Answer) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if given.thought:
        signature = secrets.token_urlsafe(32)
        blocks.append({"type": "thinking", "thinking": "".join(given.thought), "signature": signature})
    if given.tool:
        # A call cut short by max_tokens is not whole JSON; a message (unlike a stream) can only show it as empty.
        arguments = {} if given.cut_short else orjson.loads("".join(given.arguments))
        blocks.append(
            {"type": "tool_use", "id": f"toolu_{secrets.token_hex(12)}", "name": given.tool, "input": arguments}
        )
    else:
        blocks.append({"type": "text", "text": "".join(given.text)})
    return blocks


def _empty(block: dict[str, Any]) -> dict[str, Any]:
    emptied: dict[str, dict[str, Any]] = {
        "text": {"text": ""},
        "thinking": {"thinking": "", "signature": ""},
        "tool_use": {"input": {}},
    }
    return block | emptied[block["type"]]


def _deltas(block: dict[str, Any], given: Answer) -> Iterator[dict[str, Any]]:
    if block["type"] == "text":
        yield from ({"type": "text_delta", "text": piece} for piece in given.text)
    elif block["type"] == "thinking":
        yield from ({"type": "thinking_delta", "thinking": piece} for piece in given.thought)
        yield {"type": "signature_delta", "signature": block["signature"]}
    else:
        yield from ({"type": "input_json_delta", "partial_json": piece} for piece in ["", *given.arguments])


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps({"type": name} | data) + b"\n\n"


def _stop_reason(given: Answer) -> str:
    if given.cut_short:
        return "max_tokens"
    return "tool_use" if given.tool else "end_turn"
