"""Backups with real servers: whole and consistent, or refused; brought back whole, or not at all."""

import asyncio
import contextlib
import fcntl
import gzip
import json
import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import date
from pathlib import Path
from typing import TypeVar

import asyncpg
import msgspec
import psutil
import pytest

from luntrex_proxy.store import accounts, backup, binaries
from luntrex_proxy.store.backup import About, describe, dump, load, read_about, read_backup, write_backup
from luntrex_proxy.store.binaries import Binaries, find_clients
from luntrex_proxy.store.database import Connection, Pool, close_pool, open_pool
from luntrex_proxy.store.embedded import EmbeddedPostgres
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.migrate import migrate, packaged
from luntrex_proxy.store.partitions import ensure_partitions, partition_days
from luntrex_proxy.store.pepper import fingerprint, load_pepper, open_lookup
from luntrex_proxy.store.spool import Spool
from tests.clusters import copy_clusters
from tests.postgres import drop_database, fresh_database
from tests.store.records import assert_sums_match, outcome, ship, stored_numbers
from tests.store.test_schema import faults

T = TypeVar("T")
DAY_US = 86_400_000_000
# A restore whose script comes in small pieces with a pause after each, for kill -9.
SLOW_RESTORE = """
import sys, time
from pathlib import Path
from luntrex_proxy.store import backup
from luntrex_proxy.store.binaries import find_clients
def slowly(script):
    print("begun", flush=True)
    for piece in script:
        for start in range(0, len(piece), len(piece) // 40 + 1):
            yield piece[start:start + len(piece) // 40 + 1]
            time.sleep(0.02)
dsn, file, *drop = sys.argv[1:]
backup.load(dsn, find_clients(14), slowly(backup.read_backup(Path(file), lambda _: None)), drop)
print("done", flush=True)
"""


def silent(_done: int) -> None:
    """No bar."""


@pytest.fixture
async def target_dsn(postgres_dsn: str) -> AsyncIterator[str]:
    """The DSN of a database without any table."""
    dsn = await fresh_database(postgres_dsn, "template0")
    yield dsn
    await drop_database(dsn)


@pytest.fixture
async def target(target_dsn: str) -> AsyncIterator[Pool]:
    """A pool on it."""
    pool = await open_pool(target_dsn, application_name="luntrex-proxy cli")
    yield pool
    await close_pool(pool)


@pytest.fixture
async def clients(database: Pool) -> Binaries:
    """PostgreSQL's programs for the test server."""
    return find_clients(await backup.server_major(database))


async def fill(database: Pool, root: Path, numbers: range, state: Path | None = None) -> None:
    """An account and requests over several days; with `state`, its pepper."""
    if await accounts.find(database, "acme") is None:
        await accounts.create(database, "acme")
    if state is not None:
        await open_lookup(database, load_pepper(state))
    spool = Spool(root, uuid.uuid4())
    for number in numbers:
        spool.settle(outcome(number, started_us=outcome(0).started_us + number % 4 * DAY_US, model=f"m\\{number % 3}'"))
    await ship(database, root, spool)


async def take(database: Pool, dsn: str, clients: Binaries, file: Path) -> About:
    """Back up to a file."""
    about = await describe(database, clients, "0.0", "2026-01-01T00:00:00Z")
    await asyncio.to_thread(write_backup, file, about, dump(dsn, clients), silent)
    return about


async def bring_back(target: Pool, dsn: str, clients: Binaries, file: Path, *, replace: bool = False) -> None:
    """Restore from a file, as the verb does."""
    backup.check_backup(file, silent)
    drop = await backup.require_room(target, read_about(file), replace=replace)
    await asyncio.to_thread(load, dsn, clients, read_backup(file, silent), drop)


async def contents(pool: Pool) -> dict[str, list[str]]:
    """All rows of all tables, as text."""
    tables = await pool.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
    )
    return {
        name: [row[0] for row in await pool.fetch(f"SELECT t::text FROM {name} t ORDER BY 1")] for (name,) in tables
    }


