"""Everything that is said: each route well, each refusal, each failure of an upstream, and clients that leave."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from luntrex_proxy.simulator.misbehaving import FAILURES
from luntrex_proxy.simulator.server import ANTHROPIC_MODELS, OPENAI_MODELS

CHAT: Final = "/v1/chat/completions"
MESSAGES: Final = "/v1/messages"
RESPONSES: Final = "/v1/responses"
_VERSION: Final = "anthropic-version: 2026-10-21"
_HEADERS: Final = (
    "User-Agent", "Cookie", "Referer", "Origin", "X-Forwarded-For", "X-Client-Request-Id", "traceparent",
    "OpenAI-Organization", "Idempotency-Key", "X-Request-Id", "Accept-Language",
)  # fmt: skip
Word = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Saying:
    """One request, and what it has to come to: a status, or 0 for whatever the failure makes of it."""

    name: str
    request: bytes
    status: int = 0
    leave_after: int = 0


def everything(word: Word, key: str, model: str = "") -> Iterator[Saying]:
    """All of it. `model` is one of a real upstream to ask in place of the built-in one; then failures are left out."""
    yield from _good(word, key, model)
    yield from _refused(word, key)
    if not model:
        yield from _failing(word, key)


def _good(word: Word, key: str, real_model: str) -> Iterator[Saying]:
    chat = {"messages": [{"role": "system", "content": word("system")}, {"role": "user", "content": word("prompt")}],
            "user": word("user"), "max_tokens": 16, "stop": [word("stop")]}  # fmt: skip
    chat |= {"model": real_model or OPENAI_MODELS[0]}
    yield Saying("chat", _post(CHAT, key, chat, word), 200)
    yield Saying("chat stream", _post(CHAT, key, chat | {"stream": True}, word), 200)
    yield Saying("client leaves", _post(CHAT, key, chat | {"stream": True}, word), leave_after=1)
    if real_model:
        return
    openai, claude = OPENAI_MODELS[0], ANTHROPIC_MODELS[0]
    message = {"model": claude, "max_tokens": 16, "system": word("claudesystem"), "metadata": {"user_id": word("id")},
               "messages": [{"role": "user", "content": word("claudeprompt")}]}  # fmt: skip
    for path, body in (
        (MESSAGES, message),
        (MESSAGES, message | {"stream": True}),
        (f"{MESSAGES}/count_tokens", message),
        (RESPONSES, {"model": openai, "input": word("responsesinput"), "instructions": word("instructions")}),
        (RESPONSES, {"model": openai, "input": word("responsesinput"), "stream": True}),
        ("/v1/completions", {"model": openai, "prompt": word("legacyprompt")}),
        ("/v1/embeddings", {"model": openai, "input": [word("embedded")]}),
        ("/v1/moderations", {"model": openai, "input": word("moderated")}),
    ):
        yield Saying(path, _post(path, key, body, word, _VERSION), 200)
    yield Saying("models", _post("/v1/models", key, b"", word, method="GET"), 200)


def _refused(word: Word, key: str) -> Iterator[Saying]:
    good = {"model": OPENAI_MODELS[0], "messages": [{"role": "user", "content": word("refusedprompt")}]}
    whole = json.dumps(good).encode()
    wrong = f"lx_{key.split('_')[1]}_" + word("key").ljust(49, "0")[:49]
    for name, request, status in (
        ("unknown model", _post(CHAT, key, good | {"model": word("model")}, word), 404),
        ("no JSON", _post(CHAT, key, word("notjson").encode(), word), 400),
        ("cut JSON", _post(CHAT, key, whole[:-9], word), 400),
        ("twice", _post(CHAT, key, b'{"model":"x","model":"%b"}' % word("twice").encode(), word), 400),
        (
            "state",
            _post(RESPONSES, key, {"model": OPENAI_MODELS[0], "previous_response_id": word("previous")}, word),
            400,
        ),
        ("unknown path", _post(f"/v1/{word('path')}", key, whole, word), 404),
        ("query", _post(f"{CHAT}?{word('query')}", key, good | {"model": word("querymodel")}, word), 404),
        ("wrong key", _post(CHAT, wrong, whole, word), 401),
        ("provider's key", _post(CHAT, "sk-" + word("providerkey"), whole, word), 401),
        ("no key", _post(CHAT, "", whole, word), 401),
        ("long header", _post(CHAT, key, whole, word, f"X-Long: {word('long') * 4_000}"), 0),
        ("encoded", _post(CHAT, key, whole, word, f"Content-Encoding: {word('coding')}"), 0),
        ("no HTTP", word("nohttp").encode() + b"\r\n\r\n", 0),
        ("bad header", b"POST / HTTP/1.1\r\nHost: x\r\nX: \x00" + word("nul").encode() + b"\r\n\r\n", 0),
        ("bad length", f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {word('length')}\r\n\r\n".encode(), 0),
    ):
        yield Saying(name, request, status)


def _failing(word: Word, key: str) -> Iterator[Saying]:
    for failure in FAILURES:
        body = {"model": failure, "messages": [{"role": "user", "content": word("before" + failure.replace("-", ""))}]}
        for stream in (False, True):
            yield Saying(f"upstream: {failure}", _post(CHAT, key, body | {"stream": stream}, word))
        message = body | {"model": f"claude-{failure}", "max_tokens": 16}
        yield Saying(f"upstream: {failure}", _post(MESSAGES, key, message, word, _VERSION))


def _post(path: str, key: str, body: dict[str, Any] | bytes, word: Word, *headers: str, method: str = "POST") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", f"Content-Length: {len(data)}"]
    lines += ["Content-Type: application/json", *([f"Authorization: Bearer {key}"] if key else []), *headers]
    lines += [f"{name}: {word('header' + name.replace('-', '').lower())}" for name in _HEADERS]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data
