"""The pepper: 32 secret bytes outside the database, without which its lookup hashes are worthless. File and key."""

import asyncio
import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import bcrypt

from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.state import make_state_directory, open_private

PEPPER_BYTES: Final = 32
_FINGERPRINT_BYTES: Final = 16
_KDF_ROUNDS: Final = 64


@dataclass(frozen=True, slots=True)
class Lookup:
    """What makes lookup hashes: the key derived from pepper and installation, and the pepper's fingerprint."""

    key: bytes = field(repr=False)
    fingerprint: bytes


class _FreshPepper(bytes):
    """A pepper this process has just made, and where its file is."""

    path: Path


def load_pepper(state_directory: Path) -> bytes:
    """The pepper of the state directory, made at first use. A file not private or not whole raises StoreError."""
    make_state_directory(state_directory)
    path = state_directory / "pepper"
    try:
        is_fresh = not path.exists() and _create(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            status = os.fstat(descriptor)
            pepper = os.read(descriptor, PEPPER_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StoreError(
            f"The pepper file {path} cannot be read or made ({error.strerror}); "
            "run as the owner of the state directory."
        ) from None
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
        raise StoreError(f"The pepper file {path} can be read by others; if nobody did, run `chmod 600 {path}`.")
    check_pepper(pepper, f"The pepper file {path}")
    if not is_fresh:
        return pepper
    fresh = _FreshPepper(pepper)
    fresh.path = path
    return fresh


def check_pepper(pepper: bytes, what: str = "The pepper") -> None:
    """Refuse a pepper of the wrong length; the sentence starts with `what`."""
    if len(pepper) != PEPPER_BYTES:
        raise StoreError(
            f"{what} does not hold exactly {PEPPER_BYTES} bytes; restore the right one from a backup "
            "(keys made with it work with no other)."
        )


def _create(path: Path) -> bool:
    """All 32 bytes appear at once or not at all, and the first of two processes wins; whether that was this one."""
    fresh = path.with_name(f"pepper.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    descriptor = open_private(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        os.write(descriptor, secrets.token_bytes(PEPPER_BYTES))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        path.hardlink_to(fresh)
    except FileExistsError:
        return False
    finally:
        fresh.unlink()
    return True


def fingerprint(pepper: bytes) -> bytes:
    """Names a pepper without telling anything about it: a hash keyed by the pepper itself."""
    return hashlib.blake2b(b"luntrex-proxy pepper", key=pepper, digest_size=_FINGERPRINT_BYTES).digest()


async def open_lookup(pool: Pool, pepper: bytes) -> Lookup:
    """The lookup key (0.26 s in a thread); binds this installation to the pepper. Another pepper raises StoreError."""
    check_pepper(pepper)
    ours = fingerprint(pepper)
    with store_errors("say which pepper it belongs to"):
        await pool.execute("UPDATE installation SET pepper_fingerprint = $1 WHERE pepper_fingerprint IS NULL", ours)
        row = await pool.fetchrow("SELECT installation_id, pepper_fingerprint FROM installation")
    if row is None:
        raise StoreError("The table installation of the database is empty; restore it from a backup.")
    if not hmac.compare_digest(row["pepper_fingerprint"], ours):
        if isinstance(pepper, _FreshPepper):
            with contextlib.suppress(OSError):
                pepper.path.unlink()
            raise StoreError(
                f"The pepper file {pepper.path} is missing, and the keys in this database work with no other; "
                "restore it from a backup, or copy it from the state directory of the process that first used "
                "this database."
            )
        raise StoreError(
            "The keys in this database were made with another pepper; put the `pepper` file of the process that first "
            "used this database into the state directory."
        )
    key = await asyncio.to_thread(bcrypt.kdf, pepper, row["installation_id"].bytes, 32, _KDF_ROUNDS)
    return Lookup(key, ours)
