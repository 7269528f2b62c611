"""Request ids: UUIDv7 (RFC 9562), so that they sort by time and fit a uuid column."""

import os


def new_request_id(now: float) -> str:
    """A fresh id for a request that came at `now` (unix seconds)."""
    raw = os.urandom(10)
    value = (
        int(now * 1000) << 80
        | 0x7000 << 64
        | (raw[0] << 8 | raw[1]) % 0x1000 << 64
        | 0x8000000000000000
        | int.from_bytes(raw[2:]) % 0x4000000000000000
    )
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
