"""Error bodies and error events in each dialect, read by the real SDKs."""

import json
from collections.abc import Callable

import anthropic
import httpx2
import openai
import pytest

from luntrex_proxy.core.call import Dialect, Grammar
from luntrex_proxy.core.refusals import REFUSALS, Row
from luntrex_proxy.core.wire.ends import error_event
from luntrex_proxy.core.wire.errors import MESSAGE_LIMIT_CHARS, error_body, is_error_body, upstream_error_body
from luntrex_proxy.core.wire.streams import stream_reader
from tests.core.wire.samples import chat, named


def answering(status: int, kind: str, body: bytes) -> httpx2.Client:
    """An HTTP client whose server always answers this."""
    headers = {"content-type": kind, "x-request-id": "req-1", "request-id": "req-1"}
    return httpx2.Client(
        transport=httpx2.MockTransport(lambda _: httpx2.Response(status, headers=headers, content=body))
    )


def openai_client(status: int, kind: str, body: bytes) -> openai.OpenAI:
    http = answering(status, kind, body)
    return openai.OpenAI(api_key="k", base_url="http://gateway/v1", max_retries=0, http_client=http)


def anthropic_client(status: int, kind: str, body: bytes) -> anthropic.Anthropic:
    http = answering(status, kind, body)
    return anthropic.Anthropic(api_key="k", base_url="http://gateway", max_retries=0, http_client=http)


OPENAI_CLASSES = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    502: openai.InternalServerError,
    503: openai.InternalServerError,
    504: openai.InternalServerError,
}
ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}


@pytest.mark.parametrize("row", REFUSALS.values(), ids=lambda row: row.code)
def test_openai_sdk_raises(row: Row) -> None:
    """Every refusal becomes the exception of its status, with sentence, code and param."""
    body = error_body(Dialect.OPENAI, row, "req-1", "model")
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    with pytest.raises(openai.APIStatusError) as caught, openai_client(row.status, "application/json", body) as client:
        client.chat.completions.create(model="m", messages=[])
    error = caught.value
    assert type(error) is OPENAI_CLASSES.get(row.status, openai.APIStatusError)
    kind = {"tokens_limited": "tokens", "requests_limited": "requests", "streams_limited": "requests"}.get(row.code)
    code = "rate_limit_exceeded" if kind else row.code
    if row.code == "budget_spent":
        kind = code = "insufficient_quota"
    assert error.code == ("invalid_api_key" if row.status == 401 else code)
    assert error.param == "model"
    assert error.type == (kind or ("server_error" if row.status >= 500 else "invalid_request_error"))
    assert f"model: {row.sentence}" in str(error)
    assert error.request_id == "req-1"


@pytest.mark.parametrize("row", REFUSALS.values(), ids=lambda row: row.code)
def test_anthropic_sdk_raises(row: Row) -> None:
    """Every refusal becomes the exception of its status, with Anthropic's type and the request id."""
    body = error_body(Dialect.ANTHROPIC, row, "req-1")
    with (
        pytest.raises(anthropic.APIStatusError) as caught,
        anthropic_client(row.status, "application/json", body) as client,
    ):
        client.messages.create(model="m", messages=[], max_tokens=5)
    error = caught.value
    assert error.status_code == row.status
    assert isinstance(error.body, dict)
    assert error.body["error"]["message"] == row.sentence
    assert error.body["request_id"] == "req-1"
    assert error.body["error"]["type"] == ANTHROPIC_TYPES.get(row.status, "invalid_request_error")
    if row.status == 401:
        assert isinstance(error, anthropic.AuthenticationError)


def test_a_field_is_named_in_the_sentence() -> None:
    """SDKs show the message alone, and Anthropic's form has no `param`."""
    body = error_body(Dialect.ANTHROPIC, REFUSALS["field_not_allowed"], "r", "conversation")
    assert json.loads(body)["error"]["message"].startswith("conversation: ")


