"""A person with many requests for erasures and exports, and the search for what is left. No tests here."""

import contextlib
import gzip
import json
import time
import uuid
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tests.whole.daemon import Daemon

DAYS = 10
FILL = """
INSERT INTO usage SELECT $1, d + (n || ' milliseconds')::interval, gen_random_uuid(), $2, 'chat_completions', 'plain',
    'oai', 200, 'ok', 'complete', false, 'reported', n % 100, 0, 0, 0, 0, n % 50, 0, 0, n, 'v', 100, 100, 1, 1, 1, 1, 1
FROM (SELECT $3::timestamptz AS d) day, generate_series(1, $4::int) n
"""
_SUMS = (
    "INSERT INTO {table} SELECT account_id, {period}, key_id, model, upstream, count(*), 0, sum(input_tokens), 0, 0, 0,"
    " 0, sum(output_tokens), 0, 0, sum(cost_pico) FROM usage WHERE key_id = $1 GROUP BY 1, 2, 3, 4, 5"
)


def fill(daemon: Daemon, key_id: str, rows: int, canary: str, days: int = DAYS) -> str:
    """A person whose key has that many requests, and a letter that waits; the id. `canary` is in name and address."""
    person = uuid.uuid4()
    daemon.query(
        "INSERT INTO person (person_id, email, name, affirmed_16_at) VALUES ($1, $2, $3, now())",
        person, f"{canary}@example.org", f"{canary} name",
    )  # fmt: skip
    daemon.query("INSERT INTO membership SELECT $1, account_id, 'developer' FROM account LIMIT 1", person)
    daemon.query(
        "WITH v AS (UPDATE change_version SET version = version + 1 RETURNING version)"
        " UPDATE api_key SET person_id = $1, version = v.version FROM v WHERE key_id = $2",
        person, key_id,
    )  # fmt: skip
    daemon.query(
        "INSERT INTO mail (kind, person_id, facts, due_at) VALUES ('password_set', $1, $2, now() + interval '1 day')",
        person, json.dumps({"x": canary}),
    )  # fmt: skip
    account = daemon.query("SELECT account_id FROM account LIMIT 1")[0]["account_id"]
    today = now().date()
    for ago in range(days):
        day = datetime.fromordinal(today.toordinal() - ago).replace(tzinfo=UTC)
        daemon.query(
            f"CREATE TABLE IF NOT EXISTS usage_{day:%Y%m%d} PARTITION OF usage FOR VALUES"
            f" FROM ('{day:%Y-%m-%d} 00:00Z') TO ('{day:%Y-%m-%d} 24:00Z')"
        )
        daemon.query(FILL, account, key_id, day, rows // days)
    daemon.query(_SUMS.format(table="usage_rollup", period="date_trunc('hour', started_at, 'UTC')"), key_id)
    daemon.query(_SUMS.format(table="usage_rollup_daily", period="(started_at AT TIME ZONE 'UTC')::date"), key_id)
    return str(person)


def now() -> datetime:
    """In UTC."""
    return datetime.fromtimestamp(time.time(), UTC)


def until(condition: Callable[[], bool], seconds: float, what: str = "in time") -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not {what}"
        time.sleep(0.05)


def left_of(daemon: Daemon, words: list[str], ids: list[str]) -> list[str]:
    """Where words and ids are still found: in a dump, and in every file of the state directory but the server's own.

    Ids may stand in the audit log, which the receipt says: there they lead to nobody.
    """
    backup = daemon.directory / f"backup-{time.monotonic_ns()}"
    daemon.cli("db", "backup", str(backup))
    found, table = [], ""
    with gzip.open(backup, "rt", errors="replace") as dump:
        for line in dump:
            table = line.split()[1] if line.startswith("COPY ") else table
            sought = words if table == "public.audit_entry" else words + ids
            found += [f"{table}: {line[:80]}" for word in sought if word in line]
    backup.unlink()
    return found + left_in_files(daemon, words + ids)


def left_in_files(daemon: Daemon, words: list[str]) -> list[str]:
    """The same in the files alone."""
    found = []
    for path in daemon.state.rglob("*"):
        if path.is_file() and "postgres" not in path.parts:
            with contextlib.suppress(FileNotFoundError):  # a spool's file, stored meanwhile
                data = path.read_bytes()
                found += [str(path) for word in words if word.encode() in data]
    return found


def whole_export(path: Path, rows: int) -> bool:
    """Whether the file is a zip with every file its manifest names, and at least so many requests."""
    try:
        with zipfile.ZipFile(path) as archive:
            sums = json.loads(archive.read("manifest.json"))
            if archive.testzip() is not None or not sums.keys() < set(archive.namelist()):
                return False
            with archive.open("data/usage.csv") as lines:
                return sum(1 for _ in lines) - 1 >= rows
    except (zipfile.BadZipFile, KeyError, ValueError):
        return False
