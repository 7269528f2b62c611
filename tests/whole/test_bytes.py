"""Byte for byte: what the upstream gets is what the client sent, what the client gets is what the upstream sent."""

import json
import re
import threading

import pytest

from tests.upstreams import bodies
from tests.upstreams.scripted import (
    CLOSE,
    LAST_CHUNK,
    Exchange,
    chunk,
    head,
    reply,
    split_everywhere,
    sse_head,
)
from tests.whole.daemon import PROVIDER_SECRET
from tests.whole.raw import RawClient, Reply, ask, post
from tests.whole.scene import Scene, chat_request, message_request

VERSION = "anthropic-version: 2026-10-21"
# JSON that a parser and a serialiser between the two ends would not leave alone.
ODD_BODIES = {
    "spacing": b'  {\r\n\t"model" :"plain" ,\n"messages":[ {"role":"user","content":"hi"} ] , "stream":false}\n ',
    "key order": b'{"zeta":1,"messages":[{"content":"hi","role":"user"}],"alpha":2,"model":"plain","Beta":3}',
    "unicode raw": '{"model":"plain","messages":[{"role":"user","content":"Größe 東京 🙂\u2028"}]}'.encode(),
    "unicode escaped": rb'{"model":"plain","messages":[{"role":"user","content":"\u00f6\u00DFe \ud83d\ude42 \/"}]}',
    "numbers": b'{"model":"plain","seed":123456789012345678901234567890,"temperature":1.0,"top_p":1e-2,"x":-0,'
    b'"y":1.10000000000000000000001,"messages":[]}',
    "nested duplicates": b'{"model":"plain","messages":[],"metadata":{"a":1,"a":2},"tools":[{"model":"other"}]}',
    "looks like a model": rb'{"messages":[{"role":"user","content":"\",\"model\":\"evil\",\"x\":\""}],"model":"plain"}',
    "deep": b'{"model":"plain","messages":[],"x":' + b"[" * 200 + b"]" * 200 + b"}",
    "control escapes": rb'{"model":"plain","messages":[{"role":"user","content":"\u0000\b\f\n\r\t\u001f\\"}]}',
    "empty strings": b'{"model":"plain","messages":[],"":"","user":""}',
}


@pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES.keys())
def test_the_body_arrives_unchanged(scene: Scene, body: bytes) -> None:
    """A JSON body goes upstream as the client wrote it."""
    answer = ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", body))
    assert answer.status == 200
    assert scene.upstream.wait().body == body


def test_a_megabyte_arrives_unchanged(scene: Scene) -> None:
    """A long prompt arrives whole, also when it comes in pieces."""
    body = chat_request(filler="é" * 600_000)
    with RawClient(scene.daemon.port) as client:
        request = post(scene.daemon, "/v1/chat/completions", body)
        for at in range(0, len(request), 100_003):
            client.send(request[at : at + 100_003])
        assert Reply(client.read_all()).status == 200
    assert scene.upstream.wait().body == body


def test_a_chunked_body_arrives_unchanged(scene: Scene) -> None:
    """A chunked request has the same content upstream, framed by a length."""
    body = chat_request()
    lines = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nx-api-key: {scene.daemon.key}\r\n"
    framed = b"".join(chunk(body[at : at + 7]) for at in range(0, len(body), 7)) + LAST_CHUNK
    sent = f"{lines}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode()
    assert ask(scene.daemon, sent + framed).status == 200
    exchange = scene.upstream.wait()
    assert exchange.body == body
    assert exchange.header("content-length") == str(len(body))


@pytest.mark.parametrize(
    ("path", "body", "version"),
    [
        ("/v1/chat/completions", b'{ "model" : "alias", "messages":[{"role":"user","content":"\\"model\\""}]}', ()),
        ("/v1/chat/completions", b'{"messages":[{"role":"user","content":"x"}],"n":1,"model":\t"alias"\n}', ()),
        ("/v1/messages", b'{"max_tokens":9, "model":"claude-alias" ,"messages":[],"z":1e400}', (VERSION,)),
    ],
)
def test_an_alias_changes_only_the_model(scene: Scene, path: str, body: bytes, version: tuple[str, ...]) -> None:
    """Only the bytes of the model's value differ; spaces around it, other keys and their order stay."""
    assert ask(scene.daemon, post(scene.daemon, path, body, *version)).status == 200
    expected = body.replace(b'"alias"', b'"the-upstream\'s-own-name"').replace(b'"claude-alias"', b'"claude-there"')
    assert scene.upstream.wait().body == expected