@pytest.mark.parametrize(
    ("body", "openai_form", "anthropic_form"),
    [
        (b'{"error":{"message":"no"}}', True, False),
        (b'{"error":{"code":"404","message":"no"}}', True, False),
        (b'{"type":"error","error":{"type":"api_error","message":"no"},"request_id":"r"}', True, True),
        (b'{"error":"no"}', False, False),
        (b'{"error":{"message":null}}', False, False),
        (b'{"error":{"message":{"a":1}}}', False, False),
        (b'{"detail":"no"}', False, False),
        (b'[{"error":{"message":"no"}}]', False, False),
        (b'{"error":null}', False, False),
        (b"<html>502</html>", False, False),
        (b"", False, False),
        (b'{"error":{"message":"no","x":"\xff"}}', False, False),
        (b'{"error":{"message":"no"}', False, False),
    ],
)
def test_is_error_body(body: bytes, openai_form: bool, anthropic_form: bool) -> None:
    """Only a body that SDKs of the dialect read passes untouched."""
    assert is_error_body(Dialect.OPENAI, body) is openai_form
    assert is_error_body(Dialect.ANTHROPIC, body) is anthropic_form


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": "Too long"}',
        b'{"error":{"message":"Too long","code":400}}',
        b'{"type":"error","error":{"type":"x","message":"Too long"}}',
        b'{"message":"Too long"}',
        b'{"object":"error","message":"Too long","type":"BadRequestError","param":null,"code":400}',
        b'{"detail":"Too long"}',
        b'[{"error":{"code":400,"message":"Too long","status":"INVALID_ARGUMENT"}}]',
        b'{"error":{"message":null},"message":"Too long"}',
    ],
)
@pytest.mark.parametrize("dialect", Dialect)
def test_upstream_errors_keep_their_words(dialect: Dialect, body: bytes) -> None:
    """Whatever server said it, the SDK raises the exception of the status with the server's own message."""
    rendered = upstream_error_body(dialect, 400, body, "req-1")
    assert is_error_body(dialect, rendered)
    assert (rendered == body) is is_error_body(dialect, body)
    if dialect is Dialect.OPENAI:
        with (
            pytest.raises(openai.BadRequestError, match="Too long"),
            openai_client(400, "application/json", rendered) as client,
        ):
            client.chat.completions.create(model="m", messages=[])
    else:
        with (
            pytest.raises(anthropic.BadRequestError, match="Too long"),
            anthropic_client(400, "application/json", rendered) as other,
        ):
            other.messages.create(model="m", messages=[], max_tokens=5)


@pytest.mark.parametrize(
    ("status", "openai_type", "code", "anthropic_type"),
    [
        (400, "invalid_request_error", "upstream_error", "invalid_request_error"),
        (404, "invalid_request_error", "upstream_error", "not_found_error"),
        (413, "invalid_request_error", "upstream_error", "request_too_large"),
        (422, "invalid_request_error", "upstream_error", "invalid_request_error"),
        (429, "rate_limit_error", "rate_limit_exceeded", "rate_limit_error"),
        (500, "server_error", "upstream_error", "api_error"),
        (503, "server_error", "upstream_error", "overloaded_error"),
        (529, "server_error", "upstream_error", "overloaded_error"),
    ],
)
def test_upstream_errors_mean_what_their_status_means(
    status: int, openai_type: str, code: str, anthropic_type: str
) -> None:
    """Type and code follow the status, also when nothing of the body can be used."""
    sentence = REFUSALS["upstream_error"].sentence
    body = b"<html>nginx</html>"
    assert json.loads(upstream_error_body(Dialect.OPENAI, status, body, "req-1")) == {
        "error": {"message": sentence, "type": openai_type, "param": None, "code": code}
    }
    assert json.loads(upstream_error_body(Dialect.ANTHROPIC, status, body, "req-1")) == {
        "type": "error",
        "error": {"type": anthropic_type, "message": sentence},
        "request_id": "req-1",
    }


