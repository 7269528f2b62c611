"""The keys outside the database that wrap its data keys: what each can do, and those in a file or systemd credential.

Wrapping.wrap / unwrap    one data key at a time; both may ask a service (kms.py), so both await
"""

import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from luntrex_proxy.store.errors import StoreError, StoreUnavailableError
from luntrex_proxy.store.state import create_whole, file_errors, make_state_directory

WRAPPING_FILE: Final = "wrapping.key"
NEW_WRAPPING_FILE: Final = "wrapping.key.new"
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_AAD: Final = b"luntrex data key, wrapped 1"


class UnwrapError(StoreError):
    """A data key cannot be unwrapped; the text is one sentence."""


class WrappingUnavailableError(StoreUnavailableError):
    """Whoever keeps the wrapping key does not answer now; the same call may work later."""


class Wrapped(NamedTuple):
    """A data key as it is stored: encrypted, and by which wrapping key, which the name does not tell."""

    data: bytes
    by: str


class Wrapping(Protocol):
    """Something that holds wrapping keys."""

    async def wrap(self, data_key: bytes) -> Wrapped:
        """The data key, encrypted. Raises StoreError."""

    async def unwrap(self, wrapped: Wrapped) -> bytes:
        """The data key. Raises UnwrapError, or WrappingUnavailableError."""


class KeyFile:
    """A wrapping key of 32 bytes in a file."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self.name = f"file:{hashlib.blake2b(b'luntrex wrapping key', key=key, digest_size=8).hexdigest()}"

    async def wrap(self, data_key: bytes) -> Wrapped:
        """Encrypt a data key."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return Wrapped(nonce + self._cipher.encrypt(nonce, data_key, _AAD), self.name)

    async def unwrap(self, wrapped: Wrapped) -> bytes:
        """Decrypt a data key."""
        if wrapped.by != self.name:
            raise StoreError(
                f"The secrets in this database are sealed under the wrapping key {wrapped.by}, and here is "
                f"{self.name}; put the right one in its place."
            )
        try:
            return self._cipher.decrypt(wrapped.data[:_NONCE_BYTES], wrapped.data[_NONCE_BYTES:], _AAD)
        except (InvalidTag, ValueError):
            raise UnwrapError("A data key in the database was changed; restore the table data_key.") from None


def load_key_file(path: Path) -> KeyFile:
    """The wrapping key in a file. One that is not private or not whole raises StoreError."""
    with file_errors(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status, key = os.fstat(descriptor), os.read(descriptor, _KEY_BYTES + 1)
        finally:
            os.close(descriptor)
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise StoreError(f"The wrapping key {path} can be read by others; if nobody did, run `chmod 600 {path}`.")
    if len(key) != _KEY_BYTES:
        raise StoreError(f"The wrapping key {path} does not hold exactly {_KEY_BYTES} bytes; restore it from a backup.")
    return KeyFile(key)


def local_wrapping(state_directory: Path, name: str = WRAPPING_FILE) -> KeyFile:
    """The wrapping key of the state directory, made at first use."""
    make_state_directory(state_directory)
    path = state_directory / name
    with file_errors(path):
        if not path.exists():
            create_whole(path, secrets.token_bytes(_KEY_BYTES))
    return load_key_file(path)
