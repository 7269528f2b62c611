"""OpenAI's Responses API: the `response` object and its named, numbered events."""

import secrets
import time
from collections.abc import Iterator
from typing import Any

import orjson

from luntrex_proxy.simulator.answers import Answer, Ask

Item = dict[str, Any]


def response(ask: Ask, given: Answer) -> dict[str, Any]:
    """A whole, finished `response`."""
    return _finished(_started(ask), given, _items(given))


def response_events(ask: Ask, given: Answer) -> Iterator[bytes]:
    """The events of a streamed response, from `response.created` to `response.completed` or `.incomplete`."""
    started = _started(ask)
    items = _items(given)
    finished = _finished(started, given, items)
    events: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": started}),
        ("response.in_progress", {"response": started}),
    ]
    for index, item in enumerate(items):
        events += _item_events(index, item, given)
    events.append((f"response.{finished['status']}", {"response": finished}))
    for number, (name, data) in enumerate(events):
        body = orjson.dumps({"type": name, "sequence_number": number} | data)
        yield b"event: " + name.encode() + b"\ndata: " + body + b"\n\n"


def _started(ask: Ask) -> dict[str, Any]:
    return {
        "id": f"resp_{secrets.token_hex(24)}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": ask.max_output_tokens,
        "metadata": {},
        "model": ask.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": ask.reasoning.effort if ask.reasoning else None, "summary": None},
        "service_tier": "default",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
    }


def _finished(started: dict[str, Any], given: Answer, items: list[Item]) -> dict[str, Any]:
    return started | {
        "status": "incomplete" if given.cut_short else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if given.cut_short else None,
        "output": items,
        "usage": {
            "input_tokens": given.input_tokens,
            "input_tokens_details": {"cached_tokens": given.cached_tokens},
            "output_tokens": given.output_tokens,
            "output_tokens_details": {"reasoning_tokens": given.reasoning_tokens},
            "total_tokens": given.input_tokens + given.output_tokens,
        },
    }


def _items(given: Answer) -> list[Item]:
    items: list[Item] = []
    if given.reasoning_tokens:
        items.append({"id": f"rs_{secrets.token_hex(12)}", "type": "reasoning", "summary": []})
    status = "incomplete" if given.cut_short else "completed"
    if given.tool:
        items.append(
            {
                "id": f"fc_{secrets.token_hex(12)}",
                "type": "function_call",
                "status": status,
                "call_id": f"call_{secrets.token_hex(12)}",
                "name": given.tool,
                "arguments": "".join(given.arguments),
            }
        )
    else:
        text = {"type": "output_text", "text": "".join(given.text), "annotations": [], "logprobs": []}
        item = {"id": f"msg_{secrets.token_hex(12)}", "type": "message", "status": status, "role": "assistant"}
        items.append(item | {"content": [text]})
    return items


def _item_events(index: int, item: Item, given: Answer) -> Iterator[tuple[str, dict[str, Any]]]:
    where = {"item_id": item["id"], "output_index": index}
    opened = dict(item)
    if item["type"] == "message":
        opened |= {"status": "in_progress", "content": []}
    elif item["type"] == "function_call":
        opened |= {"status": "in_progress", "arguments": ""}
    yield "response.output_item.added", {"output_index": index, "item": opened}
    if item["type"] == "message":
        yield from _text_events(where, item["content"][0], given.text)
    elif item["type"] == "function_call":
        for piece in given.arguments:
            yield "response.function_call_arguments.delta", where | {"delta": piece}
        done = {"name": item["name"], "arguments": item["arguments"]}
        yield "response.function_call_arguments.done", where | done
    yield "response.output_item.done", {"output_index": index, "item": item}


def _text_events(
    where: dict[str, Any], part: dict[str, Any], pieces: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    where = where | {"content_index": 0}
    yield "response.content_part.added", where | {"part": part | {"text": ""}}
    for piece in pieces:
        yield "response.output_text.delta", where | {"delta": piece, "logprobs": []}
    yield "response.output_text.done", where | {"text": part["text"], "logprobs": []}
    yield "response.content_part.done", where | {"part": part}
