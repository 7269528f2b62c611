"""A whole key where an id, a name or a number belongs: no verb says it again, in an error or as a result."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from luntrex_proxy.cli import VERBS, main
from luntrex_proxy.core.apikeys import RANDOM_BYTES, make_key
from luntrex_proxy.store.embedded import EmbeddedPostgres

KEY = make_key(bytes(range(RANDOM_BYTES)))[1].decode()
WORDS = (KEY, KEY[:-1] + "#", f" {KEY}\n", f"{KEY},{KEY}")  # also with typing errors
LONG_RUNNING = {"serve"}
FILES_MADE = {(("db", "backup"), "file")}  # it has the name that was given, and is called by it


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every verb that does something, and the words that lead to it."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        sub = command.get_command(context, name)
        assert sub is not None
        yield from leaves(sub, (*path, name))


def places() -> Iterator[tuple[tuple[str, ...], str]]:
    """Each verb with each place in which somebody can put a word."""
    for path, command in leaves(main):
        for parameter in command.params:
            place = path, parameter.name or ""
            if path[0] not in LONG_RUNNING and place not in FILES_MADE and not getattr(parameter, "is_flag", False):
                yield place


def line(command: click.Command, wanted: str, word: str) -> list[str]:
    """A command line with the word in the wanted place, and something in each other place that must not be empty."""
    options: list[str] = []
    arguments: list[str] = []
    for parameter in command.params:
        given = word if parameter.name == wanted else "x" if parameter.required else None
        if given is None:
            continue
        if isinstance(parameter, click.Argument):
            arguments.append(given)
        else:
            options += [parameter.opts[-1], given]
    return [*options, "--", *arguments]


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CliRunner, dict[str, str], Path]]:
    """The program in this process, on a database that an owner runs."""
    state = tmp_path_factory.mktemp("state")
    server = EmbeddedPostgres(state)
    server.start()
    environment = {"LUNTREX_STATE__DIRECTORY": str(state), "HOME": str(state), "LUNTREX_CONFIG": ""}
    try:
        runner = CliRunner()
        for verb in (["db", "migrate"], ["accounts", "create", "x"]):
            assert runner.invoke(main, verb, env=environment).exit_code == 0
        yield runner, environment, state
    finally:
        server.stop()


def test_every_verb_is_walked_through() -> None:
    """The verbs that take an id are among those that are tried."""
    found = set(places())
    assert {path[0] for path, _ in found} >= set(VERBS) - LONG_RUNNING - {"doctor"}
    for verb in ("limit", "suspend", "resume", "rotate", "revoke"):
        assert (("keys", verb), "key_id") in found


@pytest.mark.parametrize(
    ("path", "place"), list(places()), ids=lambda part: part if isinstance(part, str) else ".".join(part)
)
def test_a_whole_key_is_not_said_again(
    runner: tuple[CliRunner, dict[str, str], Path], path: tuple[str, ...], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the verb makes of it, the secret is not in what it prints."""
    run, environment, state = runner
    monkeypatch.chdir(state)
    command = dict(leaves(main))[path]
    for word in WORDS:
        done = run.invoke(main, [*path, *line(command, place, word)], env=environment, input="")
        assert "Traceback" not in done.output
        assert done.exception is None or isinstance(done.exception, SystemExit)
        for secret in (KEY[16:-6], KEY[16:-6].upper()):
            assert secret not in done.output, done.output
