"""The pepper: 32 secret bytes outside the database, without which its lookup hashes are worthless. Files and keys.

pepper        the present one
pepper.old    while a rotation is under way: the one before (rotation.py)
pepper.new    for a moment of a rotation; whoever opens the lookup next puts it in its place

Each is a plain file, or sealed by a wrapping key (sealedfile.py): made so where AWS KMS wraps, or by `secrets seal`.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import bcrypt

from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.sealedfile import (
    SECRET_BYTES,
    Sealed,
    read_secret,
    sealed,
    unsealed,
)
from luntrex_proxy.store.segments import sync_directory
from luntrex_proxy.store.state import create_whole, make_state_directory

if TYPE_CHECKING:
    from luntrex_proxy.store.wrappings import Wrappings

PEPPER_BYTES: Final = SECRET_BYTES
PRESENT: Final = "pepper"
OLD: Final = "pepper.old"
NEW: Final = "pepper.new"
_FINGERPRINT_BYTES: Final = 16
_KDF_ROUNDS: Final = 64
_MISSING_PEPPER: Final = (
    "The pepper file {path} is missing, and the keys in this database work with no other; restore it from a backup, or "
    "copy it from the state directory of the process that first used this database. If it is lost for good, run "
    "`luntrex-proxy secrets rotate pepper --lost`."
)
_ANOTHER_PEPPER: Final = (
    "The keys in this database were made with another pepper; put the `pepper` file of the process that first used "
    "this database into the state directory. If it is lost for good, run `luntrex-proxy secrets rotate pepper --lost`."
)


@dataclass(frozen=True, slots=True)
class Lookup:
    """What makes lookup hashes: the key derived from pepper and installation, and the pepper's fingerprint."""

    key: bytes = field(repr=False)
    fingerprint: bytes
    old: "Lookup | None" = None  # that of the pepper before, while a rotation is under way
    is_present: bool = True  # False: the installation has a newer pepper, which this machine was not given yet


class _FreshPepper(bytes):
    """A pepper this process has just made, and where its file is."""

    path: Path

    @classmethod
    def at(cls, path: Path, pepper: bytes) -> "_FreshPepper":
        """This one, there."""
        fresh = cls(pepper)
        fresh.path = path
        return fresh


def load_pepper(state_directory: Path) -> bytes:
    """The plain pepper of the state directory, made at first use. A file not private or not whole raises StoreError."""
    path = _place(state_directory)
    with _file_errors(path):
        is_fresh = not path.exists() and create_whole(path, new_pepper())
    pepper = read_pepper(path)
    return _FreshPepper.at(path, pepper) if is_fresh else pepper


async def _open_present(state_directory: Path, wrappings: "Wrappings | None") -> bytes:
    """The same, sealed or not; one that is made here is sealed where a service wraps."""
    path = _place(state_directory)
    if not path.exists() and wrappings is not None and wrappings.is_remote:
        pepper = new_pepper()
        content = await sealed(pepper, fingerprint(pepper), wrappings)
        with _file_errors(path):
            if create_whole(path, content):
                return _FreshPepper.at(path, pepper)
    return await opened(path, wrappings) if path.exists() else load_pepper(state_directory)


def read_pepper(path: Path) -> bytes:
    """The plain pepper in a file. One that is sealed, not private or not whole raises StoreError."""
    found = _found(path)
    if isinstance(found, Sealed):
        raise StoreError(f"The pepper file {path} is sealed under {found.by}, and nothing here opens it.")
    return found


async def opened(path: Path, wrappings: "Wrappings | None") -> bytes:
    """The pepper in a file, sealed or not. StoreError, WrappingUnavailableError."""
    found = _found(path)
    pepper = await unsealed(found, f"The pepper file {path}", wrappings)
    check_pepper(pepper, f"The pepper file {path}")
    if isinstance(found, Sealed) and fingerprint(pepper) != found.known_by:
        raise StoreError(f"The pepper file {path} is sealed and was changed; restore it from a backup.")
    return pepper


def fingerprint_in(path: Path) -> bytes:
    """That of the pepper in a file, for which a sealed one need not be opened. StoreError as above."""
    found = _found(path)
    return found.known_by if isinstance(found, Sealed) else fingerprint(found)


def is_pepper(path: Path) -> bool:
    """Whether there is a file, and a pepper in it. One that cannot be read or is not private raises StoreError."""
    if not path.exists():
        return False
    found = _read(path)
    return isinstance(found, Sealed) or len(found) == PEPPER_BYTES


def is_sealed(path: Path) -> bool:
    """Whether there is a pepper file, and it is sealed."""
    return path.exists() and isinstance(_found(path), Sealed)


def _found(path: Path) -> bytes | Sealed:
    found = _read(path)
    if not isinstance(found, Sealed):
        check_pepper(found, f"The pepper file {path}")
    return found


def _read(path: Path) -> bytes | Sealed:
    with _file_errors(path):
        return read_secret(path, f"The pepper file {path}")


def _place(state_directory: Path) -> Path:
    make_state_directory(state_directory)
    return state_directory / PRESENT


