"""Which state directory is taken, and that the user is told when it is not the usual one."""

from pathlib import Path

import pytest

from luntrex_proxy.settings import state
from luntrex_proxy.settings.errors import ConfigError
from luntrex_proxy.settings.model import State
from luntrex_proxy.settings.state import find_state_directory


@pytest.fixture(name="system")
def system_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for /var/lib/luntrex-proxy."""
    path = tmp_path / "var" / "luntrex-proxy"
    monkeypatch.setattr(state, "SYSTEM_DIRECTORY", path)
    return path


def test_configured(system: Path) -> None:
    """What the configuration says is taken, there or not."""
    found = find_state_directory(State(directory=Path("/srv/x")), {})
    assert (found.path, found.note, system.exists()) == (Path("/srv/x"), "", False)


def test_system_directory_when_it_exists_or_can_be_made(system: Path) -> None:
    """Nothing is created here."""
    system.parent.mkdir()
    assert find_state_directory(State(), {}).path == system
    assert not system.exists()
    system.mkdir()
    assert find_state_directory(State(), {}) == state.StateDirectory(system)


def test_users_own_when_the_system_s_cannot_be_written(system: Path) -> None:
    """$XDG_STATE_HOME, else ~/.local/state; with a sentence."""
    found = find_state_directory(State(), {"XDG_STATE_HOME": "/x/state", "HOME": "/home/u"})
    assert found.path == Path("/x/state/luntrex-proxy")
    assert found.note == f"State is kept in {found.path}, because this user cannot write {system}."
    assert find_state_directory(State(), {"HOME": "/home/u"}).path == Path("/home/u/.local/state/luntrex-proxy")
    assert find_state_directory(State(), {"XDG_STATE_HOME": "rel", "HOME": "/h"}).path == Path(
        "/h/.local/state/luntrex-proxy"
    )


def test_a_file_in_its_place_is_not_writable(system: Path) -> None:
    """Something that is no directory is passed over."""
    system.parent.mkdir()
    system.write_text("")
    assert find_state_directory(State(), {"HOME": "/h"}).note


def test_no_place_at_all(system: Path) -> None:
    """One sentence that says what to set."""
    with pytest.raises(ConfigError, match=r"Set state\.directory") as caught:
        find_state_directory(State(), {})
    assert str(system) in str(caught.value)
