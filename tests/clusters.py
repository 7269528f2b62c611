"""Made PostgreSQL data directories, copied: initdb takes seconds of a core, and tests do not test it.

They lie in memory where there is room: to make a test's database is to make six hundred files, which took 0.26 s of a
core on a disk and takes 0.04 s there. They work without fsync: no test cuts the power of the machine, and what a killed
server wrote the kernel keeps.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from luntrex_proxy.store import embedded

PLACE = "LUNTREX_TEST_CLUSTERS"
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 * 1024**3  # a worker's server takes some hundred MiB
_SETTINGS = "fsync = off\nfull_page_writes = off\n"
_run = embedded.run


def make_place() -> str:
    """Where the servers of one run of tests live; whoever makes it removes it."""
    has_room = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES
    return tempfile.mkdtemp(prefix="lx-", dir=_MEMORY if has_room else None)


def copy_clusters() -> None:
    """From now on this process copies a made cluster wherever it would run initdb. Call it as often as you like."""
    embedded.run = _copy_instead


def _copy_instead(command: list[str], wait_s: float) -> subprocess.CompletedProcess[bytes]:
    at = next((at for at, word in enumerate(command) if word.endswith("/initdb")), None)
    if at is None or PLACE not in os.environ:  # no initdb, or no test: a script of tests/long
        return _run(command, wait_s)
    target = Path(command[at + 2])  # after -D
    made = _made(command, at, target, wait_s)
    return subprocess.run(["cp", "-a", "--reflink=auto", f"{made}/.", str(target)], capture_output=True, check=False)


def _made(command: list[str], at: int, target: Path, wait_s: float) -> Path:
    """The cluster that this initdb makes; made once in a run, by whoever comes first."""
    owner = target.stat().st_uid
    made = Path(os.environ[PLACE]) / f"{Path(command[at]).parent.as_posix().strip('/').replace('/', '-')}-{owner}"
    if not made.exists():
        fresh = Path(tempfile.mkdtemp(dir=made.parent))
        os.chown(fresh, owner, target.stat().st_gid)
        made.parent.chmod(0o711)  # that owner has to get in
        done = _run([*command[: at + 2], str(fresh), *command[at + 3 :], "--no-sync"], wait_s)
        assert done.returncode == 0, done.stderr
        with (fresh / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS)
        with contextlib.suppress(OSError):  # another worker was quicker
            fresh.rename(made)
    return made
