"""Numbers and paths that are none, for the verbs of the ledger and the database: one sentence, before any work."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from luntrex_proxy.cli import main

NUMBERS = ("", "nan", "inf", "-inf", "-1", "0", "1e999", "9" * 400, "x")
WRONG = [
    *(("ledger", "replay", "--wait", number) for number in NUMBERS),
    *(("usage", "--days", number) for number in NUMBERS),
    *(("usage", "--limit", number) for number in NUMBERS),
    *(("keys", "rotate", "abc", "--overlap-hours", number) for number in NUMBERS if number != "0"),
    ("db", "backup", ""),
    ("db", "backup", " "),
    ("db", "backup", "."),
    ("db", "backup", "/"),
    ("db", "restore", ""),
    ("db", "restore", "/tmp"),
    ("db", "upgrade", "--old-bin", ""),
    ("db", "upgrade", "--old-bin", "/dev/full"),
    ("ledger", "status", "--config", ""),
    ("limits", "set", "streams=1"),
    ("limits", "set", "--account", "a", "--key", "A" * 12, "streams=1"),
    ("limits", "set", "--account", "a", "--model", "", "streams=1"),
    ("limits", "set", "--account", "a"),
    *(("limits", "set", "--account", "a", f"requests/minute={number}") for number in NUMBERS),
    ("limits", "set", "--account", "a", "requests/second=1"),
    ("limits", "set", "--account", "a", "streams=1", "streams=2"),
    ("limits", "clear", "--account", "a", "cents/day"),
]


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory that nothing may be made in."""
    state = tmp_path / "state"
    monkeypatch.setenv("LUNTREX_STATE__DIRECTORY", str(state))
    return state


@pytest.mark.parametrize("words", WRONG, ids=lambda words: " ".join(words)[:60] or "empty")
def test_wrong_use(words: tuple[str, ...], nowhere: Path) -> None:
    """Exit status 2, a usage line and one sentence; no server was started for it."""
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2, done.output
    *_, sentence = done.output.strip().splitlines()
    assert sentence.startswith("Error: ")
    assert "unexpected" not in done.output
    assert not nowhere.exists()


@pytest.mark.parametrize("name", ["nowhere", "pipe", "/dev/full", "/dev/null", "n" * 300, "file/below"])
def test_a_backup_that_is_none(name: str, tmp_path: Path, nowhere: Path) -> None:
    """Exit status 1 and one sentence, at once, before a server is started."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(main, ("db", "restore", str(tmp_path / name)))
    assert (done.exit_code, len(done.output.splitlines())) == (1, 1), done.output
    assert "is no ordinary file" in done.output or "cannot be read" in done.output
    assert not nowhere.exists()
