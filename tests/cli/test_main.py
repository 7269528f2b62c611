"""The command itself: quick help, verbs imported when used, failures as sentences with the right exit status."""

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from luntrex_proxy import cli
from luntrex_proxy.cli import VERBS, LazyGroup, main
from luntrex_proxy.core.listening import ListenError
from luntrex_proxy.settings.errors import ConfigError
from luntrex_proxy.store.errors import RefusedError

CANARY = "sk-canary-7f3a9c51d2e84b60"


def failing(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a verb in place of all others that fails like this."""

    @click.command()
    def verb() -> None:
        raise error

    monkeypatch.setattr(LazyGroup, "get_command", lambda *_: verb)
    monkeypatch.delenv(cli.DEBUG_VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ConfigError(["F:1:1: a: is wrong", "F:2:1: b: is wrong"]), 2, "F:1:1: a: is wrong\nF:2:1: b: is wrong\n"),
        (RefusedError("There is no such account."), 1, "There is no such account.\n"),
        (ListenError("Cannot listen on x:80."), 1, "Cannot listen on x:80.\n"),
        (
            ValueError(f"bad {CANARY}"),
            1,
            "luntrex-proxy failed with an unexpected ValueError. LUNTREX_DEBUG=1 shows where.\n",
        ),
        (click.UsageError("no"), 2, "Usage: main verb [OPTIONS]\nTry 'main verb --help' for help.\n\nError: no\n"),
    ],
)
def test_failures(error: Exception, status: int, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configuration 2, refusals 1, bugs 1 without their text."""
    failing(error, monkeypatch)
    result = CliRunner().invoke(main, ["verb"])
    assert (result.exit_code, result.stderr, result.stdout) == (status, text, "")


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a developer who asks for it sees the exception."""
    failing(ValueError("here"), monkeypatch)
    monkeypatch.setenv(cli.DEBUG_VARIABLE, "1")
    assert isinstance(CliRunner().invoke(main, ["verb"]).exception, ValueError)


def test_help_imports_nothing_heavy() -> None:
    """`--help` answers without pydantic, asyncpg, aiohttp or rich."""
    code = (
        "import sys\n"
        "from luntrex_proxy.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print([m for m in ('pydantic', 'asyncpg', 'aiohttp', 'rich', 'genai_prices', 'yaml') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(f"\n  {verb} " in done.stdout for verb in VERBS)


def test_version_and_unknown_verb() -> None:
    """The usual courtesies."""
    assert CliRunner().invoke(main, ["--version"]).stdout == f"luntrex-proxy, version {cli.__version__}\n"
    unknown = CliRunner().invoke(main, ["confg"])
    assert (unknown.exit_code, "No such command 'confg'" in unknown.stderr) == (2, True)


def _leaves(command: click.Command) -> Iterator[click.Command]:
    if not isinstance(command, click.Group):
        yield command
        return
    for sub in command.commands.values():
        yield from _leaves(sub)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_there(verb: str) -> None:
    """Each verb of the list can be imported and explains itself; `--config` may stand behind it or its sub-verbs."""
    command = main.get_command(click.Context(main), verb)
    assert command is not None
    assert CliRunner().invoke(main, [verb, "--help"]).exit_code == 0
    leaves = list(_leaves(command))
    assert all(
        "--config" in parameter.opts for leaf in leaves for parameter in leaf.params if parameter.name == "config"
    )
    assert all(any(parameter.name == "config" for parameter in leaf.params) for leaf in leaves)
