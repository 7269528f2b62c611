"""`people` and `accounts members`: made, listed, reset, suspended; links on stdout only; the last owner stays."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from luntrex_proxy.cli import main
from luntrex_proxy.store.embedded import EmbeddedPostgres
from tests.clusters import copy_clusters

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The program in this process, on a database with one account."""
    copy_clusters()
    state = tmp_path_factory.mktemp("state")
    server = EmbeddedPostgres(state)
    server.start()
    environment = {"LUNTREX_STATE__DIRECTORY": str(state), "HOME": str(state), "LUNTREX_CONFIG": ""}
    runner = CliRunner()

    def call(*words: str, **more: str) -> Result:
        return runner.invoke(main, list(words), env=environment | more)

    try:
        for verb in (["db", "migrate"], ["accounts", "create", "acme"]):
            assert call(*verb).exit_code == 0
        yield call
    finally:
        server.stop()


def told(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_people_from_making_to_suspending(run: Run) -> None:
    """Each verb says what it did, as a sentence and as JSON."""
    refused = run("people", "create", "Ada@Example.org")
    assert refused.exit_code == 1
    assert "16 and older" in refused.stderr
    made = run("people", "create", "Ada@Example.org", "--affirm-16", "--name", "Ada", "--account", "acme", "--operator")
    assert made.exit_code == 0
    assert "ada@example.org is made. Hand this link on" in made.stdout
    assert "http://127.0.0.1:8081/link?token=" in made.stdout
    assert "token" not in made.stderr
    again = run("people", "create", "ada@example.org", "--affirm-16")
    assert again.exit_code == 1
    assert "already" in again.stderr
    (person,) = told(run("people", "list", "--json"))
    assert {key: person[key] for key in ("email", "name", "status", "operator", "roles", "has_password")} == {
        "email": "ada@example.org",
        "name": "Ada",
        "status": "active",
        "operator": True,
        "roles": {"acme": "owner"},
        "has_password": False,
    }
    assert "acme (owner)" in run("people", "list").stdout
    link = told(run("people", "reset", "ada@example.org", "--json"))
    assert link["email"] == "ada@example.org"
    assert link["link"] not in made.stdout
    assert told(run("people", "operator", "ada@example.org", "--end", "--json"))["operator"] is False
    assert "is an operator" in run("people", "operator", "ada@example.org").stdout
    last = run("people", "suspend", "ada@example.org")
    assert last.exit_code == 1
    assert "This is the last owner of acme; make another member its owner first" in last.stderr
    for verb in ("reset", "operator", "suspend", "resume"):
        unknown = run("people", verb, "nobody@example.org")
        assert unknown.exit_code == 1
        assert unknown.stderr == "There is no person with this address; `luntrex-proxy people list` shows all.\n"


def test_members_from_inviting_to_leaving(run: Run) -> None:
    """Roles as words; somebody who is not here is invited; what would leave no owner is refused."""
    run("people", "create", "owner@example.org", "--affirm-16", "--account", "acme")
    run("people", "create", "eve@example.org", "--affirm-16")
    assert told(run("accounts", "members", "set", "acme", "eve@example.org", "billing", "--json"))["role"] == "billing"
    roles = {one["email"]: one["role"] for one in told(run("accounts", "members", "list", "acme", "--json"))}
    assert roles["eve@example.org"] == "billing"
    assert "billing" in run("accounts", "members", "list", "acme").stdout
    invited = told(run("accounts", "members", "invite", "acme", "new@example.org", "--role", "viewer", "--json"))
    assert "/link?token=" in invited["link"]
    removed = run("accounts", "members", "remove", "acme", "eve@example.org")
    assert "The membership has ended; 0 keys are revoked." in removed.stdout
    assert run("accounts", "members", "remove", "acme", "eve@example.org").exit_code == 1
    run("accounts", "create", "solo")
    run("accounts", "members", "set", "solo", "eve@example.org", "owner")
    for verb in (["set", "solo", "eve@example.org", "viewer"], ["remove", "solo", "eve@example.org"]):
        refused = run("accounts", "members", *verb)
        assert refused.exit_code == 1
        assert "last owner of solo" in refused.stderr
    for wrong in (["set", "acme", "eve@example.org", "king"], ["set", "acme"]):
        assert run("accounts", "members", *wrong).exit_code == 2
    assert run("accounts", "members", "list", "nope").exit_code == 1


def test_with_mail_no_link_is_shown(run: Run) -> None:
    """A letter takes it."""
    mail = {
        "LUNTREX_MAIL__HOST": "127.0.0.1",
        "LUNTREX_MAIL__SECURITY": "none",
        "LUNTREX_MAIL__SENDER": "proxy@example.org",
        "LUNTREX_CONSOLE__PUBLIC_URL": "https://proxy.example.org",
    }
    made = run("people", "create", "mailed@example.org", "--affirm-16", **mail)
    assert made.stdout == "mailed@example.org is made. A letter with a link is on its way.\n"
    assert told(run("people", "reset", "mailed@example.org", "--json", **mail))["link"] is None
