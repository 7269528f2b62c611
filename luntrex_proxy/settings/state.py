"""Where the state directory is when the configuration does not say."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from luntrex_proxy.settings.errors import ConfigError
from luntrex_proxy.settings.model import State

SYSTEM_DIRECTORY = Path("/var/lib/luntrex-proxy")
_NAME = "luntrex-proxy"


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """The directory, and a sentence for the user when it is not the usual one ("" otherwise). Nothing is created."""

    path: Path
    note: str = ""


def find_state_directory(state: State, environ: Mapping[str, str] = os.environ) -> StateDirectory:
    """The configured directory, else the system's when this user can write it, else the user's own."""
    if state.directory is not None:
        return StateDirectory(state.directory)
    if _can_write(SYSTEM_DIRECTORY):
        return StateDirectory(SYSTEM_DIRECTORY)
    path = _user_directory(environ)
    return StateDirectory(path, f"State is kept in {path}, because this user cannot write {SYSTEM_DIRECTORY}.")


def _can_write(directory: Path) -> bool:
    # Looked up through its parent when it is not there yet.
    there = directory if os.path.lexists(directory) else directory.parent
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _user_directory(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_STATE_HOME", "")
    if base.startswith("/"):  # the XDG specification says to ignore relative ones
        return Path(base) / _NAME
    home = environ.get("HOME", "")
    if not home.startswith("/"):
        raise ConfigError(
            [
                f"There is no place for the state: {SYSTEM_DIRECTORY} cannot be written and neither XDG_STATE_HOME nor "
                "HOME is set. Set state.directory (LUNTREX_STATE__DIRECTORY)."
            ]
        )
    return Path(home) / ".local" / "state" / _NAME
