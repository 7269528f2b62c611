"""What a `privacy-check` makes outside its own memory, written down before it is made so that others can remove it.

`privacy-check.lock` in the state directory is held by flock by the check and by the daemon it runs, so a check that was
killed has let go of it once that daemon has ended too. It is empty when nothing is left.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import Final

import msgspec

from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.everything import remove_traces
from luntrex_proxy.store.state import file_errors, open_private

FILE: Final = "privacy-check.lock"
DIRECTORY_PREFIX: Final = "lx-check-"
_WAIT_S: Final = 20.0  # for the daemon of a check that was killed
_BYTES_MAX: Final = 65_536
_ACCOUNT: Final = (
    "SELECT account_id FROM account"
    " WHERE name LIKE 'privacy-check-%' AND encode(sha256(convert_to(name, 'UTF8')), 'hex') = $1"
)


class Made(msgspec.Struct, frozen=True):
    """What one check makes."""

    account_hash: str  # SHA-256 of the account's name: the name itself is what the check must find elsewhere
    directory: str
    boot_ids: list[str] = []  # of its daemon's spool

    @classmethod
    def of(cls, account: str, directory: Path) -> "Made":
        """Before its daemon runs."""
        return cls(hashlib.sha256(account.encode()).hexdigest(), str(directory))

    async def remove(self, pool: Pool) -> bool:
        """Delete all of it that is there; whether its directory was. StoreError."""
        with store_errors("find what a check left"):
            account_id = await pool.fetchval(_ACCOUNT, self.account_hash)
        await remove_traces(pool, account_id, self.boot_ids)
        return await asyncio.to_thread(_delete, Path(self.directory))


class CheckJournal:
    """The file, locked."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor  # the check's daemon inherits it, and with it the lock

    @classmethod
    async def open(cls, state_directory: Path, wait_s: float = _WAIT_S) -> "CheckJournal":
        """Made when it is missing. RefusedError: a check runs."""
        deadline = time.monotonic() + wait_s
        with file_errors(state_directory / FILE):
            descriptor = open_private(state_directory / FILE, os.O_RDWR | os.O_CREAT)
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return cls(descriptor)
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise RefusedError("Another privacy-check of this installation runs; wait until it is over.")
            await asyncio.sleep(0.05)

    def note(self, made: Made) -> None:
        """From now on this is what there is to remove."""
        text = msgspec.json.encode(made)
        with file_errors(Path(FILE)):
            os.pwrite(self.descriptor, text, 0)  # over the shorter text before, so that one of both is always there
            os.ftruncate(self.descriptor, len(text))
            os.fsync(self.descriptor)

    def read(self) -> Made | None:
        """What a check has left; None: nothing."""
        with file_errors(Path(FILE)):
            text = os.pread(self.descriptor, _BYTES_MAX, 0)
        try:
            return msgspec.json.decode(text, type=Made) if text else None
        except msgspec.DecodeError:  # cut short before anything was made
            return None

    def clear(self) -> None:
        """Nothing is left."""
        with file_errors(Path(FILE)):
            os.ftruncate(self.descriptor, 0)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)

    async def remove_leftovers(self, pool: Pool, *, sees_all: bool = True) -> bool:
        """Remove what an earlier check has left; whether there was anything. StoreError.

        Who does not see all, because a service has a /tmp of its own, leaves a directory it cannot find to others.
        """
        made = self.read()
        if made is None:
            self.clear()
            return False
        if not (sees_all or made.account_hash or await asyncio.to_thread(Path(made.directory).exists)):
            return False  # what is in the tables is removed already
        if await made.remove(pool) or sees_all:
            self.clear()
        else:
            self.note(Made("", made.directory, []))
        return True


def has_leftovers(state_directory: Path) -> bool:
    """Whether a check that does not run any more has left something. Only looks. StoreError."""
    path = state_directory / FILE
    with file_errors(path):
        if not path.exists() or not path.stat().st_size:
            return False
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
    return True


async def remove_leftovers(pool: Pool, state_directory: Path) -> bool:
    """Remove what a killed check has left; whether there was anything. One that runs is let alone. StoreError."""
    if not has_leftovers(state_directory):
        return False
    try:
        journal = await CheckJournal.open(state_directory, 0)
    except RefusedError:
        return False
    try:
        return await journal.remove_leftovers(pool, sees_all=False)
    finally:
        journal.close()


def _delete(directory: Path) -> bool:
    """Whether it was there. One that no check has made is let alone, and nobody need look for it."""
    if not directory.name.startswith(DIRECTORY_PREFIX):
        return True
    with file_errors(directory):
        if not directory.exists():
            return False
        shutil.rmtree(directory)
    return True
