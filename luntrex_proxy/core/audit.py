"""The audit chain's arithmetic: what an entry is, how it is hashed, and how personal words are committed to.

    entry n's hash = SHA-256(hash of n-1, canonical JSON of n)

So no entry can be changed, removed, added or moved without all hashes after it changing. A personal word (a name, an
address) is not in the entry: there is SHA-256(salt, word), and salt and word lie elsewhere. Erasing them there leaves
the chain whole and the commitment meaningless.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

HASH_BYTES: Final = 32
SALT_BYTES: Final = 16
BEGINNING: Final = bytes(HASH_BYTES)  # what the first entry follows
Fact = str | int | bool | None | tuple[str, ...]


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One act, as it is hashed. Facts are ids, numbers and fixed words; never a personal word, never a secret."""

    sequence: int
    at_us: int  # unix time
    actor: str  # daemon, console:<person id> ..., "command line"
    act: str  # subject.verb, such as key.revoked
    object_id: str
    account_id: int | None
    facts: dict[str, Fact]
    commitments: dict[str, str]  # field -> hex


_encode = msgspec.json.Encoder(order="sorted").encode


def entry_hash(previous: bytes, entry: Entry) -> bytes:
    """The hash that chains an entry to the one before."""
    return hashlib.sha256(previous + _encode(entry)).digest()


def commitment(salt: bytes, word: str) -> str:
    """What stands in an entry for a personal word: nothing without the salt."""
    return hashlib.sha256(salt + word.encode()).hexdigest()


def keeps_commitments(entry: Entry, personal: Mapping[str, tuple[bytes, str]]) -> bool:
    """Whether the words still known (field -> salt, word) are those that were committed to."""
    return all(entry.commitments.get(field) == commitment(salt, word) for field, (salt, word) in personal.items())
