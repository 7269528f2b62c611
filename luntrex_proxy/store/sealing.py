"""Secrets at rest: AES-256-GCM under data keys, each bound to its place. Data keys are unwrapped once, at start.

    sealed = version (1) | data key id (4) | nonce (12) | ciphertext and tag;  AAD = table|row|column|version

So a value copied to another row, column or table does not open, and a copy of the database opens nowhere without the
wrapping key. Rotating the wrapping key wraps the data keys anew and touches no secret; rotating the data key seals
every secret anew.
"""

import secrets
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from luntrex_proxy.store import audit
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.segments import sync_directory
from luntrex_proxy.store.state import file_errors
from luntrex_proxy.store.wrapping import (
    NEW_WRAPPING_FILE,
    WRAPPING_FILE,
    KeyFile,
    Wrapping,
    load_key_file,
    local_wrapping,
)

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


async def open_sealer(pool: Pool, wrapping: Wrapping) -> Sealer:
    """Unwrap every data key; the first one is made here. StoreError: one does not belong to this wrapping key."""
    with store_errors("give its data keys"):
        rows = await pool.fetch("SELECT data_key_id, wrapped, wrapped_by FROM data_key")
        if not rows:
            await add_data_key(pool, wrapping)
            rows = await pool.fetch("SELECT data_key_id, wrapped, wrapped_by FROM data_key")
    keys = {}
    for number, wrapped, wrapped_by in rows:
        if wrapped_by != wrapping.name:
            raise StoreError(
                f"The secrets in this database are sealed under the wrapping key {wrapped_by}, and here is "
                f"{wrapping.name}; put the right one in its place."
            )
        keys[number] = await wrapping.unwrap(wrapped)
    return Sealer(keys)


async def wrapping_of(pool: Pool, state_directory: Path, key_file: Path | None) -> KeyFile:
    """The wrapping key in `key_file`, or of the state directory; a rotation that was cut short there is finished."""
    if key_file is not None:
        return load_key_file(key_file)
    fresh = state_directory / NEW_WRAPPING_FILE
    if fresh.exists():
        with store_errors("give its data keys"):
            name = await pool.fetchval("SELECT max(wrapped_by) FROM data_key")
        if load_key_file(fresh).name == name:
            with file_errors(fresh):
                fresh.replace(state_directory / WRAPPING_FILE)
                sync_directory(state_directory)
    return local_wrapping(state_directory)


async def rotate_wrapping(pool: Pool, state_directory: Path) -> int:
    """Wrap the data keys with a new key of the state directory; how many. Nothing that runs notices."""
    old = await wrapping_of(pool, state_directory, None)
    fresh = state_directory / NEW_WRAPPING_FILE
    with file_errors(fresh):
        fresh.unlink(missing_ok=True)
    new = local_wrapping(state_directory, NEW_WRAPPING_FILE)
    with store_errors("wrap its data keys anew"):
        async with pool.acquire() as connection, connection.transaction():
            count = await rewrap(connection, old, new)
            await audit.record(connection, "wrapping_key.rotated", new.name, facts={"data_keys": count})
    # A death here is mended by the next who opens (`wrapping_of`): the new key is on disk and named in the database.
    await wrapping_of(pool, state_directory, None)
    return count


async def add_data_key(pool: Pool, wrapping: Wrapping) -> None:
    """Make a data key; it seals from the next `open_sealer` on. Only one of two first ones at once is made."""
    wrapped = await wrapping.wrap(secrets.token_bytes(_KEY_BYTES))
    with store_errors("take a data key"):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE data_key IN SHARE ROW EXCLUSIVE MODE")
            await connection.execute(
                "INSERT INTO data_key (wrapped, wrapped_by) VALUES ($1, $2)", wrapped, wrapping.name
            )


async def rewrap(connection: Connection, old: Wrapping, new: Wrapping) -> int:
    """Wrap every data key with another wrapping key, in the caller's transaction; how many."""
    rows = await connection.fetch("SELECT data_key_id, wrapped, wrapped_by FROM data_key FOR UPDATE")
    for number, wrapped, wrapped_by in rows:
        if wrapped_by == new.name:
            continue
        again = await new.wrap(await old.unwrap(wrapped))
        await connection.execute(
            "UPDATE data_key SET wrapped = $2, wrapped_by = $3 WHERE data_key_id = $1", number, again, new.name
        )
    return len(rows)


def _aad(place: Place, version: int) -> bytes:
    return f"{place.table}|{place.row}|{place.column}|{version}".encode()
