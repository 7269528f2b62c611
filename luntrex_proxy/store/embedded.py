"""A private PostgreSQL inside the state directory: made, started, watched and stopped. Its SQL side is `database.py`.

It belongs to one process (state.StateLock), dies with it (launch.py), listens on nothing but a Unix socket in a 0700
directory, and its log can hold no statement and no value.
"""

import asyncio
import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from luntrex_proxy.store.binaries import Binaries, find_binaries
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.launch import NO_NAMESPACE_STATUS
from luntrex_proxy.store.state import Role, StateLock, file_errors, make_state_directory, open_private

_LAUNCH: Final = Path(__file__).with_name("launch.py")
_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_SOCKET_NAME: Final = ".s.PGSQL.5432"
_LONGEST_SOCKET_PATH: Final = 107
_NOBODY: Final = 65534
_INITDB_WAIT_S: Final = 120
_READY_WAIT_S: Final = 120
_STOP_WAIT_S: Final = 30
_STOP_WAITS_S: Final = (15.0, 5.0, 5.0)  # after each signal
_ORPHAN_WAIT_S: Final = 30
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
        identity = _choose_identity(self._state, self._data, binaries, made)
        _wait_for_orphans(self._data)
        if not self._data.exists():
            self._make_cluster(binaries, identity)
        _hand_over(self._data, identity)
        # Its process is gone for sure (see _wait_for_orphans); left there, a reused process id could block the start.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        socket_directory = _socket_directory(self._data, identity)
        options = {**self._options, "unix_socket_directories": '"' + str(socket_directory).replace('"', '""') + '"'}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        self._command = _launched(identity, binaries.directory / "postgres", "-D", str(self._data), *arguments)
        self._dsn = _dsn(socket_directory)
        self._spawn()

    def _make_cluster(self, binaries: Binaries, identity: str) -> None:
        """initdb beside its final place: a directory named `postgres` is always whole."""
        fresh = self._state / "postgres.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        _hand_over(fresh, identity)
        options = ("-U", "luntrex", "--auth=trust", "-E", "UTF8", "--locale=C", "--data-checksums", "--no-instructions")
        command = _launched(identity, binaries.directory / "initdb", "-D", str(fresh), *options)
        done = _run(command, _INITDB_WAIT_S)
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
                env=_ENVIRONMENT,
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
        lines = _postmaster_file(self._data)
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
            socket_directory = _short_socket_directory(self._data)
            with contextlib.suppress(OSError):
                socket_directory.rmdir()
        if self._lock is not None:
            self._lock.release()


def running_dsn(state_directory: Path) -> str | None:
    """The DSN of the server another process runs in this state directory, once it is ready.

    PostgreSQL's own `postmaster.pid` says where its socket is (5th line) and whether it is ready (8th).
    """
    lines = _postmaster_file(state_directory.absolute() / "postgres")
    return _dsn(Path(lines[4])) if lines[7:8] == ["ready"] else None


def has_data(state_directory: Path) -> bool:
    """Whether there is a database to start; what has none gets one at the first start. Raises StoreError."""
    with file_errors(state_directory):
        return (state_directory / "postgres" / "PG_VERSION").exists()


