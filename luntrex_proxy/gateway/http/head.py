"""A request's head, read strictly: what two readers could understand in two ways is refused.

Our own reader, because it is stricter and faster than a lenient parser with checks behind it: a few calls that each
run over the whole head in C. Tests hold it against llhttp and h11: what is accepted here, both read the same way.
Nothing of a refused head is kept, echoed or logged.
"""

import re

import msgspec

from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.gateway.http.chunked import ChunkedBody
from luntrex_proxy.settings.model import GatewayLimits

MAX_TARGET_BYTES = 8192

# Bytes a head may be made of, beside CRLF. RFC 9110 5.5 also allows 0x80-0xFF in values, as opaque bytes: refused,
# because readers disagree on them (Latin-1, UTF-8, surrogates) and no header of these APIs needs them.
_PLAIN = bytes(range(0x20, 0x7F)) + b"\t"
_TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
# Origin-form only: absolute-form, authority-form, `*`, `//host` and a fragment name a place that is not for us to
# reach. `[` and `]` are not in RFC 3986's path or query, but what applications send in `include[]=`.
_START = re.compile(
    rb"(GET|POST|HEAD|OPTIONS|PUT|DELETE|PATCH|TRACE|CONNECT)"
    rb" (/(?!/)[A-Za-z0-9/._~!$&'()*+,;=:@?%\[\]-]*) HTTP/1\.([01])"
).fullmatch
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})").search
_CONNECT = b"CONNECT "
_HOST = re.compile(
    rb"(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
).fullmatch  # fmt: skip
LENGTH_DIGITS = 16
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,15}").fullmatch
_LENGTH_LINE = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)\r\n", re.IGNORECASE).search
# Of a head that is kept while its connection lives, also an idle one of a stranger: an SDK's has some 20 lines, 1 KiB.
_REPEATED_BYTES = 2048
_REPEATED_LINES = 40
# A second one of these would let two readers disagree.
_ONCE = frozenset(
    {
        b"host", b"content-length", b"transfer-encoding", b"content-type", b"content-encoding", b"expect",
        b"authorization", b"x-api-key", b"anthropic-version",
    }
)  # fmt: skip


class RequestHead(msgspec.Struct, eq=False):
    """Method, target, headers and framing of one request. `call` is what the way of requests made of it."""

    method: bytes
    path: bytes
    query: bytes
    version: str
    headers: dict[bytes, bytes]
    keep_alive: bool
    content_length: int = 0
    chunked: bool = False
    expects_continue: bool = False
    call: object = None

    def __repr__(self) -> str:
        return "RequestHead()"  # never a key in a traceback


class RepeatedHead:
    """A head that was accepted, to know it again: a client sends the same one all along, but for the body's length.

    What comes again byte for byte, with another number where the length was, reads the same way: it is not read twice.
    """

    __slots__ = ("_after", "_before", "_head", "_length", "limits")

    def __init__(self, data: bytes, head: RequestHead, length: tuple[int, int], limits: GatewayLimits) -> None:
        self._before = data[: length[0]]
        self._length = data[length[0] : length[1]]
        self._after = data[length[1] :]
        self._head = head
        self.limits = limits  # under which it was accepted: under others it may not be

    def read(self, data: bytes) -> tuple[RequestHead, bytes] | None:
        """The head that `data` begins with if it is the same one (and the same object, with another length), and the
        rest; None: parse it."""
        begun = data.removeprefix(self._before)
        if begun is data:
            return None
        length, after, rest = begun.partition(self._after)  # it has the head's end in it, and nothing before it has
        if not after:
            return None
        if length != self._length:
            if _LENGTH(length) is None:
                return None
            self._length = length
            self._head.content_length = int(length)
        return self._head, rest


