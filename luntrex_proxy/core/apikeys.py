"""The form of an API key and its hashes, as pure functions. No store, clock or randomness lives here.

    lx_ + key id (12 base62) + _ + secret (43 base62 = 256 bits) + checksum (6 base62 = CRC32 of all before)

The key id is public (it names the key in usage and revocation). The checksum is public too: it stops typing errors
and lets secret scanners be sure; it stops no attacker.
"""

import base64
import hashlib
import re
import zlib
from typing import Final

# Published for secret scanners; change it never.
KEY_PATTERN: Final = r"lx_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}"
KEY_LENGTH: Final = 65
# 32 bytes become the secret, 16 the key id.
RANDOM_BYTES: Final = 48
LOOKUP_HASH_BYTES: Final = 32

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PREFIX: Final = "lx_"
_ID: Final = slice(3, 15)
_CHECKED: Final = slice(0, 59)
_CHECKSUM: Final = slice(59, 65)
_ID_LENGTH: Final = 12
_SECRET_LENGTH: Final = 43
# Also one with a typing error, or in capitals.
_MENTION: Final = re.compile(r"lx_[0-9A-Za-z]{12}_", re.IGNORECASE)
_CLAIM: Final = re.compile(rb"lx_([0-9A-Za-z]{12})_")
_WHOLE_KEY: Final = re.compile(KEY_PATTERN.encode())
# Two digits at a time: the checksum is made for every request.
_PAIRS: Final = tuple((high + low).encode() for high in _ALPHABET for low in _ALPHABET)


def make_key(random: bytes) -> tuple[str, bytes]:
    """A new key and its id from `RANDOM_BYTES` random bytes.

    The secret is the 256-bit number itself in base62 (62^43 > 2^256), so nothing is lost and nothing is biased; the id
    is 128 random bits modulo 62^12, off from uniform by less than 2^-56.
    """
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"a key is made from {RANDOM_BYTES} random bytes")
    key_id = base62(int.from_bytes(random[32:], "big") % 62**_ID_LENGTH, _ID_LENGTH)
    secret = base62(int.from_bytes(random[:32], "big"), _SECRET_LENGTH)
    checked = f"{_PREFIX}{key_id}_{secret}".encode()
    return key_id, checked + checksum(checked)


def mentions_key(text: str) -> bool:
    """Whether a key stands in words that are to be kept or shown."""
    return _MENTION.search(text) is not None


def parse(key: bytes) -> str | None:
    """The key id of a well-formed key with the right checksum, else None. Cheap: it runs for every request."""
    if len(key) != KEY_LENGTH or _WHOLE_KEY.fullmatch(key) is None or checksum(key[_CHECKED]) != key[_CHECKSUM]:
        return None
    return key[_ID].decode()


def claimed_id(key: bytes) -> str:
    """The id that a refused key names, whatever else is wrong with it; "": none. Only who has the table knows more."""
    found = _CLAIM.match(key)
    return found[1].decode() if found else ""


def lookup_hash(key: bytes, lookup_key: bytes) -> bytes:
    """The keyed hash that finds a key in memory and in the database; worthless without `lookup_key`."""
    return hashlib.blake2b(key, key=lookup_key, digest_size=LOOKUP_HASH_BYTES).digest()


def bcrypt_input(key: bytes) -> bytes:
    """What bcrypt gets to see: 44 bytes without NUL, below its limit of 72 whatever the key is."""
    return base64.b64encode(hashlib.sha256(key).digest())


def base62(number: int, length: int) -> str:
    """A number in `length` digits 0-9, A-Z, a-z."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def checksum(checked: bytes) -> bytes:
    """Six digits for people who mistype and for secret scanners."""
    rest, low = divmod(zlib.crc32(checked), 3844)
    high, middle = divmod(rest, 3844)
    return _PAIRS[high] + _PAIRS[middle] + _PAIRS[low]
