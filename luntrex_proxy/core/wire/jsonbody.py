"""Usage and errors in answers that are not streamed. Only these two keys are decoded; the text is skipped."""

import re
from collections import deque
from typing import Any, Literal

import msgspec

from luntrex_proxy.core.call import MESSAGES, RESPONSES, Route
from luntrex_proxy.core.outcome import Tokens
from luntrex_proxy.core.wire.members import UNREADABLE
from luntrex_proxy.core.wire.usage import ChatUsage, at_service, is_billed, read_tokens

HEAD_BYTES = 4096
TAIL_BYTES = 65536

_USAGE = re.compile(rb'"usage"[ \t\n\r]*:[ \t\n\r]*(?=\{)')
_SERVICE = re.compile(rb'"service_tier"[ \t\n\r]*:[ \t\n\r]*"([a-z]{1,16})"')
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STRING_OR_BRACKET = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}]', re.DOTALL)
_HEAD_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[{}]', re.DOTALL)  # the last string may be cut off
_IS_TRUTHY = re.compile(rb'[ \t\n\r]*:[ \t\n\r]*(?:"[^"]|\{[ \t\n\r]*"|\[[ \t\n\r]*[^] \t\n\r]|true|-?[0.]*[1-9])')
_IS_RESPONSE = re.compile(rb'[ \t\n\r]*:[ \t\n\r]*"response"')
_CANDIDATES = 4  # how many `"usage"` are looked at: a hostile upstream must not make this quadratic


class _Keys(msgspec.Struct, gc=False):
    usage: msgspec.Raw = msgspec.Raw(b"null")  # decoded by itself: nonsense in what is not read of it spoils no answer
    error: Any = None
    object: Any = None
    service_tier: Any = None


class _ChatKeys(msgspec.Struct, gc=False):
    usage: ChatUsage | None = None
    error: Any = None
    object: Any = None
    service_tier: Any = None


_decode_keys = msgspec.json.Decoder(_Keys).decode
_decode_chat_keys = msgspec.json.Decoder(_ChatKeys).decode
_OTHER_COUNTS = (RESPONSES, MESSAGES)  # grammars whose usage has other names than a chat's
_VALUE = msgspec.json.Decoder()


Verdict = Literal["", "upstream_invalid", "upstream_error"]
_WHITE = b" \t\n\r"
_NO_MARKS = bytes(set(range(256)) - set(b'{}"'))
_REDUCTIONS = 3  # of pairs of brackets without anything between them, level by level


def read_answer(body: bytes, route: Route) -> tuple[Verdict, Tokens | None]:
    """The refusal code for a whole answer with status 200 that is none ("" when it is one), and its counts.

    Invalid is what is not one complete JSON object. An error with status 200 would be an answer to both SDKs. A
    `response` object with an `error` is a truthful answer: its status says failed. The counts are None when it has
    none, and zeros for routes that have no billable tokens.
    """
    answer: _Keys | _ChatKeys
    try:
        if route.grammar in _OTHER_COUNTS:
            answer = _decode_keys(body)
        else:
            try:
                answer = _decode_chat_keys(body)  # straight into the counts, if they are of the usual form
            except msgspec.ValidationError:
                answer = _decode_keys(body)
        if not body.isascii():
            body.decode()  # msgspec skips strings it does not need, and what is not UTF-8 breaks the client's reader
    except UNREADABLE:
        return "upstream_invalid", None
    if answer.error and answer.object != "response":
        return "upstream_error", None
    if not is_billed(route):
        return "", Tokens()
    if isinstance(answer, _ChatKeys):
        tokens = None if answer.usage is None else answer.usage.tokens()
    else:
        tokens = read_tokens(route.grammar, _read_value(answer.usage))
    return "", tokens if answer.service_tier is None else at_service(tokens, answer.service_tier)


def _read_value(raw: bytes | msgspec.Raw) -> Any:
    try:
        return _VALUE.decode(raw)
    except UNREADABLE:
        return None


def begins_as_object(body: bytes) -> bool:
    """Whether the first thing in a body is the bracket of an object."""
    return body.lstrip(_WHITE).startswith(b"{")


class _Outline:
    """Whether the pieces that go by are one JSON object: its curly brackets outside of strings, at the speed of C.

    What is inside the outermost brackets is the client's to read; a cut, or a body of another kind, does not get past
    them. Of each piece only brackets and quotes are kept, once its escapes are out of it.
    """

    __slots__ = ("_carried", "_depth", "_in_string", "begun", "ended", "spoilt")

    def __init__(self) -> None:
        self.begun = False  # something but white space has come
        self.ended = False  # the object's last bracket has come
        self.spoilt = False  # it is no object, or something follows it
        self._carried = False  # a piece ended inside an escape
        self._in_string = False
        self._depth = 0

    def feed(self, data: bytes) -> None:
        """Take note of the next piece, which is not empty."""
        if not self._depth:
            data = data.lstrip(_WHITE)
            if not data:
                return
            self.spoilt = self.spoilt or self.begun or data[0] != 123
            self.begun = True
            if self.spoilt:
                return
            self._depth = 1
            data = data[1:]
        bare = data
        if self._carried or 92 in data:
            bare = self._without_escapes(data)
        if 34 not in bare and (self._in_string or not (123 in bare or 125 in bare)):
            return  # inside an image, or a row of numbers
        marks = bare.translate(None, _NO_MARKS)
        if self._in_string or 34 in marks:
            parts = marks.replace(b'""', b"").split(b'"')  # two quotes in a row change nothing for what is around them
            marks = b"".join(parts[self._in_string :: 2])
            self._in_string ^= not len(parts) & 1
        reduced = marks
        for _ in range(_REDUCTIONS):
            reduced = reduced.replace(b"{}", b"")  # leaves the lowest depth as it is
        closed = reduced.count(b"}")
        if closed < self._depth:
            self._depth += len(reduced) - 2 * closed
        else:
            self._walk(marks, data)

    def _walk(self, marks: bytes, data: bytes) -> None:
        """The same where the outermost bracket may be closed: bracket by bracket."""
        for number, mark in enumerate(marks, start=1):
            self._depth += 1 if mark == 123 else -1
            if not self._depth:
                self.ended = True
                self.spoilt = self._in_string or len(marks) > number or not data.rstrip(_WHITE).endswith(b"}")
                return

    def _without_escapes(self, data: bytes) -> bytes:
        if self._carried:
            data = data[1:]  # the other half
        self._carried = _ends_inside_an_escape(data)
        if self._carried:
            data = data[:-1]
        return data.replace(b"\\\\", b"").replace(b'\\"', b"")


