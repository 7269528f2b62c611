"""An error behind a status 200, the first event of a stream or a whole JSON body: what status it stands for.

Nothing has gone to the client, so it can still have a real status, with which its SDK raises what it should, or
another upstream can be asked.
"""

import re
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
    "internal_error": 500,
    "internal_server_error": 500,
    "InternalServerError": 500,
    "server_is_overloaded": 503,
    "service_unavailable_error": 503,
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


class _Body(msgspec.Struct, gc=False):
    object: Any = None
    error: _Said | None = None


_ERROR: Final = b'"error"'
_IS_NULL = re.compile(rb"[ \t\n\r]*:[ \t\n\r]*null")

_EVENT = msgspec.json.Decoder(_Event)
_BODY = msgspec.json.Decoder(_Body)


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
    words = (() if error is None else (error.code, error.type)) + (said.code,)
    return _status_of(words), data


def read_error_body(body: bytes) -> int:
    """The status that the error in a whole JSON answer stands for; 0 when there is none, or it does not say.

    A `response` object with an `error` is a truthful answer: its own status says failed.
    """
    # For every answer: a key has bare quotes, which text never has, so nearly all need no decoding. A `response`
    # always has the key.
    at = body.find(_ERROR)
    if at < 0 or _IS_NULL.match(body, at + len(_ERROR)):
        return 0
    try:
        said = _BODY.decode(body)
    except UNREADABLE:
        return 0
    return 0 if said.error is None or said.object == "response" else _status_of((said.error.code, said.error.type))


def _status_of(words: tuple[Any, ...]) -> int:
    for word in words:
        if type(word) is int and 400 <= word < 600:  # OpenRouter and vLLM
            return word
        if type(word) is str and word in _STATUS:
            return _STATUS[word]
    return 0


def _members(error: _Said) -> dict[str, Any]:
    members = {"code": error.code, "message": error.message, "param": error.param}
    return members | {"type": error.type} if error.type is not None else members
