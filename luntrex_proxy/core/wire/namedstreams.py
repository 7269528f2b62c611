"""Streams whose events have names, of responses and messages: the last event has one of its own, and so has an error.

Events that carry nothing of interest are told by their names.
"""

from typing import Any, Final

import msgspec

from luntrex_proxy.core.call import Grammar
from luntrex_proxy.core.wire.ends import responses_error
from luntrex_proxy.core.wire.jsonbody import service_near_end, usage_near_end
from luntrex_proxy.core.wire.members import UNREADABLE
from luntrex_proxy.core.wire.sse import StreamReader, parse_event
from luntrex_proxy.core.wire.usage import at_service, merge_usage, read_tokens

_UNNAMED = (b"", b"message")  # SSE's default event name says no more than none


class _Response(msgspec.Struct, gc=False):
    usage: Any = None
    service_tier: Any = None


class _ResponseEvent(msgspec.Struct, gc=False):
    type: str = ""
    sequence_number: Any = None
    response: _Response | None = None
    error: Any = None
    code: Any = None
    message: Any = None
    param: Any = None


_RESPONSE_EVENT = msgspec.json.Decoder(_ResponseEvent)


class ResponsesReader(StreamReader):
    """responses: named events; the last one is response.completed, .incomplete, .failed, or error."""

    __slots__ = ()

    _DULL = frozenset(
        b"event: response.%b.delta" % name
        for name in (
            b"output_text", b"function_call_arguments", b"custom_tool_call_input", b"reasoning_text",
            b"reasoning_summary_text", b"refusal",
        )
    )  # fmt: skip
    _TERMINAL: Final = (b"response.completed", b"response.incomplete", b"response.failed")
    _WATCHED: Final = frozenset((*_TERMINAL, b"error", *_UNNAMED))

    def _take(self, event: bytes) -> bytes:
        name = _name(event)
        if name not in self._WATCHED:
            self.text_bytes += self._text_bytes(event)
            return self._let_go(event)
        name, data = parse_event(event)
        if data is None:
            return event
        try:
            said = _RESPONSE_EVENT.decode(data)
        except UNREADABLE:
            said = _ResponseEvent()
        kind = said.type.encode() or name
        if kind in self._TERMINAL:
            if said.response is not None:
                self.usage = at_service(read_tokens(Grammar.RESPONSES, said.response.usage), said.response.service_tier)
            self.failed = kind == b"response.failed"
            return self._end(event)
        if kind == b"error" or (kind in _UNNAMED and said.error):
            self.failed = True
            return self._end(event if said.error else self._in_both_shapes(said))
        if data.strip() == b"[DONE]":
            return b""  # not of this grammar, and SDKs would take it for a good end
        self.text_bytes += self._text_bytes(event)
        return self._let_go(event)

    def _text_bytes(self, event: bytes) -> int:
        begin, between = event.find(b'"delta":"') + 9, b'","'
        if begin < 9:
            begin, between = event.find(b'"delta": "') + 10, b'", "'
            if begin < 10:
                return 0
        end = event.find(between, begin)  # no quote inside of the text is bare
        return (end if end >= 0 else len(event) - 4) - begin

    def _in_both_shapes(self, said: _ResponseEvent) -> bytes:
        number = said.sequence_number if type(said.sequence_number) is int else self.events
        message = said.message if type(said.message) is str else "The upstream reported an error."
        return responses_error({"code": said.code, "message": message, "param": said.param}, number)

    def _take_large(self, kind: bytes, tail: bytes) -> bytes:
        if kind not in self._TERMINAL:
            return self._let_go(tail)
        self.usage = at_service(read_tokens(Grammar.RESPONSES, usage_near_end(tail, 2)), service_near_end(tail, 2))
        self.failed = kind == b"response.failed"
        return self._end(tail)


class _Message(msgspec.Struct, gc=False):
    usage: Any = None


class _MessageEvent(msgspec.Struct, gc=False):
    type: str = ""
    message: _Message | None = None
    usage: Any = None


_MESSAGE_EVENT = msgspec.json.Decoder(_MessageEvent)


_BOTH_COUNTS: Final = frozenset(("input_tokens", "output_tokens"))


class MessagesReader(StreamReader):
    """messages: named events; the last one is message_stop or error. Usage is cumulative."""

    __slots__ = ("_known",)

    _DULL = frozenset((b"event: content_block_delta",))
    _WATCHED: Final = frozenset((b"message_start", b"message_delta", b"message_stop", b"error", *_UNNAMED))

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, Any] = {}

    def _take(self, event: bytes) -> bytes:
        name = _name(event)
        if name not in self._WATCHED:
            if name == b"content_block_delta":
                self.text_bytes += self._text_bytes(event)
            return self._let_go(event)
        name, data = parse_event(event)
        if data is None:
            return event
        try:
            said = _MESSAGE_EVENT.decode(data)
        except UNREADABLE:
            said = _MessageEvent()
        kind = said.type.encode() if name in _UNNAMED else name
        if kind == b"message_stop":
            return self._end(event)
        if kind == b"error":
            self.failed = True
            # SDKs skip an error whose event has no name.
            return self._end(event if name == kind else b"event: error\ndata: %b\n\n" % data.strip())
        if kind in (b"message_start", b"message_delta"):
            self._known = merge_usage(self._known, said.usage if said.message is None else said.message.usage)
            tokens = read_tokens(Grammar.MESSAGES, self._known)
            self.usage = tokens or self.usage
            self.usage_partial = tokens is None or not self._known.keys() >= _BOTH_COUNTS
        if kind == b"content_block_delta":
            self.text_bytes += self._text_bytes(event)
        return self._let_go(event)

    def _text_bytes(self, event: bytes) -> int:
        begin = event.rfind(b'":"')  # the text is the last member; no quote inside of it is bare
        if begin >= 0:
            return len(event) - begin - 8
        begin = event.rfind(b'": "')
        return len(event) - begin - 9 if begin >= 0 else 0

    def _take_large(self, kind: bytes, tail: bytes) -> bytes:  # noqa: ARG002 -- none of the large events is watched
        return self._let_go(tail)


def _name(event: bytes) -> bytes:
    """The name when it stands in the first line, as it does; else nothing, and the event is parsed."""
    return event[6 : event.find(10)].strip() if event.startswith(b"event:") and 13 not in event else b""
