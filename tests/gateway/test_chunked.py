"""The chunk decoder: every cut gives the same content, h11 reads what we accept the same way, nothing grows."""

import contextlib
import itertools
import random

import h11
import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.gateway.http.chunked import AVERAGE_CHUNK_BYTES, FREE_CHUNKS, MAX_TRAILER_BYTES, ChunkedBody

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\n"
SEEDS = (
    b"5\r\nhello\r\n0\r\n\r\n",
    b"A\r\n0123456789\r\n00000001\r\n\r\r\n000\r\nX-Sum: a b\r\nY:\r\n\r\n" + NEXT,
    b"2\r\n\r\n\r\n1\r\n0\r\n0\r\n\r\n0\r\n\r\n",
)
PIECES = (
    b"\r", b"\n", b"\r\n", b"\0", b";", b" ", b"\t", b"0", b"0x", b"+", b"-", b"_", b"f", b":", b"\x0b", b"\xff", b'"',
    b";a=b", b"\r\n0\r\n\r\n", b"ffffffffffffffff",
)  # fmt: skip


def decode(wire: bytes, cuts: list[int] | None = None) -> tuple[bytes, bytes] | None:
    """Content and what follows, None when it is refused or unfinished."""
    body, content, after = ChunkedBody(), b"", b""
    edges = sorted({0, len(wire), *(cut % (len(wire) + 1) for cut in cuts or [])})
    ended = False
    try:
        for start, end in itertools.pairwise(edges):
            if ended:
                after += wire[start:end]
                continue
            piece, ended = body.feed(wire[start:end])
            content += piece
    except Refusal:
        return None
    return (content, body.rest + after) if ended else None


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=12), st.lists(st.integers(0, 600), max_size=8), st.binary()
)
def test_what_is_well_formed_arrives(chunks: list[bytes], cuts: list[int], after: bytes) -> None:
    """Any content in any chunks, cut anywhere, is given back whole, and what follows it untouched."""
    wire = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n" + after
    assert decode(wire, cuts) == (b"".join(chunks), after)


def by_h11(wire: bytes) -> tuple[bytes, bytes] | None:
    """The same by h11."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(HEAD + wire)
    content = b""
    try:
        connection.next_event()
        while type(event := connection.next_event()) is h11.Data:
            content += bytes(event.data)
    except h11.RemoteProtocolError:
        return None
    return (content, connection.trailing_data[0]) if type(event) is h11.EndOfMessage else None


class _Content:
    """llhttp's callbacks."""

    def __init__(self) -> None:
        self.content = b""
        self.ended = False

    def on_body(self, data: bytes) -> None:
        if not self.ended:
            self.content += data

    def on_message_complete(self) -> None:
        self.ended = True


def by_llhttp(wire: bytes) -> bytes | None:
    """The content by llhttp."""
    seen = _Content()
    parser = httptools.HttpRequestParser(seen)
    with contextlib.suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):  # in the bytes behind it
        parser.feed_data(HEAD + wire)
    return seen.content if seen.ended else None


@pytest.mark.parametrize("seed", range(4))
def test_what_is_accepted_has_one_reading(seed: int) -> None:
    """A mutated body that we accept is the same to h11 and llhttp, and cutting it elsewhere changes nothing."""
    rng = random.Random(seed)
    accepted = 0
    for _ in range(5000):
        data = bytearray(rng.choice(SEEDS))
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data) + 1)
            if rng.random() < 0.6:
                data[at:at] = rng.choice(PIECES)
            else:
                data[at : at + rng.randint(1, 3)] = b"" if rng.random() < 0.5 else bytes([rng.randrange(256)])
        wire = bytes(data)
        ours = decode(wire)
        assert decode(wire, [rng.randrange(200) for _ in range(4)]) == ours, wire
        assert decode(wire, list(range(len(wire)))) == ours, wire
        if ours is not None:
            accepted += 1
            assert by_h11(wire) == ours, wire
            assert by_llhttp(wire) == ours[0], wire
    assert accepted > 200


def test_a_refusal_is_for_ever() -> None:
    """What comes after a fault is refused as well, whatever it looks like; what came whole before it can be had."""
    body = ChunkedBody()
    with pytest.raises(Refusal):
        body.feed(b"5\r\nhello\r\nzz\r\n")
    assert body.rest == b"hello"
    for more in (b"\r\n5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n", b""):
        with pytest.raises(Refusal):
            body.feed(more)


@pytest.mark.parametrize("per_read", [1, 100_000])
def test_the_number_of_chunks_is_bounded(per_read: int) -> None:
    """One-byte chunks end soon; chunks of the least average size never do."""
    body = ChunkedBody()
    with pytest.raises(Refusal):  # noqa: PT012 -- one of many
        for _ in range(2 * FREE_CHUNKS // per_read + 1):
            body.feed(b"1\r\nx\r\n" * per_read)
    body = ChunkedBody()
    for _ in range(3 * FREE_CHUNKS // 1000):
        body.feed(b"%x\r\n%b\r\n" % (AVERAGE_CHUNK_BYTES, b"x" * AVERAGE_CHUNK_BYTES) * 1000)


def test_trailers_are_bounded() -> None:
    """Neither one endless trailer nor trailers without end are gathered."""
    for piece in (b"x" * 100, b"X: y\r\n"):
        body = ChunkedBody()
        body.feed(b"0\r\n" + (b"X: " if piece.startswith(b"x") else b""))
        with pytest.raises(Refusal):  # noqa: PT012 -- one of many
            for _ in range(MAX_TRAILER_BYTES // len(piece) + 2):
                body.feed(piece)
