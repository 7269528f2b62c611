"""An upstream's answer head, read as strictly as a client's: what two readers could understand in two ways is refused.

Nothing of a refused head is kept, passed on or logged.
"""

import re

import msgspec

MAX_HEAD_BYTES = 65536
MAX_HEADERS = 256
END = b"\r\n\r\n"

# RFC 9110 5.5 allows 0x80-0xFF in values as opaque bytes, and RFC 9112 4 in the reason. Providers' edges send some;
# they are read, but no such value is ever passed on (`core/wire/headers.py`).
_PLAIN = bytes((*range(0x20, 0x7F), *range(0x80, 0x100))) + b"\t"
_TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
_START = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: .*)?", re.DOTALL).fullmatch
_USUAL_START = b"HTTP/1.1 200 OK"
_LENGTH_DIGITS = 16
_LENGTH_LINE = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE).search
_REPEATED_BYTES = 4096  # of a head that is kept while its upstream is used
# A second one of these would let two readers disagree on where the body ends or what it is.
_FRAMING = (b"content-length", b"transfer-encoding", b"content-type", b"content-encoding")
_BODILESS = (204, 304)
UNTIL_CLOSE = -1
CHUNKED = -2


class BadAnswerError(Exception):
    """The head breaks a rule; carries none of it."""


class AnswerHead(msgspec.Struct, eq=False):
    """Status, headers by lower-case name (but the length, which is read here), and how the body is framed."""

    status: int
    headers: dict[bytes, bytes]
    length: int  # bytes of the body, UNTIL_CLOSE or CHUNKED
    keep_alive: bool  # another answer may follow on the connection
    is_json: bool = False
    is_stream: bool = False
    passed: bytes | None = None  # of the headers: what a client gets to see, once somebody asked

    def __repr__(self) -> str:
        return "AnswerHead()"  # never an upstream's words in a traceback


class RepeatedAnswer:
    """An answer's head that was accepted, to know it again: many servers send the same one, but for the length.

    What comes again byte for byte, with another number where the length was, reads the same way: it is not read twice.
    """

    __slots__ = ("_after", "_before", "_digits", "_head")

    def __init__(self, data: bytes, head: AnswerHead, length: tuple[int, int]) -> None:
        self._before = data[: length[0]]
        self._digits = data[length[0] : length[1]]
        self._after = data[length[1] :]  # empty: it has no length
        self._head = head

    def read(self, data: bytes) -> tuple[AnswerHead, bytes] | None:
        """The head at the start of `data`, if it is this one and whole, and what follows it; None: read it anew."""
        rest = data.removeprefix(self._before)
        if rest is data:
            return None
        if not self._after:
            return self._head, rest
        digits, after, body = rest.partition(self._after)
        if digits != self._digits:
            if not after or not _is_length(digits):
                return None
            self._digits, head = digits, self._head
            self._head = AnswerHead(
                head.status, head.headers, int(digits), head.keep_alive, head.is_json, head.is_stream, head.passed
            )
        return (self._head, body) if after else None


def remember_answer(data: bytes, head: AnswerHead) -> RepeatedAnswer | None:
    """What to know `head`, just read from `data`, by; None when it is too long, or none of an answer that is usual."""
    if head.status != 200 or len(data) > _REPEATED_BYTES:
        return None
    if head.length < 0:
        return RepeatedAnswer(data, head, (len(data), len(data)))
    line = _LENGTH_LINE(data)
    return None if line is None else RepeatedAnswer(data, head, line.span(1))


def read_answer_head(data: bytes) -> AnswerHead:
    """Read one head that ends with its blank line. Raises BadAnswerError."""
    lines = data.split(b"\r\n")
    # What is not a plain byte must be exactly the line ends: no bare CR or LF, no control byte.
    if len(lines) > MAX_HEADERS + 1 or data.translate(None, _PLAIN) != b"\r\n" * (len(lines) - 1):
        raise BadAnswerError
    minor, status = b"1", 200
    if lines[0] != _USUAL_START:
        start = _START(lines[0])
        if start is None:
            raise BadAnswerError
        minor, status = start[1], int(start[2])
    del lines[-2:], lines[0]
    headers: dict[bytes, bytes] = {}
    try:
        for line in lines:
            name, value = line.split(b":", 1)
            headers[name.lower()] = value.strip()
    except ValueError:  # no colon: also a folded line
        raise BadAnswerError from None
    if b"" in headers or b"".join(headers).translate(None, _TOKEN):
        raise BadAnswerError  # a space before the colon or at the line's begin is in the name here
    if len(headers) != len(lines):
        names = [line.split(b":", 1)[0].lower() for line in lines]
        if any(names.count(name) > 1 for name in _FRAMING):
            raise BadAnswerError
    kind = headers.get(b"content-type", b"").lower()
    length = _body_length(minor, status, headers)
    return AnswerHead(
        status,
        headers,
        length,
        length != UNTIL_CLOSE and _keeps_alive(minor, headers),
        kind[:16] == b"application/json",
        kind[:17] == b"text/event-stream",
    )


def _body_length(minor: bytes, status: int, headers: dict[bytes, bytes]) -> int:
    """How the body is framed (RFC 9112 section 6.3, stricter: any doubt is refused)."""
    encoding = headers.get(b"content-encoding")
    if encoding is not None and encoding.lower() != b"identity":
        raise BadAnswerError  # nobody asked for it, and the usage could not be read
    framed = UNTIL_CLOSE
    length = headers.pop(b"content-length", None)
    if length is not None:
        if not _is_length(length):
            raise BadAnswerError
        framed = int(length)
    coding = headers.get(b"transfer-encoding")
    if coding is not None:
        if length is not None or coding.lower() != b"chunked" or minor == b"0":
            raise BadAnswerError
        framed = CHUNKED
    return 0 if status < 200 or status in _BODILESS else framed


def _is_length(digits: bytes) -> bool:
    return digits.isdigit() and len(digits) <= _LENGTH_DIGITS and (digits[0] != 48 or digits == b"0")


def _keeps_alive(minor: bytes, headers: dict[bytes, bytes]) -> bool:
    connection = headers.get(b"connection")
    if connection is None:
        return minor == b"1"
    options = connection.lower()
    return b"close" not in options and (minor == b"1" or b"keep-alive" in options)
