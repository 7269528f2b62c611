"""The daemon as a child process: its configuration, its start and its ends, its command line, and its rows in Postgres.

Only the public contract is used here (commands, configuration keys, HTTP), plus one piece of PostgreSQL's own:
`postmaster.pid` in the data directory says where the socket is.
"""

import contextlib
import http.client
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import yaml

from tests.spying import outside, sitecustomize
from tests.upstreams.loop_thread import LoopThread
from tests.whole.forked import Forked, Running
from tests.whole.verbs import run_verb

REPOSITORY = Path(__file__).parents[2]
PROGRAM = ("-m", "luntrex_proxy")
READY_SECONDS = 60
STOP_SECONDS = 40
PROVIDER_SECRET = "provider-secret-of-the-simulator"
_NOT_INHERITED = re.compile(r"LUNTREX_|NOTIFY_SOCKET|LISTEN_|PG|.*_API_KEY$|.*_BASE_URL$|XDG_STATE_HOME")


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without anything that could configure the daemon, plus `more`."""
    kept = {name: value for name, value in os.environ.items() if not _NOT_INHERITED.match(name)}
    return outside.spied(kept | {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}) | more


def free_port() -> int:
    """A loopback port nobody listens on right now.

    Below those the kernel gives away by itself: a client's connection would take it before the daemon listens.
    """
    while True:
        port = 10_000 + secrets.randbelow(20_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def upstream(name: str, dialect: str, base_url: str, **more: Any) -> dict[str, Any]:
    """One upstream of the configuration."""
    fixed = {"name": name, "dialect": dialect, "base_url": base_url, "api_key": {"env": "TEST_PROVIDER_KEY"}}
    return fixed | {"region": "eu", "retention": "none", "training": "never"} | more


def model(name: str, upstream_name: str, model_there: str | None = None) -> dict[str, Any]:
    """One model of the configuration with one target; without `model_there` it has the same name at the upstream."""
    return {"name": name, "targets": [{"upstream": upstream_name, "model": model_there or name, "weight": 1}]}


class Daemon:
    """One state directory and the daemon that runs in it, which can be started and ended again and again.

    `dsn`: how the tests reach its database when that is not the embedded one.
    """

    def __init__(
        self, servers: LoopThread, configuration: Mapping[str, Any], dsn: str = "", **environment: str
    ) -> None:
        # Short, because a Unix socket's path may have 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="lx-"))
        self.state = self.directory / "state"
        self.state.mkdir(mode=0o700)
        self.port, self.control_port = free_port(), free_port()
        self.program: Sequence[str] = PROGRAM
        self.spied = self.directory / "spied"  # what it and its verbs reach outside this machine
        watched = {sitecustomize.FILE: str(self.spied)}
        self.environment = clean_environment(TEST_PROVIDER_KEY=PROVIDER_SECRET, **watched, **environment)
        self.stdout, self.stderr = self.directory / "stdout", self.directory / "stderr"
        self.account, self.key = "", ""
        self.process: Running | None = None
        self._starts_seen = self._stderr_seen = 0
        self.dsn = dsn
        self._servers, self._configuration = servers, configuration
        self.config = self.directory / "luntrex-proxy.yaml"
        configured = self._base() | configuration
        configured["gateway"] = self._base()["gateway"] | configuration.get("gateway", {})
        self.config.write_text(yaml.safe_dump(dict(configured)))

    def _base(self) -> dict[str, Any]:
        return {
            "gateway": {"listen": [f"127.0.0.1:{self.port}"]},
            "control": {"listen": [f"127.0.0.1:{self.control_port}"]},
            "state": {"directory": str(self.state)},
            "database": {"url": None},
        }

    def sibling(self, **more: Any) -> "Daemon":
        """Another daemon on the same database and state directory, with ports of its own; not started."""
        fixed = {"state": {"directory": str(self.state)}}
        twin = Daemon(self._servers, self._configuration | fixed | more, self.dsn)
        twin.state, twin.environment = self.state, self.environment
        twin.account, twin.key = self.account, self.key
        return twin

    @property
    def url(self) -> str:
        """The base URL for the openai SDK."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start and wait until the control plane says ready; the first start makes an account and a key."""
        self.spawn()
        self._wait_ready()
        if not self.key:
            self.account = "tests"
            self.cli("accounts", "create", self.account, "--json")
            self.key = self.make_key("first")["key"]
            self._wait_known(time.monotonic())

    def spawn(self) -> Running:
        """Start and do not wait."""
        self._starts_seen = self._starts()
        arguments = ["serve", "--config", str(self.config)]
        if self.program == PROGRAM:
            self.process = Forked(arguments, self.environment, self.directory, self.stdout, self.stderr)
            return self.process
        with self.stdout.open("ab") as out, self.stderr.open("ab") as err:
            self.process = subprocess.Popen(
                [sys.executable, *self.program, *arguments],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        return self.process

    def _wait_ready(self) -> None:
        """Its own word counts beside the probe: the port may be another daemon's by now."""
        deadline = time.monotonic() + READY_SECONDS
        while self._starts() <= self._starts_seen or self.probe("/readyz") != 200:
            assert self.process is not None
            died = self.process.poll() is not None
            if died or time.monotonic() > deadline:
                self.kill()
                why = f"exit status {self.process.returncode}" if died else "not ready in time"
                said = self.stderr.read_text(errors="replace")[self._stderr_seen :]
                self._stderr_seen += len(said)
                said = said[-4000:] + self.stdout.read_text(errors="replace")[-1000:]
                raise AssertionError(f"the daemon did not start ({why}):\n{said}")
            time.sleep(0.03)
        self._starts_seen = self._starts()

    def _wait_known(self, since: float) -> None:
        """Until what the daemon knows of keys is from after this moment; no request is spent on it."""
        while self.metric("luntrex_revocation_lag_seconds") >= time.monotonic() - since:
            assert time.monotonic() - since < READY_SECONDS
            time.sleep(0.03)

    def _starts(self) -> int:
        """How often `serve` announced itself at this terminal."""
        return self.stdout.read_text(errors="replace").count("State        ") if self.stdout.exists() else 0

    def probe(self, path: str) -> int:
        """The status of a GET on the control plane; 0 when nobody answers."""
        return get(self.control_port, path)[0]

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """End the daemon with a signal, wait for it, and return its exit status."""
        assert self.process is not None
        self.process.send_signal(sign)
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """kill -9, by its own pid only."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def remove(self) -> None:
        """End whatever still runs and delete the directory."""
        self.kill()
        for pid in self.postgres_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            self.check_reached()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def check_reached(self) -> None:
        """Fails when it connected or looked up a name where `config check --egress` does not say so."""
        notes = outside.notes_in(self.spied)
        if notes:
            said = outside.destinations_of(self.cli("config", "check", "--egress", "--json").stdout)
            found = outside.unexpected(notes, said)
            assert not found, f"reached what its configuration does not name: {found}"

    def cli(self, *arguments: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a verb of the command line against this configuration."""
        environment = self.environment | {"LUNTREX_CONFIG": str(self.config)}
        done = run_verb(arguments, environment, self.directory, stdin)
        if check:
            assert done.returncode == 0, f"{arguments}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def make_key(self, name: str) -> dict[str, str]:
        """A new key of the daemon's account: `id` and `key`."""
        made: dict[str, str] = json.loads(
            self.cli("keys", "create", "--account", self.account, "--name", name, "--json").stdout
        )
        return made

    def usage(self) -> dict[str, dict[str, Any]]:
        """`usage --requests --json`: one object per request, by request id."""
        return {
            row["request_id"]: row
            for row in read_objects(self.cli("usage", "--requests", "--limit", "10000", "--json").stdout)
        }

    def query(self, sql: str, *arguments: Any) -> list[dict[str, Any]]:
        """Rows straight from Postgres."""
        return self._servers.run(self._query(sql, *arguments))

    async def _query(self, sql: str, *arguments: Any) -> list[dict[str, Any]]:
        connection = await self.connect()
        try:
            return [dict(row) for row in await connection.fetch(sql, *arguments)]
        finally:
            await connection.close(timeout=5)

    async def connect(self) -> asyncpg.Connection:
        """A connection to the daemon's Postgres."""
        if self.dsn:
            return await asyncpg.connect(self.dsn, timeout=10)
        lines = (self.state / "postgres" / "postmaster.pid").read_text().splitlines()
        return await asyncpg.connect(host=lines[4].strip(), user="luntrex", database="postgres", timeout=10)

    def row(self, request_id: str, timeout_seconds: float = 10) -> dict[str, Any]:
        """The one row of a request in the usage table, waited for; fails when there are several."""
        rows = self.rows_where("request_id = $1", request_id, timeout_seconds=timeout_seconds)
        assert len(rows) == 1, f"{len(rows)} rows of request {request_id}"
        return rows[0]

    def rows_where(self, condition: str, *arguments: Any, timeout_seconds: float = 10) -> list[dict[str, Any]]:
        """Usage rows that meet a condition, once there is at least one."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            rows = self.query(f"SELECT *, request_id::text AS id FROM usage WHERE {condition}", *arguments)
            if rows or time.monotonic() > deadline:
                return rows
            time.sleep(0.05)

    def row_since(self, moment: float, timeout_seconds: float = 10) -> dict[str, Any]:
        """The one row of a request accepted since `moment` (time.time()), when the client never saw its id."""
        rows = self.rows_where("started_at >= to_timestamp($1)", moment, timeout_seconds=timeout_seconds)
        assert len(rows) == 1, f"{len(rows)} new rows"
        return rows[0]

    def postgres_pids(self) -> list[int]:
        """Processes whose working directory is our data directory: PostgreSQL and its children, and nobody else."""
        data = str((self.state / "postgres").resolve())
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str((process / "cwd").readlink()) == data:
                    found.append(int(process.name))
        return found

    def wait_no_postgres(self, timeout_seconds: float = 15) -> None:
        """Wait until no PostgreSQL of ours is left; fails when one stays."""
        deadline = time.monotonic() + timeout_seconds
        while left := self.postgres_pids():
            assert time.monotonic() < deadline, f"PostgreSQL still runs: {left}"
            time.sleep(0.05)

    def checks(self) -> dict[str, bool]:
        """The named conditions of /readyz."""
        found: dict[str, bool] = json.loads(get(self.control_port, "/readyz")[1])["checks"]
        return found

    def said(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log that say this."""
        whole = self.stderr.read_text().rpartition("\n")[0].splitlines()  # the last one may be half there
        lines = (json.loads(line) for line in whole if line.startswith("{"))
        return [line for line in lines if line.get("event") == event]

    def metric(self, name: str) -> float:
        """The sum of a metric's samples on the control plane."""
        return self.metrics(name)[0]

    def metrics(self, *names: str) -> list[float]:
        """The same of several at one moment."""
        text = get(self.control_port, "/metrics")[1].decode()
        found = [re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE) for name in names]
        assert all(found), f"not all of the metrics {names}"
        return [sum(float(value) for value in samples) for samples in found]


@contextlib.contextmanager
def running(
    servers: LoopThread, configuration: Mapping[str, Any], dsn: str = "", **environment: str
) -> Iterator[Daemon]:
    """A started daemon with an account and a key; ended and removed afterwards."""
    daemon = Daemon(servers, configuration, dsn, **environment)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.remove()


def get(port: int, path: str) -> tuple[int, bytes]:
    """A plain GET: (status, body); status 0 when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def read_objects(text: str) -> list[dict[str, Any]]:
    """JSON objects from a list, from an object that holds a list, or one per line."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    if isinstance(value, dict):
        value = next((part for part in value.values() if isinstance(part, list)), [value])
    return list(value)


def unique(prefix: str) -> str:
    """A name nothing else has."""
    return f"{prefix}-{secrets.token_hex(6)}"
