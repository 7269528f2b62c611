"""Streams as upstreams really send them: bytes, and what a reader must make of them."""

import json
from dataclasses import dataclass

from luntrex_proxy.core.call import Grammar
from luntrex_proxy.core.outcome import Tokens


@dataclass(frozen=True)
class Sample:
    """One stream. `passed` and `held` are what the client must get; `passed` None: all but the terminal event."""

    name: str
    grammar: Grammar
    events: list[bytes]
    tokens: Tokens | None
    held: bytes = b""
    passed: bytes | None = None
    count: int | None = None
    failed: bool = False
    complete: bool = True
    withhold: bool = False
    after: bytes = b""  # sent by the upstream after the end; must never reach the client

    @property
    def sent(self) -> bytes:
        """All bytes of the upstream."""
        return b"".join(self.events) + self.after


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def chat(delta: dict[str, object] | None, finish: str | None = None, **more: object) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    head = {"id": "chatcmpl-BMz1", "object": "chat.completion.chunk", "created": 1751000000, "model": "gpt-4o-mini"}
    return b"data: %b\n\n" % compact({**head, "system_fingerprint": "fp_1", "choices": choices, **more})


def named(kind: str, **data: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), compact({"type": kind, **data}))


DONE = b"data: [DONE]\n\n"
CHAT_USAGE = {
    "prompt_tokens": 19,
    "completion_tokens": 10,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 6, "audio_tokens": 0, "accepted_prediction_tokens": 0},
}
CHAT_TOKENS = Tokens(input=19, cached_input=4, output=10, reasoning=6)
RESPONSES_USAGE = {
    "input_tokens": 37,
    "input_tokens_details": {"cached_tokens": 8},
    "output_tokens": 11,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 48,
}
RESPONSES_TOKENS = Tokens(input=37, cached_input=8, output=11, reasoning=3)

_words = [chat({"role": "assistant", "content": "", "refusal": None}), chat({"content": 'Grüße, "usage":null} 🌍'})]
_stop = chat({}, "stop")
_usage = chat(None, usage=CHAT_USAGE)
_null = [chat({"content": word}, usage=None, obfuscation="Xy7aQ") for word in ("a", "b", '[DONE]\n\ndata: "error"')]
_null_bare = [chat({"content": word}, obfuscation="Xy7aQ") for word in ("a", "b", '[DONE]\n\ndata: "error"')]
_spaced = b'data: {"id": "c", "choices": [{"index": 0, "delta": {"content": "x"}}], "usage": null, "x": [1]}\n\n'
_spaced_bare = b'data: {"id": "c", "choices": [{"index": 0, "delta": {"content": "x"}}], "x": [1]}\n\n'
_nested_null = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}],"timings":{"n":1,"usage":null}}\n\n'
_chat_error = (
    b'data: {"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}\n\n'
)
_tools = [
    chat(
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
            ],
        }
    ),
    chat({"tool_calls": [{"index": 0, "function": {"arguments": '{"usage":{"prompt_tokens":1}'}}]}),
    chat({"tool_calls": [{"index": 0, "function": {"arguments": ',"error":true}'}}]}),
    chat({}, "tool_calls"),
]

_response = {"id": "resp_1", "object": "response", "status": "in_progress", "error": None, "output": [], "usage": None}
_r_created = named("response.created", sequence_number=0, response=_response)
_r_delta = [
    named(
        "response.output_text.delta",
        sequence_number=n,
        item_id="msg_1",
        output_index=0,
        content_index=0,
        delta=text,
        obfuscation="k3",
    )
    for n, text in enumerate(('He said "response.completed"', "\n\nevent: error\ndata: x"), start=1)
]
_r_unknown = named("response.future_thing.done", sequence_number=3, usage=None)
_tools_echo = [
    {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {"usage": {"type": "object"}}}}
]


def _r_end(kind: str, **more: object) -> bytes:
    return named(
        f"response.{kind}",
        sequence_number=4,
        response={**_response, "status": kind, "tools": _tools_echo, "usage": RESPONSES_USAGE, "user": None, **more},
    )


