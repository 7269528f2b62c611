"""Truthful ends: an answer that broke never looks whole, and a client that left is not paid for any longer."""

import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.upstreams import bodies
from tests.upstreams.scripted import CLOSE, HANG, LAST_CHUNK, RESET, chunk, head, reply, sse_head
from tests.whole import calls
from tests.whole.raw import RawClient, Reply, ask, post
from tests.whole.scene import Scene, chat_request, message_request

VERSION = "anthropic-version: 2026-10-21"
RESPONSE_REQUEST = b'{"model":"plain","stream":true,"input":"hi"}'
# The goal is 100 ms; the bound is wider, because CI machines are slow. The measured times are printed.
GONE_SECONDS = 1.0

# How a stream can break after its first event: the steps that follow it.
BREAKS: dict[str, list[Any]] = {
    "close": [CLOSE],
    "reset": [0.05, RESET],
    "half an event": [chunk(b'data: {"choices":[{"ind'), CLOSE],
    "half a chunk": [b"400\r\ndata: {", CLOSE],
    "ends without terminator": [LAST_CHUNK],
    "half an event, ends properly": [chunk(b'data: {"choi'), LAST_CHUNK],
    "garbage framing": [0.05, b"zzz\r\nnot a chunk\r\n", HANG],
    "stalls": [HANG],
    "stalls in an event": [chunk(b"data: {"), HANG],
}


def first_events(dialect: str) -> list[bytes]:
    """The beginning of a good stream."""
    if dialect == "chat":
        return bodies.chat_events()[:2]
    return bodies.message_events()[:4] if dialect == "messages" else bodies.response_events()[:2]


def texts(scene: Scene, dialect: str) -> Iterator[str]:
    """The pieces of text an SDK gives the application."""
    said: list[Any] = [{"role": "user", "content": "hi"}]
    if dialect == "chat":
        for part in scene.openai().chat.completions.create(model="plain", messages=said, stream=True):
            yield "".join(choice.delta.content or "" for choice in part.choices)
    elif dialect == "responses":
        for event in scene.openai().responses.create(model="plain", input="hi", stream=True):
            yield event.delta if event.type == "response.output_text.delta" else ""
    else:
        for event in scene.anthropic().messages.create(model="claude", max_tokens=9, messages=said, stream=True):
            yield event.delta.text if event.type == "content_block_delta" else ""


def stream_until_error(scene: Scene, dialect: str) -> tuple[str, Exception]:
    """The text that arrived and what the SDK raised; fails when the stream ended as if all were well."""
    received: list[str] = []
    with pytest.raises((openai.APIError, anthropic.APIError)) as caught:
        received.extend(texts(scene, dialect))
    return "".join(received), caught.value


def request_for(scene: Scene, dialect: str, streamed: bool = True) -> bytes:
    """The raw request of a stream."""
    if dialect == "chat":
        return post(scene.daemon, "/v1/chat/completions", chat_request(stream=streamed))
    if dialect == "responses":
        return post(scene.daemon, "/v1/responses", RESPONSE_REQUEST)
    return post(scene.daemon, "/v1/messages", message_request(stream=streamed), VERSION)


@pytest.mark.parametrize("dialect", ["chat", "responses", "messages"])
@pytest.mark.parametrize("how", BREAKS.keys())
def test_a_broken_stream_raises_and_never_looks_whole(scene: Scene, how: str, dialect: str) -> None:
    """The SDK raises after the text that came; on the wire there is an error event, a proper end and no terminator."""
    scene.answer(sse_head(), *[chunk(event) for event in first_events(dialect)], *BREAKS[how])
    text, raised = stream_until_error(scene, dialect)
    assert text.startswith("word0")
    if dialect == "messages":
        assert isinstance(raised, anthropic.APIStatusError)
        assert raised.body["error"]["type"] in ("api_error", "overloaded_error", "timeout_error")  # type: ignore[index,call-overload] -- a dict

    answer = ask(scene.daemon, request_for(scene, dialect))
    assert answer.status == 200
    assert answer.complete
    assert answer.body.endswith(b"\n\n")
    events = answer.body.split(b"\n\n")[:-1]
    assert b'"error"' in events[-1]
    assert all(b'{"choi' not in event or event.endswith(b"}") for event in events)
    for terminator in (b"[DONE]", b"message_stop", b"response.completed"):
        assert terminator not in answer.body
    row = scene.daemon.row(answer.headers["x-request-id"])
    assert (row["status"], row["ending"]) == (200, "upstream_failed")
    assert row["code"].startswith("upstream_")
    assert row["usage_source"] in ("estimated", "reported")
    assert row["output_tokens"] > 0


