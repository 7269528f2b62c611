"""Bad requests and bad upstreams: both SDKs raise the exception that fits, with a text in their own dialect's form."""

import json
import re
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from luntrex_proxy.core.refusals import REFUSALS
from tests.upstreams import bodies
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.scripted import CLOSE, HANG, RESET, head, reply
from tests.whole import calls
from tests.whole.raw import RawClient, Reply, ask, post
from tests.whole.scene import Scene, chat_request, message_request

VERSION = "anthropic-version: 2026-10-21"
REQUEST_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def wrong_key(servers: LoopThread) -> str:
    """A key in luntrex's own form that nobody has (its checksum need not be right)."""
    return "lx_" + "A" * 12 + "_" + "b" * 43 + "000000"


def chat_error(scene: Scene, model: str = "plain", **more: Any) -> openai.APIError:
    """The exception a chat completion raises."""
    with pytest.raises(openai.APIError) as caught:
        scene.openai().chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}], **more)
    return caught.value


def message_error(scene: Scene, model: str = "claude", **more: Any) -> anthropic.APIError:
    """The exception a message raises."""
    with pytest.raises(anthropic.APIError) as caught:
        scene.anthropic().messages.create(
            model=model, max_tokens=9, messages=[{"role": "user", "content": "hi"}], **more
        )
    return caught.value


def check_forms(chat: openai.APIError, message: anthropic.APIError) -> None:
    """The bodies are each dialect's own error object, and both ids are there."""
    assert isinstance(chat, openai.APIStatusError)
    assert isinstance(message, anthropic.APIStatusError)
    assert isinstance(chat.body, dict)
    assert set(chat.body) >= {"message", "type", "param", "code"}
    assert chat.body["message"]
    assert isinstance(message.body, dict)
    assert message.body["type"] == "error"
    assert set(message.body["error"]) >= {"type", "message"}
    for raised in (chat, message):
        assert raised.response.headers["x-request-id"] == raised.response.headers["request-id"] == raised.request_id
        assert REQUEST_ID.fullmatch(raised.request_id or "")


# What the SDKs make of a refusal of ours: (how it is asked for) -> (openai's class, anthropic's class).


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_unknown_model(scene: Scene, streamed: bool) -> None:
    """An unknown model is NotFoundError with code model_not_found, and the upstream is not asked."""
    chat, message = chat_error(scene, "nope", stream=streamed), message_error(scene, "nope", stream=streamed)
    check_forms(chat, message)
    assert isinstance(chat, openai.NotFoundError)
    assert isinstance(message, anthropic.NotFoundError)
    assert chat.code == "model_not_found"
    assert scene.upstream.exchanges == []


def test_a_model_of_the_other_dialect_is_unknown(scene: Scene) -> None:
    """A model only an Anthropic upstream serves cannot be asked for in OpenAI's dialect, and the other way round."""
    assert isinstance(chat_error(scene, "claude"), openai.NotFoundError)
    assert isinstance(message_error(scene, "plain"), anthropic.NotFoundError)


@pytest.mark.parametrize(
    ("key", "hint"),
    [("", "key"), ("WRONG", "key"), ("sk-proj-abcdefghijklmnopqrstuvwxyz0123456789", "luntrex"), ("hello", "key"),
     ("sk-ant-api03-abcdefghijklmnopqrstuvwxyz", "luntrex"), ("lx_short", "key")],
    ids=["none", "unknown", "openais", "nonsense", "anthropics", "broken"],
)  # fmt: skip
def test_bad_keys(scene: Scene, wrong_key: str, key: str, hint: str) -> None:
    """No key, an unknown one and a provider's one are 401 with a sentence that helps; the key is never repeated."""
    key = wrong_key if key == "WRONG" else key
    chat = ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", chat_request(), key=key))
    message = ask(scene.daemon, post(scene.daemon, "/v1/messages", message_request(), VERSION, key=key))
    assert (chat.status, message.status) == (401, 401)
    assert chat.json()["error"]["type"] == "invalid_request_error"
    assert message.json()["error"]["type"] == "authentication_error"
    for answer, text in ((chat, chat.json()["error"]["message"]), (message, message.json()["error"]["message"])):
        assert hint in text.lower()
        assert REQUEST_ID.fullmatch(answer.headers["x-request-id"])
        if key:
            assert key.encode() not in answer.rest
            assert key[:10] not in text
    assert scene.upstream.exchanges == []
    if key:
        with pytest.raises(openai.AuthenticationError):
            calls.openai_client(scene.daemon.url, key).models.list()
        with pytest.raises(anthropic.AuthenticationError):
            calls.anthropic_client(scene.daemon.url, key).models.list()