async def test_what_comes_back_is_what_was_there(
    database: Pool, database_dsn: str, target: Pool, target_dsn: str, clients: Binaries, tmp_path: Path
) -> None:
    """Every row, comment, partition and sequence is there again, and work goes on with them."""
    await fill(database, tmp_path / "spool", range(200), tmp_path / "state")
    file = tmp_path / "backup"
    about = await take(database, database_dsn, clients, file)
    assert about == read_about(file)
    assert about.pepper_fingerprint == fingerprint(load_pepper(tmp_path / "state")).hex()
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob("backup*")] == ["backup"]
    await bring_back(target, target_dsn, clients, file)
    assert await contents(target) == await contents(database)
    assert await faults(target) == []
    assert (await migrate(target, post=True)).applied == ()
    assert (await accounts.create(target, "next")).account_id == 2
    await ensure_partitions(target, date(2031, 1, 1), days_ahead=0)
    await fill(target, tmp_path / "spool", range(200, 300))
    assert await stored_numbers(target) == list(range(300))
    await assert_sums_match(target)


async def test_it_is_one_moment(
    database: Pool, database_dsn: str, target: Pool, target_dsn: str, clients: Binaries, tmp_path: Path
) -> None:
    """Taken while records arrive, and without holding them up, a backup has all of a transaction or nothing of it."""
    await fill(database, tmp_path / "a", range(500))

    async def keep_shipping() -> None:
        for start in range(500, 900, 50):
            await fill(database, tmp_path / "a", range(start, start + 50))

    shipping = asyncio.ensure_future(keep_shipping())
    taken = 0
    while not shipping.done():
        await take(database, database_dsn, clients, tmp_path / f"backup{taken}")
        taken += 1
    await shipping
    assert await stored_numbers(database) == list(range(900))
    counts = set()
    for number in range(taken):
        await bring_back(target, target_dsn, clients, tmp_path / f"backup{number}", replace=number > 0)
        await assert_sums_match(target)
        counts.add(await target.fetchval("SELECT count(*) FROM usage"))
    assert all(count % 50 == 0 for count in counts)


async def test_a_killed_backup_leaves_no_backup(database: Pool, database_dsn: str, tmp_path: Path) -> None:
    """kill -9 while it is written: the name is not there, pg_dump goes too, and the next try works."""
    await fill(database, tmp_path / "spool", range(50))
    config = configuration(tmp_path, database_dsn)
    file = tmp_path / "backup"
    async with database.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE usage IN ACCESS EXCLUSIVE MODE")  # it has begun, and cannot end
        verb = subprocess.Popen([sys.executable, "-m", "luntrex_proxy", "--config", config, "db", "backup", str(file)])
        await wait_for_lock(database)
        dumping = children(verb.pid, "pg_dump")
        assert len(dumping) == len(list(tmp_path.glob("backup.*.luntrex-partial"))) == 1
        verb.kill()
        verb.wait()
    await until(lambda: not any(process.is_running() for process in dumping))
    assert not file.exists()
    assert len(list(tmp_path.glob("*.luntrex-partial"))) == 1
    assert await backup.wrapped_by(database) == ""
    await database.execute("INSERT INTO data_key (wrapped, wrapped_by) VALUES ('x', 'file:0123456789abcdef')")
    await database.execute("INSERT INTO secret (name, sealed, version) VALUES ('provider', 'x', 1)")
    done = run(config, "db", "backup", str(file), "--json")
    assert list(tmp_path.glob("*.luntrex-partial")) == []
    assert (done.returncode, json.loads(done.stdout)["bytes"]) == (0, file.stat().st_size)
    assert "The pepper is not in it: keep a copy of " in done.stderr
    assert f"wraps its sealed secrets is not in it either: keep a copy of {tmp_path}/lx/wrapping.key;" in done.stderr
    again = run(config, "db", "backup", str(file))
    assert (again.returncode, "exists; choose another name" in again.stderr) == (1, True)


