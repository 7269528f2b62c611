"""`billing` as a user runs it: statements, closing, proving, pricing anew; one sentence for what cannot be."""

import asyncio
import csv
import io
import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from luntrex_proxy.cli import main
from luntrex_proxy.store.database import Pool
from tests.postgres import database, database_dsn, postgres_dsn
from tests.store.months import make_keys, rates_of, records, store

__all__ = ["database", "database_dsn", "postgres_dsn"]
CONFIG = {
    "upstreams": [
        {"name": name, "dialect": "openai", "base_url": "http://127.0.0.1:9/v1", "training": "never"}
        for name in ("east", "west")
    ],
    "models": [
        {
            "name": "large",
            "targets": [{"upstream": name, "model": "m"} for name in ("east", "west")],
            "price": {"input": 1, "output": 2},
        }
    ],
}


@pytest.fixture(autouse=True)
def installation(database_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verbs work on this test's database."""
    monkeypatch.setenv("LUNTREX_DATABASE__URL", database_dsn)
    monkeypatch.setenv("LUNTREX_STATE__DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("LUNTREX_CONFIG", str(tmp_path / "config.yaml"))
    (tmp_path / "config.yaml").write_text(json.dumps(CONFIG))
    (tmp_path / "state").mkdir()


async def run(*arguments: str, status: int = 0) -> Result:
    """Run a verb; the exit status must be as said."""
    done = await asyncio.to_thread(CliRunner().invoke, main, ("billing", *arguments))
    assert done.exit_code == status, done.output
    return done


async def test_a_month_from_open_to_charged(database: Pool, tmp_path: Path) -> None:
    """Shown while open, closed, exported, proved; priced anew it is charged in the month after."""
    seed = random.Random(11)
    keys, rates = await make_keys(database, ("acme", "bolt")), rates_of(seed)
    await store(database, tmp_path / "spool", records(seed, keys, rates, 120))
    month = ("--month", "2026-09")
    opened = json.loads((await run("statement", "--account", "acme", *month, "--json")).stdout)
    assert (opened["closed_at"], opened["month"]) == (None, "2026-09")
    assert opened["cost_pico"] == sum(line["cost_pico"] for line in opened["lines"])
    closed = json.loads((await run("close", *month, "--json")).stdout)
    assert [(each["account"], each["closed_now"]) for each in closed] == [("acme", True), ("bolt", True)]
    assert "now" not in (await run("close", *month)).stdout, "it is closed already"
    assert [each["month"] for each in json.loads((await run("statements", "--account", "acme", "--json")).stdout)] == [
        "2026-09"
    ]
    await run("statement", "--account", "acme", *month, "--csv", str(tmp_path / "lines.csv"))
    lines = list(csv.DictReader(io.StringIO((tmp_path / "lines.csv").read_text())))
    assert sum(int(line["cost_pico"]) for line in lines) == opened["cost_pico"]
    assert {line["labels"] for line in lines} >= {"project=before0"}
    table = (await run("statement", "--account", "acme", *month)).stdout
    assert "TOTAL" in table
    assert "acme, 2026-09: closed 2" in table
    proof = json.loads((await run("reconcile", *month, "--json")).stdout)
    assert proof["right"]
    assert proof["accounts"][0]["charged_pico"] == proof["accounts"][0]["records_pico"] == opened["cost_pico"]
    assert "Everything adds up." in (await run("reconcile", *month)).stdout
    assert "Everything adds up." in (await run("reconcile")).stdout, "this month, in which nothing was used"
    drift = "UPDATE usage_key_total SET cost_pico = cost_pico + {} WHERE key_id = $1"
    await database.execute(drift.format(3), keys[0][1])
    hours = await database.fetchval("SELECT count(*) FROM usage_key_total WHERE key_id = $1", keys[0][1])
    wrong = await run("reconcile", *month, status=1)
    assert f" UTC, acme, {keys[0][1]}: differs from its parts by cost_pico +3.\n" in wrong.stdout
    assert f"And {hours - 20} more such sums" in wrong.stdout
    drifted = json.loads((await run("reconcile", *month, "--json", status=1)).stdout)["drifted"]
    assert {(each["sums"], each["key_id"], each["by"]["cost_pico"]) for each in drifted} == {
        ("usage_key_total", keys[0][1], 3)
    }
    await database.execute(drift.format(-3), keys[0][1])

    days = ("--since", "2026-09-01", "--until", "2026-09-30")
    said = json.loads((await run("reprice", *days, "--json")).stdout)
    assert (said["applied"], {total["model"] for total in said["totals"] if total["changed"]}) == (False, {"large"})
    assert "nothing is, without --apply" in (await run("reprice", *days)).stdout
    assert (await run("reconcile", *month)).exit_code == 0
    done = (await run("reprice", *days, "--account", "acme", "--apply")).stdout
    assert "records are changed." in done
    wrong = await run("reconcile", *month, status=1)
    assert "not charged -" in wrong.stdout
    assert "Not everything adds up" in wrong.stdout
    await run("close", "--month", "2026-10", "--account", "acme")
    late = json.loads((await run("statement", "--account", "acme", "--month", "2026-10", "--json")).stdout)
    assert {(line["usage_month"], line["model"]) for line in late["lines"]} == {("2026-09", "large")}
    assert late["cost_micros"] < 0
    assert "-" in (await run("statement", "--account", "acme", "--month", "2026-10")).stdout
    await run("reconcile", *month)


async def test_what_comes_late_of_who_had_used_nothing_is_charged(database: Pool, tmp_path: Path) -> None:
    """It had no statement of that month when the others got theirs, so no later one would take it up."""
    seed = random.Random(12)
    keys, rates = await make_keys(database, ("acme", "bolt")), rates_of(seed)
    await store(database, tmp_path / "spool", records(seed, keys[:2], rates, 20))
    await run("close", "--month", "2026-09")
    await store(database, tmp_path / "spool", records(seed, keys[2:], rates, 20, first=20))
    closed = json.loads((await run("close", "--month", "2026-10", "--json")).stdout)
    assert [(each["account"], each["month"], each["requests"]) for each in closed] == [("bolt", "2026-09", 20)]
    assert json.loads((await run("close", "--month", "2026-10", "--json")).stdout) == []
    await run("reconcile", "--month", "2026-09")


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("statement", "--account", "acme", "--month", "2026-13"), 2, "A month is written as 2026-10"),
        (("statement", "--account", "acme", "--month", "october"), 2, "A month is written as 2026-10"),
        (("statement", "--account", "acme", "--month", "2198-01"), 1, "This month lies ahead"),
        (("statement", "--account", "nobody", "--month", "2026-09"), 1, "There is no account 'nobody'"),
        (("statement", "--account", "acme", "--month", "2026-09", "--json", "--csv", "-"), 2, "Choose --json or --csv"),
        (("statements", "--account", "nobody"), 1, "There is no account 'nobody'"),
        (("close", "--month", "2198-01"), 1, "2198-01 is not over"),
        (("close", "--month", "2026-09", "--account", "nobody"), 1, "There is no account 'nobody'"),
        (("reconcile", "--month", "2198-01"), 2, "This month lies ahead"),
        (("reconcile", "--month", "0000-01"), 2, "A month is written as 2026-10"),
        (("reconcile", "--account", "nobody"), 1, "There is no account 'nobody'"),
        (("reprice", "--since", "2026-09-02", "--until", "2026-09-01"), 2, "--until must not be before --since"),
        (("reprice", "--since", "2026-09-02", "--until", "2198-09-01"), 2, "--until lies ahead"),
        (("reprice", "--since", "2026-09-31", "--until", "2026-10-01"), 2, "does not match the format"),
        (("reprice", "--since", "2026-09-01", "--until", "2026-09-02", "--account", "no"), 1, "There is no account"),
    ],
)
async def test_what_cannot_be_is_one_sentence(
    database: Pool, arguments: tuple[str, ...], status: int, sentence: str
) -> None:
    """And nothing is half applied."""
    await database.execute("INSERT INTO account (name) VALUES ('acme')")
    done = await run(*arguments, status=status)
    assert sentence in done.stderr
    assert await database.fetchval("SELECT count(*) FROM statement") == 0