def remember_head(data: bytes, head: RequestHead, limits: GatewayLimits) -> RepeatedHead | None:
    """What to know `head`, just read from `data`, by. None when it is not of the kind that is sent again and again."""
    line = _LENGTH_LINE(data)
    if line is None or not head.keep_alive or head.expects_continue:
        return None
    longest = len(data) + LENGTH_DIGITS  # what it may come to be
    if longest > min(_REPEATED_BYTES, limits.header_bytes) or len(head.headers) > _REPEATED_LINES:
        return None
    return RepeatedHead(data, head, line.span(1), limits)


def parse_head(data: bytes, max_count: int) -> tuple[RequestHead, ChunkedBody | None]:
    """Parse one head that ends with its blank line; a chunked body gets its decoder. Raises Refusal."""
    lines = data.split(b"\r\n")
    # What is not a plain byte must be exactly the line ends: no bare CR or LF, no control byte, nothing above ASCII.
    if data.translate(None, _PLAIN) != b"\r\n" * (len(lines) - 1):
        raise Refusal("invalid_http")
    start = _START(lines[0])
    if start is None:
        raise Refusal("upgrade_refused" if lines[0].startswith(_CONNECT) else "invalid_http")
    method, target, minor = start.groups()
    if len(target) > MAX_TARGET_BYTES:
        raise Refusal("uri_too_long")
    if b"%" in target and _BAD_ESCAPE(target) is not None:
        raise Refusal("invalid_http")
    if len(lines) - 3 > max_count:
        raise Refusal("header_too_large")
    del lines[-2:], lines[0]
    headers: dict[bytes, bytes] = {}
    try:
        for line in lines:
            name, value = line.split(b":", 1)
            headers[name.lower()] = value.lstrip()  # space at the end stays: it makes a length or coding invalid
    except ValueError:  # no colon: also a folded line
        raise Refusal("invalid_http") from None
    if b"" in headers or b"".join(headers).translate(None, _TOKEN):
        raise Refusal("invalid_http")  # a space before the colon or at the line's begin is in the name here
    if len(headers) != len(lines):
        headers = _join_repeats(lines)
    path, _, query = target.partition(b"?")
    version = "1.1" if minor == b"1" else "1.0"
    head = RequestHead(method, path, query, version, headers, keep_alive=version == "1.1")
    _read_framing(head)
    return head, ChunkedBody() if head.chunked else None


def _join_repeats(lines: list[bytes]) -> dict[bytes, bytes]:
    """Several lines of one list header are one list (RFC 9110 section 5.3)."""
    joined: dict[bytes, bytes] = {}
    for line in lines:
        name, value = line.split(b":", 1)
        name, value = name.lower(), value.lstrip()
        if name in joined and name in _ONCE:
            raise Refusal("invalid_http")
        joined[name] = joined[name] + b", " + value if name in joined else value
    return joined


def _read_framing(head: RequestHead) -> None:
    """Decide where the body ends (RFC 9112 section 6.3, stricter: any doubt is refused)."""
    headers = head.headers
    host = headers.get(b"host", b"localhost" if head.version == "1.0" else b"")
    if _HOST(host) is None:
        raise Refusal("invalid_http")
    length = headers.pop(b"content-length", None)  # from here on it is `content_length`
    if b"transfer-encoding" in headers:
        if length is not None or headers[b"transfer-encoding"].lower() != b"chunked" or head.version == "1.0":
            raise Refusal("invalid_http")
        head.chunked = True
    elif length is not None:
        if _LENGTH(length) is None:
            raise Refusal("invalid_http")
        head.content_length = int(length)
    connection = headers.get(b"connection")
    if connection is not None and connection != b"keep-alive":
        options = connection.lower()
        if b"close" in options:
            head.keep_alive = False
        if b"upgrade" in options:
            raise Refusal("upgrade_refused")
    if head.method == b"CONNECT":
        raise Refusal("upgrade_refused")
    if b"expect" in headers and head.version == "1.1":
        if headers[b"expect"].lower() != b"100-continue":
            raise Refusal("expectation_failed")
        head.expects_continue = True
