"""The keys outside the database that wrap its data keys: a file of this machine, or a systemd credential.

Wrapping.wrap / unwrap    one data key at a time; both may ask a service, so both await
"""

import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.state import file_errors, make_state_directory, open_private

WRAPPING_FILE: Final = "wrapping.key"
NEW_WRAPPING_FILE: Final = "wrapping.key.new"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_AAD: Final = b"luntrex data key, wrapped 1"


class UnwrapError(StoreError):
    """A data key cannot be unwrapped; the text is one sentence."""


class Wrapping(Protocol):
    """Something that holds a wrapping key."""

    @property
    def name(self) -> str:
        """Which key it is, without telling it; stored with what it wrapped."""

    async def wrap(self, data_key: bytes) -> bytes:
        """The data key, encrypted. Raises StoreError."""

    async def unwrap(self, wrapped: bytes) -> bytes:
        """The data key. Raises UnwrapError."""


class KeyFile:
    """A wrapping key of 32 bytes in a file."""

    def __init__(self, key: bytes, kind: str = "file") -> None:
        self._cipher = AESGCM(key)
        self.name = f"{kind}:{hashlib.blake2b(b'luntrex wrapping key', key=key, digest_size=8).hexdigest()}"

    async def wrap(self, data_key: bytes) -> bytes:
        """Encrypt a data key."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data_key, _AAD)

    async def unwrap(self, wrapped: bytes) -> bytes:
        """Decrypt a data key."""
        try:
            return self._cipher.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], _AAD)
        except (InvalidTag, ValueError):
            raise UnwrapError("A data key in the database was changed; restore the table data_key.") from None


def load_key_file(path: Path, kind: str = "file") -> KeyFile:
    """The wrapping key in a file. One that is not private or not whole raises StoreError."""
    with file_errors(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status, key = os.fstat(descriptor), os.read(descriptor, _KEY_BYTES + 1)
        finally:
            os.close(descriptor)
    if kind == "file" and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise StoreError(f"The wrapping key {path} can be read by others; if nobody did, run `chmod 600 {path}`.")
    if len(key) != _KEY_BYTES:
        raise StoreError(f"The wrapping key {path} does not hold exactly {_KEY_BYTES} bytes; restore it from a backup.")
    return KeyFile(key, kind)


def local_wrapping(state_directory: Path, name: str = WRAPPING_FILE) -> KeyFile:
    """The wrapping key of the state directory, made at first use."""
    make_state_directory(state_directory)
    path = state_directory / name
    with file_errors(path):
        try:
            descriptor = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return load_key_file(path)
        try:
            os.write(descriptor, secrets.token_bytes(_KEY_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return load_key_file(path)
