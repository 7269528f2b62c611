"""An error event that begins a stream becomes the status it would have been without one."""

import json

import pytest

from luntrex_proxy.core.wire.refused import read_error_event


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
