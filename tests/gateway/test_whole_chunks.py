"""A read that is one whole chunk takes a shorter way: the sink gets what the chunk reader alone would give it."""

import random
from types import SimpleNamespace
from typing import Any

from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.gateway.http.answerhead import AnswerHead
from luntrex_proxy.gateway.http.chunked import ChunkedBody
from luntrex_proxy.gateway.http.upstream import UpstreamConnection

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n"


class Sink:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.body = b""
        self.end = ""

    def head_arrived(self, head: AnswerHead) -> None:
        assert head.is_stream

    def body_arrived(self, data: bytes, chunk: bytes = b"") -> None:
        assert chunk in (b"", b"%x\r\n%b\r\n" % (len(data), data)), "not as we would frame it"
        self.body += data

    def ended(self) -> None:
        self.end = "ended"

    def failed(self, code: str) -> None:
        self.end = code


def received(reads: list[bytes]) -> tuple[bytes, str]:
    """What a sink gets of these reads."""
    transport = SimpleNamespace(
        write=lambda data: None, abort=lambda: None, is_closing=lambda: False, get_write_buffer_size=lambda: 0
    )
    owner: Any = SimpleNamespace(
        opened=lambda: None, first_byte_s=1.0, idle_s=1.0, keep_alive_s=1.0, usual_answer=None, usual_stream=None,
        give_back=lambda connection: None, lost=lambda connection: None,
    )  # fmt: skip
    ticker: Any = SimpleNamespace(now=0.0, members=set())
    connection, sink = UpstreamConnection(owner, ticker), Sink()
    connection.connection_made(transport)  # type: ignore[arg-type]  # all it needs of one
    connection.send(b"", sink)
    for read in (HEAD, *reads):
        if not connection.closed and not sink.end:
            connection.data_received(read)
    return sink.body, sink.end


def expected(reads: list[bytes]) -> tuple[bytes, str]:
    """The same by the chunk reader alone."""
    chunks, body = ChunkedBody(None), b""
    for read in reads:
        try:
            content, ended = chunks.feed(read)
        except Refusal:
            return body + chunks.rest, "upstream_invalid"
        body += content
        if ended:
            return body, "ended"
    return body, ""


def test_whole_chunks_are_what_the_chunk_reader_would_say() -> None:
    """For chunks of any size, in reads that are whole, cut, joined, or have bytes changed."""
    rng = random.Random(11)
    ends = []
    for _ in range(3000):
        pieces = [bytes(rng.choices(b"ab\r\n0", k=rng.choice((1, 2, 3, 9, 16, 300, 5000)))) for _ in range(4)]
        reads = [
            (b"%x" if rng.random() < 0.8 else b"%04X") % len(piece) + b"\r\n" + piece + b"\r\n" for piece in pieces
        ]
        reads.append(b"0\r\n\r\n")
        for _ in range(rng.choice((0, 0, 1, 2))):
            at = rng.randrange(len(reads))
            changed = bytearray(reads[at])
            where = rng.choice((rng.randrange(len(changed)), max(0, len(changed) - rng.choice((1, 2, 3)))))
            changed[where : where + rng.choice((0, 1))] = rng.choice((b"", b"\r", b"\n", b"\r\n", b"0", b"x"))
            reads[at] = bytes(changed)
        if rng.random() < 0.4:
            whole, at = b"".join(reads), 0
            cuts = sorted(rng.randrange(1, len(whole)) for _ in range(rng.choice((1, 3, 6))))
            reads = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        reads = [read for read in reads if read]
        assert received(reads) == expected(reads), reads
        ends.append(received(reads)[1])
    assert min(ends.count(end) for end in ("ended", "upstream_invalid", "")) > 40
