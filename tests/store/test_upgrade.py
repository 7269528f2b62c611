"""The embedded database moves to a newer PostgreSQL: between every two majors found here, killed at any moment."""

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from luntrex_proxy.store import binaries, upgrade
from luntrex_proxy.store.binaries import Binaries
from luntrex_proxy.store.database import close_pool, open_pool
from luntrex_proxy.store.datadirectory import data_major, running_dsn
from luntrex_proxy.store.embedded import EmbeddedPostgres
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.migrate import migrate
from tests.clusters import copy_clusters
from tests.store.test_backup import contents, fill, silent

INSTALLED = {
    found.major: found for each in binaries._installed() if (found := binaries._examine(each, binaries._SERVER))
}
OLDER = [major for major in sorted(INSTALLED) if major != max(INSTALLED)]
TWO_MAJORS = pytest.mark.skipif(not OLDER, reason="only one major version of PostgreSQL is installed here")
Made = Callable[[Path, int], dict[str, list[str]]]
# An upgrade that says each step and waits a moment before the next, for kill -9.
SLOW = """
import sys, time
from tests.clusters import copy_clusters
copy_clusters()
from pathlib import Path
from luntrex_proxy.store import upgrade
def slow(name, function):
    def wrapped(*arguments, **more):
        print(name, flush=True)
        time.sleep(0.15)
        return function(*arguments, **more)
    return wrapped
Path.rename = slow("rename", Path.rename)
upgrade.load = slow("load", upgrade.load)
upgrade._sync = slow("sync", upgrade._sync)
upgrade.EmbeddedPostgres.stop = slow("stop", upgrade.EmbeddedPostgres.stop)
upgrade.upgrade(Path(sys.argv[1]), None, lambda _: time.sleep(0.05))
print("done", flush=True)
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory that does not exist yet."""
    return tmp_path / "state"


@pytest.fixture(autouse=True)
def free_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """No programs are preset; the newest found are what a new installation takes. Clusters are copied."""
    copy_clusters()
    monkeypatch.delenv("LUNTREX_PG_BINDIR", raising=False)
    newest = INSTALLED[max(INSTALLED)]
    monkeypatch.setattr(upgrade, "find_binaries", lambda _major: newest)


def make(state: Path, programs: Binaries) -> dict[str, list[str]]:
    """A database of a major version with rows in it; its contents."""
    server = EmbeddedPostgres(state, binaries=programs)
    try:
        return asyncio.run(_fill(server.start(), state))
    finally:
        server.stop()


async def _fill(dsn: str, state: Path) -> dict[str, list[str]]:
    pool = await open_pool(dsn)
    await migrate(pool, post=True)
    await fill(pool, state / "spool", range(100), state)
    found = await contents(pool)
    await close_pool(pool)
    return found


def look(state: Path) -> tuple[int, dict[str, list[str]]]:
    """The major a start runs on, and all rows."""
    server = EmbeddedPostgres(state)
    try:
        return asyncio.run(_look(server.start()))
    finally:
        server.stop()


async def _look(dsn: str) -> tuple[int, dict[str, list[str]]]:
    pool = await open_pool(dsn)
    try:
        number = await pool.fetchval("SELECT current_setting('server_version_num')::int")
        return number // 10_000, await contents(pool)
    finally:
        await close_pool(pool)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Gives a state directory of an older major, with rows in it, and its contents: made once, then copied."""
    originals: dict[int, tuple[Path, dict[str, list[str]]]] = {}

    def copy(state: Path, major: int) -> dict[str, list[str]]:
        if major not in originals:
            origin = tmp_path_factory.mktemp("made") / "state"
            originals[major] = origin, make(origin, INSTALLED[major])
        shutil.copytree(originals[major][0], state)
        return originals[major][1]

    return copy


@TWO_MAJORS
@pytest.mark.parametrize("major", OLDER)
def test_all_rows_move_to_the_newest(state: Path, made: Made, major: int) -> None:
    """Every row is there on the newer server, the old data beside it still works, a second run has nothing to do."""
    before = made(state, major)
    assert look(state) == (major, before), "a start goes on with the programs of the data"
    moved: list[int] = []
    done = upgrade.upgrade(state, None, moved.append)
    assert done is not None
    assert (done.old_major, done.new_major) == (major, max(INSTALLED))
    assert moved[-1] > 10_000
    assert done.old_data == state / f"postgres.old-{major}"
    assert look(state) == (max(INSTALLED), before)
    assert upgrade.upgrade(state, None, silent) is None
    assert {path.name for path in state.glob("postgres*")} == {"postgres", "postgres.log", f"postgres.old-{major}"}
    (state / "postgres").rename(state / "aside")
    done.old_data.rename(state / "postgres")
    assert look(state) == (major, before), "the way back"


@TWO_MAJORS
@pytest.mark.parametrize("step", [1, 2, 4, 6, 8, 10])
def test_killed_at_every_step(state: Path, made: Made, step: int) -> None:
    """kill -9 before or in each step: the next start has all rows, and a second run brings it to its end.

    In order: initdb's rename, load, stop of both servers, and three renames with a sync after each.
    """
    before = made(state, OLDER[-1])
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(state)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(step):
        assert process.stdout.readline() not in ("", "done\n"), "it ended before the kill"
    process.kill()
    process.communicate()
    assert look(state) == (OLDER[-1] if step < 8 else max(INSTALLED), before)
    upgrade.upgrade(state, None, silent)
    assert look(state) == (max(INSTALLED), before)
    left = {path.name for path in state.glob("postgres*")}
    assert left == {"postgres", "postgres.log", f"postgres.old-{OLDER[-1]}"}


@TWO_MAJORS
def test_what_was_written_after_a_killed_run_is_not_lost(state: Path, made: Made) -> None:
    """A run is killed when the new data is whole, the daemon works on with the old: the next run moves that too."""
    made(state, OLDER[-1])
    newer = EmbeddedPostgres(state, "postgres.upgraded", binaries=INSTALLED[max(INSTALLED)])
    newer.start()
    newer.stop()
    server = EmbeddedPostgres(state)
    asyncio.run(_execute(server.start(), "INSERT INTO account (name) VALUES ('late')"))
    server.stop()
    (state / "postgres.upgrading").mkdir()
    assert upgrade.upgrade(state, None, silent) is not None
    assert any("late" in row for row in look(state)[1]["account"])


async def _execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@TWO_MAJORS
def test_nothing_is_written_to_what_is_left_behind(state: Path, made: Made) -> None:
    """Another verb that finds the old server during an upgrade can read, and its writes are refused, not lost."""
    made(state, OLDER[-1])
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(state)], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while (dsn := running_dsn(state)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        asyncio.run(_execute(dsn, "INSERT INTO account (name) VALUES ('late')"))
    process.communicate()
    assert process.returncode == 0


@TWO_MAJORS
def test_a_failed_move_leaves_the_old_data(state: Path, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new server refuses something: a sentence, no half-filled directory, and the old data works on."""
    before = made(state, OLDER[-1])
    whole = upgrade.dump
    with monkeypatch.context() as broken:
        broken.setattr(upgrade, "dump", lambda *arguments: iter([*whole(*arguments), b"SELECT 1/0;\n"]))
        with pytest.raises(StoreError, match=r"SQLSTATE 22012\); nothing in it has changed"):
            upgrade.upgrade(state, None, silent)
    assert {path.name for path in state.glob("postgres*")} == {"postgres", "postgres.log"}
    assert look(state) == (OLDER[-1], before)


