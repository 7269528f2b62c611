"""Mutated heads against three readers that share no code with ours: what we accept, they read in the same way.

The readers are a strict expression of RFC 9112's grammar, h11, and llhttp through httptools.
"""

import random
import re

import h11
import httptools
import pytest

from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.gateway.http.head import parse_head

CASES = 20_000
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
HEAD = re.compile(
    rb"(?P<method>[A-Z-]+) (?P<target>/[\x21\x22\x24-\x7e]*) HTTP/1\.[01]\r\n"
    rb"(?P<fields>(?:%b:[\x20-\x7e\t]*\r\n)*)\r\n" % TOKEN
)
SEEDS = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a.test:80\r\nContent-Length: 12\r\nX-A: b\r\n\r\n",
    b"POST /v1/messages?beta=true HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n",
    b"GET /v1/models HTTP/1.0\r\nConnection: keep-alive\r\nx-api-key: k\r\nCookie: a=b; c=d\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
)
PIECES = (
    b"\r", b"\n", b"\r\n", b"\0", b":", b" ", b"\t", b",", b";", b"chunked", b"Content-Length: 5\r\n", b"0", b"\x0b",
    b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n", b"HTTP/2.0", b"\xff", b"\x7f", b"//", b"http://b", b"#",
    b"\r\n ",
    b"RTSP/1.0", b"ICE/1.0", b"Upgrade: h2c\r\n", b"_", b"-", b"+", b"0x", b"Connection: upgrade\r\n", b"*", b"\\",
)  # fmt: skip


def mutate(rng: random.Random) -> bytes:
    """A seed with one to three changes, up to its first blank line, as the connection cuts it."""
    data = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data))
        match rng.randrange(5):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at]
            case 2:
                data[at:at] = rng.choice(PIECES)
            case 3:
                lines = bytes(data).split(b"\r\n")
                lines.insert(rng.randrange(len(lines)), rng.choice(lines))
                data[:] = b"\r\n".join(lines)
            case _:
                data[at : at + rng.randint(1, 6)] = rng.choice(PIECES)
    end = data.find(b"\r\n\r\n")
    return bytes(data[: end + 4]) if end > 0 else mutate(rng)


class _Heard:
    """llhttp's callbacks."""

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.strip(b" \t")))


Reading = tuple[bytes, bytes, str, list[tuple[bytes, bytes]]]


def by_llhttp(data: bytes) -> Reading:
    """Method, target, version and fields by llhttp. Raises for what it refuses."""
    heard = _Heard()
    parser = httptools.HttpRequestParser(heard)
    parser.feed_data(data)
    return parser.get_method(), heard.target, parser.get_http_version(), heard.fields


def by_h11(data: bytes) -> Reading:
    """The same by h11."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    request = connection.next_event()
    assert type(request) is h11.Request
    fields = [(bytes(name), bytes(value)) for name, value in request.headers]
    return bytes(request.method), bytes(request.target), request.http_version.decode(), fields


@pytest.mark.parametrize("seed", range(4))
def test_what_is_accepted_has_one_reading(seed: int) -> None:
    """Method, target and fields of an accepted head are those a strict reader finds, and the framing is unambiguous."""
    rng = random.Random(seed)
    accepted = 0
    wrong: set[bytes] = set()
    for _ in range(CASES // 4):
        data = mutate(rng).removeprefix(b"\r\n")  # as the connection does
        try:
            head, _ = parse_head(data, 100)
        except Refusal:
            continue
        accepted += 1
        strict = HEAD.fullmatch(data)
        if strict is None:
            wrong.add(data)
            continue
        pairs = [line.partition(b":") for line in strict["fields"].split(b"\r\n")[:-1]]
        fields = [(name.lower(), value.strip(b" \t")) for name, _, value in pairs]
        reading = (strict["method"], strict["target"], head.version, fields)
        assert by_llhttp(data) == reading, data
        told = by_h11(data)
        assert (*told[:3], [(name, value.lower()) for name, value in told[3]]) == (
            *reading[:3],
            [(name, value.lower()) for name, value in fields],  # h11 gives a coding back in lower case
        )
        names = [name for name, _ in fields]
        assert head.method == strict["method"]
        assert head.path == strict["target"].partition(b"?")[0]
        joined: dict[bytes, bytes] = {}
        for name, value in fields:
            joined[name] = joined[name] + b", " + value if name in joined else value
        joined.pop(b"content-length", None)  # compared as a number below
        assert {name: value.strip(b" \t") for name, value in head.headers.items()} == joined
        assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
        assert names.count(b"host") <= 1
        assert head.chunked == (b"transfer-encoding" in names)
        assert head.content_length == int(dict(fields).get(b"content-length", b"0"))
    assert accepted > 100
    assert not wrong, sorted(wrong, key=len)[:5]