async def test_another_backup_at_work_keeps_its_file(tmp_path: Path, database: Pool, clients: Binaries) -> None:
    """What a killed backup left goes, what another one is writing stays; a file that came meanwhile is not replaced."""
    about = await describe(database, clients, "0.0", "2026-01-01T00:00:00Z")
    (tmp_path / "old.17.luntrex-partial").write_bytes(b"half")
    file, held = tmp_path / "backup", tmp_path / "other.18.luntrex-partial"

    def script() -> Iterator[bytes]:
        yield b"SELECT 1;\n"
        file.write_text("theirs")

    with held.open("wb") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        with pytest.raises(RefusedError, match=f"{file} exists; choose another name"):
            write_backup(file, about, script(), silent)
    assert file.read_text() == "theirs"
    assert {path.name for path in tmp_path.iterdir()} == {"backup", held.name}


async def test_years_of_days_come_back(
    database: Pool, database_dsn: str, target: Pool, target_dsn: str, clients: Binaries, tmp_path: Path
) -> None:
    """Over 200 partitions, twice, so that as many are dropped in the same transaction: the server has locks enough."""
    await ensure_partitions(database, date(2027, 1, 1), days_ahead=209)
    await take(database, database_dsn, clients, tmp_path / "backup")
    for replace in (False, True):
        await bring_back(target, target_dsn, clients, tmp_path / "backup", replace=replace)
    async with target.acquire() as connection:
        assert len(await partition_days(connection)) >= 210


@pytest.mark.parametrize("name", ["pipe", "directory", "/dev/full"])
def test_what_is_no_file_is_no_backup(tmp_path: Path, name: str) -> None:
    """A pipe would be waited for without end."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    with pytest.raises(RefusedError, match="is no ordinary file"):
        backup.size_of(tmp_path / name)


async def test_a_failed_backup_leaves_no_file(database: Pool, database_dsn: str, tmp_path: Path) -> None:
    """The server goes away while it is written: one sentence, exit status 1, nothing left behind."""
    await fill(database, tmp_path / "spool", range(50))
    config = configuration(tmp_path, database_dsn)
    async with database.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE usage IN ACCESS EXCLUSIVE MODE")
        verb = subprocess.Popen(
            [sys.executable, "-m", "luntrex_proxy", "--config", config, "db", "backup", str(tmp_path / "backup")],
            stderr=subprocess.PIPE,
            text=True,
        )
        await wait_for_lock(database)
        await database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'luntrex-proxy backup'"
        )
        _, said = await asyncio.to_thread(verb.communicate)
    assert (verb.returncode, said.startswith("pg_dump could not read the database (")) == (1, True), said
    assert list(tmp_path.glob("backup*")) == []


async def test_damage_is_noticed_before_anything_changes(
    database: Pool, database_dsn: str, target: Pool, target_dsn: str, clients: Binaries, tmp_path: Path
) -> None:
    """A file cut short or with a flipped bit anywhere is refused, and the database is as it was."""
    await fill(database, tmp_path / "spool", range(50))
    good = tmp_path / "backup"
    await take(database, database_dsn, clients, good)
    data, seed = good.read_bytes(), random.Random(5)
    cases = [data[: seed.randrange(len(data))] for _ in range(40)]
    cases += [data[:at] + bytes([data[at] ^ 1 << seed.randrange(8)]) + data[at + 1 :] for at in _places(data, seed)]
    unpacked = gzip.decompress(data)
    cases.append(gzip.compress(unpacked[: unpacked.rindex(b"--")]))  # sound, but without the last line
    bad = tmp_path / "bad"
    for case in cases:
        bad.write_bytes(case)
        with pytest.raises(StoreError, match=r"not whole|no backup|damaged"):
            await bring_back(target, target_dsn, clients, bad)
    assert await contents(target) == {}


def _places(data: bytes, seed: random.Random) -> list[int]:
    """Bytes that count: gzip's header has a time, an operating system and a level that nobody reads."""
    return [seed.randrange(10, len(data)) for _ in range(60)]


