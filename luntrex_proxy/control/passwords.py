"""Passwords hashed and checked: bcrypt over HMAC-SHA384 with a key made of the pepper, in the lane of slow hashes.

The shipped list of blocked passwords: those of eight and more characters among the thirty thousand of zxcvbn (MIT) and
the twenty thousand of Django (BSD), both counted in published breaches.
"""

import base64
import functools
import hmac
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Final

import bcrypt

from luntrex_proxy.control.lane import Lane
from luntrex_proxy.core.passwords import (
    CHARACTERS_MIN,
    CHARACTERS_MIN_WITH_CODE,
    context_words,
    folded,
    normalised,
    weakness,
)
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.pepper import Lookup

BCRYPT_COST: Final = 12
_SHIPPED: Final = Path(__file__).with_name("blocked_passwords.txt")
_FILE_BYTES_MAX: Final = 256 * 2**20


class Blocklist(Collection[str]):
    """Passwords that nobody may choose, as 64 bits of a hash each: a list of millions stays small."""

    def __init__(self, words: Iterable[str]) -> None:
        self._hashes = array("Q", sorted({_short_hash(folded(word)) for word in words if word}))

    def __contains__(self, word: object) -> bool:
        wanted = _short_hash(str(word))
        at = bisect_left(self._hashes, wanted)
        return at < len(self._hashes) and self._hashes[at] == wanted

    def __len__(self) -> int:
        return len(self._hashes)

    def __iter__(self) -> Iterator[str]:
        raise TypeError("only hashes of the words are kept")


def load_blocklist(own_file: Path | None) -> Blocklist:
    """The shipped list and the installation's own. StoreError says what is wrong with that."""
    if own_file is None:
        return _shipped()
    try:
        if own_file.stat().st_size > _FILE_BYTES_MAX:
            raise StoreError(f"The list of blocked passwords {own_file} has more than 256 MiB; shorten it.")
        own = own_file.read_text("utf-8", errors="replace").splitlines()
    except OSError as error:
        raise StoreError(
            f"The list of blocked passwords {own_file} cannot be read ({error.strerror}); mend it or set "
            "console.blocked_passwords_file to null."
        ) from None
    return Blocklist([*_SHIPPED.read_text().splitlines(), *own])


@functools.cache
def _shipped() -> Blocklist:
    return Blocklist(_SHIPPED.read_text().splitlines())


class Passwords:
    """Checks and makes hashes of passwords for one process."""

    def __init__(
        self, lookup: Lookup, blocked: Blocklist, *, cost: int = BCRYPT_COST, lane: Lane | None = None
    ) -> None:
        self._keys = {
            each.fingerprint: hmac.digest(each.key, b"luntrex passwords", "sha384")
            for each in (lookup, lookup.old)
            if each is not None
        }
        self._present = lookup.fingerprint
        self._is_present = lookup.is_present
        self._blocked = blocked
        self._cost = cost
        self._lane = lane or Lane()
        # What is compared for an address that nobody has takes as long as any other.
        self._nobody = bcrypt.gensalt(cost) + b"." * 31

    @staticmethod
    def characters_min(*, has_totp: bool) -> int:
        """How many characters a password has at least."""
        return CHARACTERS_MIN_WITH_CODE if has_totp else CHARACTERS_MIN

    def refuse_weak(self, password: str, address: str, name: str, *, has_totp: bool) -> None:
        """RefusedError: this password is too short, or guessed first."""
        least = self.characters_min(has_totp=has_totp)
        found = weakness(password, self._blocked, context_words(address, name), characters_min=least)
        if found is not None:
            raise RefusedError(found, "weak_password")

    async def hashed(self, password: str, network: str = "") -> tuple[str, bytes]:
        """The hash to keep, and the fingerprint of the pepper in it. BusyError: too many wait."""
        ready = self._peppered(password, self._present)
        made = await self._lane.run(network, _hash, ready, self._cost)
        return made.decode(), self._present

    async def is_right(self, password: str, hashed: str | None, fingerprint: bytes | None, network: str) -> bool:
        """Whether it is the password of this hash; takes as long when there is none. BusyError: too many wait."""
        known = hashed is not None and fingerprint in self._keys
        ready = self._peppered(password, fingerprint if known and fingerprint else self._present)
        against = hashed.encode() if known and hashed else self._nobody
        return await self._lane.run(network, _is_right, ready, against) and known

    def is_old(self, hashed: str, fingerprint: bytes) -> bool:
        """Whether the hash should be made anew: of another pepper or another cost than now."""
        return self._is_present and (fingerprint != self._present or not hashed.startswith(f"$2b${self._cost:02d}$"))

    def _peppered(self, password: str, fingerprint: bytes) -> bytes:
        """64 characters for bcrypt, whatever the password's length or bytes."""
        said = normalised(password).encode(errors="surrogatepass")
        return base64.b64encode(hmac.digest(self._keys[fingerprint], said, "sha384"))


def _hash(ready: bytes, cost: int) -> bytes:
    return bcrypt.hashpw(ready, bcrypt.gensalt(cost))


def _is_right(ready: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(ready, hashed)
    except ValueError:  # not a hash that bcrypt makes
        return False


def _short_hash(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest(), "big")