def test_a_wrong_key_never_gets_its_body_read(scene: Scene) -> None:
    """401 comes on the head alone, also when the client waits for 100-continue or announces 30 MB."""
    lines = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-x\r\nContent-Length: 31000000\r\n"
    )
    for more in (b"\r\n", b"Expect: 100-continue\r\n\r\n"):
        with RawClient(scene.daemon.port) as client:
            received = client.send(lines + more).read_until(b"\r\n\r\n")
        assert Reply(received).status == 401


def test_expect_continue_is_answered_after_the_key(scene: Scene) -> None:
    """A good key gets 100 Continue, then the answer."""
    body = chat_request()
    request = post(scene.daemon, "/v1/chat/completions", body, "Expect: 100-continue")
    with RawClient(scene.daemon.port) as client:
        client.send(request[: -len(body)]).read_until(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.received = b""
        assert Reply(client.send(body).read_all()).status == 200
    assert scene.upstream.wait().header("expect") is None


BAD_BODIES = {
    "not json": b"hello",
    "cut": b'{"model":"plain","messages":[',
    "empty": b"",
    "a list": b"[]",
    "a string": b'"plain"',
    "null": b"null",
    "two documents": b'{"model":"plain"} {"model":"plain"}',
    "duplicate model": b'{"model":"plain","model":"alias","messages":[]}',
    "duplicate other": b'{"model":"plain","stream":true,"messages":[],"stream":false}',
    "escaped duplicate": rb'{"model":"plain","mode\u006c":"alias","messages":[]}',
    "BOM": b'\xef\xbb\xbf{"model":"plain","messages":[]}',
    "bad UTF-8": b'{"model":"plain","messages":[{"content":"\xff\xfe"}]}',
    "UTF-16": '{"model":"plain","messages":[]}'.encode("utf-16"),
    "lone surrogate": rb'{"model":"plain","messages":[{"role":"user","content":"\ud83d"}]}',
    "NaN": b'{"model":"plain","temperature":NaN,"messages":[]}',
    "model a number": b'{"model":7,"messages":[]}',
    "model missing": b'{"messages":[]}',
    "model empty": b'{"model":"","messages":[]}',
    "stream a string": b'{"model":"plain","stream":"true","messages":[]}',
    "options a list": b'{"model":"plain","stream":true,"stream_options":[1],"messages":[]}',
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_bad_bodies(scene: Scene, body: bytes) -> None:
    """What is not one unambiguous JSON object with a model is 400 and goes nowhere."""
    answer = ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", body))
    assert answer.status == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    claude = body.replace(b'"plain"', b'"claude"').replace(b'"alias"', b'"claude-alias"')
    if b"stream_options" not in body:
        message = ask(scene.daemon, post(scene.daemon, "/v1/messages", claude, VERSION))
        assert message.status == 400
        assert message.json()["error"]["type"] == "invalid_request_error"
    assert scene.upstream.exchanges == []


def test_the_sdks_call_it_bad_request(scene: Scene) -> None:
    """A body the gateway refuses raises BadRequestError in both SDKs."""
    chat = chat_error(scene, extra_body={"stream": "yes"})
    message = message_error(scene, extra_body={"stream": "yes"})
    check_forms(chat, message)
    assert isinstance(chat, openai.BadRequestError)
    assert isinstance(message, anthropic.BadRequestError)


def test_encoded_bodies_are_refused(scene: Scene) -> None:
    """A compressed body is refused in the dialect's form, not guessed at."""
    answer = ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", chat_request(), "Content-Encoding: gzip"))
    assert answer.status == 415
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert scene.upstream.exchanges == []


def test_a_body_too_big(scene: Scene) -> None:
    """More than 32 MiB is refused on its announced length, before it is sent."""
    announced = f"Content-Length: {32 * 1024 * 1024 + 1}"
    for path, more in (("/v1/chat/completions", ()), ("/v1/messages", (VERSION,))):
        request = post(scene.daemon, path, b"", *more).replace(b"Content-Length: 0", announced.encode())
        with RawClient(scene.daemon.port) as client:
            answer = Reply(client.send(request).read_all())
        assert answer.status == 413
        assert answer.json()["error"]["message"]


def test_a_chunked_body_too_big(scene: Scene) -> None:
    """A body without a length is refused once it has grown too big."""
    request = post(scene.daemon, "/v1/chat/completions", b"").replace(
        b"Content-Length: 0", b"Transfer-Encoding: chunked"
    )
    piece = b"%x\r\n" % (1 << 20) + b"x" * (1 << 20) + b"\r\n"
    with RawClient(scene.daemon.port) as client:
        client.send(request)
        try:
            for _ in range(40):
                client.send(piece)
        except OSError:
            pass  # refused while we were still sending
        received = client.read_all()
    assert received == b"" or Reply(received).status == 413
    assert scene.upstream.exchanges == []


def test_headers_too_big(scene: Scene) -> None:
    """A head over the limit is 431, in the dialect that can be told from it."""
    answer = ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", chat_request(), "X-Long: " + "x" * 70_000))
    assert answer.status == 431
    assert answer.json()["error"]["message"]
    many = [f"X-N{number}: 1" for number in range(150)]
    assert ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", chat_request(), *many)).status == 431


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_wrong_method(scene: Scene, method: str) -> None:
    """A known path with a wrong method is 405 in the dialect's form."""
    answer = ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", chat_request(), method=method))
    assert answer.status == 405
    assert answer.json()["error"]["type"] == "invalid_request_error"
    message = ask(scene.daemon, post(scene.daemon, "/v1/messages", message_request(), VERSION, method=method))
    assert message.status == 405
    assert message.json()["type"] == "error"


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/chat/completions/", "/v1/chat", "/v1/files", "/v1/../v1/models"])
def test_unknown_path(scene: Scene, path: str) -> None:
    """An unknown path is 404 in the dialect's form, and nothing of it is repeated."""
    answer = ask(scene.daemon, post(scene.daemon, path, chat_request()))
    assert answer.status == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"
    message = ask(scene.daemon, post(scene.daemon, path, message_request(), VERSION))
    assert message.status == 404
    assert message.json()["error"]["type"] == "not_found_error"
    assert path.encode() not in answer.rest + message.rest


BROKEN_REQUESTS = {
    "two lengths": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "length and chunked": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "odd coding": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
    "two hosts": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nHost: y\r\nContent-Length: 0\r\n\r\n",
    "no host": b"POST /v1/messages HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "HTTP/2.0": b"POST /v1/messages HTTP/2.0\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "space before colon": b"POST /v1/messages HTTP/1.1\r\nHost : x\r\nContent-Length: 0\r\n\r\n",
    "folded line": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n 2\r\nContent-Length: 0\r\n\r\n",
    "NUL in a value": b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("sent", BROKEN_REQUESTS.values(), ids=BROKEN_REQUESTS.keys())
def test_broken_http_is_refused_and_closed(scene: Scene, sent: bytes) -> None:
    """Ambiguous or broken HTTP gets 4xx and the connection ends; a second request behind it is never served."""
    with RawClient(scene.daemon.port) as client:
        received = client.send(sent + post(scene.daemon, "/v1/chat/completions", chat_request())).read_all()
    if received:
        assert Reply(received).status in (400, 401, 404, 405, 431, 505)
        assert received.count(b"HTTP/1.1 ") == 1
    assert scene.upstream.exchanges == []


# What the SDKs make of an upstream's own answer: it keeps its status and meaning.
UPSTREAM_STATUSES: list[tuple[int, str, type[Exception], type[Exception]]] = [
    (400, "invalid_request_error", openai.BadRequestError, anthropic.BadRequestError),
    (404, "not_found_error", openai.NotFoundError, anthropic.NotFoundError),
    (408, "timeout_error", openai.APIStatusError, anthropic.APIStatusError),
    (409, "conflict_error", openai.ConflictError, anthropic.ConflictError),
    (413, "request_too_large", openai.APIStatusError, anthropic.APIStatusError),
    (422, "invalid_request_error", openai.UnprocessableEntityError, anthropic.UnprocessableEntityError),
    (429, "rate_limit_error", openai.RateLimitError, anthropic.RateLimitError),
    (500, "api_error", openai.InternalServerError, anthropic.InternalServerError),
    (503, "api_error", openai.InternalServerError, anthropic.InternalServerError),
    (529, "overloaded_error", openai.InternalServerError, anthropic.InternalServerError),
]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("status", "kind", "chat_class", "message_class"), UPSTREAM_STATUSES)
def test_an_upstreams_error_keeps_its_status(
    scene: Scene, status: int, kind: str, chat_class: type[Exception], message_class: type[Exception], streamed: bool
) -> None:
    """Before the first byte an upstream's error keeps its status, in the caller's dialect; the row shows it."""
    scene.answer(reply(status, bodies.openai_error("it says no", "some_type", "some_code"), "x-request-id: theirs"))
    chat = chat_error(scene, stream=streamed)
    scene.answer(reply(status, bodies.anthropic_error("it says no", kind), "request-id: theirs"))
    message = message_error(scene, stream=streamed)
    check_forms(chat, message)
    assert isinstance(chat, chat_class)
    assert isinstance(message, message_class)
    for raised in (chat, message):
        assert isinstance(raised, (openai.APIStatusError, anthropic.APIStatusError))
        assert raised.status_code == status
        row = scene.daemon.row(raised.request_id or "")
        assert (row["status"], row["ending"]) == (status, "complete")
        assert row["code"] != "ok"
        assert row["output_tokens"] == 0


def test_retry_after_is_kept(scene: Scene) -> None:
    """`retry-after` of an upstream's 429 reaches the SDK, which obeys it."""
    scene.answer(reply(429, bodies.openai_error("slow", "requests", "rate_limit_exceeded"), "Retry-After: 7"))
    chat = chat_error(scene)
    assert isinstance(chat, openai.RateLimitError)
    assert chat.response.headers["retry-after"] == "7"
    scene.answer(reply(429, bodies.anthropic_error("slow", "rate_limit_error"), "retry-after: 7"))
    message = message_error(scene)
    assert isinstance(message, anthropic.RateLimitError)
    assert message.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("status", [401, 402, 403])
def test_our_credential_is_not_the_clients_fault(scene: Scene, status: int) -> None:
    """An upstream that refuses our credential is 502 upstream_auth; its text, which may show the key, stays inside."""
    scene.answer(reply(status, bodies.openai_error("Incorrect API key provided: sk-prov****", "x", "invalid_api_key")))
    chat, message = chat_error(scene), message_error(scene)
    check_forms(chat, message)
    assert isinstance(chat, openai.InternalServerError)
    assert isinstance(message, anthropic.InternalServerError)
    assert (chat.status_code, message.status_code) == (502, 502)
    assert chat.code == "upstream_auth"
    assert "sk-prov" not in str(chat) + str(message)
    row = scene.daemon.row(chat.request_id or "")
    assert (row["status"], row["code"]) == (502, "upstream_auth")


def test_a_provider_that_cannot_be_reached(scene: Scene) -> None:
    """A refused connection is 502 in each dialect."""
    chat, message = chat_error(scene, "unreachable"), message_error(scene, "claude-unreachable")
    check_forms(chat, message)
    assert (chat.status_code, message.status_code) == (502, 502)  # type: ignore[attr-defined] -- check_forms saw to it
    assert isinstance(chat, openai.InternalServerError)
    assert chat.code == "upstream_unreachable"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("steps", "status", "code"),
    [
        ([CLOSE], 502, "upstream_closed"),
        ([RESET], 502, "upstream_closed"),
        ([b"HTTP/1.1 200 OK\r\nContent-Ty", CLOSE], 502, None),
        ([b"\x15\x03\x03\x00\x02\x02\x28", CLOSE], 502, None),
        ([b"SMTP ready\r\n\r\n", CLOSE], 502, "upstream_invalid"),
        ([head(200, "Content-Length: -5"), CLOSE], 502, "upstream_invalid"),
        ([head(200, "Content-Length: 5", "Content-Length: 6"), b"hello!", CLOSE], 502, "upstream_invalid"),
        ([HANG], 504, "upstream_timeout"),
        ([b"HTTP/1.1 200 OK\r\n", HANG], 504, "upstream_timeout"),
    ],
    ids=[
        "close",
        "reset",
        "half head",
        "TLS alert",
        "not HTTP",
        "bad length",
        "two lengths",
        "hang",
        "half head, hang",
    ],
)
def test_an_upstream_that_answers_nothing_usable(
    scene: Scene, steps: list[Any], status: int, code: str | None, streamed: bool
) -> None:
    """Before the first byte every such end is a 5xx that the SDK raises, and the row says upstream_failed."""
    scene.answer(*steps)
    chat, message = chat_error(scene, stream=streamed), message_error(scene, stream=streamed)
    check_forms(chat, message)
    assert isinstance(chat, openai.InternalServerError)
    assert isinstance(message, anthropic.InternalServerError)
    assert (chat.status_code, message.status_code) == (status, status)
    if code:
        assert chat.code == code
    row = scene.daemon.row(chat.request_id or "")
    assert (row["status"], row["ending"]) == (status, "upstream_failed")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_an_upstreams_html_error_is_not_shown(scene: Scene, streamed: bool) -> None:
    """A CDN's HTML error page keeps its status but becomes the dialect's envelope."""
    scene.answer(reply(503, b"<html><body>SECRET ray id</body></html>", content_type="text/html"))
    chat, message = chat_error(scene, stream=streamed), message_error(scene, stream=streamed)
    check_forms(chat, message)
    assert "SECRET" not in str(chat.body) + str(message.body)
    assert isinstance(chat, openai.InternalServerError)


def test_a_200_with_an_error_body_is_an_error(scene: Scene) -> None:
    """OpenRouter's 200 with an `error` body would be a reply full of None; it must raise."""
    body = json.dumps({"error": {"code": 502, "message": "Provider returned error"}, "user_id": "u"}).encode()
    scene.answer(reply(200, body))
    chat, message = chat_error(scene), message_error(scene)
    check_forms(chat, message)
    assert isinstance(chat, openai.InternalServerError)
    assert scene.daemon.row(chat.request_id or "")["ending"] == "upstream_failed"


@pytest.mark.parametrize("body", [b"<html>hello</html>", b""], ids=["HTML", "empty"])
def test_a_200_that_is_not_json_is_an_error(scene: Scene, body: bytes) -> None:
    """A 200 with HTML or nothing would be a bare JSONDecodeError in the SDK; it must be a 502."""
    scene.answer(reply(200, body, content_type="text/html"))
    chat, message = chat_error(scene), message_error(scene)
    check_forms(chat, message)
    assert isinstance(chat, openai.InternalServerError)
    assert isinstance(message, anthropic.InternalServerError)


def test_a_cut_json_answer_is_never_whole(scene: Scene) -> None:
    """A JSON answer that ends before its length raises; the client does not wait for the rest."""
    whole = bodies.chat_body("x" * 500)
    scene.answer(head(200, "Content-Type: application/json", f"Content-Length: {len(whole)}"), whole[:300], CLOSE)
    assert isinstance(chat_error(scene), (openai.InternalServerError, openai.APIConnectionError))
    big = bodies.chat_body("x" * 300_000)
    fields = ("Content-Type: application/json", f"Content-Length: {len(big)}")
    scene.answer(head(200, *fields), big[:200_000], 0.1, CLOSE)
    assert isinstance(chat_error(scene), openai.APIError)


def test_nothing_is_retried_behind_the_clients_back(scene: Scene) -> None:
    """One client request is one upstream request when the upstream may have worked."""
    scene.answer(CLOSE)
    chat_error(scene)
    assert len(scene.upstream.exchanges) == 1


def test_a_dead_pooled_connection_is_replaced_silently(scene: Scene) -> None:
    """A kept upstream connection that the upstream has closed meanwhile costs the client nothing."""
    good = [reply(200, bodies.chat_body())]
    scene.upstream.queue([*good, 0.05, CLOSE], good, [*good, 0.05, RESET], good)
    for _ in range(4):
        assert ask(scene.daemon, post(scene.daemon, "/v1/chat/completions", chat_request())).status == 200
        scene.upstream.exchanges[-1].finished.wait(2)


def test_every_refusal_says_whether_to_retry(scene: Scene) -> None:
    """Refusals an SDK would retry by their status carry `x-should-retry: false` when a retry cannot help."""
    scene.answer(reply(401, bodies.openai_error("no")))
    raised = chat_error(scene)
    assert isinstance(raised, openai.APIStatusError)
    assert not REFUSALS["upstream_auth"].retryable
    assert raised.response.headers["x-should-retry"] == "false"


def test_websocket_is_refused_cleanly(scene: Scene) -> None:
    """The Responses API over WebSocket is refused with a status, not a hang."""
    lines = [
        "GET /v1/responses HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        f"Authorization: Bearer {scene.daemon.key}", "", "",
    ]  # fmt: skip
    with RawClient(scene.daemon.port) as client:
        received = client.send("\r\n".join(lines).encode()).read_until(b"\r\n\r\n")
    assert Reply(received).status in (400, 404, 405, 426, 501)


@pytest.fixture(scope="module", autouse=True)
def _nothing_lost(module_scene: Scene) -> Iterator[None]:
    """After all of it the ledger has lost nothing and the daemon has met no bug of its own."""
    yield
    assert module_scene.daemon.metric("luntrex_ledger_lost_total") == 0
    assert b"luntrex.bug" not in module_scene.daemon.stderr.read_bytes()
    assert b"Traceback" not in module_scene.daemon.stderr.read_bytes()