async def test_refusals(
    database: Pool, database_dsn: str, target: Pool, target_dsn: str, clients: Binaries, tmp_path: Path
) -> None:
    """Where a backup does not belong it is not loaded, and a sentence says what to do."""
    state = tmp_path / "state"
    await fill(database, tmp_path / "spool", range(5), state)
    file = tmp_path / "backup"
    about = await take(database, database_dsn, clients, file)
    before = await contents(database)
    quiet = await open_pool(database_dsn, application_name="luntrex-proxy cli")
    await database.expire_connections()
    async with database.acquire():
        with pytest.raises(RefusedError, match="daemon works on this database; stop every one"):
            await backup.require_room(quiet, about, replace=True)
    await target.execute("CREATE TABLE somebodys (n int)")
    with pytest.raises(RefusedError, match=r"not luntrex-proxy's \(public.somebodys\)"):
        await backup.require_room(target, about, replace=True)
    await target.execute("DROP TABLE somebodys")
    newer = msgspec.structs.replace(about, postgres_major=clients.major + 1)
    with pytest.raises(RefusedError, match="restore into the same or a newer version"):
        await backup.require_room(target, newer, replace=False)
    daemon = await asyncpg.connect(target_dsn, server_settings={"application_name": "luntrex-proxy keyring"})
    with pytest.raises(RefusedError, match="daemon works on this database; stop every one"):
        await backup.require_room(target, about, replace=False)
    await daemon.close()
    assert await backup.require_room(target, about, replace=False) == []
    await migrate(target)
    with pytest.raises(RefusedError, match="is not empty; add --replace"):
        await backup.require_room(target, about, replace=False)
    drop = await backup.require_room(target, about, replace=True)
    await target.execute(f"DROP TABLE {', '.join(drop)}")
    await close_pool(quiet)
    first, rest = gzip.decompress(file.read_bytes()).split(b"\n", 1)
    ahead = tmp_path / "ahead"
    ahead.write_bytes(gzip.compress(first.replace(b'"0001_pre_', b'"9001_pre_') + b"\n" + rest))
    with pytest.raises(RefusedError, match=r"was made by release 0.0, newer than this one"):
        read_about(ahead)
    for text in (b"", b"hello", gzip.compress(b"SELECT 1;"), gzip.compress(b"-- luntrex-proxy backup {}\n")):
        ahead.write_bytes(text)
        with pytest.raises(RefusedError, match="no backup"):
            read_about(ahead)
    with pytest.raises(StoreError, match="nowhere cannot be read"):
        read_about(tmp_path / "nowhere")
    assert await contents(database) == before
    assert await contents(target) == {}


async def test_the_pepper_has_to_fit(database: Pool, database_dsn: str, clients: Binaries, tmp_path: Path) -> None:
    """A state directory without the pepper, or with another one, is told; none is made on the way."""
    state, other = tmp_path / "state", tmp_path / "other"
    await fill(database, tmp_path / "spool", range(1), state)
    about = await take(database, database_dsn, clients, tmp_path / "backup")
    backup.require_fitting_pepper(about, state)
    with pytest.raises(RefusedError, match=f"{other}/pepper is missing: put it into .* first, or add --other-pepper"):
        backup.require_fitting_pepper(about, other)
    assert not (other / "pepper").exists()
    load_pepper(other)
    with pytest.raises(RefusedError, match=f"{about.pepper_fingerprint}; {other}/pepper is another one: put"):
        backup.require_fitting_pepper(about, other)
    (state / "pepper").rename(state / "pepper.old")  # a rotation since then
    load_pepper(state)
    with pytest.raises(RefusedError, match=f"that is {state}/pepper.old: put it into {state}/pepper first"):
        backup.require_fitting_pepper(about, state)
    text = gzip.decompress((tmp_path / "backup").read_bytes())
    assert (state / "pepper.old").read_bytes() not in text


