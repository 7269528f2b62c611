"""One-time codes of authenticator apps (RFC 6238: SHA-1, six digits, thirty seconds), as pure functions."""

import base64
import hmac
import struct
from typing import Final
from urllib.parse import quote, urlencode

SEED_BYTES: Final = 20
STEP_S: Final = 30
DIGITS: Final = 6
_DRIFT_STEPS: Final = 1  # clocks that are half a minute off


def code_at(seed: bytes, step: int) -> str:
    """The code of one step (unix seconds // STEP_S)."""
    digest = hmac.digest(seed, struct.pack(">q", step), "sha1")
    at = digest[-1] & 0x0F
    number = struct.unpack_from(">I", digest, at)[0] & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}d}"


def step_of(seed: bytes, code: str, now: float, last_step: int) -> int | None:
    """The step whose code this is, around `now` and later than the last one used; None: it is none."""
    present, found = int(now // STEP_S), None
    for step in range(present - _DRIFT_STEPS, present + _DRIFT_STEPS + 1):
        # Every one is compared, so the time says nothing of which.
        if hmac.compare_digest(code_at(seed, step).encode(), code.encode(errors="replace")) and step > last_step:
            found = step
    return found


def as_text(seed: bytes) -> str:
    """The seed as people type it into an app."""
    return base64.b32encode(seed).decode()


def from_text(text: str) -> bytes:
    """The seed again."""
    return base64.b32decode(text)


def app_url(seed: bytes, issuer: str, address: str) -> str:
    """What an app reads from a picture."""
    fields = urlencode({"secret": as_text(seed), "issuer": issuer}, quote_via=quote)
    return f"otpauth://totp/{quote(f'{issuer}:{address}', safe='')}?{fields}"
