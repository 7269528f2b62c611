"""What a real provider would answer, as bytes, for the scripted servers: both dialects, whole and streamed."""

import json
from typing import Any

from tests.upstreams.scripted import LAST_CHUNK, Step, chunk, reply, sse_head

CHAT_USAGE = {
    "prompt_tokens": 21,
    "completion_tokens": 9,
    "total_tokens": 30,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
MESSAGE_USAGE = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 5,
    "cache_read_input_tokens": 6,
    "output_tokens": 9,
    "output_tokens_details": {"thinking_tokens": 3},
}
# Both say: 21 input tokens in all, 9 output tokens.
INPUT_TOKENS, OUTPUT_TOKENS = 21, 9

DONE = b"data: [DONE]\n\n"


def data(value: Any) -> bytes:
    """A chat event."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def event(name: str, **fields: Any) -> bytes:
    """A named event as Anthropic and the Responses API send them."""
    body = json.dumps({"type": name} | fields, ensure_ascii=False).encode()
    return b"event: " + name.encode() + b"\ndata: " + body + b"\n\n"


def chat_body(text: str = "Hello there", model: str = "upstream-model") -> bytes:
    """A whole chat.completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps(_chat("chat.completion", model) | {"choices": [choice], "usage": CHAT_USAGE}).encode()


def chat_delta(text: str, finish: str | None = None, **extra: Any) -> bytes:
    """One chunk of a streamed chat completion."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return data(_chat("chat.completion.chunk", "upstream-model") | {"choices": [choice]} | extra)


def chat_usage() -> bytes:
    """The extra chunk that carries usage."""
    return data(_chat("chat.completion.chunk", "upstream-model") | {"choices": [], "usage": CHAT_USAGE})


def chat_events(words: int = 3) -> list[bytes]:
    """A whole stream with `usage: null` on each chunk, as OpenAI sends it when usage was asked for."""
    deltas = [chat_delta(f"word{n} ", usage=None) for n in range(words)]
    return [*deltas, chat_delta("", "stop", usage=None), chat_usage(), DONE]


def message_body(text: str = "Hello there") -> bytes:
    """A whole message."""
    content = [{"type": "text", "text": text}]
    return json.dumps(_message() | {"content": content, "stop_reason": "end_turn", "usage": MESSAGE_USAGE}).encode()


def message_events(words: int = 3) -> list[bytes]:
    """A whole streamed message."""
    start_usage = MESSAGE_USAGE | {"output_tokens": 1}
    deltas = [
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": f"word{n} "}) for n in range(words)
    ]
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    return [
        event("message_start", message=_message() | {"content": [], "usage": start_usage}),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        event("ping"),
        *deltas,
        event("content_block_stop", index=0),
        event("message_delta", delta=end, usage=MESSAGE_USAGE),
        event("message_stop"),
    ]


def response_body(words: int = 3) -> bytes:
    """A whole, finished Responses answer."""
    return json.dumps(_response(words)).encode()


def response_events(words: int = 3) -> list[bytes]:
    """A streamed Responses answer."""
    where = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
    deltas = [
        event("response.output_text.delta", sequence_number=1 + n, delta=f"word{n} ", **where) for n in range(words)
    ]
    finished = _response(words)
    started = finished | {"status": "in_progress", "output": [], "usage": None}
    return [
        event("response.created", sequence_number=0, response=started),
        *deltas,
        event("response.completed", sequence_number=1 + words, response=finished),
    ]


def stream(events: list[bytes], gap_seconds: float = 0.0) -> list[Step]:
    """The steps that send these events as a chunked stream and end it properly."""
    steps: list[Step] = [sse_head()]
    for one in events:
        steps.append(chunk(one))
        if gap_seconds:
            steps.append(gap_seconds)
    return [*steps, LAST_CHUNK]


def openai_error(message: str, kind: str = "invalid_request_error", code: str | None = None) -> bytes:
    """OpenAI's error envelope."""
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


def anthropic_error(message: str, kind: str = "invalid_request_error") -> bytes:
    """Anthropic's error envelope."""
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}).encode()


def answer_by_path(path: str, body: bytes) -> list[Step]:
    """A good answer for whatever was asked, streamed when the body asks for a stream."""
    streamed = json.loads(body or b"{}").get("stream") is True
    if path.endswith("/messages"):
        return stream(message_events()) if streamed else [reply(200, message_body())]
    if path.endswith("/responses"):
        return stream(response_events()) if streamed else [reply(200, response_body())]
    return stream(chat_events()) if streamed else [reply(200, chat_body())]


def _chat(kind: str, model: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": model}


def _response(words: int) -> dict[str, Any]:
    text = {"type": "output_text", "text": "".join(f"word{n} " for n in range(words)), "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    usage = {
        "input_tokens": 21,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 30,
    }
    base = {"id": "resp_1", "object": "response", "created_at": 1, "model": "upstream-model", "status": "completed"}
    return base | {"output": [item], "usage": usage}


def _message() -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "upstream-model",
        "stop_reason": None,
        "stop_sequence": None,
    }
