"""Streams of chat/completions and completions: chunks without names, then `[DONE]`, which some servers leave out.

Most events differ from the one before in their text alone, one string, and in OpenAI's padding behind it. What stands
around the text was decoded once and says nothing: an event with the same bytes around its text says nothing either, and
is not decoded. Of any other msgspec decodes the few keys that matter, which costs no more than searching for them.
"""

import re
from typing import Any

import msgspec

from luntrex_proxy.core.call import Grammar
from luntrex_proxy.core.outcome import SERVICES
from luntrex_proxy.core.refusals import REFUSALS
from luntrex_proxy.core.wire.errors import MESSAGE_LIMIT_CHARS
from luntrex_proxy.core.wire.jsonbody import service_near_end, usage_near_end
from luntrex_proxy.core.wire.members import UNREADABLE, find_spans, read_members
from luntrex_proxy.core.wire.sse import StreamReader, parse_event
from luntrex_proxy.core.wire.usage import at_service, read_tokens

_NULL_USAGE = b',"usage":null'
_TEXT = re.compile(rb'"(?:content|reasoning_content|reasoning|text|arguments)" ?: ?"')
_PADDING = re.compile(rb'"obfuscation" ?: ?"(?=[A-Za-z0-9]*"\}\n\n\Z)')
_CLOSED = b"}\n\n"  # how a chunk ends
_PADDED = b'"}\n\n'  # and one with padding
_STRING_TEXT = re.compile(rb'[^"\\\r\n]*(?:\\[^\r\n][^"\\\r\n]*)*')
_is_text = _STRING_TEXT.fullmatch
_NO_LAYOUT = b"\0"  # no event has it around its text
_LAYOUTS = 32  # how many a stream may try: where events differ in more than their text, decoding is cheaper
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"[^"]')
_CHOICES = 1024  # how many are told apart; nobody asks for as many

_Index = int | float | str | None  # anything that can be told apart: what it should be is the SDK's business


class _Choice(msgspec.Struct, gc=False):
    index: _Index = 0
    finish_reason: Any = None
    error: Any = None


class _Chunk(msgspec.Struct, gc=False):
    usage: Any = msgspec.UNSET
    service_tier: Any = None
    error: Any = None
    choices: list[_Choice] | None = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_ABSENT = msgspec.UNSET