@pytest.mark.parametrize("dialect", ["chat", "responses", "messages"])
@pytest.mark.parametrize("content_type", ["text/html", "application/json"])
@pytest.mark.parametrize("with_length", [True, False], ids=["length", "chunked"])
def test_a_200_that_is_no_stream_raises(scene: Scene, dialect: str, content_type: str, with_length: bool) -> None:
    """HTML or a JSON error with status 200 instead of a stream would be zero events and no error; it must raise.

    An error that says what it is becomes an answer with that status, like any other refusal of the upstream's.
    """
    body = b"<html>please wait</html>" if content_type == "text/html" else bodies.openai_error("no", "server_error")
    if with_length:
        scene.answer(reply(200, body, content_type=content_type))
    else:
        fields = (f"Content-Type: {content_type}", "Transfer-Encoding: chunked")
        scene.answer(head(200, *fields), chunk(body), LAST_CHUNK)
    text, raised = stream_until_error(scene, dialect)
    assert text == ""
    assert isinstance(raised, (openai.InternalServerError, anthropic.InternalServerError))
    said = (502, "upstream_failed") if content_type == "text/html" else (500, "complete")
    row = scene.daemon.row(raised.request_id or "")
    assert (raised.status_code, row["ending"]) == said
    assert row["status"] == raised.status_code
    assert row["code"].startswith("upstream_")


@pytest.mark.parametrize("after", [0, 2], ids=["first", "later"])
def test_an_error_inside_a_chat_stream_raises(scene: Scene, after: int) -> None:
    """An error event of the upstream's own is an error to the client, and `[DONE]` behind it does not heal it.

    As the first event it is an answer with that status, like any other refusal of the upstream's.
    """
    wrong = bodies.data({"error": {"message": "engine died", "type": "server_error", "param": None, "code": 500}})
    events = [*bodies.chat_events()[:after], wrong, bodies.DONE]
    scene.answer(*bodies.stream(events))
    _, raised = stream_until_error(scene, "chat")
    assert isinstance(raised, openai.APIError)
    answer = ask(scene.daemon, request_for(scene, "chat"))
    assert b"[DONE]" not in answer.body
    row = scene.daemon.row(answer.headers["x-request-id"])
    assert (row["status"], row["ending"]) == ((200, "upstream_failed") if after else (500, "complete"))


@pytest.mark.parametrize("after", [0, 4], ids=["first", "later"])
def test_an_error_inside_a_message_stream_raises(scene: Scene, after: int) -> None:
    """Anthropic's own error event reaches the client, and the row says so."""
    wrong = bodies.event("error", error={"type": "overloaded_error", "message": "Overloaded"}, request_id="req_1")
    scene.answer(*bodies.stream([*bodies.message_events()[:after], wrong]))
    _, raised = stream_until_error(scene, "messages")
    assert isinstance(raised, anthropic.APIStatusError)
    answer = ask(scene.daemon, request_for(scene, "messages"))
    assert b"message_stop" not in answer.body
    row = scene.daemon.row(answer.headers["x-request-id"])
    assert (row["status"], row["ending"]) == ((200, "upstream_failed") if after else (529, "complete"))


def test_responses_failed_and_flat_errors_raise(scene: Scene) -> None:
    """Responses' flat `error` event, which the SDK would yield in silence, is made to raise."""
    flat = bodies.event("error", sequence_number=2, code="server_error", message="it broke", param=None)
    scene.answer(*bodies.stream([*bodies.response_events()[:2], flat]))
    text, raised = stream_until_error(scene, "responses")
    assert text == "word0 "
    assert isinstance(raised, openai.APIError)


@pytest.mark.parametrize("dialect", ["chat", "responses", "messages"])
def test_a_whole_stream_has_one_terminator(scene: Scene, dialect: str) -> None:
    """The other half of the promise: a good stream ends complete, with its terminator, and is recorded as such."""
    answer = ask(scene.daemon, request_for(scene, dialect))
    assert answer.complete
    ends = [answer.body.count(mark) for mark in (b"data: [DONE]", b"event: message_stop", b"event: response.completed")]
    assert sum(ends) == 1
    row = scene.daemon.row(answer.headers["x-request-id"])
    assert (row["ending"], row["code"], row["usage_source"]) == ("complete", "ok", "reported")
    assert (row["input_tokens"], row["output_tokens"]) == (bodies.INPUT_TOKENS, bodies.OUTPUT_TOKENS)


def test_what_comes_after_the_terminator_is_not_waited_for(scene: Scene) -> None:
    """An upstream that forgets to end its body after `[DONE]` does not keep the client waiting."""
    scene.answer(sse_head(), *[chunk(event) for event in bodies.chat_events()], HANG)
    with RawClient(scene.daemon.port, timeout_seconds=5) as client:
        client.send(request_for(scene, "chat")).read_until(b"[DONE]")


# The client leaves.


