"""What a process reached outside this machine, compared with what its configuration says it may. No tests here."""

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.clusters import PLACE
from tests.spying import sitecustomize

HERE = Path(sitecustomize.__file__).parent
noted: list[str] = []  # by this process


def taken() -> list[str]:
    """What this process and its children without a file of their own reached since the last call."""
    found, noted[:] = list(noted), []
    path = children_file()
    if path.exists():
        found += notes_in(path)
        path.unlink()
    return found


def children_file() -> Path:
    """Where children of this process write, unless they have a file of their own."""
    return Path(os.environ.get(PLACE, tempfile.gettempdir())) / f"spy-{os.getpid()}"


def spied(environment: dict[str, str], path: Path | None = None) -> dict[str, str]:
    """An environment in which Python notes what it reaches."""
    search = os.pathsep.join((str(HERE), environment["PYTHONPATH"]))
    return environment | {"PYTHONPATH": search, sitecustomize.FILE: str(path or children_file())}


def notes_in(path: Path) -> list[str]:
    """What processes wrote down."""
    return path.read_text().splitlines() if path.exists() else []


def unexpected(notes: Iterable[str], destinations: Iterable[Mapping[str, Any]] = ()) -> list[str]:
    """Those of the notes that no destination (as `config check --egress --json` prints them) covers."""
    places = [urlsplit(f"//{one['place']}") for one in destinations if " " not in one["place"]]
    allowed = {f"lookup {place.hostname}" for place in places}
    allowed |= {f"connect {place.hostname} {place.port}" for place in places}
    return [note for note in notes if note.lower() not in allowed]


def destinations_of(printed: str) -> list[dict[str, Any]]:
    """The list from the command's output."""
    found: list[dict[str, Any]] = json.loads(printed)
    return found