async def test_an_error_in_the_script_changes_nothing(
    database: Pool, database_dsn: str, clients: Binaries, tmp_path: Path
) -> None:
    """Whatever is wrong in the middle or at the end, what the database held is still there; no value is quoted."""
    await fill(database, tmp_path / "spool", range(20))
    script = b"".join(dump(database_dsn, clients))
    before = await contents(database)
    async with database.acquire() as connection:
        drop = list(await backup._tables(connection))
    line = script.index(b"\n", script.index(b"COPY public.account ")) + 1
    for broken in (
        script[:line] + b"canary\tcanary\n" + script[line:],
        script + b"SELECT 'canary'::int;\n",
        script + b"\\canary\n",
    ):
        with pytest.raises(StoreError, match="nothing in it has changed") as caught:
            await asyncio.to_thread(load, database_dsn, clients, iter([broken]), drop)
        assert "canary" not in str(caught.value)
        assert await contents(database) == before

    def cut() -> Iterator[bytes]:
        yield script[: len(script) // 2]
        raise RefusedError("the file is damaged")

    with pytest.raises(RefusedError, match="damaged"):
        await asyncio.to_thread(load, database_dsn, clients, cut(), drop)
    assert await contents(database) == before


async def test_a_killed_restore_changes_nothing(
    database: Pool, database_dsn: str, clients: Binaries, tmp_path: Path
) -> None:
    """kill -9 at any moment, in rows or between statements: the database is all the old one, or all the new one."""
    await fill(database, tmp_path / "spool", range(300))
    file = tmp_path / "backup"
    await take(database, database_dsn, clients, file)
    backed_up = await contents(database)
    await fill(database, tmp_path / "spool", range(300, 350))
    before = await contents(database)
    async with database.acquire() as connection:
        drop = list(await backup._tables(connection))
    for delay_s in (0.0, 0.15, 0.35, 0.7):
        restore = subprocess.Popen(
            [sys.executable, "-c", SLOW_RESTORE, database_dsn, str(file), *drop], stdout=subprocess.PIPE, text=True
        )
        assert restore.stdout is not None
        await asyncio.to_thread(restore.stdout.readline)
        await asyncio.sleep(delay_s)
        loading = children(restore.pid, "psql")
        assert loading, "it ended before it could be killed"
        restore.kill()
        restore.communicate()
        await until(lambda loading=loading: not any(process.is_running() for process in loading))
        assert await contents(database) == before
    await asyncio.to_thread(load, database_dsn, clients, read_backup(file, silent), drop)
    assert await contents(database) == backed_up


async def test_no_password_on_a_command_line(tmp_path: Path) -> None:
    """A server that asks for a password gets it, and no process shows it; a wrong one is said without quoting."""
    copy_clusters()
    server = EmbeddedPostgres(tmp_path / "state")
    dsn = server.start()
    password, quoted = "s3cret@/:pass", "s3cret%40%2F%3Apass"
    try:
        owner = await asyncpg.connect(dsn)
        await owner.execute(f"CREATE ROLE app LOGIN PASSWORD '{password}'")
        await owner.execute("CREATE DATABASE app OWNER app")
        hba = tmp_path / "state" / "postgres" / "pg_hba.conf"
        hba.write_text("local all app scram-sha-256\nlocal all all trust\n")
        await owner.execute("SELECT pg_reload_conf()")
        place = dsn.partition("host=")[2]
        config = configuration(tmp_path, f"postgresql://app:{quoted}@/app?host={place}")
        assert run(config, "db", "migrate").returncode == 0
        assert run(config, "accounts", "create", "acme").returncode == 0
        app = await asyncpg.connect(f"postgresql://app:{quoted}@/app?host={place}")
        seen: list[str] = []
        async with app.transaction():
            await app.execute("LOCK TABLE account IN ACCESS EXCLUSIVE MODE")
            verb = subprocess.Popen(
                [sys.executable, "-m", "luntrex_proxy", "--config", config, "db", "backup", str(tmp_path / "backup")]
            )
            await wait_for_lock(owner)
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    seen.append(" ".join(process.cmdline()))
        assert await asyncio.to_thread(verb.wait) == 0
        assert any("postgresql://app@/app" in line for line in seen)
        assert not any(word in line for line in seen for word in (password, quoted, "s3cret"))
        assert b"s3cret" not in gzip.decompress((tmp_path / "backup").read_bytes())
        done = run(config, "db", "restore", str(tmp_path / "backup"), "--replace", "--other-pepper", "--json")
        assert done.returncode == 0, done.stderr
        assert await app.fetchval("SELECT name FROM account") == "acme"
        await app.close()
        await owner.close()
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("dsn", "url", "password"),
    [
        ("postgresql://u:p%40w@h:5/d?sslmode=require", "postgresql://u@h:5/d?sslmode=require", "p@w"),
        ("postgresql://u@/d?host=%2Ftmp%2Fx&password=a+b%2F", "postgresql://u@/d?host=/tmp/x", "a b/"),
        ("postgresql://h/d", "postgresql://h/d", None),
        ("postgresql://u:@h/d", "postgresql://u@h/d", None),
    ],
)
def test_the_password_goes_into_the_environment(
    dsn: str, url: str, password: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URL keeps everything else; of the environment only what PostgreSQL needs is handed on."""
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    monkeypatch.delenv("PGPASSWORD", raising=False)
    shown, environment = backup.without_password(dsn)
    assert (shown, environment.get("PGPASSWORD")) == (url, password)
    assert "OPENAI_API_KEY" not in environment
    with pytest.raises(RefusedError, match="sslpassword"):
        backup.without_password("postgresql://u@h/d?sslpassword=x")


def test_the_nearest_programs_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the server's major, else the next newer; a server newer than all of them is refused with what to install."""
    monkeypatch.delenv("LUNTREX_PG_BINDIR", raising=False)
    monkeypatch.setattr(binaries, "_installed", lambda: iter([tmp_path / each for each in ("18", "15", "16", "none")]))
    for major in ("18", "15", "16"):
        (tmp_path / major).mkdir()
        for program in ("psql", "pg_dump"):
            file = tmp_path / major / program
            file.write_text(f"#!/bin/sh\necho '{program} (PostgreSQL) {major}.1'\n")
            file.chmod(0o755)
    assert [find_clients(major).major for major in (14, 15, 16, 17, 18)] == [15, 15, 16, 18, 18]
    with pytest.raises(StoreError, match=r"of PostgreSQL 19 or newer, and none were found; .*postgresql-client-19"):
        find_clients(19)


def test_every_major_is_backed_up_and_brought_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On each PostgreSQL found here: back up, restore into an empty server of the same major; the rows are the same."""
    majors = {
        found.major: found for each in binaries._installed() if (found := binaries._examine(each, binaries._SERVER))
    }
    assert majors
    copy_clusters()
    for major, programs in majors.items():
        one = EmbeddedPostgres(tmp_path / f"{major}a", binaries=programs)
        two = EmbeddedPostgres(tmp_path / f"{major}b", binaries=programs)
        try:
            asyncio.run(_there_and_back(one.start(), two.start(), major, tmp_path / f"file{major}", tmp_path))
        finally:
            one.stop()
            two.stop()


async def _there_and_back(first: str, second: str, major: int, file: Path, place: Path) -> None:
    source, target = [await open_pool(each, application_name="luntrex-proxy cli") for each in (first, second)]
    try:
        await migrate(source, post=True)
        await fill(source, place / "spool", range(50))
        clients = find_clients(await backup.server_major(source))
        assert clients.major == major
        assert (await take(source, first, clients, file)).schema == [each.label for each in packaged()]
        await bring_back(target, second, clients, file)
        assert await contents(target) == await contents(source)
    finally:
        await close_pool(source)
        await close_pool(target)


def configuration(place: Path, dsn: str) -> str:
    """A configuration file for an external database."""
    (place / "dsn").write_text(dsn)
    config = place / "luntrex-proxy.yaml"
    config.write_text(
        json.dumps({"state": {"directory": str(place / "lx")}, "database": {"url": {"file": str(place / "dsn")}}})
    )
    return str(config)


def run(config: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a verb."""
    command = [sys.executable, "-m", "luntrex_proxy", "--config", config, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def children(pid: int, name: str) -> list[psutil.Process]:
    """Processes of that name started by a process."""
    with contextlib.suppress(psutil.Error):
        return [each for each in psutil.Process(pid).children(recursive=True) if each.name() == name]
    return []


async def until(condition: Callable[[], T], wait_s: float = 20) -> T:
    """What the condition gives once it is true."""
    deadline = time.monotonic() + wait_s
    while not (found := condition()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    return found


async def wait_for_lock(connection: Connection | Pool) -> None:
    """Wait until a backup waits for a table."""
    waiting = (
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'luntrex-proxy backup' AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(20):
        while not await connection.fetch(waiting):
            await asyncio.sleep(0.02)
