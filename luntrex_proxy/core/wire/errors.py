"""Refusals in the words of a dialect: the JSON error body before the first byte, and types for errors inside a stream.

SDKs choose the exception class by status; type and code are for programs that look closer (wire formats 1.5, 2.4).
"""

from typing import Any

import msgspec

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.refusals import REFUSALS, Row
from luntrex_proxy.core.wire.members import UNREADABLE

MESSAGE_LIMIT_CHARS = 4096  # of an upstream's words in an error that we put into form

_LIMITED = {"requests_limited": "requests", "streams_limited": "requests", "tokens_limited": "tokens"}  # OpenAI's types
_BUDGET = "budget_spent"
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class _Inner(msgspec.Struct, gc=False):
    message: Any = None


class _Envelope(msgspec.Struct, gc=False):
    type: Any = None
    error: _Inner | None = None


_ENVELOPE = msgspec.json.Decoder(_Envelope)


def anthropic_type(status: int) -> str:
    """Anthropic's error type for a status."""
    return _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")


def openai_error(row: Row, field: str | None = None, limit: str = "") -> dict[str, str | None]:
    """OpenAI's error object, all four keys."""
    kind, code = ("server_error" if row.status >= 500 else "invalid_request_error"), row.code
    if row.status == 401:
        code = "invalid_api_key"
    elif code in _LIMITED:
        kind, code = _LIMITED[code], "rate_limit_exceeded"
    elif code == _BUDGET:
        kind = code = "insufficient_quota"
    return {"message": _sentence(row, field, limit), "type": kind, "param": field, "code": code}


def error_body(dialect: Dialect, row: Row, request_id: str, field: str | None = None, limit: str = "") -> bytes:
    """A refusal as the JSON body of an error answer; `limit`: the one that was met."""
    if dialect is Dialect.OPENAI:
        return msgspec.json.encode({"error": openai_error(row, field, limit)})
    error: dict[str, Any] = {"type": anthropic_type(row.status), "message": _sentence(row, field, limit)}
    if row.code == _BUDGET:
        error["details"] = {"error_code": "enforced_spend_limit_reached"}
    return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})


def is_error_body(dialect: Dialect, body: bytes) -> bool:
    """Whether an upstream's error body has the form this dialect's SDKs read, so that it can pass untouched."""
    try:
        envelope = _ENVELOPE.decode(body)
        body.decode()  # msgspec skips strings it does not need, and what is not UTF-8 breaks the client's reader
    except UNREADABLE:
        return False
    if envelope.error is None or type(envelope.error.message) is not str:
        return False
    return dialect is Dialect.OPENAI or envelope.type == "error"


def upstream_error_body(dialect: Dialect, status: int, body: bytes, request_id: str) -> bytes:
    """An upstream's error body in this dialect's form: its own where it has it, else its words in ours."""
    if is_error_body(dialect, body):
        return body
    message = _find_message(body) or REFUSALS["upstream_error"].sentence
    if dialect is Dialect.ANTHROPIC:
        error = {"type": anthropic_type(status), "message": message}
        return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})
    kind, code = ("server_error" if status >= 500 else "invalid_request_error"), "upstream_error"
    if status == 429:
        kind, code = "rate_limit_error", "rate_limit_exceeded"
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


def _find_message(body: bytes) -> str:
    """The message in one of the shapes that servers are known to use; else nothing."""
    try:
        said = msgspec.json.decode(body)
    except UNREADABLE:
        return ""
    if type(said) is list and said:  # Google's envelope
        said = said[0]
    if type(said) is not dict:
        return ""
    error = said.get("error")
    inner = error.get("message") if type(error) is dict else error
    for message in (inner, said.get("message"), said.get("detail")):
        if type(message) is str and message.strip():
            return message[:MESSAGE_LIMIT_CHARS]
    return ""


def _sentence(row: Row, field: str | None, limit: str) -> str:
    # SDKs show the message alone, so the field's name has to be in it, and the limit.
    sentence = f"{row.sentence} The limit: {limit}." if limit else row.sentence
    return f"{field}: {sentence}" if field else sentence
