"""Cursors: where a page ended, signed, so that a client can only give back what it got, for the same list.

They hold the last item's place in the list's order, not a number: what is added meanwhile repeats and hides none.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Any, Final

import orjson

from luntrex_proxy.console.api.problems import Problem

DEFAULT_LIMIT: Final = 50
LONGEST_LIMIT: Final = 200
_MAC_BYTES: Final = 16


def make_cursor(key: bytes, listing: str, place: tuple[Any, ...]) -> str:
    """A cursor behind `place` in the list `listing` (its path and filters)."""
    payload = orjson.dumps(place)
    return base64.urlsafe_b64encode(_mac(key, listing, payload) + payload).decode().rstrip("=")


def read_cursor(key: bytes, listing: str, cursor: str) -> tuple[Any, ...]:
    """The place in a cursor of this list; any other raises a Problem."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Problem("bad_cursor") from None
    mac, payload = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(key, listing, payload)):
        raise Problem("bad_cursor")
    return tuple(orjson.loads(payload))


def _mac(key: bytes, listing: str, payload: bytes) -> bytes:
    signed = len(listing).to_bytes(4, "big") + listing.encode() + payload
    return hashlib.blake2b(signed, key=key, digest_size=_MAC_BYTES, person=b"luntrex cursor").digest()
