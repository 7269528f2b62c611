"""Bad upstreams, before the first byte: status and meaning are kept, and both SDKs raise what fits."""

import json
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from luntrex_proxy.core.refusals import REFUSALS
from tests.upstreams import bodies
from tests.upstreams.scripted import CLOSE, HANG, RESET, head, reply
from tests.whole.raised import chat_error, check_forms, check_nothing_lost, message_error
from tests.whole.raw import ask, post
from tests.whole.scene import Scene, chat_request

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
    assert isinstance(chat, openai.InternalServerError)
    assert isinstance(message, anthropic.InternalServerError)
    assert "Provider returned error" in chat.message
    row = scene.daemon.row(chat.request_id or "")
    assert (row["status"], row["code"], row["ending"]) == (502, "upstream_error", "complete")


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
        time.sleep(0.1)  # what the gateway has not been told yet it cannot know: a request on its way to it would race


def test_every_refusal_says_whether_to_retry(scene: Scene) -> None:
    """Refusals an SDK would retry by their status carry `x-should-retry: false` when a retry cannot help."""
    scene.answer(reply(401, bodies.openai_error("no")))
    raised = chat_error(scene)
    assert isinstance(raised, openai.APIStatusError)
    assert not REFUSALS["upstream_auth"].retryable
    assert raised.response.headers["x-should-retry"] == "false"


@pytest.fixture(scope="module", autouse=True)
def _nothing_lost(module_scene: Scene) -> Iterator[None]:
    """After all of it the ledger has lost nothing and the daemon has met no bug of its own."""
    yield
    check_nothing_lost(module_scene)
