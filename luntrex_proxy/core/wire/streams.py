"""What the events of each stream grammar say: usage, errors, and which event is the last one.

An event that carries nothing of interest is recognised by its name, or (chat) decoded by msgspec into the three keys
that matter, which is exact and costs no more than searching the text for them.
"""

import re
from typing import Any, Final

import msgspec

from luntrex_proxy.core.call import Grammar
from luntrex_proxy.core.wire.ends import responses_error
from luntrex_proxy.core.wire.jsonbody import usage_near_end
from luntrex_proxy.core.wire.members import UNREADABLE, find_spans, read_members
from luntrex_proxy.core.wire.sse import StreamReader, parse_event
from luntrex_proxy.core.wire.usage import merge_usage, read_tokens

_NULL_USAGE = b',"usage":null'
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"[^"]')
_UNNAMED = (b"", b"message")  # SSE's default event name says no more than none


def stream_reader(grammar: Grammar, *, withhold_usage: bool = False) -> StreamReader:
    """A reader for one stream. `withhold_usage`: the usage was asked for by us, and the client must not see it."""
    if grammar is Grammar.CHAT:
        return _ChatReader(withhold_usage=withhold_usage)
    return _ResponsesReader() if grammar is Grammar.RESPONSES else _MessagesReader()


class _Choice(msgspec.Struct, gc=False):
    finish_reason: Any = None


class _Chunk(msgspec.Struct, gc=False):
    usage: Any = msgspec.UNSET
    error: Any = None
    choices: list[_Choice] | None = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_ABSENT = msgspec.UNSET


class _ChatReader(StreamReader):
    """chat/completions and completions: chunks without names, then `[DONE]`, which some servers leave out."""

    __slots__ = ("_withhold", "finish_seen")

    def __init__(self, *, withhold_usage: bool) -> None:
        super().__init__()
        self._withhold = withhold_usage
        self.finish_seen = False  # a choice had a finish_reason: a clean end is then complete without `[DONE]`

    def feed(self, data: bytes) -> bytes:
        """The bytes of whole events that may go to the client now."""
        # The usual read is one event that says nothing but text: one decoding, no further call.
        if not self._plain or not data.startswith(b"data:") or not data.endswith(b"\n\n"):
            return self._split(data)
        try:
            chunk = _decode_chunk(data[5:])
        except UNREADABLE:  # more than one event, or none
            return self._split(data)
        usage = chunk.usage
        if usage is None:
            if self._withhold:
                data = _without_null_usage(data)
        elif usage is not _ABSENT:
            return self._judge(data, chunk)
        if chunk.error:
            return self._judge(data, chunk)
        for choice in chunk.choices or ():
            if choice.finish_reason:
                self.finish_seen = True
        self.events += 1
        self.output_bytes += len(data)
        return data

    def _take(self, event: bytes) -> bytes:
        try:
            chunk = _decode_chunk(event[5:] if event.startswith(b"data:") else b"")
        except UNREADABLE:
            return self._take_odd(event)
        return self._judge(event, chunk)

    def _take_odd(self, event: bytes) -> bytes:
        _, data = parse_event(event)
        if data is None:  # a comment
            return event
        if data.strip() == b"[DONE]":
            return self._end(event)
        try:
            return self._judge(event, _decode_chunk(data))
        except UNREADABLE:
            return self._let_go(event)

    def _judge(self, event: bytes, chunk: _Chunk) -> bytes:
        for choice in chunk.choices or ():
            if choice.finish_reason:
                self.finish_seen = True
        usage = chunk.usage
        if usage is not _ABSENT or chunk.error:
            if usage:
                self._note_usage(usage)
            if chunk.error:
                self.failed = True
                return self._end(event)
            if self._withhold and usage is None:
                event = _without_null_usage(event)
            elif self._withhold and not chunk.choices:
                return b""
        self.events += 1
        self.output_bytes += len(event)
        return event

    def _take_large(self, kind: bytes, tail: bytes) -> bytes:  # noqa: ARG002 -- chunks have no kinds
        if usage := usage_near_end(tail, 1):
            self._note_usage(usage)
        self.finish_seen = self.finish_seen or _FINISH.search(tail) is not None
        return self._let_go(tail)

    def _note_usage(self, usage: Any) -> None:
        tokens = read_tokens(Grammar.CHAT, usage)
        self.usage = tokens or self.usage
        self.usage_partial = tokens is None  # the last word is nonsense: earlier numbers are not the whole

    def _finish_rest(self) -> None:
        rest = self._rest.strip()
        if (parse_event(rest)[1] or b"").strip() == b"[DONE]":  # all but its blank line, without which SDKs drop it
            self._end(rest + b"\n\n")
        elif self.finish_seen and (not rest or rest.startswith(b":")):
            self._end(b"")