def test_refusals(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data, a daemon at work, no old programs, an earlier upgrade's data, no newer programs: one sentence each."""
    with pytest.raises(RefusedError, match=r"no database in .* yet"):
        upgrade.upgrade(state, None, silent)
    server = EmbeddedPostgres(state, binaries=INSTALLED[max(INSTALLED)])
    server.start()
    with pytest.raises(StoreError, match="in use by process"):
        upgrade.upgrade(state, None, silent)
    server.stop()
    assert upgrade.upgrade(state, None, silent) is None
    version = state / "postgres" / "PG_VERSION"
    version.write_text("13\n")
    with pytest.raises(StoreError, match=r"is of PostgreSQL 13, .*none in the usual places: install PostgreSQL 13 and"):
        upgrade.upgrade(state, None, silent)
    with pytest.raises(
        StoreError, match=f"none in {tmp_path}: install PostgreSQL 13 and name its directory with --old"
    ):
        upgrade.upgrade(state, tmp_path, silent)
    with pytest.raises(StoreError, match=r"is of PostgreSQL 13.*with both, `luntrex-proxy db upgrade` moves the data"):
        EmbeddedPostgres(state).start()
    version.write_text("99\n")
    with pytest.raises(RefusedError, match="there is no way back"):
        upgrade.upgrade(state, None, silent)
    if OLDER:
        version.write_text(f"{OLDER[0]}\n")
        (state / f"postgres.old-{OLDER[0]}").mkdir()
        with pytest.raises(RefusedError, match="still there from an earlier upgrade"):
            upgrade.upgrade(state, None, silent)


def test_a_start_finishes_the_swap(state: Path) -> None:
    """Killed between the two renames there is no `postgres`: a start must take the new data, not make an empty one."""
    server = EmbeddedPostgres(state)
    asyncio.run(_execute(server.start(), "CREATE TABLE kept AS SELECT 7 AS n"))
    server.stop()
    (state / "postgres").rename(state / "postgres.upgraded")
    assert data_major(state / "postgres") is None
    assert asyncio.run(_one(server.start(), "SELECT n FROM kept")) == 7
    server.stop()
    assert not (state / "postgres.upgraded").exists()


async def _one(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


@TWO_MAJORS
def test_the_verb(state: Path, made: Made, tmp_path: Path) -> None:
    """`db upgrade --json` from a directory named with --old-bin; with database.url it has nothing to do with it."""
    made(state, OLDER[0])
    config = tmp_path / "luntrex-proxy.yaml"
    config.write_text(f"state: {{directory: {state}}}\n")
    command = [sys.executable, "-m", "luntrex_proxy", "--config", str(config), "db", "upgrade"]
    named = [*command, "--old-bin", str(INSTALLED[OLDER[0]].directory), "--json"]
    done = subprocess.run(named, capture_output=True, text=True)
    assert (done.returncode, f'"old_major": {OLDER[0]}' in done.stdout) == (0, True), done.stderr
    again = subprocess.run(command, capture_output=True, text=True)
    assert (again.returncode, again.stdout.startswith("Nothing to do")) == (0, True)
    config.write_text("database: {url: 'postgresql://h/d'}\n")
    refused = subprocess.run(command, capture_output=True, text=True)
    assert (refused.returncode, "database.url is set" in refused.stderr) == (1, True)
