"""`budgets` as a user runs it: what is printed, and one sentence for what cannot be."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from luntrex_proxy.cli import main
from luntrex_proxy.store import accounts, apikeys, audit, budgets, members, people
from luntrex_proxy.store.database import Pool
from tests.postgres import LOOKUP, database, database_dsn, postgres_dsn

__all__ = ["database", "database_dsn", "postgres_dsn"]


@pytest.fixture(autouse=True)
async def key_id(database: Pool, database_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The verbs work on this test's database, where an account has a key and a member."""
    monkeypatch.setenv("LUNTREX_DATABASE__URL", database_dsn)
    monkeypatch.setenv("LUNTREX_STATE__DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("LUNTREX_CONFIG", str(tmp_path / "none.yaml"))
    (tmp_path / "none.yaml").write_text("{}")
    (tmp_path / "state").mkdir()
    acme = await accounts.create(database, "acme")
    async with database.acquire() as connection, connection.transaction():
        person_id = await people.create(connection, "ada@example.org")
        await members.put(connection, acme.account_id, person_id, "developer")
    return (await apikeys.create(database, LOOKUP, "acme", "ci", bcrypt_cost=4)).info.key_id


async def run(*arguments: str, status: int = 0) -> Result:
    """Run a verb; the exit status must be as said."""
    done = await asyncio.to_thread(CliRunner().invoke, main, arguments)
    assert done.exit_code == status, done.output
    return done


async def test_the_verbs(database: Pool, key_id: str) -> None:
    """Set, list, clear: of an account, a key, a member; JSON for programs, a table for people."""
    said = (
        await run("budgets", "set", "--account", "acme", "month=100.50", "day=10", "--alerts", "50,90", "--json")
    ).stdout
    assert [(each["period"], each["amount_dollars"], each["alert_percents"]) for each in json.loads(said)] == [
        ("day", "10", [50, 90]),
        ("month", "100.50", [50, 90]),
    ]
    await run("budgets", "set", "--key", key_id, "total=5", "--soft", "--when-away", "open")
    await run("budgets", "set", "--account", "acme", "--member", "Ada@example.org", "month=7")
    listed = json.loads((await run("budgets", "list", "--account", "acme", "--json")).stdout)
    assert [(each["key_id"], each["email"], each["is_hard"], each["left_dollars"]) for each in listed] == [
        (None, None, True, "10"),
        (None, None, True, "100.50"),
        (None, "ada@example.org", True, "7"),
        (key_id, None, False, "5"),
    ]
    table = (await run("budgets", "list")).stdout
    assert "BEGINS ANEW" in table
    assert "hard, closed when away; told at 50%, 90%" in table
    assert "never" in table
    assert (await run("budgets", "clear", "--key", key_id)).stdout == f"{key_id} has no budget.\n"
    left = (await run("budgets", "clear", "--account", "acme", "day", "--json")).stdout
    assert [each["period"] for each in json.loads(left)] == ["month"]
    assert len(await budgets.list_all(database)) == 2
    (newest,) = await audit.newest(database, 1)
    assert (newest.act, newest.actor) == ("budgets.changed", "command line")
    said = (await run("accounts", "time-zone", "acme", "Europe/Berlin")).stdout
    assert said == "Days and months of the budgets of acme begin as in Europe/Berlin.\n"


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("set", "--account", "acme", "day=9", "month=5"), 1, "can never be reached"),
        (("set", "--account", "nobody", "day=9"), 1, "There is no account"),
        (("set", "--key", "A" * 12, "day=9"), 1, "There is no key of this id"),
        (("set", "--account", "acme", "--member", "eve@example.org", "day=9"), 1, "There is no person"),
        (("set", "--account", "acme", "--soft", "--alerts", "", "day=9"), 1, "would do nothing"),
        (("set", "--account", "acme", "week=9"), 2, "is no budget"),
        (("set", "--account", "acme", "day=-9"), 2, "An amount is in dollars"),
        (("set", "--account", "acme", "day=9", "--alerts", "0"), 2, "percentages"),
        (("set", "--account", "acme", "--label", "team=x", "day=9"), 1, "declares no label team"),
        (("set", "--account", "acme", "--label", "team", "day=9"), 2, "Write a label as NAME=VALUE"),
        (("set", "--key", "A" * 12, "--label", "team=x", "day=9"), 2, "Say whose budgets"),
        (("set", "day=9"), 2, "Say whose budgets"),
        (("set", "--key", "A" * 12, "--member", "eve@example.org", "day=9"), 2, "Say whose budgets"),
    ],
)
async def test_what_cannot_be_is_one_sentence(
    database: Pool, arguments: tuple[str, ...], status: int, sentence: str
) -> None:
    """And nothing is half applied."""
    done = await run("budgets", *arguments, status=status)
    assert sentence in done.stderr
    assert await budgets.list_all(database) == []
