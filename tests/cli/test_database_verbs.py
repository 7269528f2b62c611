"""`accounts`, `keys` and `db` as a user runs them: without a daemon, beside one, and wrongly."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from luntrex_proxy.core.apikeys import parse
from luntrex_proxy.store.embedded import EmbeddedPostgres


class Program:
    """The command line on one state directory."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(state), "LUNTREX_STATE__DIRECTORY": str(state)}

    def run(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a verb; the exit status must be as said."""
        done = subprocess.run(
            [sys.executable, "-m", "luntrex_proxy", *arguments], env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def json(self, *arguments: str) -> object:
        """What a verb prints with --json."""
        return json.loads(self.run(*arguments, "--json").stdout)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The program with an embedded server that an owner (this process) runs."""
    state = tmp_path_factory.mktemp("state")
    server = EmbeddedPostgres(state)
    server.start()
    try:
        program = Program(state)
        program.run("db", "migrate")
        yield program
    finally:
        server.stop()


def test_first_use_without_a_daemon(tmp_path: Path) -> None:
    """On an empty machine the verbs start the server, make the tables and leave no server behind."""
    alone = Program(tmp_path / "state")
    account = alone.json("accounts", "create", "acme")
    assert isinstance(account, dict)
    assert (account["name"], account["status"]) == ("acme", "active")
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "luntrex_proxy", "keys", "create", "--account", "acme", "--name", name, "--json"],
            env=alone.environment,
            stdout=subprocess.PIPE,
        )
        for name in ("one", "two")
    ]
    made = [json.loads(process.communicate()[0]) for process in both]
    listed = alone.json("keys", "list")
    assert isinstance(listed, list)
    assert {key["id"] for key in listed} == {key["id"] for key in made}
    assert not (alone.state / "postgres" / "postmaster.pid").exists()


def test_key_is_printed_once_to_stdout(program: Program) -> None:
    """`keys create --json` prints an object with id and key on stdout; the key is not on stderr nor listed later."""
    program.run("accounts", "create", "once")
    done = program.run("keys", "create", "--account", "once", "--name", "main", "--json")
    made = json.loads(done.stdout)
    assert parse(made["key"].encode()) == made["id"]
    assert (made["account"], made["name"], made["expires_at"]) == ("once", "main", None)
    secret = made["key"][16:59]
    assert done.stdout.count(secret) == 1
    assert secret not in done.stderr
    assert "only time" in done.stderr
    assert secret not in program.run("keys", "list", "--json").stdout + program.run("keys", "list").stdout


def test_lines_to_paste(program: Program) -> None:
    """Without --json there are lines for each client, with the key and the gateway's URL in them."""
    program.run("accounts", "create", "paste")
    printed = program.run("keys", "create", "--account", "paste", "--name", "main").stdout
    key = printed.partition("key: ")[2].partition("\n")[0]
    assert parse(key.encode())
    for line in (
        f"OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_BASE=http://127.0.0.1:8080/v1 OPENAI_API_KEY={key}",
        f"ANTHROPIC_BASE_URL=http://127.0.0.1:8080 ANTHROPIC_API_KEY={key}",
        f"ANTHROPIC_AUTH_TOKEN={key} claude",
        'base_url="http://127.0.0.1:8080/v1",env_key="LUNTREX_API_KEY",wire_api="responses"',
        f"curl -N http://127.0.0.1:8080/v1/chat/completions \\\n  -H 'Authorization: Bearer {key}'",
        f'ChatOpenAI(base_url="http://127.0.0.1:8080/v1", api_key="{key}"',
    ):
        assert line in printed
    other = program.run(
        "keys", "create", "--account", "paste", "--name", "b", "--base-url", "https://llm.example/v1/"
    ).stdout
    assert "ANTHROPIC_BASE_URL=https://llm.example ANTHROPIC" in other
    assert "OPENAI_BASE_URL=https://llm.example/v1 " in other


def test_life_of_a_key(program: Program) -> None:
    """Create, rotate, revoke, suspend and resume beside a running owner."""
    program.run("accounts", "create", "life")
    made = program.json("keys", "create", "--account", "life", "--name", "main", "--expires", "2040-01-02")
    assert isinstance(made, dict)
    assert made["expires_at"] == "2040-01-02T00:00:00Z"
    new = program.json("keys", "rotate", made["id"], "--overlap-hours", "1")
    assert isinstance(new, dict)
    assert new["rotated_from"] == made["id"]
    assert "is revoked" in program.run("keys", "revoke", made["id"]).stdout
    program.run("accounts", "suspend", "life")
    stopped = program.run("keys", "create", "--account", "life", "--name", "late", status=1)
    assert "`luntrex-proxy accounts resume life`" in stopped.stderr
    listed = program.json("keys", "list", "--account", "life")
    assert isinstance(listed, list)
    assert {key["id"]: key["state"] for key in listed} == {made["id"]: "revoked", new["id"]: "account suspended"}
    assert "active" in program.run("accounts", "resume", "life").stdout
    late = program.run("keys", "create", "--account", "life", "--name", "late", "--expires", "2020-01-01", status=1)
    assert (late.stdout, "cannot end in the past" in late.stderr) == ("", True)
    accounts = program.json("accounts", "list")
    assert isinstance(accounts, list)
    assert ("life", "active") in {(account["name"], account["status"]) for account in accounts}


def test_tables_are_plain_text(program: Program) -> None:
    """Into a pipe: whole lines, no colour, all columns."""
    program.run("accounts", "create", "plain")
    printed = program.run("accounts", "list").stdout
    assert "\x1b" not in printed
    assert printed.split()[:4] == ["ID", "NAME", "STATUS", "CREATED"]
    assert "0001_pre_first_tables" in program.run("db", "status").stdout


def test_db_status_and_migrate(program: Program) -> None:
    """The state of the schema, as JSON; migrating again does nothing."""
    state = program.json("db", "status")
    assert isinstance(state, dict)
    assert state["applied"][0] == "0001_pre_first_tables"
    assert state["ahead"] == []
    assert program.json("db", "migrate") == {"applied": [], "ahead": []}


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("accounts", "create", "a b"), 1, "An account name is"),
        (("accounts", "suspend", "nobody"), 1, "There is no account 'nobody'"),
        (("keys", "create", "--account", "nobody", "--name", "x"), 1, "There is no account 'nobody'"),
        (("keys", "list", "--account", "nope"), 1, "There is no account 'nope'"),
        (("keys", "revoke", "000000000000"), 1, "There is no key of this id"),
        (("keys", "create", "--name", "x"), 2, "--account"),
        (("keys", "rotate", "000000000000", "--overlap-hours", "-1"), 2, "--overlap-hours"),
        (("accounts", "list", "--config", "/nowhere.yaml"), 2, "/nowhere.yaml"),
    ],
)
def test_refusals(program: Program, arguments: tuple[str, ...], status: int, sentence: str) -> None:
    """Refused: 1; wrong use or configuration: 2; one sentence on stderr, no traceback, nothing on stdout."""
    done = program.run(*arguments, status=status)
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_unreachable_database(program: Program) -> None:
    """A configured database that does not answer: one sentence, without the password."""
    program.environment["LUNTREX_DATABASE__URL"] = "postgresql://u:hunter2@127.0.0.1:1/db"
    try:
        done = program.run("accounts", "list", status=1)
    finally:
        del program.environment["LUNTREX_DATABASE__URL"]
    assert done.stderr.strip().endswith("start it or correct database.url.")
    assert "hunter2" not in done.stderr
