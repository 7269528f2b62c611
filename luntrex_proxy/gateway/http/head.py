"""A request's head: parsed by llhttp, then held to our own rules, because llhttp lets more through than a proxy may.

Nothing of a refused head is kept, echoed or logged.
"""

import re

import httptools

from luntrex_proxy.core.refusals import Refusal

MAX_TARGET_BYTES = 8192
# A chunked body may cost this many bytes on the wire beside its content, and this many times its content.
FRAMING_BYTES = 65536
FRAMING_FACTOR = 4

_PLAIN = bytes(range(0x20, 0x7F)) + b"\t\r\n"
_HOST = re.compile(rb"(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_START = re.compile(rb"[A-Z-]+ [^ \r\n]+ HTTP/[0-9]\.[0-9]\r\n")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,15}")
# A second one of these would let two readers disagree.
_ONCE = frozenset(
    {
        b"host", b"content-length", b"transfer-encoding", b"content-type", b"content-encoding", b"expect",
        b"authorization", b"x-api-key", b"anthropic-version",
    }
)  # fmt: skip


class RequestHead:
    """Method, target, headers and framing of one request."""

    __slots__ = (
        "chunked",
        "content_length",
        "expects_continue",
        "headers",
        "keep_alive",
        "method",
        "path",
        "query",
        "version",
    )

    def __init__(self, method: bytes, target: bytes, version: str, headers: dict[bytes, bytes]) -> None:
        self.method = method
        self.path, _, self.query = target.partition(b"?")
        self.version = version
        self.headers = headers
        self.chunked = False
        self.content_length = 0
        self.expects_continue = False
        self.keep_alive = version == "1.1"


class Collector:
    """Receives llhttp's callbacks for one request: the head, then the pieces of a chunked body."""

    __slots__ = ("ended", "extra", "head_complete", "headers", "pieces", "target")

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.target = b""
        self.head_complete = False
        self.pieces: list[bytes] = []
        self.ended = False
        self.extra = False  # bytes followed the end of the message in the same read

    def on_message_begin(self) -> None:
        self.extra = self.ended

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head_complete:  # later ones are trailers: discarded, they never reach a decision
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.head_complete = True

    def on_body(self, data: bytes) -> None:
        if not self.ended:
            self.pieces.append(data)

    def on_message_complete(self) -> None:
        self.ended = True


class ChunkedBody:
    """Decodes a chunked request body with the parser that read its head."""

    __slots__ = ("_body_bytes", "_collector", "_parser", "_wire_bytes")

    def __init__(self, parser: httptools.HttpRequestParser, collector: Collector) -> None:
        self._parser = parser
        self._collector = collector
        self._wire_bytes = 0
        self._body_bytes = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Body bytes of this read and whether the body has ended. Raises Refusal for bad chunks."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._collector.ended:
                raise Refusal("invalid_http") from None
            self._collector.extra = True
        pieces = self._collector.pieces
        self._collector.pieces = []
        body = b"".join(pieces)
        self._wire_bytes += len(data)
        self._body_bytes += len(body)
        if self._wire_bytes > FRAMING_BYTES + FRAMING_FACTOR * self._body_bytes:
            raise Refusal("invalid_http")  # chunk extensions, trailers or one-byte chunks without end
        return body, self._collector.ended

    @property
    def extra(self) -> bool:
        """Whether bytes of another request were swallowed: the connection must close after the answer."""
        return self._collector.extra


def parse_head(data: bytes, max_count: int) -> tuple[RequestHead, ChunkedBody | None]:
    """Parse one head that ends with its blank line; a chunked body gets its decoder. Raises Refusal."""
    if data.translate(None, _PLAIN) or not data.count(b"\n") == data.count(b"\r") == data.count(b"\r\n"):
        raise Refusal("invalid_http")
    if _START.match(data) is None:
        raise Refusal("invalid_http")  # llhttp also reads RTSP and ICE, and takes several spaces for one
    collector = Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        raise Refusal("upgrade_refused") from None
    except httptools.HttpParserError:
        raise Refusal("invalid_http") from None
    if not collector.head_complete or collector.pieces:
        raise Refusal("invalid_http")
    target = collector.target
    if len(target) > MAX_TARGET_BYTES:
        raise Refusal("uri_too_long")
    if len(collector.headers) > max_count:
        raise Refusal("header_too_large")
    version = parser.get_http_version()
    if not target.startswith(b"/") or target.startswith(b"//") or b"#" in target or version not in ("1.1", "1.0"):
        raise Refusal("invalid_http")
    headers = dict(collector.headers)
    if len(headers) != len(collector.headers):
        headers = _join_repeats(collector.headers)
    head = RequestHead(parser.get_method(), target, version, headers)
    _read_framing(head)
    return head, ChunkedBody(parser, collector) if head.chunked else None


def _join_repeats(pairs: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Several lines of one list header are one list (RFC 9110 section 5.3)."""
    joined: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name in joined and name in _ONCE:
            raise Refusal("invalid_http")
        joined[name] = joined[name] + b", " + value if name in joined else value
    return joined


def _read_framing(head: RequestHead) -> None:
    """Decide where the body ends (RFC 9112 section 6.3, stricter: any doubt is refused)."""
    headers = head.headers
    host = headers.get(b"host", b"localhost" if head.version == "1.0" else b"")
    if _HOST.fullmatch(host) is None:
        raise Refusal("invalid_http")
    coding = headers.get(b"transfer-encoding")
    length = headers.get(b"content-length")
    if coding is not None:
        if length is not None or coding.lower() != b"chunked" or head.version == "1.0":
            raise Refusal("invalid_http")
        head.chunked = True
    elif length is not None:
        if _LENGTH.fullmatch(length) is None:
            raise Refusal("invalid_http")
        head.content_length = int(length)
    connection = headers.get(b"connection")
    if connection is not None:
        options = connection.lower()
        if b"close" in options:
            head.keep_alive = False
        if b"upgrade" in options:
            raise Refusal("upgrade_refused")
    expect = headers.get(b"expect")
    if expect is not None and head.version == "1.1":
        if expect.lower() != b"100-continue":
            raise Refusal("expectation_failed")
        head.expects_continue = True