def _without_null_usage(event: bytes) -> bytes:
    """The event without its top-level `"usage": null`; the same event where that is not one splice."""
    at = event.rfind(_NULL_USAGE)
    # Bare quotes are never inside a string, so this is a member; with one brace to the end it is a top-level one.
    if at >= 0 and event.count(b"}", at) == 1:
        return event[:at] + event[at + len(_NULL_USAGE) :]
    _, data = parse_event(event)
    members = read_members(data or b"")
    spans = find_spans(data or b"", members) if members else None
    if data is None or spans is None or b"\n" in data:
        return event
    begin, _, end = spans["usage"]
    rest = data[end:]
    if begin == 0:  # the first member: its brace stays, and the comma goes that follows it instead of the one before
        begin = data.index(b"{") + 1
        rest = rest.lstrip(b" \t").removeprefix(b",")
    return event.replace(data, data[:begin] + rest, 1)


class _Response(msgspec.Struct, gc=False):
    usage: Any = None


class _ResponseEvent(msgspec.Struct, gc=False):
    type: str = ""
    sequence_number: Any = None
    response: _Response | None = None
    error: Any = None
    code: Any = None
    message: Any = None
    param: Any = None


_RESPONSE_EVENT = msgspec.json.Decoder(_ResponseEvent)


class _ResponsesReader(StreamReader):
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
                self.usage = read_tokens(Grammar.RESPONSES, said.response.usage)
            self.failed = kind == b"response.failed"
            return self._end(event)
        if kind == b"error" or (kind in _UNNAMED and said.error):
            self.failed = True
            return self._end(event if said.error else self._in_both_shapes(said))
        if data.strip() == b"[DONE]":
            return b""  # not of this grammar, and SDKs would take it for a good end
        return self._let_go(event)

    def _in_both_shapes(self, said: _ResponseEvent) -> bytes:
        number = said.sequence_number if type(said.sequence_number) is int else self.events
        message = said.message if type(said.message) is str else "The upstream reported an error."
        return responses_error({"code": said.code, "message": message, "param": said.param}, number)

    def _take_large(self, kind: bytes, tail: bytes) -> bytes:
        if kind not in self._TERMINAL:
            return self._let_go(tail)
        self.usage = read_tokens(Grammar.RESPONSES, usage_near_end(tail, 2))
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


class _MessagesReader(StreamReader):
    """messages: named events; the last one is message_stop or error. Usage is cumulative."""

    __slots__ = ("_known",)

    _DULL = frozenset((b"event: content_block_delta", b"event: ping"))
    _WATCHED: Final = frozenset((b"message_start", b"message_delta", b"message_stop", b"error", *_UNNAMED))

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, Any] = {}

    def _take(self, event: bytes) -> bytes:
        name = _name(event)
        if name not in self._WATCHED:
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
        return self._let_go(event)

    def _take_large(self, kind: bytes, tail: bytes) -> bytes:  # noqa: ARG002 -- none of the large events is watched
        return self._let_go(tail)


def _name(event: bytes) -> bytes:
    """The name when it stands in the first line, as it does; else nothing, and the event is parsed."""
    return event[6 : event.find(10)].strip() if event.startswith(b"event:") and 13 not in event else b""
