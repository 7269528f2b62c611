"""An error event that is the first of its stream: what the answer would have been without a stream.

Nothing has gone to the client, so it can still have a real status, with which its SDK raises what it should, or
another upstream can be asked.
"""

from typing import Any, Final

import msgspec

from luntrex_proxy.core.wire.members import UNREADABLE
from luntrex_proxy.core.wire.sse import parse_event

# Types and codes of both dialects. An upstream of one dialect may well use a word of the other.
_STATUS: Final = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "invalid_prompt": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "rate_limit_reached": 429,
    "insufficient_quota": 429,
    "tokens": 429,
    "requests": 429,
    "api_error": 500,
    "server_error": 500,
    "server_is_overloaded": 503,
    "slow_down": 503,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class _Said(msgspec.Struct, gc=False):
    code: Any = None
    type: Any = None
    message: Any = None
    param: Any = None


class _Response(msgspec.Struct, gc=False):
    error: _Said | None = None


class _Event(msgspec.Struct, gc=False):
    code: Any = None
    type: Any = None
    error: _Said | None = None
    response: _Response | None = None


_EVENT = msgspec.json.Decoder(_Event)


def read_error_event(event: bytes) -> tuple[int, bytes]:
    """The status that an error event stands for, and an error body with its words; 0 when it does not say."""
    _, data = parse_event(event)
    data = data.strip() if data is not None else b""
    try:
        said = _EVENT.decode(data)
    except UNREADABLE:
        return 0, data
    error = said.error
    if error is None and said.response is not None and said.response.error is not None:  # response.failed
        error = said.response.error
        data = msgspec.json.encode({"error": {"type": "server_error", **_members(error)}})
    for word in (() if error is None else (error.code, error.type)) + (said.code,):
        if type(word) is int and 400 <= word < 600:  # OpenRouter and vLLM
            return word, data
        if type(word) is str and word in _STATUS:
            return _STATUS[word], data
    return 0, data


def _members(error: _Said) -> dict[str, Any]:
    members = {"code": error.code, "message": error.message, "param": error.param}
    return members | {"type": error.type} if error.type is not None else members
