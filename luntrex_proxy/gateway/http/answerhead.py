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
# A second one of these would let two readers disagree on where the body ends or what it is.
_FRAMING = (b"content-length", b"transfer-encoding", b"content-type", b"content-encoding")
_BODILESS = (204, 304)
UNTIL_CLOSE = -1
CHUNKED = -2


class BadAnswerError(Exception):
    """The head breaks a rule; carries none of it."""


class AnswerHead(msgspec.Struct, frozen=True, eq=False):
    """Status, headers by lower-case name, and how the body is framed."""

    status: int
    headers: dict[bytes, bytes]
    length: int  # bytes of the body, UNTIL_CLOSE or CHUNKED
    keep_alive: bool

    def __repr__(self) -> str:
        return "AnswerHead()"  # never an upstream's words in a traceback


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
    return AnswerHead(status, headers, _body_length(minor, status, headers), _keeps_alive(minor, headers))


def _body_length(minor: bytes, status: int, headers: dict[bytes, bytes]) -> int:
    """How the body is framed (RFC 9112 section 6.3, stricter: any doubt is refused)."""
    encoding = headers.get(b"content-encoding")
    if encoding is not None and encoding.lower() != b"identity":
        raise BadAnswerError  # nobody asked for it, and the usage could not be read
    framed = UNTIL_CLOSE
    length = headers.get(b"content-length")
    if length is not None:
        if not length.isdigit() or len(length) > _LENGTH_DIGITS or (length[0] == 48 and length != b"0"):
            raise BadAnswerError
        framed = int(length)
    coding = headers.get(b"transfer-encoding")
    if coding is not None:
        if length is not None or coding.lower() != b"chunked" or minor == b"0":
            raise BadAnswerError
        framed = CHUNKED
    return 0 if status < 200 or status in _BODILESS else framed


def _keeps_alive(minor: bytes, headers: dict[bytes, bytes]) -> bool:
    connection = headers.get(b"connection")
    if connection is None:
        return minor == b"1"
    options = connection.lower()
    return b"close" not in options and (minor == b"1" or b"keep-alive" in options)
