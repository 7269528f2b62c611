"""A data directory of the private PostgreSQL: its version, its server's address, and who still works in it."""

import contextlib
import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import Final
from urllib.parse import quote

from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.identity import hand_over
from luntrex_proxy.store.state import file_errors

_SOCKET_NAME: Final = ".s.PGSQL.5432"
_LONGEST_SOCKET_PATH: Final = 107
_ORPHAN_WAIT_S: Final = 30


def running_dsn(state_directory: Path) -> str | None:
    """The DSN of the server another process runs in this state directory, once it is ready.

    PostgreSQL's own `postmaster.pid` says where its socket is (5th line) and whether it is ready (8th).
    """
    lines = postmaster_file(state_directory.absolute() / "postgres")
    return dsn_of(Path(lines[4])) if lines[7:8] == ["ready"] else None


def has_data(state_directory: Path) -> bool:
    """Whether there is a database to start; what has none gets one at the first start. Raises StoreError."""
    with file_errors(state_directory):
        return (state_directory / "postgres" / "PG_VERSION").exists()


def postmaster_file(data: Path) -> list[str]:
    """The lines of PostgreSQL's `postmaster.pid`; none without a server. Raises StoreError."""
    try:
        return [line.strip() for line in (data / "postmaster.pid").read_text().splitlines()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(
            f"The database directory {data} cannot be read ({error.strerror}); "
            "run this command as the user the daemon runs as, or as root."
        ) from None


def dsn_of(socket_directory: Path) -> str:
    """How a server is reached whose socket is there."""
    return f"postgresql://luntrex@/postgres?host={quote(str(socket_directory), safe='')}"


def finish_swap(data: Path) -> None:
    """Complete an upgrade that was killed after it had put the old data aside: the new data waits beside, whole."""
    upgraded = data.with_name(f"{data.name}.upgraded")
    if not data.exists() and upgraded.exists():
        upgraded.rename(data)


def data_major(data: Path) -> int | None:
    """The major version of a data directory; None when there is none."""
    try:
        return int((data / "PG_VERSION").read_text().strip())
    except FileNotFoundError:
        if data.exists():
            raise StoreError(
                f"{data} exists but holds no PostgreSQL data; move it away or set another state.directory."
            ) from None
        return None
    except (OSError, ValueError):
        raise StoreError(f"{data} cannot be read; run as the owner of the state directory, or as root.") from None


def wait_for_orphans(data: Path) -> None:
    """Wait until no process of an earlier server works in `data` (each has it as its working directory)."""
    deadline = time.monotonic() + _ORPHAN_WAIT_S
    while pids := _processes_in(data):
        if time.monotonic() > deadline:
            raise StoreError(
                f"An earlier PostgreSQL (process {min(pids)}) still works in {data}; stop it, then start again."
            )
        time.sleep(0.02)


def _processes_in(data: Path) -> list[int]:
    wanted = str(data.resolve())
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            if str((process / "cwd").readlink()) == wanted:
                found.append(int(process.name))
    return found


def socket_directory_of(data: Path, identity: str) -> Path:
    """The data directory, or, when its path cannot be a socket address, a short private one made here."""
    # Clients split a host at its commas, also one that is a path.
    if len(os.fsencode(data)) + 1 + len(_SOCKET_NAME) <= _LONGEST_SOCKET_PATH and "," not in str(data):
        return data
    directory = short_socket_directory(data)
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    hand_over(directory, identity)
    status = directory.lstat()
    if status.st_mode != 0o40700 or status.st_uid != data.stat().st_uid:
        raise StoreError(
            f"{directory}, the place for the database socket, is not a private directory of ours; "
            "remove it, or set a state.directory with a shorter path."
        )
    return directory


def short_socket_directory(data: Path) -> Path:
    """Where the socket is when the path of the data is too long for it."""
    # The same name each time, so that a killed daemon leaves one empty directory at most.
    name = "luntrex-" + hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    return Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / name