def gone_milliseconds(scene: Scene, client: RawClient, how: str, count: int) -> float:
    """Leave; milliseconds until the upstream saw its connection close."""
    exchange = scene.upstream.wait(count)
    left_at = client.reset() if how == "reset" else client.leave()
    assert exchange.closed.wait(GONE_SECONDS), "the upstream connection is still open"
    return (exchange.closed_at - left_at) * 1000


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("when", ["before", "at", "after"])
@pytest.mark.parametrize("dialect", ["chat", "responses", "messages"])
def test_client_gone_closes_the_upstream(scene: Scene, dialect: str, when: str, how: str) -> None:
    """Before, at and after the first byte: the upstream connection closes at once and the row says client_gone."""
    events = [chunk(event) for event in first_events(dialect)]
    scripts = {"before": [HANG], "at": [sse_head(), events[0], HANG], "after": [sse_head(), *events, HANG]}
    scene.answer(*scripts[when])
    since = time.time()
    client = RawClient(scene.daemon.port)
    client.send(request_for(scene, dialect))
    if when != "before":
        client.read_until(b"\r\n\r\n")
    if when == "after":
        client.read_until(b"word0")
    took_ms = gone_milliseconds(scene, client, how, 1)
    print(f"\nclient gone {when} the first byte ({dialect}, {how}): upstream closed after {took_ms:.1f} ms")
    row = scene.daemon.row_since(since)
    assert row["ending"] == "client_gone"
    assert row["upstream"] in ("oai", "ant")
    assert (row["status"] == 0) == (when == "before")
    if when == "after":
        assert row["output_tokens"] > 0
        assert row["usage_source"] in ("estimated", "reported")


@pytest.mark.parametrize("how", ["close", "reset"])
def test_client_gone_before_a_whole_answer(scene: Scene, how: str) -> None:
    """A client that does not stream is noticed as well, while the model still thinks."""
    scene.answer(HANG)
    since = time.time()
    client = RawClient(scene.daemon.port)
    client.send(request_for(scene, "chat", streamed=False))
    took_ms = gone_milliseconds(scene, client, how, 1)
    print(f"\nclient gone before a whole answer ({how}): upstream closed after {took_ms:.1f} ms")
    row = scene.daemon.row_since(since)
    assert (row["ending"], row["status"]) == ("client_gone", 0)
    assert row["usage_source"] in ("unknown", "estimated")


def test_client_gone_in_the_middle_of_a_big_answer(scene: Scene) -> None:
    """A client that leaves while a long JSON answer streams is noticed too."""
    whole = bodies.chat_body("x" * 2_000_000)
    fields = ("Content-Type: application/json", f"Content-Length: {len(whole)}")
    scene.answer(head(200, *fields), whole[:1_000_000], HANG)
    since = time.time()
    client = RawClient(scene.daemon.port)
    client.send(request_for(scene, "chat", streamed=False)).read_until(b"xxxxxxxx")
    gone_milliseconds(scene, client, "close", 1)
    assert scene.daemon.row_since(since)["ending"] == "client_gone"


def test_client_that_only_stops_sending_is_gone(scene: Scene) -> None:
    """A half-closed client (EOF) counts as gone: SDKs close whole connections, and a sidecar must not pay on."""
    scene.answer(sse_head(), chunk(first_events("chat")[0]), HANG)
    with RawClient(scene.daemon.port) as client:
        client.send(request_for(scene, "chat")).read_until(b"word0")
        client._socket.shutdown(1)
        assert scene.upstream.wait().closed.wait(GONE_SECONDS)


def test_closing_time_over_many(scene: Scene) -> None:
    """Twenty departures in mid-stream: the median is within 100 ms, the goal itself."""
    scene.answer(sse_head(), *[chunk(event) for event in first_events("chat")], HANG)
    times = []
    for number in range(1, 21):
        client = RawClient(scene.daemon.port)
        client.send(request_for(scene, "chat")).read_until(b"word0")
        times.append(gone_milliseconds(scene, client, "close", number))
    print(f"\nupstream closed after ms: median {statistics.median(times):.1f}, worst {max(times):.1f}")
    assert statistics.median(times) < 100


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_an_sdk_that_closes_its_stream(scene: Scene, kind: str) -> None:
    """Leaving through the SDK's own `close()` closes the upstream as well."""
    go = threading.Event()
    scene.answer(sse_head(), *[chunk(event) for event in first_events("chat")], go, HANG)
    client = calls.openai_client(scene.daemon.url, scene.daemon.key, kind)
    said: list[Any] = [{"role": "user", "content": "hi"}]
    stream = await calls.done(client.chat.completions.create(model="plain", messages=said, stream=True))
    async for _ in calls.each(stream):
        break
    await calls.done(stream.close())
    exchange = scene.upstream.wait()
    go.set()
    await calls.close(client)
    assert exchange.closed.wait(GONE_SECONDS)


def test_a_slow_reader_pauses_the_upstream_and_gets_all(scene: Scene) -> None:
    """A client that stops reading is not dropped and loses nothing: the upstream waits for it."""
    events = [bodies.chat_delta("x" * 2000) for _ in range(2000)] + [bodies.DONE]
    scene.answer(*bodies.stream(events))
    body = chat_request(stream=True, stream_options={"include_usage": True})
    with RawClient(scene.daemon.port) as client:
        client.send(post(scene.daemon, "/v1/chat/completions", body)).read_until(b"\r\n\r\n")
        threading.Event().wait(1.5)  # longer than the upstream may be silent: the silence is ours
        answer = Reply(client.read_all())
    assert answer.complete
    assert answer.body == b"".join(events)
