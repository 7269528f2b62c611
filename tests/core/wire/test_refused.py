"""An error behind a status 200, in a first event or in a body, becomes the status it should have been."""

import json

import pytest

from luntrex_proxy.core.wire.refused import read_error_body, read_error_event


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"m"}}\n\n', 529),
        (b'event: error\r\ndata: {"type":"error","error":{"type":"rate_limit_error","message":"m"}}\r\n\r\n', 429),
        (b'event: error\ndata: {"type":"error","error":{"type":"invalid_request_error","message":"m"}}\n\n', 400),
        (b'event: error\ndata: {"type":"error","error":{"type":"authentication_error","message":"m"}}\n\n', 401),
        (b'data: {"error":{"message":"m","type":"server_error","code":null}}\n\n', 500),
        (b'data: {"error":{"message":"m","type":"tokens","code":"rate_limit_exceeded"}}\n\n', 429),
        (b'data: {"error":{"message":"m","code":502}}\n\n', 502),
        (b'data: {"error":{"message":"m","code":"insufficient_quota"}}\n\n', 429),
        (b'event: error\ndata: {"type":"error","code":"server_is_overloaded","message":"m","error":{}}\n\n', 503),
        (
            b'event: response.failed\ndata: {"type":"response.failed","response":{"error":'
            b'{"code":"rate_limit_exceeded","message":"m"}}}\n\n',
            429,
        ),
    ],
)
def test_the_status_is_found(event: bytes, status: int) -> None:
    """By number, code or type; and the words are an error body."""
    found, body = read_error_event(event)
    assert found == status
    said = json.loads(body)
    assert said["error"].get("message", said.get("message")) == "m"


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error":{"message":"m"}}\n\n',
        b'data: {"error":"overloaded_error"}\n\n',
        b'data: {"error":{"code":200}}\n\n',
        b'data: {"error":{"code":true,"type":["overloaded_error"]}}\n\n',
        b'data: {"error":{"code":99999999999999999999999999}}\n\n',
        b"data: overloaded_error\n\n",
        b": comment\n\n",
        b"data: \xff\n\n",
        b"",
    ],
)
def test_what_does_not_say_is_not_guessed(event: bytes) -> None:
    """No status, and no exception."""
    assert read_error_event(event)[0] == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"error":{"code":400,"message":"too long"},"user_id":"u"}', 400),
        (b'{"error":{"code":429,"message":"m"}}', 429),
        (b'{"id":"x", "error" : {"message":"m","type":"overloaded_error"}}', 529),
        (b'{"error":{"message":"m","type":"service_unavailable_error","code":null}}', 503),
        (b'{"error":{"message":"m","type":"InternalServerError"}}', 500),
        (b'{"error":{"message":"m","code":"of its own"}}', 0),
        (b'{"error":{"code":200}}', 0),
        (b'{"error":{"code":true,"type":["overloaded_error"]}}', 0),
        (b'{"error":"overloaded_error"}', 0),
        (b'{"error":null}', 0),
        (b'{"object":"response","status":"failed","error":{"code":"server_error","message":"m"}}', 0),
        (b'{"choices":[{"error":{"code":502}}]}', 0),
        (b'{"choices":[{"message":{"content":"{\\"error\\":{\\"code\\":429}}"}}]}', 0),
        (b'[{"error":{"code":400}}]', 0),
        (b'"error"', 0),
        (b'{"error":{"code":400', 0),
        (b"", 0),
    ],
)
def test_the_status_of_an_error_in_a_body(body: bytes, status: int) -> None:
    """Only the answer's own error counts, by number, code or type; what does not say is not guessed."""
    assert read_error_body(body) == status