_m_usage = {
    "input_tokens": 25,
    "cache_creation_input_tokens": 100,
    "cache_read_input_tokens": 50,
    "output_tokens": 1,
    "cache_creation": {"ephemeral_5m_input_tokens": 60, "ephemeral_1h_input_tokens": 40},
    "service_tier": "standard",
}
_m_start = named(
    "message_start",
    message={
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "claude",
        "stop_reason": None,
        "usage": _m_usage,
    },
)
_m_blocks = [
    named("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""}),
    named("ping"),
    named("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": 'hm "message_stop" error'}),
    named("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "EqQBCg=="}),
    named("content_block_stop", index=0),
    named(
        "content_block_start", index=1, content_block={"type": "tool_use", "id": "toolu_1", "name": "w", "input": {}}
    ),
    named(
        "content_block_delta",
        index=1,
        delta={"type": "input_json_delta", "partial_json": '{"usage":{"output_tokens":9}'},
    ),
    named("content_block_stop", index=1),
    named("something_new", usage={"output_tokens": 99999}),
]
_m_delta = named(
    "message_delta",
    delta={"stop_reason": "tool_use"},
    usage={"output_tokens": 90, "output_tokens_details": {"thinking_tokens": 12}},
)
_m_stop = named("message_stop")
_m_tokens = Tokens(input=175, cached_input=50, cache_write_5m=60, cache_write_1h=40, output=90, reasoning=12)
_m_error = named("error", error={"type": "overloaded_error", "message": "Overloaded"}, request_id="req_1")

_ollama = (
    b'data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"},"finish_reason":null}]}\n\n'
)
_comment = b": OPENROUTER PROCESSING\n\n"
_vllm = [
    chat({"content": str(n)}, usage={"prompt_tokens": 7, "total_tokens": 7 + n, "completion_tokens": n})
    for n in (1, 2, 3)
]

SAMPLES = [
    Sample("chat", Grammar.CHAT, [*_words, _stop, _usage, DONE], CHAT_TOKENS, DONE),
    Sample(
        "chat, usage withheld",
        Grammar.CHAT,
        [*_null, _stop, _usage, DONE],
        CHAT_TOKENS,
        DONE,
        b"".join([*_null_bare, _stop]),
        withhold=True,
    ),
    Sample(
        "chat, null usage with spaces",
        Grammar.CHAT,
        [_spaced, _usage, DONE],
        CHAT_TOKENS,
        DONE,
        _spaced_bare,
        withhold=True,
    ),
    Sample(
        "chat, nested null usage stays",
        Grammar.CHAT,
        [_nested_null, _usage, DONE],
        CHAT_TOKENS,
        DONE,
        _nested_null,
        withhold=True,
    ),
    Sample("chat, tool calls", Grammar.CHAT, [*_tools, DONE], None, DONE),
    Sample("chat, error", Grammar.CHAT, [*_words, _chat_error], None, _chat_error, failed=True, after=DONE),
    Sample(
        "chat, error of OpenRouter",
        Grammar.CHAT,
        [_words[0], chat({"content": ""}, "error", error={"code": 502, "message": "Provider"})],
        None,
        chat({"content": ""}, "error", error={"code": 502, "message": "Provider"}),
        failed=True,
    ),
    Sample("chat, error null", Grammar.CHAT, [chat({"content": "x"}, error=None), DONE], None, DONE),
    Sample("chat, cut", Grammar.CHAT, _words, None, complete=False),
    Sample(
        "chat, cut inside an event", Grammar.CHAT, [*_words, _stop[:-30]], None, passed=b"".join(_words), complete=False
    ),
    Sample(
        "chat, cut before the blank line",
        Grammar.CHAT,
        [*_words, _stop[:-1]],
        None,
        passed=b"".join(_words),
        complete=False,
    ),
    Sample("chat, transformers sends no DONE", Grammar.CHAT, [*_words, _stop], None, passed=b"".join([*_words, _stop])),
    Sample("chat, DONE without its blank line", Grammar.CHAT, [*_words, b"data: [DONE]"], None, DONE, b"".join(_words)),
    Sample("chat, empty finish_reason is none", Grammar.CHAT, [chat({"content": "x"}, "")], None, complete=False),
    Sample("chat, nothing", Grammar.CHAT, [], None, complete=False),
    Sample(
        "chat, Azure",
        Grammar.CHAT,
        [
            chat(None, prompt_filter_results=[{"prompt_index": 0, "content_filter_results": {}}]),
            *_words,
            chat(None, usage=None),
            _stop,
            _usage,
            DONE,
        ],
        CHAT_TOKENS,
        DONE,
        b"".join(
            [
                chat(None, prompt_filter_results=[{"prompt_index": 0, "content_filter_results": {}}]),
                *_words,
                chat(None),
                _stop,
            ]
        ),
        withhold=True,
    ),
    Sample(
        "chat, vLLM continuous", Grammar.CHAT, [*_vllm, _stop, DONE], Tokens(input=7, output=3), DONE, withhold=True
    ),
    Sample(
        "chat, OpenRouter",
        Grammar.CHAT,
        [_comment, *_words, _comment, chat({"content": ""}, "stop", usage={**CHAT_USAGE, "cost": 0.1}), DONE],
        CHAT_TOKENS,
        DONE,
        count=3,
        withhold=True,
        after=_comment,
    ),
    Sample(
        "chat, zero is a number",
        Grammar.CHAT,
        [_ollama, chat(None, usage={"prompt_tokens": 0, "completion_tokens": 0}), DONE],
        Tokens(),
        DONE,
    ),
    Sample(
        "chat, useless usage",
        Grammar.CHAT,
        [_ollama, _usage, chat({}, usage={"prompt_tokens": -1, "completion_tokens": 1.5}), DONE],
        CHAT_TOKENS,
        DONE,
    ),
    Sample(
        "chat, not JSON passes",
        Grammar.CHAT,
        [b"data: heartbeat\n\n", b"data\n\n", b"event: x\n\n", b"id: 7\nretry: 5\n\n", *_words, DONE],
        None,
        DONE,
        count=3,
    ),
    Sample(
        "chat, data in several lines",
        Grammar.CHAT,
        [b'data: {"choices":[],\ndata: "usage":{"prompt_tokens":2,\ndata: "completion_tokens":3}}\n\n', DONE],
        Tokens(input=2, output=3),
        DONE,
        count=1,
    ),
    Sample(
        "chat, no space after the colon",
        Grammar.CHAT,
        [b'data:{"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":3}}\n\n', b"data:[DONE]\n\n"],
        Tokens(input=2, output=3),
        b"data:[DONE]\n\n",
    ),
    Sample(
        "chat, names and ids",
        Grammar.CHAT,
        [b'id: 1\nevent: message\ndata: {"choices":[{"finish_reason":"stop"}]}\n\n', b"event: done\ndata: [DONE]\n\n"],
        None,
        b"event: done\ndata: [DONE]\n\n",
    ),
    Sample("chat, BOM", Grammar.CHAT, [b"\xef\xbb\xbf" + _usage, DONE], CHAT_TOKENS, DONE),
    Sample(
        "chat, wide blank lines",
        Grammar.CHAT,
        [b"\n", _words[0], b"\n\n", _words[1], b"\n", DONE],
        None,
        DONE,
        b"\n" + _words[0] + b"\n\n" + _words[1] + b"\n",
        count=2,
    ),
    Sample(
        "responses",
        Grammar.RESPONSES,
        [_r_created, *_r_delta, _r_unknown, _r_end("completed")],
        RESPONSES_TOKENS,
        _r_end("completed"),
        after=DONE,
    ),
    Sample(
        "responses, incomplete",
        Grammar.RESPONSES,
        [_r_created, _r_end("incomplete")],
        RESPONSES_TOKENS,
        _r_end("incomplete"),
    ),
    Sample(
        "responses, failed",
        Grammar.RESPONSES,
        [_r_created, _r_end("failed", usage=None)],
        None,
        _r_end("failed", usage=None),
        failed=True,
    ),
    Sample("responses, cut", Grammar.RESPONSES, [_r_created, *_r_delta], None, complete=False),
    Sample("responses, DONE is no end", Grammar.RESPONSES, [_r_created, DONE], None, passed=_r_created, complete=False),
    Sample(
        "responses, nested error",
        Grammar.RESPONSES,
        [_r_created, named("error", sequence_number=1, error={"message": "no", "code": "x"})],
        None,
        named("error", sequence_number=1, error={"message": "no", "code": "x"}),
        failed=True,
    ),
    Sample("responses, unnamed error", Grammar.RESPONSES, [_r_created, _chat_error], None, _chat_error, failed=True),
    Sample(
        "responses, unnamed events",
        Grammar.RESPONSES,
        [e.partition(b"\n")[2] for e in (_r_created, *_r_delta, _r_end("completed"))],
        RESPONSES_TOKENS,
        _r_end("completed").partition(b"\n")[2],
    ),
    Sample("messages", Grammar.MESSAGES, [_m_start, *_m_blocks, _m_delta, _m_stop], _m_tokens, _m_stop, after=DONE),
    Sample(
        "messages, error",
        Grammar.MESSAGES,
        [_m_start, _m_blocks[1], _m_error],
        Tokens(input=175, cached_input=50, cache_write_5m=60, cache_write_1h=40, output=1),
        _m_error,
        failed=True,
    ),
    Sample(
        "messages, unnamed error gets its name",
        Grammar.MESSAGES,
        [_m_start, _m_error.partition(b"\n")[2]],
        Tokens(input=175, cached_input=50, cache_write_5m=60, cache_write_1h=40, output=1),
        _m_error,
        failed=True,
    ),
    Sample("messages, cut", Grammar.MESSAGES, [_m_start, *_m_blocks, _m_delta], _m_tokens, complete=False),
    Sample(
        "messages, input restated",
        Grammar.MESSAGES,
        [
            named("message_start", message={"usage": {"input_tokens": 0, "output_tokens": 0}}),
            named("message_delta", usage={"input_tokens": 12, "output_tokens": 5, "cache_read_input_tokens": None}),
            named("message_delta", usage={"output_tokens": 8}),
            _m_stop,
        ],
        Tokens(input=12, output=8),
        _m_stop,
    ),
]
