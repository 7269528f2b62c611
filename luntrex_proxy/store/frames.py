"""The byte format of a spool segment: `u32 length | u32 crc32 | msgpack of one record`, little-endian. Pure functions.

A frame is the unit of one `os.write`. What cannot be read is reported, never skipped in silence: `torn` (the bytes end
inside a frame: wait while the writer lives) or `corrupt` (a length or checksum that no writer makes).
"""

import struct
from enum import StrEnum
from typing import NamedTuple
from zlib import crc32

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
    """One frame with its place in the file; `record` is None when a sound payload is no record of ours."""

    record: Record | None
    start: int
    end: int


class Parsed(NamedTuple):
    """Whole frames from the start of a buffer, the place after them, and what came there."""

    frames: list[Frame]
    after: int
    problem: Problem


def encode_frame(record: Record) -> bytes:
    """The bytes of one record, to be written in one piece."""
    payload = _encoder.encode(record)
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise ValueError("a ledger record exceeds the frame limit: a configured name is too long")
    return HEADER.pack(len(payload), crc32(payload)) + payload


def parse_frames(buffer: bytes, limit: int = 1_000_000, base: int = 0) -> Parsed:
    """At most `limit` frames from the start of `buffer`, a frame boundary at `base` bytes of its file."""
    frames: list[Frame] = []
    unpack, header_bytes, size = HEADER.unpack_from, HEADER.size, len(buffer)
    start = 0
    problem = Problem.NONE
    while start < size and len(frames) < limit:
        body = start + header_bytes
        if body > size:
            problem = Problem.TORN
            break
        length, checksum = unpack(buffer, start)
        end = body + length
        if not 0 < length <= PAYLOAD_BYTES_MAX:
            problem = Problem.CORRUPT
            break
        if end > size:
            problem = Problem.TORN
            break
        payload = buffer[body:end]
        if crc32(payload) != checksum:
            problem = Problem.CORRUPT
            break
        frames.append(Frame(_decode(payload), base + start, base + end))
        start = end
    return Parsed(frames, base + start, problem)


def _decode(payload: bytes) -> Record | None:
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
