"""A PostgreSQL server of a test's own that may be harmed (stopped, frozen, filled), an ordinary user, and a proxy."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg

from luntrex_proxy.store.embedded import EmbeddedPostgres
from tests.clusters import copy_clusters
from tests.upstreams.loop_thread import LoopThread
from tests.whole.faultproxy import FaultProxy

USER, PASSWORD = "app", "password-of-the-tests"
_DISK_MB = 160
_ACCESS = f"local all luntrex trust\nlocal all {USER} scram-sha-256\n"


class Server:
    """The server, a database `luntrex` of `USER` (no superuser), and `proxy` in front of both."""

    def __init__(self, servers: LoopThread, *, small_disk: bool = False) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="lxpg-"))
        self.directory.chmod(0o711)
        self.small_disk = small_disk and _mount(self.directory)
        self._servers = servers
        copy_clusters()
        self._embedded = EmbeddedPostgres(self.directory / "state")
        self._dsn = self._embedded.start()
        (self.data / "pg_hba.conf").write_text(_ACCESS)
        self.sql("SELECT pg_reload_conf()")
        self.sql("SET password_encryption = 'scram-sha-256'")
        self.sql(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        self.sql(f"CREATE DATABASE luntrex OWNER {USER}")
        self.proxy = FaultProxy(servers, self.socket)

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "state" / "postgres"

    @property
    def socket(self) -> Path:
        """The Unix socket the server listens on."""
        return self.data / ".s.PGSQL.5432"

    @property
    def admin_dsn(self) -> str:
        """For the tests themselves: the superuser, around the proxy."""
        return self._dsn.replace("/postgres?", "/luntrex?")

    def url(self, port: int | None = None) -> str:
        """`database.url` of a daemon: the ordinary user, through the proxy (or another port)."""
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{port or self.proxy.port}/luntrex"

    def sql(self, statement: str, *arguments: Any, database: str = "postgres") -> list[dict[str, Any]]:
        """Run a statement as the superuser."""
        return self._servers.run(self._sql(statement, arguments, database))

    async def _sql(self, statement: str, arguments: tuple[Any, ...], database: str) -> list[dict[str, Any]]:
        connection = await self.connect(database)
        try:
            return [dict(row) for row in await connection.fetch(statement, *arguments)]
        finally:
            await connection.close(timeout=5)

    async def connect(self, database: str = "luntrex") -> Any:
        """A connection of the superuser."""
        return await asyncpg.connect(self._dsn.replace("/postgres?", f"/{database}?"), timeout=5)

    def end_sessions(self, condition: str = "true") -> int:
        """End the ordinary user's sessions, those that meet a condition on pg_stat_activity; how many."""
        return len(
            self.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{USER}' AND {condition}")
        )

    @contextlib.contextmanager
    def no_connection_left(self) -> Iterator[None]:
        """Every slot that is not the superuser's is taken by others."""
        held: list[Any] = []

        async def take() -> None:
            with contextlib.suppress(asyncpg.TooManyConnectionsError):
                while True:
                    held.append(await asyncpg.connect(self._dsn, user=USER, password=PASSWORD, timeout=5))

        async def give_back() -> None:
            for connection in held:
                await connection.close(timeout=5)

        quiet = 0
        while quiet < 3:  # sometimes those whose sessions end are back more quickly than we are
            self._servers.run(take())
            quiet = 0 if self.end_sessions("application_name LIKE 'luntrex%'") else quiet + 1
            time.sleep(0.1)
        try:
            yield
        finally:
            self._servers.run(give_back())

    @contextlib.contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Another session holds the strongest lock on a table."""

        async def lock() -> Any:
            connection = await self.connect()
            await connection.execute(f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            return connection

        connection = self._servers.run(lock())
        try:
            yield
        finally:
            self._servers.run(connection.close(timeout=5))

    def stop(self) -> None:
        """A fast shutdown."""
        self._embedded.stop()

    def start(self) -> None:
        """Start again; main thread only."""
        self._embedded.start()

    @contextlib.contextmanager
    def frozen(self, pids: list[int] | None = None) -> Iterator[None]:
        """SIGSTOP for every process of the server, or some of them."""
        stopped: list[int] = []
        # Again, until there is no new one: the server may have been about to fork.
        while new := [pid for pid in (self.pids() if pids is None else pids) if pid not in stopped]:
            for pid in new:
                with contextlib.suppress(ProcessLookupError):  # a session that ended meanwhile
                    os.kill(pid, signal.SIGSTOP)
            stopped += new
        assert stopped
        try:
            yield
        finally:
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def pids(self) -> list[int]:
        """The server and its children, told by their working directory."""
        data, found = str(self.data.resolve()), []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str((process / "cwd").readlink()) == data:
                    found.append(int(process.name))
        return found

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Not a byte left on the server's disk."""
        ballast = self.directory / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        try:
            yield
        finally:
            ballast.unlink()

    def remove(self) -> None:
        """Stop the server and leave nothing."""
        self.proxy.stop()
        with contextlib.suppress(Exception):
            self._embedded.stop()
        if self.small_disk:
            subprocess.run(["umount", "-l", str(self.directory)], check=False)
        subprocess.run(["rm", "-rf", "--one-file-system", str(self.directory)], check=False)


def _mount(directory: Path) -> bool:
    """A small file system of its own for the server; False where this user may not mount."""
    if os.geteuid() != 0:
        return False
    options = ["-o", f"size={_DISK_MB}m,mode=0711"]
    return (
        subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(directory)], capture_output=True).returncode == 0
    )


def wait_until(holds: Any, seconds: float, what: str) -> float:
    """Wait until `holds()`; the seconds it took. Fails with `what` after `seconds`."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() - started < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - started
