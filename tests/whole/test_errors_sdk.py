"""Bad requests: both SDKs raise the exception that fits, with a text in their own dialect's form."""

from collections.abc import Iterator

import anthropic
import openai
import pytest

from luntrex_proxy.core.apikeys import RANDOM_BYTES, make_key
from tests.whole import calls
from tests.whole.raised import REQUEST_ID, chat_error, check_forms, check_nothing_lost, message_error
from tests.whole.raw import RawClient, Reply, ask, post
from tests.whole.scene import Scene, chat_request, message_request

VERSION = "anthropic-version: 2026-10-21"


UNKNOWN_KEY = make_key(bytes(range(RANDOM_BYTES)))[1].decode()


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
    [
        ("", "key"),
        (UNKNOWN_KEY, "key"),
        (UNKNOWN_KEY[:-1] + "x", "key"),
        (UNKNOWN_KEY[:-1] + "_", "key"),
        ("lx_short", "key"),
        ("hello", "key"),
        ("sk-proj-abcdefghijklmnopqrstuvwxyz0123456789", "luntrex"),
        ("sk-ant-api03-abcdefghijklmnopqrstuvwxyz", "luntrex"),
    ],
    ids=["none", "unknown", "wrong checksum", "odd character", "short", "nonsense", "openais", "anthropics"],
)
def test_bad_keys(scene: Scene, key: str, hint: str) -> None:
    """No key, an unknown one and a provider's one are 401 with a sentence that helps; the key is never repeated."""
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
    check_nothing_lost(module_scene)
