"""A secret of 32 bytes in a file of the state directory (the pepper, audit.key): plain, or sealed.

plain     the bytes
sealed    one line of JSON: the bytes as a wrapping key encrypted them, which one did, and what the secret is known by

Sealed, a copy of the disk is worth nothing without the wrapping key, which lies in AWS KMS or in sealing.key_file.
"""

import os
import stat
from pathlib import Path
from typing import Final

import msgspec

from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.segments import sync_directory
from luntrex_proxy.store.state import open_private
from luntrex_proxy.store.wrapping import UnwrapError, Wrapped, Wrapping

SECRET_BYTES: Final = 32
_SEALED_BYTES_MAX: Final = 16_384


class Sealed(msgspec.Struct, frozen=True, tag_field="luntrex_sealed", tag=1):
    """What a sealed file says. Nothing in it is secret."""

    known_by: bytes  # the fingerprint of a pepper, the public half of a key
    by: str  # which wrapping key
    wrapped: bytes


def read_secret(path: Path, what: str) -> bytes | Sealed:
    """What is in the file, never through a link. StoreError, that begins with `what`: it is not private.

    What is no sealed secret comes as it is, of whatever length. OSError is the caller's.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        found = os.read(descriptor, _SEALED_BYTES_MAX)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
        raise StoreError(f"{what} can be read by others; if nobody did, run `chmod 600 {path}`.")
    try:
        return msgspec.json.decode(found, type=Sealed)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return found


async def sealed(secret: bytes, known_by: bytes, wrapping: Wrapping) -> bytes:
    """The content of a sealed file with this secret. May ask a service; StoreError."""
    wrapped = await wrapping.wrap(secret)
    return msgspec.json.encode(Sealed(known_by, wrapped.by, wrapped.data)) + b"\n"


async def unsealed(found: bytes | Sealed, what: str, wrapping: Wrapping | None) -> bytes:
    """The secret that was read, whichever way it lay there. StoreError, WrappingUnavailableError."""
    if not isinstance(found, Sealed):
        return found
    if wrapping is None:
        raise StoreError(f"{what} is sealed under {found.by}, and nothing here opens it.")
    try:
        return await wrapping.unwrap(Wrapped(found.wrapped, found.by))
    except UnwrapError:
        raise StoreError(
            f"{what} was changed, or is of another installation, so {found.by} does not open it; restore it from a "
            "backup."
        ) from None


def write_secret(path: Path, content: bytes) -> None:
    """Put a file where there is none, or in place of what is there; it is whole on disk on return. OSError."""
    path.unlink(missing_ok=True)
    descriptor = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_secret(path: Path, content: bytes) -> None:
    """The same, so that at any moment the old file or the new one is there. OSError."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    write_secret(fresh, content)
    fresh.replace(path)
    sync_directory(path.parent)
