"""The byte format of a spool segment: `u32 length | u32 crc32 | JSON of one record`, little-endian. Pure functions.

JSON, because a flat record's JSON is a line of a table but for its brackets: what is shipped need never be decoded.

A frame is the unit of one `os.write`. What cannot be read is reported, never skipped in silence: `torn` (the bytes end
inside a frame: wait while the writer lives) or `corrupt` (a length or checksum that no writer makes). `find_frame`
finds the place where it goes on, so damage costs the frames it hit and no others.
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

OPENING = b'["open",'  # how the JSON of every opening begins
_BEGINNINGS = (OPENING, b'["settle",')
_NO_TRAIL = b',""]'  # how an outcome's JSON ends that nothing unusual is said in
_NO_TRAIL_BYTES = len(_NO_TRAIL)
_encoder = msgspec.json.Encoder()
_encode, _encode_into = _encoder.encode, _encoder.encode_into
_payload = bytearray()  # of the last frame: as large as records are, while one that grew with each would be moved often
_pack = HEADER.pack
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


class Problem(StrEnum):
    """Why parsing stopped before the end of the bytes."""

    NONE = ""
    TORN = "torn"
    CORRUPT = "corrupt"


class Frame(NamedTuple):
    """One sound frame and where it lies."""

    payload: bytes
    segment: int
    start: int
    end: int

    @property
    def record(self) -> Record | None:
        """What it holds; None when the payload is no record of ours."""
        return decode_record(self.payload)


class Parsed(NamedTuple):
    """Whole frames from the start of a buffer, the place after them, and what came there."""

    frames: list[Frame]
    after: int
    problem: Problem


def request_id(frame: Frame) -> bytes:
    """The first value of a record in its JSON, not decoded."""
    return frame.payload.partition(b",")[2].partition(b",")[0]


def encode_record(record: Record) -> bytes:
    """The payload of a record's frame. Without an empty trail: it is as small as one of the release before, and as good
    for it.
    """
    payload = _encode(record)
    return payload[:-_NO_TRAIL_BYTES] + b"]" if payload.endswith(_NO_TRAIL) else payload


def decode_record(payload: bytes) -> Record | None:
    """What a payload holds; None when it is no record of ours."""
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def encode_frame(record: Record) -> bytes:
    """The bytes of one record, to be written in one piece. On the loop's thread only: others take `frame_bytes`."""
    payload = _payload
    _encode_into(record, payload)
    if payload.endswith(_NO_TRAIL):  # here once more, because each request comes by: a call costs as much
        del payload[-_NO_TRAIL_BYTES:-1]
    size = len(payload)
    if size > PAYLOAD_BYTES_MAX:
        raise ValueError("a ledger record exceeds the frame limit: a configured name is too long")
    return _pack(size, crc32(payload)) + payload


def frame_bytes(payload: bytes) -> bytes:
    """The frame of a payload: of one that was read, as it was."""
    return _pack(len(payload), crc32(payload)) + payload


def parse_frames(buffer: bytes, start: int = 0, limit: int = 1_000_000, segment: int = 0, base: int = 0) -> Parsed:
    """At most `limit` frames from the frame boundary at `start` of `buffer`, which begins at `base` in its file."""
    frames: list[Frame] = []
    unpack, header_bytes, size, make = HEADER.unpack_from, HEADER.size, len(buffer), tuple.__new__
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
        frames.append(make(Frame, (payload, segment, base + start, base + end)))  # called by its name it takes twice
        start = end
    return Parsed(frames, base + start, problem)


def find_frame(buffer: bytes, start: int) -> int:
    """Where the first sound frame of ours at or after `start` begins; -1 when there is none."""
    while (body := buffer.find(b'["', start + HEADER.size)) >= 0:
        start = body - HEADER.size
        if buffer.startswith(_BEGINNINGS, body) and parse_frames(buffer, start, limit=1).frames:
            return start
        start += 1
    return -1
