"""Secrets at rest: AES-256-GCM under data keys, each bound to its place. Data keys are unwrapped once.

    sealed = version (1) | data key id (4) | nonce (12) | ciphertext and tag;  AAD = table|row|column|version

So a value copied to another row, column or table does not open, and a copy of the database opens nowhere without the
wrapping key. Rotating the wrapping key wraps the data keys anew and touches no secret; rotating the data key seals
every secret anew.
"""

import secrets
import struct
from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

import asyncpg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from luntrex_proxy.store import audit
from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.wrapping import Wrapped, Wrapping

_VERSION: Final = 1
_HEAD: Final = struct.Struct(">BI12s")
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class Place(NamedTuple):
    """Where a sealed value lies."""

    table: str
    row: str
    column: str


class Sealer:
    """Seals with the newest data key, opens with whichever sealed."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        self._ciphers = {number: AESGCM(key) for number, key in keys.items()}
        self._newest = max(self._ciphers)

    @property
    def newest(self) -> int:
        """The data key that seals."""
        return self._newest

    def seal(self, place: Place, plain: str) -> bytes:
        """Encrypt a value for its place."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        ciphertext = self._ciphers[self._newest].encrypt(nonce, plain.encode(), _aad(place, _VERSION))
        return _HEAD.pack(_VERSION, self._newest, nonce) + ciphertext

    def open(self, place: Place, sealed: bytes) -> str:
        """The value. StoreError: it was changed, moved, or its data key is gone; never says anything of it."""
        try:
            version, number, nonce = _HEAD.unpack_from(sealed)
            return self._ciphers[number].decrypt(nonce, sealed[_HEAD.size :], _aad(place, version)).decode()
        except (InvalidTag, ValueError, KeyError, struct.error):
            raise StoreError(
                f"{place.column} of {place.row!r} in the table {place.table} cannot be opened: it was changed, moved, "
                "or its data key is missing; set it anew or restore the database."
            ) from None


def sealed_with(sealed: bytes) -> int:
    """The data key a value was sealed with."""
    number: int = _HEAD.unpack_from(sealed)[1]
    return number


Known = dict[tuple[int, datetime], bytes]  # data keys by number and birth: a restored database may use a number again


async def open_sealer(pool: Pool, wrapping: Wrapping, known: Known | None = None) -> Sealer:
    """Unwrap every data key that is not `known` (and know it then); the first one is made here. Raises StoreError."""
    rows = await _stored(pool)
    if not rows:
        await add_data_key(pool, wrapping)
        rows = await _stored(pool)
    before = known or {}
    after = {
        (row["data_key_id"], row["created_at"]): before.get((row["data_key_id"], row["created_at"]))
        or await wrapping.unwrap(Wrapped(row["wrapped"], row["wrapped_by"]))
        for row in rows
    }
    if known is not None:
        known.clear()
        known.update(after)
    return Sealer({number: key for (number, _), key in after.items()})


async def _stored(pool: Pool) -> list[asyncpg.Record]:
    with store_errors("give its data keys"):
        return await pool.fetch("SELECT data_key_id, created_at, wrapped, wrapped_by FROM data_key ORDER BY 1")


async def add_data_key(pool: Pool, wrapping: Wrapping) -> None:
    """Make a data key; it seals from the next `open_sealer` on. Only one of two first ones at once is made."""
    wrapped = await wrapping.wrap(secrets.token_bytes(_KEY_BYTES))
    with store_errors("take a data key"):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE data_key IN SHARE ROW EXCLUSIVE MODE")
            await connection.execute("INSERT INTO data_key (wrapped, wrapped_by) VALUES ($1, $2)", *wrapped)


async def rewrap(pool: Pool, old: Wrapping, new: Wrapping) -> int:
    """Wrap every data key anew, all or none; how many. Nothing that runs notices, and no lock waits for a service."""
    rows = await _stored(pool)
    again = [
        (
            row["data_key_id"],
            row["wrapped"],
            await new.wrap(await old.unwrap(Wrapped(row["wrapped"], row["wrapped_by"]))),
        )
        for row in rows
    ]
    with store_errors("wrap its data keys anew"):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE data_key IN SHARE ROW EXCLUSIVE MODE")
            found = await connection.fetch("SELECT data_key_id, wrapped FROM data_key ORDER BY 1")
            if [(row["data_key_id"], row["wrapped"]) for row in found] != [(number, was) for number, was, _ in again]:
                raise RefusedError("The data keys were changed meanwhile by somebody else; run it again.")
            for number, _, wrapped in again:
                await connection.execute(
                    "UPDATE data_key SET wrapped = $2, wrapped_by = $3 WHERE data_key_id = $1", number, *wrapped
                )
            by = again[-1][2].by if again else "none"
            await audit.record(connection, "wrapping_key.rotated", by, facts={"data_keys": len(again)})
    return len(again)


def _aad(place: Place, version: int) -> bytes:
    return f"{place.table}|{place.row}|{place.column}|{version}".encode()
