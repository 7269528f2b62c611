"""Truthful ends over a TLS upstream, of `completions`, and of answers that are not streamed: the real SDKs raise."""

import ssl
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.upstreams import bodies
from tests.upstreams.certificates import Authority
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import CLOSE, HANG, LAST_CHUNK, RESET, ScriptedUpstream, chunk, head, sse_head
from tests.whole.daemon import model, running, upstream
from tests.whole.raised import check_nothing_lost
from tests.whole.raw import ask, post
from tests.whole.scene import Scene, chat_request
from tests.whole.test_stream_ends import first_events, request_for, stream_until_error

JSON = "Content-Type: application/json"


@pytest.fixture(scope="module")
def tls_scene(servers: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A daemon in front of an upstream that speaks TLS."""
    authority = Authority(tmp_path_factory.mktemp("ca"))
    context: ssl.SSLContext = authority.server_context("localhost")
    scripted = ScriptedUpstream(servers, context)
    more: dict[str, Any] = {"ca_file": str(authority.ca_file), "timeouts": {"first_byte_s": 2, "idle_s": 1}}
    more["health"] = {"failures": 10_000}  # it fails all the time here
    url = f"https://localhost:{scripted.port}/v1"
    configuration = {
        "upstreams": [upstream("oai", "openai", url, **more), upstream("ant", "anthropic", url, **more)],
        "models": [model("plain", "oai"), model("claude", "ant")],
    }
    with running(servers, configuration) as daemon:
        yield Scene(daemon, scripted)
    scripted.stop()


@pytest.mark.parametrize("dialect", ["chat", "responses", "messages"])
@pytest.mark.parametrize("framing", ["chunked", "close"])
@pytest.mark.parametrize("end", [CLOSE, RESET, HANG], ids=["close_notify", "truncated", "stalls"])
def test_a_tls_stream_that_is_cut_raises(tls_scene: Scene, end: str, framing: str, dialect: str) -> None:
    """With or without close_notify, framed or ended by the close: no cut looks like an end."""
    tls_scene.reset()
    events = first_events(dialect)
    pieces = [chunk(one) for one in events] if framing == "chunked" else events
    tls_scene.answer(sse_head(chunked=framing == "chunked"), *pieces, 0.1, end)
    text, raised = stream_until_error(tls_scene, dialect)
    assert text.startswith("word0")
    assert isinstance(raised, (openai.APIError, anthropic.APIError))
    answer = ask(tls_scene.daemon, request_for(tls_scene, dialect))
    assert (answer.status, answer.complete) == (200, True)
    row = tls_scene.daemon.row(answer.headers["x-request-id"])
    assert row["code"] == ("upstream_timeout" if end == HANG else "upstream_cut")
    assert row["ending"] == "upstream_failed"
    assert row["output_tokens"] > 0


@pytest.mark.parametrize("size", [100, 300_000], ids=["small", "large"])
@pytest.mark.parametrize("end", [CLOSE, RESET], ids=["close_notify", "truncated"])
def test_a_tls_answer_without_length_that_is_truncated_raises(tls_scene: Scene, end: str, size: int) -> None:
    """An attacker who cuts a TLS connection cannot make half an answer look whole."""
    tls_scene.reset()
    body = bodies.chat_body("x" * size)
    tls_scene.answer(head(200, JSON, "Connection: close"), body[: len(body) * 2 // 3], 0.1, end)
    with pytest.raises(openai.APIError):
        tls_scene.openai().chat.completions.create(model="plain", messages=[{"role": "user", "content": "x"}])
    answer = ask(tls_scene.daemon, post(tls_scene.daemon, "/v1/chat/completions", chat_request()))
    assert answer.status == 502 or not answer.complete
    row = tls_scene.daemon.row(answer.headers["x-request-id"])
    assert row["ending"] == "upstream_failed"
    assert row["usage_source"] != "reported"


# `completions` ends as chat does, and has an SDK class of its own.
COMPLETION = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m"}


def completion_events() -> list[bytes]:
    """The beginning of a good stream."""
    return [
        bodies.data(COMPLETION | {"choices": [{"index": 0, "text": f"word{n} ", "finish_reason": None}]})
        for n in (0, 1)
    ]


BREAKS: dict[str, list[Any]] = {
    "close": [CLOSE],
    "reset": [0.05, RESET],
    "half an event": [chunk(b'data: {"cho'), CLOSE],
    "half a chunk": [b"400\r\ndata: {", CLOSE],
    "no terminator": [LAST_CHUNK],
    "stalls": [HANG],
    "an error": [chunk(bodies.data({"error": {"message": "no", "type": "server_error", "code": None}})), LAST_CHUNK],
    "garbage framing": [0.05, b"zzz\r\nx\r\n", HANG],
}


@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_completions_stream_raises(scene: Scene, how: str) -> None:
    """The SDK raises after the text that came, and the row says what it was."""
    scene.answer(sse_head(), *map(chunk, completion_events()), *BREAKS[how])
    received: list[str] = []
    stream = scene.openai().completions.create(model="plain", prompt="hi", stream=True)
    with pytest.raises(openai.APIError):
        received.extend(part.choices[0].text for part in stream)
    assert "".join(received) == "word0 word1 "
    answer = ask(scene.daemon, post(scene.daemon, "/v1/completions", {"model": "plain", "prompt": "x", "stream": True}))
    assert answer.complete
    assert answer.body.count(b'"error"') == 1
    assert b"[DONE]" not in answer.body
    row = scene.daemon.row(answer.headers["x-request-id"])
    expected = {"stalls": "upstream_timeout", "an error": "upstream_error", "garbage framing": "upstream_invalid"}
    assert row["code"] == expected.get(how, "upstream_cut")
    assert (row["ending"], row["output_tokens"]) == ("upstream_failed", len("word0 word1 ") // 4)


WHOLE = {"chat": bodies.chat_body, "responses": bodies.response_body, "messages": bodies.message_body}


def ask_whole(scene: Scene, dialect: str) -> Any:
    """The SDK's call that is not streamed."""
    said: list[Any] = [{"role": "user", "content": "hi"}]
    if dialect == "chat":
        return scene.openai().chat.completions.create(model="plain", messages=said)
    if dialect == "responses":
        return scene.openai().responses.create(model="plain", input="hi")
    return scene.anthropic().messages.create(model="claude", max_tokens=9, messages=said)


@pytest.mark.parametrize("dialect", WHOLE)
@pytest.mark.parametrize("framing", ["length", "chunked", "ended", "close", "reset", "stalls"])
def test_a_cut_whole_answer_raises(scene: Scene, framing: str, dialect: str) -> None:
    """Half a JSON answer is a 502 (504 when it stalls) in the dialect, whatever its framing was."""
    body = WHOLE[dialect]()
    half = body[: len(body) // 2]
    length = head(200, JSON, f"Content-Length: {len(body)}")
    chunked = head(200, JSON, "Transfer-Encoding: chunked")
    scene.answer(*{
        "length": [length, half, CLOSE],
        "chunked": [chunked, chunk(half), CLOSE],
        "ended": [chunked, chunk(half), LAST_CHUNK],
        "close": [head(200, JSON, "Connection: close"), half, CLOSE],
        "reset": [length, half, 0.05, RESET],
        "stalls": [length, half, HANG],
    }[framing])  # fmt: skip
    with pytest.raises((openai.InternalServerError, anthropic.InternalServerError)) as caught:
        ask_whole(scene, dialect)
    status, code = caught.value.status_code, {"stalls": "upstream_timeout"}
    assert status == (504 if framing == "stalls" else 502)
    row = scene.daemon.row(caught.value.request_id or "")
    wrong = "upstream_invalid" if framing in ("ended", "close") else "upstream_cut"
    assert (row["code"], row["ending"]) == (code.get(framing, wrong), "upstream_failed")


@pytest.fixture(scope="module", autouse=True)
def _nothing_lost(module_scene: Scene) -> Iterator[None]:
    """After all of it the ledger has lost nothing and the daemon has met no bug of its own."""
    yield
    check_nothing_lost(module_scene)
