"""A private PostgreSQL inside the state directory: made, started, watched and stopped. Its SQL side is `database.py`.

It belongs to one process (state.StateLock), dies with it (launch.py), listens on nothing but a Unix socket in a 0700
directory, and its log can hold no statement and no value.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from luntrex_proxy.store.binaries import Binaries, find_binaries
from luntrex_proxy.store.datadirectory import (
    data_major,
    dsn_of,
    finish_swap,
    postmaster_file,
    short_socket_directory,
    socket_directory_of,
    wait_for_orphans,
)
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.identity import ENVIRONMENT, choose_identity, hand_over, launched, run
from luntrex_proxy.store.state import Role, StateLock, file_errors, make_state_directory, open_private

_INITDB_WAIT_S: Final = 120
_READY_WAIT_S: Final = 120
_STOP_WAITS_S: Final = (15.0, 5.0, 5.0)  # after each signal
_LOG_LIMIT_BYTES: Final = 1 << 20
_WATCH_PERIOD_S: Final = 1.0

_OPTIONS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    # A restore replaces every day's partition, with its index, in one transaction.
    "max_locks_per_transaction": "1024",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Small and quiet: metadata of one gateway, beside which the proxy must have its core and memory.
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "huge_pages": "off",
    # No statement, parameter or value in the log: errors of statements are not logged here at all (they reach the
    # caller), and what is logged comes without DETAIL.
    "logging_collector": "off",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_transaction_sample_rate": "0",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_connections": "off",
    "log_disconnections": "off",
    "log_checkpoints": "off",
    "log_autovacuum_min_duration": "-1",
    "log_lock_waits": "off",
    "debug_print_plan": "off",
}


class EmbeddedPostgres:
    """The private PostgreSQL of one state directory. `start` and `stop` may be called again and again.

    The arguments with defaults are for upgrades: another data directory and other programs than those a start would
    choose, a caller that owns the state directory already, more options, how long each signal of `stop` may take.
    """

    def __init__(
        self,
        state_directory: Path,
        data_name: str = "postgres",
        *,
        binaries: Binaries | None = None,
        holds_lock: bool = True,
        options: Mapping[str, str] = MappingProxyType({}),
        stop_waits_s: tuple[float, float, float] = _STOP_WAITS_S,
    ) -> None:
        self._state = state_directory.absolute()
        self._data = self._state / data_name
        self._binaries = binaries
        self._options = {**_OPTIONS, **options}
        self._stop_waits_s = stop_waits_s
        self._log = self._state / "postgres.log"
        self._lock = StateLock(self._state) if holds_lock else None
        self._process: subprocess.Popen[bytes] | None = None
        self._command: list[str] = []
        self._dsn = ""

    @property
    def pid(self) -> int | None:
        """The server's process id while it is ours."""
        return self._process.pid if self._process is not None else None

    def start(self, role: Role = "serve") -> str:
        """Start the server and return its DSN. Blocks a moment (0.1 s warm, 1-2 s the first time). Raises StoreError.

        Main thread only: the kernel ends the server when the *thread* that started it ends.
        """
        if self._process is not None:
            return self._dsn
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("EmbeddedPostgres.start belongs in the main thread")
        made = make_state_directory(self._state)
        if self._lock is not None:
            self._lock.acquire(role)
        try:
            with file_errors(self._state):
                self._prepare_and_spawn(made)
                self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self._dsn

    def _prepare_and_spawn(self, made: list[Path]) -> None:
        finish_swap(self._data)
        binaries = self._binaries or find_binaries(data_major(self._data))
        identity = choose_identity(self._state, self._data, binaries, made)
        wait_for_orphans(self._data)
        if not self._data.exists():
            self._make_cluster(binaries, identity)
        hand_over(self._data, identity)
        # Its process is gone for sure (see wait_for_orphans); left there, a reused process id could block the start.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        socket_directory = socket_directory_of(self._data, identity)
        options = {**self._options, "unix_socket_directories": '"' + str(socket_directory).replace('"', '""') + '"'}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        self._command = launched(identity, binaries.directory / "postgres", "-D", str(self._data), *arguments)
        self._dsn = dsn_of(socket_directory)
        self._spawn()

    def _make_cluster(self, binaries: Binaries, identity: str) -> None:
        """initdb beside its final place: a directory named `postgres` is always whole."""
        fresh = self._state / "postgres.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        hand_over(fresh, identity)
        options = ("-U", "luntrex", "--auth=trust", "-E", "UTF8", "--locale=C", "--data-checksums", "--no-instructions")
        command = launched(identity, binaries.directory / "initdb", "-D", str(fresh), *options)
        done = run(command, _INITDB_WAIT_S)
        if done.returncode != 0:
            reason = (done.stderr.decode("utf-8", "replace").strip().splitlines() or [""])[-1]
            raise StoreError(
                f"PostgreSQL could not make its data directory {fresh} (initdb: {reason}); "
                "check free space and permissions there, or set database.url."
            )
        fresh.rename(self._data)

    def _spawn(self) -> None:
        self._trim_log()
        log = open_private(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            self._process = subprocess.Popen(  # noqa: S603 -- our own launcher, no outside input
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=ENVIRONMENT,
                start_new_session=True,  # Ctrl-C in a terminal must reach us first, not the database under us
            )
        finally:
            os.close(log)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_WAIT_S
        while not self._is_ready():
            if self._process is None or self._process.poll() is not None:
                status = self._process.returncode if self._process is not None else "?"
                raise StoreError(f"PostgreSQL did not start (exit status {status}); its reason is in {self._log}.")
            if time.monotonic() > deadline:
                raise StoreError(f"PostgreSQL was not ready after {_READY_WAIT_S} s; see {self._log}.")
            time.sleep(0.005)

    def _is_ready(self) -> bool:
        lines = postmaster_file(self._data)
        return self._process is not None and lines[:1] == [str(self._process.pid)] and lines[7:8] == ["ready"]

    async def watch(self) -> None:
        """Run beside the daemon: starts the server again when it died, keeps its log below a bound."""
        while True:
            await asyncio.sleep(_WATCH_PERIOD_S)
            if self._process is not None and self._process.poll() is not None:
                # Its children leave by themselves; until then the start fails and is tried again a second later.
                self._spawn()
            self._trim_log()

    def _trim_log(self) -> None:
        # The server appends (O_APPEND), so it goes on at the new end.
        with contextlib.suppress(OSError):
            if self._log.stat().st_size > _LOG_LIMIT_BYTES:
                os.truncate(self._log, 0)

    def stop(self) -> None:
        """Stop the server and give the state directory back."""
        process, self._process = self._process, None
        if process is not None:
            _end(process, self._stop_waits_s)
            socket_directory = short_socket_directory(self._data)
            with contextlib.suppress(OSError):
                socket_directory.rmdir()
        if self._lock is not None:
            self._lock.release()


def _end(process: subprocess.Popen[bytes], waits_s: tuple[float, float, float]) -> None:
    # Fast, immediate, not at all nice. A server that hangs must not hold up the daemon's end.
    for sign, wait_s in zip((signal.SIGINT, signal.SIGQUIT, signal.SIGKILL), waits_s, strict=True):
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
            return