def _postmaster_file(data: Path) -> list[str]:
    try:
        return [line.strip() for line in (data / "postmaster.pid").read_text().splitlines()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(
            f"The database directory {data} cannot be read ({error.strerror}); "
            "run this command as the user the daemon runs as, or as root."
        ) from None


def _dsn(socket_directory: Path) -> str:
    return f"postgresql://luntrex@/postgres?host={quote(str(socket_directory), safe='')}"


def finish_swap(data: Path) -> None:
    """Complete an upgrade that was killed after it had put the old data aside: the new data waits beside, whole."""
    upgraded = data.with_name(f"{data.name}.upgraded")
    if not data.exists() and upgraded.exists():
        upgraded.rename(data)


def data_major(data: Path) -> int | None:
    """The major version of a data directory; None when there is none."""
    try:
        return int((data / "PG_VERSION").read_text().strip())
    except FileNotFoundError:
        if data.exists():
            raise StoreError(
                f"{data} exists but holds no PostgreSQL data; move it away or set another state.directory."
            ) from None
        return None
    except (OSError, ValueError):
        raise StoreError(f"{data} cannot be read; run as the owner of the state directory, or as root.") from None


def _launched(identity: str, program: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-I", "-S", str(_LAUNCH), identity, str(os.getpid()), str(program), *arguments]


def _run(command: list[str], wait_s: float) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # noqa: S603 -- our own launcher, no outside input
        command, capture_output=True, stdin=subprocess.DEVNULL, cwd="/", env=_ENVIRONMENT, timeout=wait_s, check=False
    )


def _choose_identity(state: Path, data: Path, binaries: Binaries, made: list[Path]) -> str:
    """Who the server runs as, in `launch.py`'s words. Raises StoreError when that user could not reach its files.

    `made`: the directories on the way to the state that this start has made.
    """
    if os.geteuid() != 0:
        return "self"
    owner = (data if data.exists() else state).stat()
    if owner.st_uid not in (0, _NOBODY):
        # root borrows the directory of a service user: the server stays that user's, so that its next start works.
        identity, uid = f"{owner.st_uid}:{owner.st_gid}", owner.st_uid
    elif _namespaces_work(binaries):
        identity, uid = "userns", 0
    else:
        nobody = _nobody()
        identity, uid = f"{nobody[0]}:{nobody[1]}", nobody[0]
        # A 0700 directory of root would be closed to it; x alone lets it pass, not look.
        for place in {state, *made}:
            place.chmod(place.stat().st_mode & 0o777 | 0o011)
    for needed in (state, binaries.directory):
        closed = _first_closed(needed, uid)
        if closed is not None:
            raise StoreError(
                f"PostgreSQL may not run as root, and the user it would run as cannot pass {closed}; "
                f"run luntrex-proxy as an ordinary user, or let others pass that directory, or move {needed} elsewhere."
            )
    return identity


def _namespaces_work(binaries: Binaries) -> bool:
    """Whether this root may make a user namespace (containers often forbid it)."""
    status = _run(_launched("userns", binaries.directory / "postgres", "-V"), _STOP_WAIT_S).returncode
    return status != NO_NAMESPACE_STATUS


def _nobody() -> tuple[int, int]:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return _NOBODY, _NOBODY
    return entry.pw_uid, entry.pw_gid


def _first_closed(path: Path, uid: int) -> Path | None:
    """The first directory on the way to `path` that `uid`, without root's rights, cannot pass."""
    for directory in reversed([path, *path.parents]):
        status = directory.stat()
        if not status.st_mode & (0o100 if status.st_uid == uid else 0o001):
            return directory
    return None


def _hand_over(directory: Path, identity: str) -> None:
    """Make everything in `directory` the property of the identity, when root changes it."""
    if identity == "self":
        return
    uid, gid = (0, 0) if identity == "userns" else (int(part) for part in identity.split(":"))
    if directory.stat().st_uid == uid:
        return
    for inside in directory.rglob("*"):
        os.lchown(inside, uid, gid)
    os.lchown(directory, uid, gid)


def _wait_for_orphans(data: Path) -> None:
    """Wait until no process of an earlier server works in `data` (each has it as its working directory)."""
    deadline = time.monotonic() + _ORPHAN_WAIT_S
    while pids := _processes_in(data):
        if time.monotonic() > deadline:
            raise StoreError(
                f"An earlier PostgreSQL (process {min(pids)}) still works in {data}; stop it, then start again."
            )
        time.sleep(0.02)


def _processes_in(data: Path) -> list[int]:
    wanted = str(data.resolve())
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            if str((process / "cwd").readlink()) == wanted:
                found.append(int(process.name))
    return found


def _socket_directory(data: Path, identity: str) -> Path:
    """The data directory, or, when its path cannot be a socket address, a short private one made here."""
    # Clients split a host at its commas, also one that is a path.
    if len(os.fsencode(data)) + 1 + len(_SOCKET_NAME) <= _LONGEST_SOCKET_PATH and "," not in str(data):
        return data
    directory = _short_socket_directory(data)
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    _hand_over(directory, identity)
    status = directory.lstat()
    if status.st_mode != 0o40700 or status.st_uid != data.stat().st_uid:
        raise StoreError(
            f"{directory}, the place for the database socket, is not a private directory of ours; "
            "remove it, or set a state.directory with a shorter path."
        )
    return directory


def _short_socket_directory(data: Path) -> Path:
    # The same name each time, so that a killed daemon leaves one empty directory at most.
    name = "luntrex-" + hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    return Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / name


def _end(process: subprocess.Popen[bytes], waits_s: tuple[float, float, float]) -> None:
    # Fast, immediate, not at all nice. A server that hangs must not hold up the daemon's end.
    for sign, wait_s in zip((signal.SIGINT, signal.SIGQUIT, signal.SIGKILL), waits_s, strict=True):
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
            return
