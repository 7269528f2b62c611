"""`limits` as a user runs it: what is printed, and one sentence for what cannot be."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from luntrex_proxy.cli import main
from luntrex_proxy.store import accounts, apikeys, audit, limits
from luntrex_proxy.store.database import Pool
from tests.postgres import LOOKUP, database, database_dsn, postgres_dsn

__all__ = ["database", "database_dsn", "postgres_dsn"]


@pytest.fixture(autouse=True)
async def key_id(database: Pool, database_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The verbs work on this test's database, where an account has a key."""
    monkeypatch.setenv("LUNTREX_DATABASE__URL", database_dsn)
    monkeypatch.setenv("LUNTREX_STATE__DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("LUNTREX_CONFIG", str(tmp_path / "none.yaml"))
    (tmp_path / "none.yaml").write_text("{}")
    (tmp_path / "state").mkdir()
    await accounts.create(database, "acme")
    return (await apikeys.create(database, LOOKUP, "acme", "ci", bcrypt_cost=4)).info.key_id


async def run(*arguments: str, status: int = 0) -> Result:
    """Run a verb; the exit status must be as said."""
    done = await asyncio.to_thread(CliRunner().invoke, main, ("limits", *arguments))
    assert done.exit_code == status, done.output
    return done


async def test_the_verbs(database: Pool, key_id: str) -> None:
    """Set, list, clear: of an account, of a key, of a model; JSON for programs, a table for people."""
    said = (await run("set", "--account", "acme", "requests/minute=60", "tokens/day=1000000")).stdout
    assert said == "acme is limited to requests/minute=60, tokens/day=1000000.\n"
    said = (await run("set", "--key", key_id, "--model", "gpt-4*", "streams=2")).stdout
    assert said == f"{key_id} is limited to streams=2, for gpt-4*.\n"
    listed = json.loads((await run("list", "--account", "acme", "--json")).stdout)
    assert [(each["account"], each["key_id"], each["key_name"], each["models"]) for each in listed] == [
        ("acme", None, None, [{"model": None, "limits": {"requests/minute": 60, "tokens/day": 1_000_000}}]),
        ("acme", key_id, "ci", [{"model": "gpt-4*", "limits": {"streams": 2}}]),
    ]
    table = (await run("list")).stdout
    assert "requests/minute=60, tokens/day=1000000" in table
    assert "any model" in table
    left = (await run("clear", "--account", "acme", "tokens/day", "--json")).stdout
    assert json.loads(left) == [{"model": None, "limits": {"requests/minute": 60}}]
    assert (await run("clear", "--account", "acme")).stdout == "acme is limited to nothing.\n"
    assert [each.key_id for each in await limits.list_all(database)] == [key_id]
    (newest,) = await audit.newest(database, 1)
    assert (newest.act, newest.actor) == ("limits.changed", "command line")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--account", "acme", "requests/minute=9", "requests/day=5"), "can never be reached"),
        (("--account", "acme", "--model", "a b", "streams=1"), "'a b' is no model name"),
        (("--account", "nobody", "streams=1"), "There is no account"),
        (("--key", "A" * 12, "streams=1"), "There is no key of this id"),
    ],
)
async def test_what_cannot_be_is_one_sentence(database: Pool, arguments: tuple[str, ...], sentence: str) -> None:
    """Exit status 1, and nothing is half applied."""
    done = await run("set", *arguments, status=1)
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert await limits.list_all(database) == []
