"""The form of a personal access token, as pure functions. It opens the control plane; an API key opens the gateway.

lxp_ + token id (12 base62) + _ + secret (43 base62 = 256 bits) + checksum (6 base62 = CRC32 of all before)
"""

import hashlib
import re
from typing import Final

from luntrex_proxy.core.apikeys import RANDOM_BYTES, base62, checksum

# Published for secret scanners; change it never.
TOKEN_PATTERN: Final = r"lxp_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}"  # noqa: S105 -- the form of one, not one
LONGEST_DAYS: Final = 365

_PREFIX: Final = "lxp_"
_CHECKED: Final = slice(0, 60)
_CHECKSUM: Final = slice(60, 66)
_WHOLE: Final = re.compile(TOKEN_PATTERN.encode())


def make_token(random: bytes) -> tuple[str, bytes]:
    """A new token and its id from `RANDOM_BYTES` random bytes, as API keys are made."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"a token is made from {RANDOM_BYTES} random bytes")
    token_id = base62(int.from_bytes(random[32:], "big") % 62**12, 12)
    checked = f"{_PREFIX}{token_id}_{base62(int.from_bytes(random[:32], 'big'), 43)}".encode()
    return token_id, checked + checksum(checked)


def is_token(text: bytes) -> bool:
    """Whether the text has a token's form and checksum; nobody needs to be asked about any other."""
    return _WHOLE.fullmatch(text) is not None and checksum(text[_CHECKED]) == text[_CHECKSUM]


def token_hash(token: bytes) -> bytes:
    """What is stored of a token. 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(token).digest()