@contextlib.contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"The pepper file {path} cannot be read or made ({error.strerror}); "
            "run as the owner of the state directory."
        ) from None


def check_pepper(pepper: bytes, what: str = "The pepper") -> None:
    """Refuse a pepper of the wrong length; the sentence starts with `what`."""
    if len(pepper) != PEPPER_BYTES:
        raise StoreError(
            f"{what} does not hold exactly {PEPPER_BYTES} bytes; restore the right one from a backup "
            "(keys made with it work with no other)."
        )


def new_pepper() -> bytes:
    """Nobody has had it before."""
    return secrets.token_bytes(PEPPER_BYTES)


def fingerprint(pepper: bytes) -> bytes:
    """Names a pepper without telling anything about it: a hash keyed by the pepper itself."""
    return hashlib.blake2b(b"luntrex-proxy pepper", key=pepper, digest_size=_FINGERPRINT_BYTES).digest()


async def lookup_of(pool: Pool, state_directory: Path, wrappings: "Wrappings | None" = None) -> Lookup:
    """The lookup keys of the state directory's pepper files; a swap of them that was cut short is finished first.

    Without `wrappings` a sealed one does not open.
    """
    present, _ = await stored_fingerprints(pool)
    if present is not None:
        swap(state_directory, present)
    pepper, old = await _open_present(state_directory, wrappings), state_directory / OLD
    return await open_lookup(pool, pepper, await opened(old, wrappings) if old.exists() else None)


async def is_present_here(pool: Pool, state_directory: Path) -> bool:
    """Whether the pepper files fit the database, False: by the pepper before. None that fits raises StoreError.

    Only looks: unlike `lookup_of` it makes no file, moves none and binds no database to one.
    """
    present, before = await stored_fingerprints(pool)
    path = state_directory / PRESENT
    with _file_errors(path):
        # A swap that was cut short has left the present one in `pepper.new`; the next start goes on with it.
        here = [fingerprint_in(each) for each in (state_directory / NEW, path) if each.exists()]
    if present not in here and before not in here:
        raise StoreError(_ANOTHER_PEPPER if path.exists() else _MISSING_PEPPER.format(path=path))
    return present in here


def swap(state_directory: Path, wanted: bytes) -> None:
    """Let the new pepper be the present one, if its fingerprint is `wanted`, and the present one the old one.

    Cut short at any step, doing it again is right; of several who do it at once one does.
    """
    present, old, new = (state_directory / name for name in (PRESENT, OLD, NEW))
    if not new.exists():
        return
    with _file_errors(present), alone_with_files(state_directory):
        if not new.exists() or fingerprint_in(new) != wanted:
            return
        if present.exists():
            kept = state_directory / f"{OLD}.new"
            kept.unlink(missing_ok=True)
            kept.hardlink_to(present)
            kept.replace(old)
            kept.unlink(missing_ok=True)  # it stays when it is the same file already
        new.replace(present)
        sync_directory(state_directory)


@contextlib.contextmanager
def alone_with_files(state_directory: Path) -> Iterator[None]:
    """Nobody else moves or replaces pepper files meanwhile."""
    descriptor = os.open(state_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


async def stored_fingerprints(pool: Pool) -> tuple[bytes | None, bytes | None]:
    """Those of the peppers the database belongs to: the present one and, in a rotation, the one before."""
    with store_errors("say which pepper it belongs to"):
        row = await pool.fetchrow("SELECT pepper_fingerprint, old_pepper_fingerprint FROM installation")
    if row is None:
        raise StoreError("The table installation of the database is empty; restore it from a backup.")
    return row[0], row[1]


async def open_lookup(pool: Pool, pepper: bytes, old: bytes | None = None) -> Lookup:
    """The lookup key (0.26 s in a thread); binds this installation to the pepper. Another pepper raises StoreError.

    `old` is the pepper before it; it counts only while the database says so.
    """
    check_pepper(pepper)
    ours = fingerprint(pepper)
    with store_errors("say which pepper it belongs to"):
        await pool.execute("UPDATE installation SET pepper_fingerprint = $1 WHERE pepper_fingerprint IS NULL", ours)
        installation_id = await pool.fetchval("SELECT installation_id FROM installation")
    present, before = await stored_fingerprints(pool)
    if ours not in (present, before):
        if isinstance(pepper, _FreshPepper):
            with contextlib.suppress(OSError):
                pepper.path.unlink()
            raise StoreError(_MISSING_PEPPER.format(path=pepper.path))
        raise StoreError(_ANOTHER_PEPPER)
    key = await asyncio.to_thread(bcrypt.kdf, pepper, installation_id.bytes, 32, _KDF_ROUNDS)
    if ours != present or old is None or before is None or fingerprint(old) != before:
        return Lookup(key, ours, is_present=ours == present)
    old_key = await asyncio.to_thread(bcrypt.kdf, old, installation_id.bytes, 32, _KDF_ROUNDS)
    return Lookup(key, ours, Lookup(old_key, before))