def _ends_inside_an_escape(data: bytes) -> bool:
    return (len(data) - len(data.rstrip(b"\\"))) & 1 == 1


class JsonReader:
    """Watches a large answer go by and keeps its first 4 KiB and last 64 KiB, in which the usage is found."""

    __slots__ = ("_head", "_outline", "_pieces", "_route", "_seen_bytes", "_tail_bytes")

    def __init__(self, route: Route) -> None:
        self._route = route
        self._head = b""
        self._outline = _Outline()
        self._pieces: deque[bytes] = deque()
        self._tail_bytes = 0
        self._seen_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take note of the next bytes of the body."""
        self._outline.feed(data)
        if len(self._head) < HEAD_BYTES:
            self._head += data[: HEAD_BYTES - len(self._head)]
        self._seen_bytes += len(data)
        self._tail_bytes += len(data)
        pieces = self._pieces
        pieces.append(data)
        while self._tail_bytes - len(pieces[0]) >= TAIL_BYTES:
            self._tail_bytes -= len(pieces.popleft())

    def fault(self) -> Literal["", "upstream_cut", "upstream_invalid"]:
        """The refusal code for a body that is over and was no whole JSON object; "" when it was one.

        Not even a length or a last chunk says that an upstream wrote all that it meant to.
        """
        outline = self._outline
        if outline.spoilt or not outline.begun:
            return "upstream_invalid"
        return "" if outline.ended else "upstream_cut"

    def usage(self) -> Tokens | None:
        """The counts, once the body is complete; None when none were seen."""
        if not is_billed(self._route):
            return Tokens()
        tail = b"".join(self._pieces)
        if len(tail) == self._seen_bytes:
            return read_answer(tail, self._route)[1]
        grammar = self._route.grammar
        tokens = read_tokens(grammar, usage_near_end(tail, 1)) or read_tokens(grammar, _usage_near_start(self._head))
        return at_service(tokens, service_near_end(tail, 1))

    def has_error(self) -> bool:
        """Whether the answer begins as an error that `read_answer` would find: in its first 4 KiB."""
        head = self._head
        if b'"error"' not in head:
            return False
        depth, error = 0, False
        for token in _HEAD_TOKEN.finditer(head):
            if token[0] in (b"{", b"}"):
                depth += 1 if token[0] == b"{" else -1
            elif depth == 1 and token[0] == b'"error"':
                error = error or _IS_TRUTHY.match(head, token.end()) is not None
            elif depth == 1 and token[0] == b'"object"' and _IS_RESPONSE.match(head, token.end()):
                return False
        return error


def usage_near_end(tail: bytes, depth: int) -> Any:
    """The usage object that stands `depth` levels deep in a JSON document of which `tail` is the end; else None."""
    at = len(tail)
    for _ in range(_CANDIDATES):
        at = tail.rfind(b'"usage"', 0, at)
        if at < 0:
            break
        key = _USAGE.match(tail, at)
        # `"usage"` with bare quotes is never inside a string, so all that follows can be told apart from here.
        if key is not None and tail[at - 1 : at] != b"\\" and _net_depth(tail[at:]) == -depth:
            return _read_object(tail, key.end())
    return None


def service_near_end(tail: bytes, depth: int) -> str:
    """The service tier that stands `depth` levels deep in a JSON document of which `tail` is the end; else nothing."""
    at = len(tail)
    for _ in range(_CANDIDATES):
        at = tail.rfind(b'"service_tier"', 0, at)
        if at < 0:
            break
        said = _SERVICE.match(tail, at)
        if said is not None and tail[at - 1 : at] != b"\\" and _net_depth(tail[at:]) == -depth:
            return said[1].decode()
    return ""


def _usage_near_start(head: bytes) -> Any:
    for _, key in zip(range(_CANDIDATES), _USAGE.finditer(head), strict=False):
        if head[key.start() - 1 : key.start()] != b"\\" and _net_depth(head[: key.start()]) == 1:
            return _read_object(head, key.end())
    return None


def _net_depth(text: bytes) -> int:
    """Brackets opened minus brackets closed, outside of strings."""
    bare = _STRING.sub(b"", text)
    return bare.count(b"{") + bare.count(b"[") - bare.count(b"}") - bare.count(b"]")


def _read_object(text: bytes, start: int) -> Any:
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text, start):
        if token[0] in (b"{", b"}"):
            depth += 1 if token[0] == b"{" else -1
            if depth == 0:
                return _read_value(text[start : token.end()])
    return None
