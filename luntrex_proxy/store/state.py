"""The state directory itself: made private, owned by one process at a time. What lies inside is not known here."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from luntrex_proxy.store.errors import StateInUseError, StoreError

# A daemon keeps the directory as long as it runs; a command-line verb gives it back in a moment, so it is worth a wait.
Role = Literal["serve", "verb"]
_WAIT_FOR_VERB_S: Final = 30.0
_PRIVATE_FILE: Final = 0o600


def make_state_directory(directory: Path) -> list[Path]:
    """Create the directory when it is missing, and missing parents, all with mode 0700; those made here."""
    try:
        made = [place for place in (directory, *directory.parents) if not place.exists()]
        for place in reversed(made):
            place.mkdir(mode=0o700, exist_ok=True)
        directory.mkdir(mode=0o700, exist_ok=True)  # a file in its place raises
    except OSError as error:
        raise StoreError(
            f"The state directory {directory} cannot be created ({error.strerror}); "
            "create it or set state.directory to a place this user may write."
        ) from None
    return made


def make_private_directory(path: Path) -> None:
    """Create a 0700 directory inside the state directory when it is missing; the owner of its parent owns it."""
    path.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0 and not path.is_symlink():
        # As in open_private. Through a descriptor: the owner could put a link in its place meanwhile.
        owner = path.parent.stat()
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def file_errors(place: Path) -> Iterator[None]:
    """Turn an OSError into a StoreError that names the path, `place` when the error names none."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{error.filename or place} cannot be used ({error.strerror}); make sure that the owner of the state "
            "directory may write it and that no file or directory of another kind is in its place."
        ) from None


def open_private(path: Path, flags: int) -> int:
    """Open or create a 0600 file of the state directory, never through a link; the directory's owner owns it."""
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, _PRIVATE_FILE)
    if os.geteuid() == 0:
        # `sudo luntrex-proxy keys list` must not leave files behind that the service user cannot open.
        owner = path.parent.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def create_whole(path: Path, content: bytes) -> bool:
    """Make a 0600 file with all of its content or none; of two processes one does. False: there is one. OSError.

    Opened for writing at its own name, a death or a full disk would leave it empty, and a second process read it so.
    """
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    try:
        with os.fdopen(open_private(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(fresh)
    except FileExistsError:
        return False
    finally:
        fresh.unlink(missing_ok=True)
    return True


class StateLock:
    """`daemon.lock`: held by flock for as long as the owner lives, so a killed owner never blocks the next one.

    The file holds `<pid> <role>` for people and for the sentence of a second start.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "daemon.lock"
        self._descriptor: int | None = None

    def acquire(self, role: Role) -> None:
        """Become the owner. Waits for a command-line verb to finish; a running daemon raises StateInUseError."""
        try:
            descriptor = open_private(self._path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise StoreError(
                f"The lock file {self._path} cannot be opened ({error.strerror}); "
                "run as the owner of the state directory or set state.directory."
            ) from None
        try:
            self._wait_for_lock(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {role}\n".encode(), 0)
        self._descriptor = descriptor

    def _wait_for_lock(self, descriptor: int) -> None:
        deadline = time.monotonic() + _WAIT_FOR_VERB_S
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            pid, role = self._read_holder(descriptor)
            if role == "serve" or time.monotonic() > deadline:
                raise StateInUseError(
                    f"The state directory {self._path.parent} is in use by process {pid}; "
                    "stop that one first or give this one another state.directory."
                )
            time.sleep(0.02)

    @staticmethod
    def _read_holder(descriptor: int) -> tuple[str, str]:
        pid, _, role = os.pread(descriptor, 64, 0).decode("ascii", "replace").strip().partition(" ")
        return pid or "(starting)", role

    def release(self) -> None:
        """Stop being the owner; harmless when it is not."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None
