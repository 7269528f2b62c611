"""`accounts labels`, `keys label` and `usage --by` as a user runs them."""

import asyncio
import csv
import io
import json
import time
import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from luntrex_proxy.cli import main
from luntrex_proxy.store import accounts
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.spool import Spool
from tests.postgres import database, database_dsn, postgres_dsn
from tests.store.records import outcome, ship

__all__ = ["database", "database_dsn", "postgres_dsn"]


@pytest.fixture(autouse=True)
async def installation(database: Pool, database_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verbs work on this test's database, where there is an account."""
    monkeypatch.setenv("LUNTREX_DATABASE__URL", database_dsn)
    monkeypatch.setenv("LUNTREX_STATE__DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("LUNTREX_CONFIG", str(tmp_path / "none.yaml"))
    (tmp_path / "none.yaml").write_text("{}")
    (tmp_path / "state").mkdir()
    await accounts.create(database, "acme")


async def run(*arguments: str, status: int = 0) -> Result:
    """Run a verb; the exit status must be as said."""
    done = await asyncio.to_thread(CliRunner().invoke, main, arguments)
    assert done.exit_code == status, done.output
    return done


async def test_the_verbs(database: Pool, tmp_path: Path) -> None:
    """Declared, carried by a key from its making on, changed, shown; usage by them as table, JSON and CSV."""
    said = (await run("accounts", "labels", "declare", "acme", "project", "search", "chat")).stdout
    assert said == "Keys of acme can carry the label project; its values: chat, search.\n"
    await run("accounts", "labels", "declare", "acme", "team")
    made = json.loads(
        (await run("keys", "create", "--account", "acme", "--name", "ci", "--label", "project=chat", "--json")).stdout
    )
    assert made["labels"] == {"project": "chat"}
    said = (await run("keys", "label", made["id"], "team=blue", "project=search")).stdout
    assert said == f"Key {made['id']} carries project=search, team=blue.\n"
    assert "project=search, team=blue" in (await run("keys", "list")).stdout
    listed = json.loads((await run("accounts", "labels", "list", "acme", "--json")).stdout)
    assert listed == [
        {"label": "project", "values": ["chat", "search"], "keys": 1},
        {"label": "team", "values": None, "keys": 1},
    ]
    spool = Spool(tmp_path / "spool", uuid.uuid4())
    now_us = int(time.time()) * 1_000_000
    for number in range(3):
        spool.settle(outcome(number, key_id=made["id"], started_us=now_us + number, cost_pico=2_500_000))
    await ship(database, tmp_path / "spool", spool)
    (group,) = json.loads((await run("usage", "--by", "label:project,model", "--json")).stdout)
    assert (group["label:project"], group["model"], group["requests"], group["cost_pico"]) == (
        *("search", "mock-model", 3, 7_500_000),
    )
    assert "LABEL:PROJECT" in (await run("usage", "--by", "label:project")).stdout
    lines = list(csv.DictReader(io.StringIO((await run("usage", "--requests", "--csv")).stdout)))
    assert {(line["labels"], line["cost_pico"]) for line in lines} == {("project=search;team=blue", "2500000")}
    said = (await run("keys", "label", made["id"], "--clear", "team", "--json")).stdout
    assert json.loads(said) == {"id": made["id"], "labels": {"project": "search"}}
    await run("accounts", "labels", "remove", "acme", "team")


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("accounts", "labels", "declare", "acme", "Project"), 1, "A label's name is 1 to 32 lower-case"),
        (("accounts", "labels", "declare", "nobody", "project"), 1, "There is no account 'nobody'"),
        (("accounts", "labels", "remove", "acme", "project"), 1, "declares no label of this name"),
        (("keys", "create", "--account", "acme", "--name", "ci", "--label", "stage=x"), 1, "declares no label stage"),
        (("keys", "label", "A" * 12, "stage=x"), 1, "There is no key of this id"),
        (("keys", "label", "A" * 12), 2, "Say what to change"),
        (("keys", "label", "A" * 12, "stage"), 2, "Write a label as NAME=VALUE"),
        (("keys", "label", "A" * 12, "stage=x", "--clear", "stage"), 2, "contradict each other"),
        (("usage", "--by", "project"), 2, "grouped by account, key, model, upstream, day or a label"),
        (("usage", "--by", "label:stage"), 1, "No account declares a label of this name"),
        (("usage", "--by", "model", "--requests"), 2, "Single requests are not grouped"),
    ],
)
async def test_what_cannot_be_is_one_sentence(
    database: Pool, arguments: tuple[str, ...], status: int, sentence: str
) -> None:
    """And nothing is half applied."""
    done = await run(*arguments, status=status)
    assert sentence in done.stderr
    assert await database.fetchval("SELECT count(*) FROM api_key") == 0
    assert await database.fetchval("SELECT count(*) FROM label_name") == 0
