"""The error event that ends a broken stream truthfully, in the form each dialect's SDK raises on (wire formats 5.4)."""

from typing import Any

import msgspec

from luntrex_proxy.core.call import Grammar
from luntrex_proxy.core.refusals import REFUSALS
from luntrex_proxy.core.wire.errors import anthropic_type, openai_error


def error_event(grammar: Grammar, code: str, sentence: str, request_id: str, sequence_number: int = 0) -> bytes:
    """A whole event, blank line included: SDKs drop an event without it. `code` is one of `core.refusals`."""
    row = REFUSALS[code]
    if grammar is Grammar.MESSAGES:
        error = {"type": anthropic_type(row.status), "message": sentence}
        data = msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})
        return b"event: error\ndata: %b\n\n" % data
    openai = {**openai_error(row), "message": sentence}
    if grammar is Grammar.RESPONSES:
        return responses_error(openai, sequence_number)
    return b"data: %b\n\n" % msgspec.json.encode({"error": openai})


def responses_error(error: dict[str, Any], sequence_number: int) -> bytes:
    """The Responses error event in both shapes: documented (flat), and as the live API sends it (nested)."""
    code, message, param = error.get("code"), error.get("message"), error.get("param")
    event = {"type": "error", "sequence_number": sequence_number, "code": code, "message": message, "param": param}
    nested = {"type": error.get("type", "server_error"), "code": code, "message": message, "param": param}
    return b"event: error\ndata: %b\n\n" % msgspec.json.encode({**event, "error": nested})
