"""`apply`, `tokens` and `billing` as a user runs them: what is printed where, and the exit status."""

import asyncio
import datetime
import json
import time
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from luntrex_proxy.cli import main
from luntrex_proxy.control import rights
from luntrex_proxy.core.rights import Law
from luntrex_proxy.core.tokens import is_token
from luntrex_proxy.store import accounts, audit, billing, tokens
from luntrex_proxy.store.database import Pool
from tests.people import make_person
from tests.postgres import database, database_dsn, postgres_dsn

__all__ = ["database", "database_dsn", "postgres_dsn"]
FILE = """
accounts:
  - {name: acme, policy: null, keys: [{name: ci}]}
"""


@pytest.fixture(autouse=True)
def installation(database_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verbs work on this test's database."""
    monkeypatch.setenv("LUNTREX_DATABASE__URL", database_dsn)
    monkeypatch.setenv("LUNTREX_STATE__DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("LUNTREX_CONFIG", str(tmp_path / "none.yaml"))
    (tmp_path / "none.yaml").write_text("{}")
    (tmp_path / "state").mkdir()


async def run(*arguments: str, stdin: str = "", status: int = 0) -> Result:
    """Run a verb; the exit status must be as said."""
    done = await asyncio.to_thread(CliRunner().invoke, main, arguments, stdin)
    assert done.exit_code == status, done.output
    return done


async def test_apply_prints_what_it_did_and_each_key_once(database: Pool) -> None:
    """Dry first, then done, then nothing to do; keys go to stdout only; the rest is said to be left alone."""
    dry = await run("apply", "-f", "-", "--dry-run", stdin=FILE)
    assert "key.created" in dry.stdout
    assert "2 changes would be made. What the file does not name is left alone." in dry.stdout
    assert "lx_" not in dry.output
    assert await database.fetchval("SELECT count(*) FROM account") == 0
    done = await run("apply", "-f", "-", stdin=FILE)
    key_id = await database.fetchval("SELECT key_id FROM api_key")
    assert done.stdout.count(f"lx_{key_id}_") == 1
    assert "lx_" not in done.stderr
    again = await run("apply", "-f", "-", stdin=FILE)
    assert again.stdout == "Nothing to change. What the file does not name is left alone.\n"
    more = FILE.replace("ci}", "ci}, {name: cd}")
    said = json.loads((await run("apply", "-f", "-", "--json", stdin=more)).stdout)
    (change,) = said["changes"]
    assert (said["dry_run"], change["act"], change["account"], change["name"]) == (False, "key.created", "acme", "cd")
    assert change["key"].startswith(f"lx_{change['id']}_")


async def test_apply_says_where_it_is_wrong(database: Pool, tmp_path: Path) -> None:
    """A file that is none: exit status 2. One that cannot come about: 1. Both with file, line and column."""
    file = tmp_path / "accounts.yaml"
    file.write_text("accounts:\n  - nam: acme\n")
    wrong = await run("apply", "-f", str(file), status=2)
    assert f"{file}:2:5: accounts[0].nam: unknown key (did you mean 'name'?)" in wrong.stderr.splitlines()
    file.write_text("accounts:\n  - {name: acme, members: [{email: nobody@example.org, role: owner}]}\n")
    impossible = await run("apply", "-f", str(file), status=1)
    assert impossible.stderr.startswith(f"{file}:2:36: accounts[0].members[0].email: is nobody's here")
    assert impossible.stderr.endswith("Error: Nothing was changed.\n")
    assert await database.fetchval("SELECT count(*) FROM account") == 0
    await run("apply", "-f", str(tmp_path / "missing"), status=2)


async def test_tokens_are_made_listed_and_ended(database: Pool) -> None:
    """For a person who is there; printed once; a token that somebody else has is not found."""
    ada = await make_person(database)
    await make_person(database, "bob@example.org")
    words = ("tokens", "create", "--person", "ada@example.org", "--name", "ci", "--scope", "keys:read")
    made = json.loads((await run(*words, "--json")).stdout)
    assert is_token(made["token"].encode())
    holder = await tokens.find_holder(database, made["token"].encode())
    assert holder is not None
    assert (holder.person_id, holder.scopes) == (str(ada), ["keys:read"])
    listed = json.loads((await run("tokens", "list", "--person", "ada@example.org", "--json")).stdout)
    assert [(each["id"], "token" in each) for each in listed] == [(made["id"], False)]
    assert made["token"] not in (await run("tokens", "list", "--person", "ada@example.org")).output
    await run("tokens", "revoke", made["id"], "--person", "bob@example.org", status=1)
    await run("tokens", "revoke", made["id"], "--person", "ada@example.org")
    assert await tokens.find_holder(database, made["token"].encode()) is None
    await run(*words, "--days", "366", status=2)
    nobody = await run(*words[:3], "eve@example.org", *words[4:], status=1)
    assert "no person with this address" in nobody.stderr
    whole = await run("tokens", "revoke", made["token"], "--person", "ada@example.org", status=1)
    assert made["token"] not in whole.output


async def test_invoices_are_listed_and_shown(database: Pool) -> None:
    """Of one account or all, erased ones without a name; an unknown number or account is said."""
    account = (await accounts.create(database, "acme")).account_id
    for number, whose in (("A-1", account), ("B-1", 4_711)):
        day = datetime.date(2026, 1, 31)
        await billing.issue(database, whose, number, "Acme", "DE", Decimal("12.50"), "EUR", day)
    listed = json.loads((await run("billing", "list", "--json")).stdout)
    assert {each["number"]: each["account"] for each in listed} == {"A-1": "acme", "B-1": None}
    (mine,) = json.loads((await run("billing", "list", "--account", "acme", "--json")).stdout)
    assert (mine["amount"], mine["paid_on"], mine["keep_until"]) == ("12.50", None, "2034-12-31")
    assert json.loads((await run("billing", "show", "A-1", "--json")).stdout) == mine
    assert "12.50" in (await run("billing", "show", "A-1")).stdout
    assert "billing list" in (await run("billing", "show", "A-2", status=1)).stderr
    await run("billing", "list", "--account", "nobody", status=1)


async def test_who_reads_of_others_at_the_terminal_is_on_record(database: Pool) -> None:
    """Requests, reports, notices, invoices, single calls, tokens and acts of other people, each by its verb."""
    await run("incidents", "open", "A leak")
    await make_person(database)
    for verb in (("rights", "list"), ("children", "list"), ("incidents", "show", "1"), ("billing", "list")):
        await run(*verb)
    for verb in (
        ("usage", "--requests"),
        ("attempts", "list"),
        ("tokens", "list", "--person", "ada@example.org"),
        ("audit", "list"),
    ):
        await run(*verb)
    reads = [entry.object_id for entry in reversed(await audit.newest(database, 20, act="operator.read"))]
    assert reads == [
        *("rights.list", "child_reports.list", "incidents.notices", "invoices.list"),
        *("usage.requests", "attempts.list", "tokens.list", "audit.list"),
    ]


async def test_legal_clocks_are_counted(database: Pool) -> None:
    """How many requests are how near their end, and when the next of each law is due."""
    now = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
    await rights.ask_erasure(database, await make_person(database), now, datetime.timedelta(days=9), law=Law.LGPD)
    said = json.loads((await run("rights", "status", "--json")).stdout)
    assert (said["open"], said["clocks"]) == (1, {"running": 1, "half": 0, "late": 0, "over": 0})
    (listed,) = json.loads((await run("rights", "list", "--json")).stdout)
    assert listed["address"] == "ada@example.org", "whom to answer"
    assert "ada@example.org" in (await run("rights", "list")).stdout
    await database.execute("UPDATE rights_request SET person_id = NULL, email = 'x@y.org', state = 'unconfirmed'")
    assert json.loads((await run("rights", "list", "--json")).stdout)[0]["address"] is None, "nobody said it was them"
    await database.execute("UPDATE rights_request SET state = 'open'")
    assert json.loads((await run("rights", "list", "--json")).stdout)[0]["address"] == "x@y.org"
    due = datetime.datetime.fromisoformat(said["nearest"]["lgpd"])
    assert abs(due - now - datetime.timedelta(days=15)) < datetime.timedelta(minutes=1)
    assert "The next answer by LGPD is due by" in (await run("rights", "status")).stdout
