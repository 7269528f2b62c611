"""The few fields of a JSON request body that decisions need. The prompt is skipped, never decoded."""

from typing import Any

import msgspec

from luntrex_proxy.core.call import CHAT, UNSTREAMED, Route
from luntrex_proxy.core.wire.members import UNREADABLE, Members, are_compact, find_spans, read_members
from luntrex_proxy.core.wire.parts import read_parts

MODEL_LIMIT_CHARS = 256

_BOM = b"\xef\xbb\xbf"
_TEXT = msgspec.json.Decoder(str)
_SWITCH = msgspec.json.Decoder(bool | None)


class BadBodyError(Exception):
    """The body cannot be accepted; carries a code of `core.refusals` and a field name, never text of the body."""

    def __init__(self, code: str, field: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.field = field


class Fields(msgspec.Struct, gc=False):
    """What decisions need of a request body. `members` are the raw values of all top-level keys."""

    model: str | None
    stream: bool
    include_usage: bool  # the client asked for stream_options.include_usage
    members: Members
    parts: list[Any] | None  # what the conversation is made of besides text (parts.py); None: it can't be read
    dull: bool = False  # there is nothing in it that could be refused

    def __repr__(self) -> str:
        return "Fields()"  # never the client's words in a traceback


def read_fields(route: Route, body: bytes) -> Fields:
    """The head fields of a request body. Raises BadBodyError: not_json, ambiguous_json, wrong_type."""
    members = read_members(body)
    # msgspec checks the grammar of skipped strings, but not their UTF-8.
    if members is None or not body.isascii():
        _check_encoding(body)
        if members is None:
            raise BadBodyError("not_json")
    if not are_compact(body, members) and find_spans(body, members) is None:
        raise BadBodyError("ambiguous_json")
    stream = include_usage = False
    if route.grammar is not UNSTREAMED:
        stream = "stream" in members and _read_switch(members, "stream", "stream")
        if "stream_options" in members:
            include_usage = _read_include_usage(route, members["stream_options"])
    return Fields(_read_model(members), stream, include_usage, members, read_parts(route, members))


def _check_encoding(body: bytes) -> None:
    if body.startswith(_BOM) or not _is_utf8(body):
        raise BadBodyError("ambiguous_json")


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read_model(members: Members) -> str | None:
    raw = members.get("model")
    if raw is None:
        return None
    try:
        model = _TEXT.decode(raw)
    except UNREADABLE:
        model = ""
    if not 0 < len(model) <= MODEL_LIMIT_CHARS:
        raise BadBodyError("wrong_type", "model")
    return model


def _read_switch(members: Members, name: str, field: str) -> bool:
    try:
        return _SWITCH.decode(members[name]) is True
    except UNREADABLE:
        raise BadBodyError("wrong_type", field) from None


def _read_include_usage(route: Route, raw: msgspec.Raw) -> bool:
    data = bytes(raw)
    if data == b"null":
        return False
    options = read_members(data)
    if options is None:
        raise BadBodyError("wrong_type", "stream_options")
    # Read here and perhaps changed later, so it must mean one thing only, like the top level.
    if not are_compact(data, options) and find_spans(data, options) is None:
        raise BadBodyError("ambiguous_json", "stream_options")
    if route.grammar is not CHAT or "include_usage" not in options:
        return False
    return _read_switch(options, "include_usage", "stream_options")