class ChatReader(StreamReader):
    """One such stream. `withhold_usage`: the usage was asked for by us, and the client must not see it."""

    __slots__ = ("_after", "_before", "_choices", "_layouts_left", "_told_after", "_withhold")

    _SAYING = b""

    def __init__(self, *, withhold_usage: bool) -> None:
        super().__init__()
        self._withhold = withhold_usage
        self._choices: dict[_Index, bool] = {}  # those seen, and whether they had a finish_reason
        self._before = self._after = _NO_LAYOUT  # what a dull event has around its text and the quote behind it
        self._told_after = b""  # what the client gets instead of `_after`, if not the same
        self._layouts_left = _LAYOUTS

    def feed(self, data: bytes, is_event: bool = False) -> bytes:
        """The bytes of whole events that may go to the client now. `is_event`: it is cut out of a read, one of several.

        The usual read is one event like the last dull one but for its text: it is looked through here, without a call.
        """
        if not self._plain and not is_event:
            return self._split(data)
        rest = data.removeprefix(self._before)
        if rest is data:
            return self._unlike(data, is_event)
        text, _, end = rest.partition(b'"')
        tail = end.removeprefix(self._after)
        if tail is end and 92 in text:  # the text holds quotes itself
            text, _, tail = rest.partition(b'"' + self._after)
        padding = tail.removesuffix(_PADDED)
        if not (padding.isalnum() if padding is not tail else tail == _CLOSED):
            return self._unlike(data, is_event)
        if (92 in text or 10 in text or 13 in text) and not _is_text(text):
            return self._unlike(data, is_event)
        self.events += 1
        self.text_bytes += len(text)
        if self._told_after:
            return b"".join((self._before, text, self._told_after, tail))
        return data

    def _take(self, event: bytes) -> bytes:
        return self.feed(event, True)

    def _unlike(self, data: bytes, is_event: bool) -> bytes:
        """The same for what is not like the last dull event."""
        if _is_one_line(data):
            try:
                chunk = _decode_chunk(data[5:])
            except UNREADABLE:
                return self._take_odd(data)
            return self._judge(data, chunk)
        return self._take_odd(data) if is_event else self._split(data)

    def _take_odd(self, event: bytes) -> bytes:
        name, data = parse_event(event)
        if data is None and name != b"error":  # a comment
            return event
        if data is not None and data.strip() == b"[DONE]":
            return self._end(event)
        try:
            chunk = _decode_chunk(data or b"")
        except UNREADABLE:
            self.text_bytes += self._text_bytes(event)
            return self._fail(data) if name == b"error" else self._let_go(event)
        return self._fail(data) if name == b"error" and not chunk.error else self._judge(event, chunk)

    def _judge(self, event: bytes, chunk: _Chunk) -> bytes:
        known = self._choices
        dull = not chunk.usage
        said = chunk.service_tier
        if said is not None and type(said) is str and said in SERVICES:
            self.service = said
        if not dull:
            self._note_usage(chunk.usage, self.service)
        if chunk.error:
            self.failed = True
            return self._end(event)  # SDKs raise on it as it is
        if chunk.choices is None and _is_flat_error(event):
            return self._fail(parse_event(event)[1])
        for choice in chunk.choices or ():
            if choice.error or choice.finish_reason == "error":
                return self._fail(parse_event(event)[1])
            if choice.finish_reason:
                known[choice.index] = True
                dull = False
            elif choice.index not in known and len(known) < _CHOICES:
                known[choice.index] = False
        told = event
        if self._withhold and chunk.usage is not _ABSENT:
            told = _without_null_usage(event) if chunk.usage is None else event if chunk.choices else b""
            if not told:
                return b""
        if dull and self._layouts_left:
            self._learn_layout(event, told)
        self.events += 1
        self.text_bytes += self._text_bytes(event)
        return told

    def _text_bytes(self, event: bytes) -> int:
        key = _TEXT.search(event)
        text = _STRING_TEXT.match(event, key.end()) if key else None
        return text.end() - text.start() if text else 0

    def _learn_layout(self, event: bytes, told: bytes) -> None:
        """Remember what stands around the text of a dull event, if it is of the usual form."""
        self._layouts_left -= 1
        key = _TEXT.search(event)
        if not key or not _is_one_line(event) or not event.endswith(_CLOSED):
            return
        start, end = key.end(), len(event) - len(_CLOSED)
        text = _STRING_TEXT.match(event, start)
        quote = text.end() if text else start
        if padding := _PADDING.search(event, quote):
            end = padding.end()
        told_end = len(told) - len(event) + end
        if event[quote] == 34 and told[:quote] == event[:quote] and told[told_end:] == event[end:]:
            self._before, self._after = event[:start], event[quote + 1 : end]
            self._told_after = b"" if told is event else told[quote:told_end]

    def _fail(self, data: bytes | None) -> bytes:
        self.failed = True
        return self._end(_raising_error(data or b""))

    def _take_large(self, kind: bytes, tail: bytes) -> bytes:  # noqa: ARG002 -- chunks have no kinds
        if usage := usage_near_end(tail, 1):
            self._note_usage(usage, service_near_end(tail, 1) or self.service)
        if _FINISH.search(tail):
            open_choices = [index for index, finished in self._choices.items() if not finished]
            if len(open_choices) <= 1:  # else nobody knows which one: its index has gone by
                self._choices[open_choices[0] if open_choices else 0] = True
        return self._let_go(tail)

    def _note_usage(self, usage: Any, service: Any) -> None:
        tokens = at_service(read_tokens(Grammar.CHAT, usage), service)
        self.usage = tokens or self.usage
        self.usage_partial = tokens is None  # the last word is nonsense: earlier numbers are not the whole

    def _finish_rest(self) -> None:
        rest = self._rest.strip()
        if (parse_event(rest)[1] or b"").strip() == b"[DONE]":  # all but its blank line, without which SDKs drop it
            self._end(rest + b"\n\n")
        elif (not rest or rest.startswith(b":")) and self._choices and all(self._choices.values()):
            self._end(b"")  # each choice that began has ended: complete without `[DONE]`


def _is_one_line(event: bytes) -> bool:
    """Whether it is one whole event of one line of data: a line break inside of JSON would end the data for SDKs."""
    return event.find(10) == len(event) - 2 and event.startswith(b"data:") and event[-1] == 10 and 13 not in event


class _Kind(msgspec.Struct, gc=False):
    object: Any = None
    type: Any = None


_KIND = msgspec.json.Decoder(_Kind)


def _is_flat_error(event: bytes) -> bool:
    """Whether an event without choices calls itself an error, as vLLM's do, whose words are no member `error`."""
    try:
        said = _KIND.decode(parse_event(event)[1] or b"")
    except UNREADABLE:
        return False
    return "error" in (said.object, said.type)


def _raising_error(data: bytes) -> bytes:
    """An upstream's error that SDKs would take for a chunk, in the one place where they look for it."""
    try:
        said = msgspec.json.decode(data)
    except UNREADABLE:
        said = None
    error: Any = said if type(said) is dict else {}
    choices = error.get("choices")
    for choice in choices if type(choices) is list else ():
        if type(choice) is dict and choice.get("error"):
            error = choice["error"]
            break
    if type(error) is not dict:
        error = {"message": error}
    message, kind, code = error.get("message"), error.get("type"), error.get("code")
    told = {
        "message": message[:MESSAGE_LIMIT_CHARS] if type(message) is str else REFUSALS["upstream_error"].sentence,
        "type": kind if type(kind) is str and kind != "error" else "server_error",
        "param": error.get("param"),
        "code": code if type(code) in (int, str) else "upstream_error",
    }
    return b"data: %b\n\n" % msgspec.json.encode({"error": told})


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
