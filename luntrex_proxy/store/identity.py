"""Who the private PostgreSQL runs as, and how its programs are run as that user.

PostgreSQL refuses root. Where we are root it runs as the owner of the data, in a user namespace, or as nobody.
"""

import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Final

from luntrex_proxy.store.binaries import Binaries
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.launch import NO_NAMESPACE_STATUS

ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_LAUNCH: Final = Path(__file__).with_name("launch.py")
_NOBODY: Final = 65534
_PROBE_WAIT_S: Final = 30


def launched(identity: str, program: Path, *arguments: str) -> list[str]:
    """The command that becomes the identity and then the program, and ends when this process does."""
    return [sys.executable, "-I", "-S", str(_LAUNCH), identity, str(os.getpid()), str(program), *arguments]


def run(command: list[str], wait_s: float) -> subprocess.CompletedProcess[bytes]:
    """Run a program of PostgreSQL to its end."""
    return subprocess.run(  # noqa: S603 -- our own launcher, no outside input
        command, capture_output=True, stdin=subprocess.DEVNULL, cwd="/", env=ENVIRONMENT, timeout=wait_s, check=False
    )


def choose_identity(state: Path, data: Path, binaries: Binaries, made: list[Path]) -> str:
    """Who the server runs as, in `launch.py`'s words. Raises StoreError when that user could not reach its files.

    `made`: the directories on the way to the state that this start has made.
    """
    if os.geteuid() != 0:
        return "self"
    owner = (data if data.exists() else state).stat()
    if owner.st_uid not in (0, _NOBODY):
        # root borrows the directory of a service user: the server stays that user's, so that its next start works.
        identity, uid = f"{owner.st_uid}:{owner.st_gid}", owner.st_uid
    elif _namespaces_work(binaries):
        identity, uid = "userns", 0
    else:
        nobody = _nobody()
        identity, uid = f"{nobody[0]}:{nobody[1]}", nobody[0]
        # A 0700 directory of root would be closed to it; x alone lets it pass, not look.
        for place in {state, *made}:
            place.chmod(place.stat().st_mode & 0o777 | 0o011)
    for needed in (state, binaries.directory):
        closed = _first_closed(needed, uid)
        if closed is not None:
            raise StoreError(
                f"PostgreSQL may not run as root, and the user it would run as cannot pass {closed}; "
                f"run luntrex-proxy as an ordinary user, or let others pass that directory, or move {needed} elsewhere."
            )
    return identity


def _namespaces_work(binaries: Binaries) -> bool:
    """Whether this root may make a user namespace (containers often forbid it)."""
    status = run(launched("userns", binaries.directory / "postgres", "-V"), _PROBE_WAIT_S).returncode
    return status != NO_NAMESPACE_STATUS


def _nobody() -> tuple[int, int]:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return _NOBODY, _NOBODY
    return entry.pw_uid, entry.pw_gid


def _first_closed(path: Path, uid: int) -> Path | None:
    """The first directory on the way to `path` that `uid`, without root's rights, cannot pass."""
    for directory in reversed([path, *path.parents]):
        status = directory.stat()
        if not status.st_mode & (0o100 if status.st_uid == uid else 0o001):
            return directory
    return None


def hand_over(directory: Path, identity: str) -> None:
    """Make everything in `directory` the property of the identity, when root changes it."""
    if identity == "self":
        return
    uid, gid = (0, 0) if identity == "userns" else (int(part) for part in identity.split(":"))
    if directory.stat().st_uid == uid:
        return
    for inside in directory.rglob("*"):
        os.lchown(inside, uid, gid)
    os.lchown(directory, uid, gid)
