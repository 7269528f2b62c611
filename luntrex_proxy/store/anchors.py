"""Anchors of the audit chain: its head, signed with a key of this machine, written where the database's owner is not.

    audit.key        the private key (Ed25519), made at first use, sealed where AWS KMS wraps (sealedfile.py)
    anchors.jsonl    one signed head per line, the last one newest; copy it to another machine

An anchor proves what the chain was up to its entry. Whoever has both the database and the key can make a new chain and
sign it; he cannot change anchors that lie elsewhere.
"""

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.sealedfile import SECRET_BYTES, Sealed, read_secret, sealed, unsealed
from luntrex_proxy.store.state import create_whole, file_errors, make_state_directory, open_private

if TYPE_CHECKING:
    from luntrex_proxy.store.wrappings import Wrappings

KEY_FILE: Final = "audit.key"
ANCHOR_FILE: Final = "anchors.jsonl"
_LINE_BYTES_MAX: Final = 4_096


class Anchor(msgspec.Struct, frozen=True):
    """A signed head of the chain."""

    sequence: int
    hash: bytes
    at: datetime
    key: bytes  # public
    signature: bytes

    def as_text(self) -> dict[str, str | int]:
        """For a log line: whoever keeps the log keeps the anchor."""
        return {
            "sequence": self.sequence,
            "hash": self.hash.hex(),
            "signed_at": self.at.isoformat(),
            "public_key": self.key.hex(),
            "signature": self.signature.hex(),
        }

    def is_signed(self) -> bool:
        """Whether the signature is its key's."""
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(
                self.signature, _signed(self.sequence, self.hash, self.at)
            )
        except (InvalidSignature, ValueError):
            return False
        return True


class _AsText(msgspec.Struct):
    """What `Anchor.as_text` gives."""

    sequence: int
    hash: str
    signed_at: datetime
    public_key: str
    signature: str


class AnchorKey:
    """This machine's key for anchors."""

    def __init__(self, private: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(private)
        self.public = self._private.public_key().public_bytes_raw()

    @classmethod
    def load(cls, state_directory: Path) -> "AnchorKey":
        """The plain key of the state directory, made at first use. A file that is none raises StoreError."""
        make_state_directory(state_directory)
        path = state_directory / KEY_FILE
        if not path.exists():
            with file_errors(path):
                create_whole(path, Ed25519PrivateKey.generate().private_bytes_raw())
        private = _read(path)
        if isinstance(private, Sealed):
            raise StoreError(f"The file {path} is sealed under {private.by}, and nothing here opens it.")
        return cls(private)

    @classmethod
    async def open(cls, state_directory: Path, wrappings: "Wrappings") -> "AnchorKey":
        """The same, sealed or not; one that is made here is sealed where a service wraps. Also raises
        WrappingUnavailableError.
        """
        make_state_directory(state_directory)
        path = state_directory / KEY_FILE
        if not path.exists() and wrappings.is_remote:
            made = cls(Ed25519PrivateKey.generate().private_bytes_raw())
            content = await sealed(made._private.private_bytes_raw(), made.public, wrappings)
            with file_errors(path):
                create_whole(path, content)
        found = _read(path) if path.exists() else b""
        if not isinstance(found, Sealed):
            return cls.load(state_directory)
        private = await unsealed(found, f"The file {path}", wrappings)
        if len(private) != SECRET_BYTES or cls(private).public != found.known_by:
            raise _none(path)
        return cls(private)

    def sign(self, sequence: int, hashed: bytes, at: datetime) -> Anchor:
        """An anchor of this head."""
        return Anchor(sequence, hashed, at, self.public, self._private.sign(_signed(sequence, hashed, at)))


def own_public_key(state_directory: Path) -> bytes | None:
    """The public half of this machine's key, for which a sealed one need not be opened; None: there is none yet."""
    path = state_directory / KEY_FILE
    if not path.exists():
        return None
    found = _read(path)
    return found.known_by if isinstance(found, Sealed) else AnchorKey(found).public


def append_anchor(state_directory: Path, anchor: Anchor) -> None:
    """Add a line to the file of anchors; it is on disk on return."""
    path = state_directory / ANCHOR_FILE
    line = msgspec.json.encode(anchor) + b"\n"
    with file_errors(path):
        descriptor = open_private(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _drop_torn_line(descriptor)  # or this one would be the end of it, and no anchor either
            if os.write(descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _drop_torn_line(descriptor: int) -> None:
    """Cut off what a writer that died, or found the disk full, has left of its line."""
    end = os.fstat(descriptor).st_size
    begin = max(0, end - _LINE_BYTES_MAX)
    tail = os.pread(descriptor, end - begin, begin)
    if not tail.endswith(b"\n"):
        os.ftruncate(descriptor, begin + tail.rfind(b"\n") + 1)


def own_anchors(state_directory: Path, before: datetime) -> list[Anchor]:
    """The anchors that this machine signed before then with the key it has now; other lines are no reason to keep data.

    Reads and checks for seconds when there are many: not for the loop.
    """
    path = state_directory / ANCHOR_FILE
    if not path.exists():
        return []
    public = own_public_key(state_directory)
    found = (_anchor_of(line) for _, line in _lines(path))
    old = (anchor for anchor in found if anchor is not None and anchor.at < before)
    return [anchor for anchor in old if anchor.key == public and anchor.is_signed()]


def read_anchors(path: Path, public_keys: Sequence[bytes]) -> list[Anchor]:
    """The anchors in a file. RefusedError: a line is no anchor, is not signed, or by none of `public_keys`."""
    found = []
    for number, line in _lines(path):
        anchor = _anchor_of(line)
        if anchor is None:
            raise RefusedError(f"Line {number} of {path} is no anchor; take an unspoilt copy of the file.")
        if anchor.key not in public_keys:
            raise RefusedError(
                f"Line {number} of {path} is signed by the key {anchor.key.hex()}; give it with --key if you trust it."
            )
        if not anchor.is_signed():
            raise RefusedError(f"Line {number} of {path} was changed after it was signed.")
        found.append(anchor)
    return found


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The file's lines with their numbers, without a last one that its writer did not end."""
    with file_errors(path), path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n"):
                yield number, line


def _anchor_of(line: bytes) -> Anchor | None:
    """The anchor in a line of the file, or of a log (`Anchor.as_text` and whatever else stands there)."""
    try:
        return msgspec.json.decode(line, type=Anchor)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    try:
        text = msgspec.json.decode(line, type=_AsText)
        return Anchor(
            text.sequence, bytes.fromhex(text.hash), text.signed_at, bytes.fromhex(text.public_key),
            bytes.fromhex(text.signature),
        )  # fmt: skip
    except (msgspec.MsgspecError, ValueError):
        return None


def _read(path: Path) -> bytes | Sealed:
    with file_errors(path):
        found = read_secret(path, f"The file {path}")
    if not isinstance(found, Sealed) and len(found) != SECRET_BYTES:
        raise _none(path)
    return found


def _none(path: Path) -> StoreError:
    return StoreError(f"The file {path} is no key for anchors; remove it, and a new one is made.")


def _signed(sequence: int, hashed: bytes, at: datetime) -> bytes:
    return msgspec.json.encode(["luntrex audit head", sequence, hashed.hex(), at])
