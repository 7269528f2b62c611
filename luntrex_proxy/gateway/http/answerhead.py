"""An upstream's answer head, read as strictly as a client's: what two readers could understand in two ways is refused.

Nothing of a refused head is kept, passed on or logged.
"""

import re
from typing import NamedTuple

MAX_HEAD_BYTES = 65536
MAX_HEADERS = 256
END = b"\r\n\r\n"

# RFC 9110 5.5 allows 0x80-0xFF in values as opaque bytes, and RFC 9112 4 in the reason. Providers' edges send some;
# they are read, but no such value is ever passed on (`core/wire/headers.py`).
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*"
# The whole head in one look: status line, field lines, blank line. No bare CR or LF, no control byte, no folded line.
_HEAD = re.compile(
    rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: %b)?\r\n((?:[!#$%%&'*+.^_`|~0-9A-Za-z-]+:%b\r\n)*)\r\n" % (_TEXT, _TEXT)
).fullmatch
_NAMES = re.compile(rb"([^:\r\n]+):[^\r\n]*\r\n").findall
_VALUES = re.compile(rb"[^:\r\n]+:[ \t]*([^\r\n]*)\r\n").findall
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,15}").fullmatch
# A second one of these would let two readers disagree on where the body ends or what it is.
_FRAMING = (b"content-length", b"transfer-encoding", b"content-type", b"content-encoding")
_BODILESS = frozenset({b"204", b"304"})
UNTIL_CLOSE = -1
CHUNKED = -2


class BadAnswerError(Exception):
    """The head breaks a rule; carries none of it."""


class AnswerHead(NamedTuple):
    """Status, headers by lower-case name, and how the body is framed."""

    status: int
    headers: dict[bytes, bytes]
    length: int  # bytes of the body, UNTIL_CLOSE or CHUNKED
    keep_alive: bool


def read_answer_head(data: bytes) -> AnswerHead:
    """Read one head that ends with its blank line. Raises BadAnswerError."""
    if data.count(b"\n") > MAX_HEADERS:  # before anything that takes longer the more there are
        raise BadAnswerError
    head = _HEAD(data)
    if head is None:
        raise BadAnswerError
    minor, code, fields = head.groups()
    names, values = _NAMES(fields.lower()), _VALUES(fields)
    if b" \r\n" in fields or b"\t\r\n" in fields:
        values = [value.rstrip(b" \t") for value in values]  # a pattern would try each space of a long run anew
    headers: dict[bytes, bytes] = dict(zip(names, values, strict=True))
    if len(headers) != len(names) and any(names.count(name) > 1 for name in _FRAMING):
        raise BadAnswerError
    return AnswerHead(int(code), headers, _body_length(minor, code, headers), _keeps_alive(minor, headers))


def _body_length(minor: bytes, code: bytes, headers: dict[bytes, bytes]) -> int:
    """How the body is framed (RFC 9112 section 6.3, stricter: any doubt is refused)."""
    length = headers.get(b"content-length")
    coding = headers.get(b"transfer-encoding")
    encoding = headers.get(b"content-encoding")
    if encoding is not None and encoding.lower() != b"identity":
        raise BadAnswerError  # nobody asked for it, and the usage could not be read
    if length is not None and (coding is not None or _LENGTH(length) is None):
        raise BadAnswerError
    if coding is not None and (coding.lower() != b"chunked" or minor == b"0"):
        raise BadAnswerError
    if code in _BODILESS or code.startswith(b"1"):
        return 0
    if coding is not None:
        return CHUNKED
    return UNTIL_CLOSE if length is None else int(length)


def _keeps_alive(minor: bytes, headers: dict[bytes, bytes]) -> bool:
    connection = headers.get(b"connection")
    if connection is None:
        return minor == b"1"
    options = connection.lower()
    return b"close" not in options and (minor == b"1" or b"keep-alive" in options)
