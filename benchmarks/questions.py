"""What the benchmarks ask: a target, a question to it as bytes, and whether the answer is what the provider sent."""

import json
import re
from dataclasses import dataclass, field

from benchmarks import upstream

KEY = "sk-bench-client"
UPSTREAM_KEY = "sk-bench-upstream"
MODEL = "bench"
_PROMPT_BYTES = 800
_STAMP = re.compile(rb'"obfuscation":"(\d{20})"')
_UNSTAMPED = b'"obfuscation":"@"'
# What a well-known SDK sends, so that a proxy has as many header lines to read as in real use; but uncompressed, or
# some gateways would compress, which is other work than proxying.
_SDK_HEADERS = (
    "Accept-Encoding: identity\r\nConnection: keep-alive\r\nAccept: application/json\r\n"
    "Content-Type: application/json\r\nUser-Agent: OpenAI/Python 2.54.0\r\nX-Stainless-Lang: python\r\n"
    "X-Stainless-Package-Version: 2.54.0\r\nX-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\n"
    "X-Stainless-Runtime: CPython\r\nX-Stainless-Async: false\r\nx-stainless-retry-count: 0\r\n"
)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to ask, and how to be let in."""

    name: str
    port: int
    headers: dict[str, str] = field(default_factory=lambda: {"Authorization": f"Bearer {KEY}"})
    address: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Question:
    """One request. `events` and `gap_us` say what the pretend provider shall stream."""

    stream: bool = False
    events: int = upstream.DEFAULT_EVENTS
    gap_us: int = int(upstream.DEFAULT_GAP_S * 1e6)
    prompt_bytes: int = _PROMPT_BYTES
    more_headers: int = 0
    ask_usage: bool = False
    model: str = MODEL

    def body(self) -> bytes:
        """The JSON body, with the fields in the order in which SDKs send them."""
        prompt = ("word " * (self.prompt_bytes // 5 + 1))[: self.prompt_bytes]
        fields: dict[str, object] = {"messages": [{"role": "user", "content": prompt}], "model": self.model}
        if self.stream:
            fields |= {"max_tokens": self.events, "seed": self.gap_us, "stream": True}
        if self.ask_usage:
            fields["stream_options"] = {"include_usage": True}
        return json.dumps(fields, separators=(",", ":")).encode()

    def to(self, target: Target) -> bytes:
        """The whole request as sent to `target`."""
        body = self.body()
        headers = "".join(f"{name}: {value}\r\n" for name, value in target.headers.items())
        more = "".join(f"X-Bench-{number}: some value of an application\r\n" for number in range(self.more_headers))
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {target.address}:{target.port}\r\n{_SDK_HEADERS}{more}"
            f"{headers}Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def stamp_in(event: bytes) -> int:
    """When the pretend provider sent this event, in nanoseconds of CLOCK_MONOTONIC; 0 when the stamp is gone."""
    found = _STAMP.search(event)
    return int(found[1]) if found else 0


def fidelity(question: Question, body: bytes) -> str:
    """What is left of the provider's answer: `bytes` (all, untouched), `changed` (same text, rewritten) or `lost`."""
    if not question.stream:
        return "bytes" if body == upstream.REPLY else "changed" if b"x" * 400 in body else "lost"
    templates = upstream.event_templates(with_usage=question.ask_usage)
    sent = [templates[number % len(templates)] for number in range(1, question.events + 1)]
    whole = b"".join([*sent, *upstream.end_templates(with_usage=question.ask_usage)])
    if _STAMP.sub(_UNSTAMPED, body) == whole:
        return "bytes"
    return "changed" if _text_of(body) == _text_of(whole) else "lost"


def _text_of(stream: bytes) -> str:
    text = ""
    for event in stream.split(b"\n\n"):
        if event.startswith(b"data: {"):
            choices = json.loads(event[6:]).get("choices") or [{}]
            text += (choices[0].get("delta") or {}).get("content") or ""
    return text
