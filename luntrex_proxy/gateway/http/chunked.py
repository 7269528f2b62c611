"""Decoding a chunked request body: pure, bounded, and with one reading only.

Stricter than RFC 9112 section 7.1 where that costs no honest client anything: no chunk extension, no space, no LF
without CR, at most eight digits of size. Trailers are held to a field's grammar and discarded.
"""

import re

from luntrex_proxy.core.refusals import Refusal

# One-byte chunks cost more to cut (some 0.5 us each) than they carry. Every body may have this many chunks, and above
# that one for each so many bytes of it: a body of a MiB may come in 32,768 + 16,384 pieces.
FREE_CHUNKS = 32768
AVERAGE_CHUNK_BYTES = 64
MAX_TRAILER_BYTES = 8192

# A chunk's size stands between two line ends: that of the piece before it and its own.
_SIZE = re.compile(rb"\r\n([0-9A-Fa-f]{1,8})\r\n").match
SMALL_SIZES = {b"%x" % size: size for size in range(1, 4096)}  # as nearly all senders write those of an event
LINE_END = b"\r\n"
_HALF_SIZE = re.compile(rb"(?:\r(?:\n(?:[0-9A-Fa-f]{1,8}\r?)?)?)?").fullmatch
_SIZE_BYTES = 12
# No possessive repeats of groups: CPython 3.11.2 goes on after half an iteration and matches what it must not.
_TRAILERS = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*\r\n)*\r\n").fullmatch


class ChunkedBody:
    """Takes a body's bytes as they come off the wire and gives back its content.

    While `held` is the object LINE_END a chunk has ended and none has begun: whoever sees that a read is exactly one
    chunk, and lets any number of them come, need not feed it.
    """

    __slots__ = ("_body_bytes", "_chunks", "_free_chunks", "_missing", "_trailing", "held", "rest")

    def __init__(self, free_chunks: int | None = FREE_CHUNKS) -> None:
        self._free_chunks = free_chunks  # None: there may be as many as come
        self.held = LINE_END  # an unfinished line; the first size has the head's line end before it
        self._missing = 0  # bytes of the current chunk that are still to come
        self._trailing = False  # the last chunk has been seen
        self._chunks = 0
        self._body_bytes = 0
        self.rest = b""  # what followed the body's end in the same read; after a Refusal: the content before the fault

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Content of this read and whether the body has ended. Raises Refusal for bad chunks, then and ever after."""
        if self.held:
            data = self.held + data
            self.held = b""
        if self._trailing:
            return b"", self._end(data, 0, [])
        pieces: list[bytes] = []
        missing, chunks, at, size_bytes = self._missing, 0, 0, len(data)
        ended = False
        while True:
            if missing:
                pieces.append(data[at : at + missing])
                at += missing
                missing = 0
                if at > size_bytes:
                    missing = at - size_bytes
                    break
            line = _SIZE(data, at)
            if line is None:
                self.held = data[at : at + _SIZE_BYTES]
                if self.held == LINE_END:
                    self.held = LINE_END
                elif _HALF_SIZE(self.held) is None:
                    raise self._broken(b"".join(pieces))
                break
            at = line.end()
            missing = int(line[1], 16)
            chunks += 1
            if not missing:
                ended = self._end(data, at, pieces)
                break
        self._missing = missing
        body = b"".join(pieces)
        self._body_bytes += len(body)
        self._count(chunks)
        return body, ended

    def _count(self, chunks: int) -> None:
        free_chunks = self._free_chunks
        self._chunks += chunks
        if free_chunks is not None and self._chunks - free_chunks > self._body_bytes // AVERAGE_CHUNK_BYTES:
            raise self._broken()

    def _end(self, data: bytes, at: int, pieces: list[bytes]) -> bool:
        """The trailers, dropped: they never reach a decision. Whether they have ended."""
        self._trailing = True
        end = at + 2
        if data[at:end] != b"\r\n":
            end = data.find(b"\r\n\r\n", at) + 4
            if end < 4:
                self.held = data[at:]
                if len(self.held) > MAX_TRAILER_BYTES:
                    raise self._broken(b"".join(pieces))
                return False
            if end - at > MAX_TRAILER_BYTES or _TRAILERS(data, at, end) is None:
                raise self._broken(b"".join(pieces))
        self.rest = data[end:]
        return True

    def _broken(self, before: bytes = b"") -> Refusal:
        self.rest = before
        self._trailing = False
        self._missing = 0
        self.held = b"\0"  # no later byte can make it good again
        return Refusal("invalid_http")
