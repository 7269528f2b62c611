"""OpenAI's chat completions and legacy completions: JSON and SSE. The other OpenAI endpoints have their own files."""

import secrets
import time
from collections.abc import Iterator
from typing import Any

import orjson

from luntrex_proxy.simulator.answers import Answer, Ask

FINGERPRINT = "fp_simulated"
OBFUSCATED_CHARS = 16  # OpenAI pads deltas so that their sizes say less of their text


def usage(given: Answer) -> dict[str, Any]:
    """`usage` of chat and legacy completions."""
    return {
        "prompt_tokens": given.input_tokens,
        "completion_tokens": given.output_tokens,
        "total_tokens": given.input_tokens + given.output_tokens,
        "prompt_tokens_details": {"cached_tokens": given.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": given.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def chat(ask: Ask, given: Answer) -> dict[str, Any]:
    """A whole `chat.completion`."""
    message: dict[str, Any] = {"role": "assistant", "content": "".join(given.text), "refusal": None, "annotations": []}
    if given.tool:
        call = {"name": given.tool, "arguments": "".join(given.arguments)}
        message |= {"content": None, "tool_calls": [{"id": _call_id(), "type": "function", "function": call}]}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(given)}
    return _envelope("chatcmpl", "chat.completion", ask) | {"choices": [choice], "usage": usage(given)}


def chat_events(ask: Ask, given: Answer) -> Iterator[bytes]:
    """The events of a streamed chat completion, `[DONE]` included."""
    first: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
    deltas: list[dict[str, Any]] = [{"content": piece} for piece in given.text]
    if given.tool:
        call: dict[str, Any] = {
            "index": 0,
            "id": _call_id(),
            "type": "function",
            "function": {"name": given.tool, "arguments": ""},
        }
        first |= {"content": None, "tool_calls": [call]}
        deltas = [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in given.arguments]
    choices: list[dict[str, Any]] = [
        {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} for delta in [first, *deltas]
    ]
    choices.append({"index": 0, "delta": {}, "logprobs": None, "finish_reason": _finish(given)})
    return _events(_envelope("chatcmpl", "chat.completion.chunk", ask), choices, ask, given)


def completion(ask: Ask, given: Answer) -> dict[str, Any]:
    """A whole legacy `text_completion`."""
    choice = {"index": 0, "text": "".join(given.text), "logprobs": None, "finish_reason": _finish(given)}
    return _envelope("cmpl", "text_completion", ask) | {"choices": [choice], "usage": usage(given)}


def completion_events(ask: Ask, given: Answer) -> Iterator[bytes]:
    """The events of a streamed legacy completion, `[DONE]` included."""
    choices = [{"index": 0, "text": piece, "logprobs": None, "finish_reason": None} for piece in given.text]
    choices.append({"index": 0, "text": "", "logprobs": None, "finish_reason": _finish(given)})
    return _events(_envelope("cmpl", "text_completion", ask), choices, ask, given)


def _events(envelope: dict[str, Any], choices: list[dict[str, Any]], ask: Ask, given: Answer) -> Iterator[bytes]:
    options = ask.stream_options
    wants_usage = bool(options and options.include_usage)
    padded = options is None or options.include_obfuscation is not False
    for choice in choices:
        event = envelope | {"choices": [choice]}
        if wants_usage:
            event["usage"] = None  # OpenAI's own form: null on every chunk but the last
        if padded:
            event["obfuscation"] = secrets.token_urlsafe(OBFUSCATED_CHARS)[: 1 + secrets.randbelow(OBFUSCATED_CHARS)]
        yield b"data: " + orjson.dumps(event) + b"\n\n"
    if wants_usage:
        yield b"data: " + orjson.dumps(envelope | {"choices": [], "usage": usage(given)}) + b"\n\n"
    yield b"data: [DONE]\n\n"


def _envelope(prefix: str, kind: str, ask: Ask) -> dict[str, Any]:
    return {
        "id": f"{prefix}-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": ask.model,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }


def _call_id() -> str:
    return f"call_{secrets.token_hex(12)}"


def _finish(given: Answer) -> str:
    if given.cut_short:
        return "length"
    return "tool_calls" if given.tool else "stop"
