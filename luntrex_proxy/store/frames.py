"""The byte format of a spool segment: `u32 length | u32 crc32 | msgpack of one record`, little-endian. Pure functions.

A frame is the unit of one `os.write`. What cannot be read is reported, never skipped in silence: `torn` (the bytes end
inside a frame: wait while the writer lives) or `corrupt` (a length or checksum that no writer makes).
"""

import struct
import zlib
from enum import StrEnum
from typing import NamedTuple

import msgspec

from luntrex_proxy.core.outcome import Record

HEADER = struct.Struct("<II")
# Records are 100-400 bytes of ids and numbers. The bound keeps a damaged length from looking like a long frame.
PAYLOAD_BYTES_MAX = 16 * 1024
FRAME_BYTES_MAX = HEADER.size + PAYLOAD_BYTES_MAX

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)


class Problem(StrEnum):
    """Why parsing stopped before the end of the bytes."""

    NONE = ""
    TORN = "torn"
    CORRUPT = "corrupt"


class Frame(NamedTuple):
    """One frame with its place in the parsed buffer; `record` is None when a sound payload is no record of ours."""

    record: Record | None
    start: int
    end: int


class Parsed(NamedTuple):
    """Whole frames from the start of a buffer, how many bytes they took, and what came after them."""

    frames: list[Frame]
    consumed: int
    problem: Problem


def encode_frame(record: Record) -> bytes:
    """The bytes of one record, to be written in one piece."""
    payload = _encoder.encode(record)
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise ValueError("a ledger record exceeds the frame limit: a configured name is too long")
    return HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def parse_frames(buffer: bytes, limit: int = 1_000_000) -> Parsed:
    """At most `limit` frames from the start of `buffer`, which begins at a frame boundary."""
    frames: list[Frame] = []
    start = 0
    while start < len(buffer) and len(frames) < limit:
        body = start + HEADER.size
        if body > len(buffer):
            return Parsed(frames, start, Problem.TORN)
        length, checksum = HEADER.unpack_from(buffer, start)
        if not 0 < length <= PAYLOAD_BYTES_MAX:
            return Parsed(frames, start, Problem.CORRUPT)
        end = body + length
        if end > len(buffer):
            return Parsed(frames, start, Problem.TORN)
        payload = buffer[body:end]
        if zlib.crc32(payload) != checksum:
            return Parsed(frames, start, Problem.CORRUPT)
        frames.append(Frame(_decode(payload), start, end))
        start = end
    return Parsed(frames, start, Problem.NONE)


def _decode(payload: bytes) -> Record | None:
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