@pytest.mark.parametrize(
    "body",
    [b"", b"no", b"[]", b"[7]", b"{}", b"null", b'{"error":7}', b'{"error":{}}', b'{"error":" "}', b'{"message":["x"]}',
     b'{"detail":[{"msg":"x"}]}', b'{"error":"\xff"}', b'{"error":"\\ud800"}', b"[" * 100_000, b'{"error":"cut'],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
def test_upstream_errors_without_words(body: bytes) -> None:
    """What has no message gets the fixed sentence."""
    for dialect in Dialect:
        error = json.loads(upstream_error_body(dialect, 500, body, "r"))["error"]
        assert error["message"] == REFUSALS["upstream_error"].sentence


def test_upstream_errors_are_bounded() -> None:
    """A page of text in a message is cut."""
    body = json.dumps({"detail": "é" * 100_000}).encode()
    for dialect in Dialect:
        error = json.loads(upstream_error_body(dialect, 500, body, "r"))["error"]
        assert error["message"] == "é" * MESSAGE_LIMIT_CHARS


CODES = ("upstream_cut", "upstream_timeout", "upstream_error", "overloaded", "key_revoked", "draining")
SSE = "text/event-stream; charset=utf-8"
TEXT = chat({"content": "Hi"})
R_TEXT = named(
    "response.output_text.delta", sequence_number=0, item_id="m", output_index=0, content_index=0, delta="Hi"
)
M_TEXT = named("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hi"})


def drained_chat(body: bytes) -> list[object]:
    with openai_client(200, SSE, body) as client:
        return list(client.chat.completions.create(model="m", messages=[], stream=True))


def drained_responses(body: bytes) -> list[object]:
    with openai_client(200, SSE, body) as client:
        return list(client.responses.create(model="m", input="x", stream=True))


def drained_messages(body: bytes) -> list[object]:
    with anthropic_client(200, SSE, body) as client:
        return list(client.messages.create(model="m", messages=[], max_tokens=5, stream=True))


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(
    ("grammar", "start", "drained", "raised"),
    [
        (Grammar.CHAT, TEXT, drained_chat, openai.APIError),
        (Grammar.RESPONSES, R_TEXT, drained_responses, openai.APIError),
        (Grammar.MESSAGES, M_TEXT, drained_messages, anthropic.APIStatusError),
    ],
)
def test_sdks_raise_on_the_error_event(
    code: str, grammar: Grammar, start: bytes, drained: Callable[[bytes], list[object]], raised: type[Exception]
) -> None:
    """A stream that was cut is silence to the SDKs; with our event they raise our sentence."""
    sentence = REFUSALS[code].sentence
    event = error_event(grammar, code, sentence, "req-9", 1)
    assert len(drained(start)) == 1  # without it: no error at all
    with pytest.raises(raised) as caught:
        drained(start + event)
    assert sentence in str(caught.value)
    if grammar is Grammar.MESSAGES:
        assert json.loads(event.split(b"data: ")[1])["request_id"] == "req-9"
    reader = stream_reader(grammar)  # and our own reader takes it for what it is
    assert reader.feed(start + event) == start
    assert (reader.held, reader.failed) == (event, True)


def test_responses_error_has_both_shapes() -> None:
    """Flat as documented and nested as the live API sends it."""
    event = json.loads(error_event(Grammar.RESPONSES, "upstream_cut", "S.", "r", 5).split(b"data: ")[1])
    nested = event.pop("error")
    assert event == {"type": "error", "sequence_number": 5, "code": "upstream_cut", "message": "S.", "param": None}
    assert nested == {"type": "server_error", "code": "upstream_cut", "message": "S.", "param": None}


def test_upstream_errors_are_raised_after_the_reader() -> None:
    """Errors that SDKs would swallow as the upstream sent them are raised as the reader passes them on."""
    flat = named("error", sequence_number=1, code="server_error", message="It broke", param=None)
    assert len(drained_responses(R_TEXT + flat)) == 2
    reader = stream_reader(Grammar.RESPONSES)
    out = reader.feed(R_TEXT + flat)
    with pytest.raises(openai.APIError, match="It broke"):
        drained_responses(out + reader.held)
    unnamed = b'data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    assert len(drained_messages(M_TEXT + unnamed)) == 1
    reader = stream_reader(Grammar.MESSAGES)
    out = reader.feed(M_TEXT + unnamed)
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        drained_messages(out + reader.held)