def test_streams_ask_for_usage_and_change_nothing_else(scene: Scene) -> None:
    """`stream_options.include_usage` is added to a stream that has none; a stream that asks is untouched."""
    plain = b'{ "model":"plain", "stream" : true, "messages":[ ] }'
    ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", plain))
    sent = scene.upstream.wait().body
    spliced = re.sub(rb'"stream_options":\s*\{"include_usage":\s*true\},?', b"", sent, count=1)
    assert spliced != sent
    assert spliced == plain
    asked = b'{"model":"plain","stream":true,"stream_options":{ "include_usage" : true },"messages":[]}'
    ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", asked))
    assert scene.upstream.wait(2).body == asked


def test_stream_options_keep_their_other_fields(scene: Scene) -> None:
    """What else the client put into `stream_options` stays."""
    body = b'{"model":"plain","stream":true,"stream_options":{"include_obfuscation":false},"messages":[]}'
    ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", body))
    sent = json.loads(scene.upstream.wait().body)
    assert sent["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert list(sent) == ["model", "stream", "stream_options", "messages"]


@pytest.mark.parametrize("store", [b"", b'"store":true,', b'"store":false,', b'"store":null,'])
def test_responses_are_never_stored(scene: Scene, store: bytes) -> None:
    """`store: false` is forced on Responses, whatever the client says; the rest stays."""
    body = b"{" + store + b'"model":"plain", "input":"hi"}'
    assert ask(scene.daemon, post(scene.daemon, "/v1/responses", body)).status == 200
    sent = scene.upstream.wait().body
    assert json.loads(sent) == {"store": False, "model": "plain", "input": "hi"}
    assert sent.endswith(b'"model":"plain", "input":"hi"}')


@pytest.mark.parametrize("field", ["previous_response_id", "conversation", "background", "prompt"])
def test_stateful_responses_are_refused_by_name(scene: Scene, field: str) -> None:
    """A field that needs state at the provider is refused, and the refusal says which."""
    value = True if field == "background" else "x_1"
    body = json.dumps({"model": "plain", "input": "hi", field: value}).encode()
    answer = ask(scene.daemon, post(scene.daemon, "/v1/responses", body))
    assert answer.status == 400
    assert answer.json()["error"]["param"] == field
    assert scene.upstream.exchanges == []


def test_only_listed_headers_cross(scene: Scene) -> None:
    """The upstream sees our credential and nothing of the client's network, software, person or key."""
    noise = [
        "Cookie: session=1", "X-Forwarded-For: 203.0.113.9", "Forwarded: for=203.0.113.9", "X-Real-IP: 203.0.113.9",
        "User-Agent: my-app/1", "Referer: https://example.com/secret", "Origin: https://example.com",
        "OpenAI-Organization: org-1", "x-stainless-os: Linux", "traceparent: 00-1-1-01", "baggage: a=b",
        "Accept-Encoding: gzip", "Via: 1.1 x", "X-Custom: 1", "api-key: k", "x-goog-api-key: k",
    ]  # fmt: skip
    for path, body, more in (
        ("/v1/chat/completions", chat_request(), ["OpenAI-Beta: assistants=v2"]),
        ("/v1/messages", message_request(), [VERSION, "anthropic-beta: a,b"]),
    ):
        scene.upstream.forget()
        assert ask(scene.daemon, post(scene.daemon, path, body, *noise, *more)).status == 200
        exchange = scene.upstream.wait()
        names = {name for name, _ in exchange.headers}
        allowed = {"host", "authorization", "x-api-key", "content-type", "content-length", "accept", "accept-encoding"}
        assert names <= allowed | {"openai-beta", "anthropic-version", "anthropic-beta", "user-agent", "connection"}
        assert scene.daemon.key.encode() not in exchange.head
        assert PROVIDER_SECRET.encode() in exchange.head
        assert b"my-app" not in exchange.head
        assert b"gzip" not in exchange.head
        assert exchange.header("host") == f"127.0.0.1:{scene.upstream.port}"
    assert exchange.header("anthropic-version") == "2026-10-21"
    assert exchange.header("anthropic-beta") == "a,b"


def test_hop_by_hop_tricks_do_not_strip_our_headers(scene: Scene) -> None:
    """`Connection: authorization` of a client takes nothing away upstream."""
    line = "Connection: close, authorization, x-api-key, content-length"
    request = post(scene.daemon, "/v1/chat/completions", chat_request()).replace(b"Connection: close", line.encode())
    assert ask(scene.daemon, request).status == 200
    assert PROVIDER_SECRET.encode() in scene.upstream.wait().head


JSON_ANSWERS = {
    "odd spacing": b'{ "id" : "x" ,\n"choices":[], "usage":{"prompt_tokens":1, "completion_tokens":2} }\n',
    "unicode": '{"choices":[{"message":{"content":"Größe \\u00e9 🙂"}}],"big":12345678901234567890123}'.encode(),
    "200 KiB": b'{"choices":[{"message":{"content":"' + b"y" * 200_000 + b'"}}],"usage":{"prompt_tokens":1}}',
    "no usage": b'{"choices":[]}',
}


@pytest.mark.parametrize("answer", JSON_ANSWERS.values(), ids=JSON_ANSWERS.keys())
@pytest.mark.parametrize("framing", ["length", "chunked", "close", "bytewise"])
def test_the_answer_arrives_unchanged(scene: Scene, answer: bytes, framing: str) -> None:
    """A JSON answer reaches the client byte for byte, however the upstream framed it."""
    fields = "Content-Type: application/json"
    if framing == "length":
        scene.answer(reply(200, answer))
    elif framing == "chunked":
        pieces = [chunk(answer[at : at + 1000]) for at in range(0, len(answer), 1000)]
        scene.answer(head(200, fields, "Transfer-Encoding: chunked"), *pieces, LAST_CHUNK)
    elif framing == "close":
        scene.answer(head(200, fields, "Connection: close"), answer, CLOSE)
    else:
        scene.answer(*split_everywhere(reply(200, answer), 1 if len(answer) < 1000 else 4099))
    got = ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", chat_request()))
    assert got.status == 200
    assert got.body == answer
    assert got.headers["content-type"] == "application/json"


ODD_EVENTS = [
    b": a comment first\n\n",
    b'data: {"choices":[{"index":0,"delta":{"content":"Gr\xc3\xb6\xc3\x9fe \\u00e9"}}]}\n\n',
    b'data:{"choices":[],"odd":  "no space after the colon", "n":1.0}\n\n',
    b'id: 7\nretry: 3000\ndata: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n',
    b'data: {"choices":\ndata: [{"index":0,"delta":{}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{"content":"\\"usage\\": not one"}}]}\n\n',
    bodies.chat_usage(),
    bodies.DONE,
]


@pytest.mark.parametrize("size", [1, 2, 7, 64, 100_000])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_events_arrive_unchanged(scene: Scene, size: int, newline: bytes) -> None:
    """Events reach a client that asked for usage byte for byte, wherever the upstream's writes are cut."""
    whole = b"".join(ODD_EVENTS).replace(b"\n", newline)
    scene.answer(sse_head(), *[chunk(piece) for piece in split_everywhere(whole, size)], LAST_CHUNK)
    body = chat_request(stream=True, stream_options={"include_usage": True})
    got = ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", body))
    assert got.complete
    assert got.body == whole
    assert got.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("size", [1, 9, 100_000])
def test_a_withheld_usage_chunk_leaves_the_rest_unchanged(scene: Scene, size: int) -> None:
    """Who did not ask for usage gets the stream OpenAI would have sent without it: no chunk, no `usage` keys."""
    events = bodies.chat_events(words=4)
    whole = b"".join(events)
    scene.answer(sse_head(), *[chunk(piece) for piece in split_everywhere(whole, size)], LAST_CHUNK)
    got = ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", chat_request(stream=True)))
    assert got.complete
    shown = [event for event in got.body.split(b"\n\n") if event]
    assert len(shown) == len(events) - 1
    assert b'"usage"' not in got.body
    kept = [json.loads(event[6:]) for event in events if b'"choices": []' not in event and event != bodies.DONE]
    for one in kept:
        one.pop("usage", None)
    assert [json.loads(event[6:]) for event in shown[:-1]] == kept
    assert shown[-1] == b"data: [DONE]"


@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize(
    ("path", "request_body", "events"),
    [
        ("/v1/messages", message_request(stream=True), bodies.message_events()),
        ("/v1/responses", b'{"store":false,"model":"plain","stream":true,"input":"x"}', bodies.response_events()),
    ],
    ids=["messages", "responses"],
)
def test_named_events_arrive_unchanged(
    scene: Scene, path: str, request_body: bytes, events: list[bytes], size: int
) -> None:
    """Anthropic's and Responses' events, unknown ones among them, are not touched at all."""
    unknown = bodies.event("something_new", payload={"a": 1})
    whole = b"".join([events[0], unknown, *events[1:]])
    scene.answer(sse_head(), *[chunk(piece) for piece in split_everywhere(whole, size)], LAST_CHUNK)
    got = ask(scene.daemon, post(scene.daemon, path, request_body, VERSION))
    assert got.complete
    assert got.body == whole
    assert scene.upstream.wait().body == request_body


def test_each_event_is_passed_on_at_once(scene: Scene) -> None:
    """An event is not held back for the next one: the client reads it while the upstream waits for the test."""
    first, second = threading.Event(), threading.Event()
    events = bodies.chat_events(words=2)
    scene.answer(
        sse_head(), chunk(events[0]), first, chunk(events[1]), second, *[chunk(e) for e in events[2:]], LAST_CHUNK
    )
    body = chat_request(stream=True, stream_options={"include_usage": True})
    with RawClient(scene.daemon.port) as client:
        client.send(post(scene.daemon, "/v1/chat/completions", body)).read_until(b"word0")
        assert b"word1" not in client.received
        first.set()
        client.read_until(b"word1")
        second.set()
        assert Reply(client.read_all()).body == b"".join(events)


def test_continuous_usage_is_the_last_one(scene: Scene) -> None:
    """A server that puts usage on every chunk (vLLM) is recorded with its last numbers and passed on unchanged."""

    def with_usage(output: int) -> dict[str, int]:
        return {"prompt_tokens": 7, "completion_tokens": output, "total_tokens": 7 + output}

    events = [bodies.chat_delta(f"w{n} ", usage=with_usage(n)) for n in range(1, 5)] + [bodies.DONE]
    scene.answer(*bodies.stream(events))
    body = chat_request(stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True})
    got = ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", body))
    assert got.body == b"".join(events)
    row = scene.daemon.row(got.headers["x-request-id"])
    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (7, 4, "reported")


def test_interim_responses_are_not_the_answer(scene: Scene) -> None:
    """A 1xx before the answer is not taken for it."""
    scene.answer(
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n", reply(200, b'{"a": 1}')
    )
    got = ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", chat_request()))
    assert (got.status, got.body) == (200, b'{"a": 1}')


def test_two_requests_on_one_connection(scene: Scene) -> None:
    """A kept connection serves several requests, and the upstream connection is used again too."""
    scene.upstream.script = lambda exchange: [reply(200, _echo_length(exchange))]
    before = scene.upstream.connections
    with RawClient(scene.daemon.port) as client:
        for size in (10, 20, 30):
            body = chat_request(filler="x" * size)
            request = post(scene.daemon, "/v1/chat/completions", body).replace(b"Connection: close\r\n", b"")
            client.received = b""
            client.send(request).read_until(b'{"length": %d}' % len(body))
    assert len(scene.upstream.exchanges) == 3
    assert scene.upstream.connections - before <= 1


def _echo_length(exchange: Exchange) -> bytes:
    return json.dumps({"length": len(exchange.body)}).encode()
