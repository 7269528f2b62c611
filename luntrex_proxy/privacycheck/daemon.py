"""A daemon for the check: the installation's program, database, pepper and settings; its own directory and upstreams.

It listens on Unix sockets in a private directory, so that nobody else can speak to it meanwhile.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from luntrex_proxy.settings.model import Settings
from luntrex_proxy.simulator.misbehaving import FAILURES
from luntrex_proxy.simulator.server import ANTHROPIC_MODELS, OPENAI_MODELS, Simulator
from luntrex_proxy.store.checkjournal import DIRECTORY_PREFIX, CheckJournal
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.identity import launched
from luntrex_proxy.store.wrapping import WRAPPING_FILE

_READY_WAIT_S: Final = 60.0
_STOP_WAIT_S: Final = 40.0
_SECRET: Final = "LUNTREX_CHECK_UPSTREAM_SECRET"  # noqa: S105 -- a variable's name
ASKED_MODEL: Final = "check-asked"  # of an upstream of the installation
_ANSWER_S: Final = 20.0
# All other sections are the installation's: what decides how and how long data is kept.
_OWN: Final = frozenset({
    "gateway", "control", "console", "mail", "state", "database", "alerts", "security", "sealing", "logging", "policy",
    "upstreams", "models",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the check's daemon keeps what."""

    root: Path

    @property
    def state(self) -> Path:
        """Spool and pepper."""
        return self.root / "state"

    @property
    def temporary(self) -> Path:
        """Its TMPDIR."""
        return self.root / "tmp"

    @property
    def output(self) -> Path:
        """Its stdout and stderr."""
        return self.root / "output.log"

    @property
    def gateway(self) -> Path:
        """The inference API's socket."""
        return self.root / "gateway.sock"

    @property
    def control(self) -> Path:
        """The control plane's socket."""
        return self.root / "control.sock"


def new_paths() -> Paths:
    """A place that nobody has made yet."""
    return Paths(Path(tempfile.gettempdir()).absolute() / f"{DIRECTORY_PREFIX}{secrets.token_hex(8)}")


@contextlib.contextmanager
def private_directory(paths: Paths) -> Iterator[None]:
    """The place for all of it, gone at the end."""
    paths.root.mkdir(mode=0o700)
    try:
        paths.state.mkdir(mode=0o700)
        paths.temporary.mkdir(mode=0o700)
        yield
    finally:
        shutil.rmtree(paths.root, ignore_errors=True)


def copy_pepper(state_directory: Path, paths: Paths) -> None:
    """The check's keys are the installation's: they work with its pepper only."""
    for name in ("pepper", "pepper.old"):
        if (state_directory / name).exists():
            shutil.copy2(state_directory / name, paths.state / name)


def configuration(
    settings: Settings, dsn: str, paths: Paths, simulator: Simulator, failing_url: str, state_directory: Path
) -> dict[str, Any]:
    """What the check's daemon runs with."""
    whole = settings.model_dump(mode="json")
    common = {"region": "local", "retention": "none", "training": "never"}
    timeouts = {"connect_s": 2.0, "first_byte_s": 1.0, "idle_s": 1.0}
    health = {"failures": 10_000, "error_requests": 10_000}
    answering = {"base_url": simulator.url, "api_key": {"env": _SECRET}, **common}
    failing = {"base_url": failing_url, "timeouts": timeouts, "health": health, **common}
    upstreams = [
        {"name": f"check-{kind}{dialect}", "dialect": dialect, **more}
        for kind, more in (("", answering), ("failing-", failing))
        for dialect in ("openai", "anthropic")
    ]
    models = [("check-openai", OPENAI_MODELS), ("check-anthropic", ANTHROPIC_MODELS)]
    models.append(("check-failing-openai", FAILURES))
    key_file = settings.sealing.key_file or state_directory / WRAPPING_FILE
    return {
        **{section: values for section, values in whole.items() if section not in _OWN},
        "gateway": {
            "listen": [f"unix:{paths.gateway}"],
            "limits": {"key_failures_per_minute": None},
        },
        "control": {"listen": [f"unix:{paths.control}"]},
        "state": {"directory": str(paths.state)},
        "database": {"url": dsn},
        "alerts": {"attempts_per_key": None, "attempts_per_network": None},
        "sealing": {"key_file": str(key_file), "kms": whole["sealing"]["kms"]},
        "logging": {"level": "debug", "requests": True},
        "upstreams": upstreams,
        "models": [
            {"name": name, "targets": [{"upstream": upstream, "model": name}]}
            for upstream, names in models
            for name in names
        ]
        + [
            {"name": f"claude-{name}", "targets": [{"upstream": "check-failing-anthropic", "model": name}]}
            for name in FAILURES
        ],
    }


def add_upstream(configured: dict[str, Any], settings: Settings, name: str, model: str) -> None:
    """Let the check's daemon ask an upstream of the installation for this model."""
    upstream = next(one for one in settings.upstreams if one.name == name)
    target = next(each for one in settings.models if one.name == model for each in one.targets if each.upstream == name)
    written = upstream.model_dump(mode="json")
    for key in ("api_key", "proxy"):
        secret = getattr(upstream, key)
        if secret is not None and not isinstance(secret.written, dict):  # in the configuration itself
            variable = f"{_SECRET}_{key.upper()}"
            os.environ[variable] = secret.reveal()
            written[key] = {"env": variable}
    configured["upstreams"].append(written)
    configured["models"].append({"name": ASKED_MODEL, "targets": [{"upstream": name, "model": target.model}]})
    configured["policy"] = {"retention": "unknown", "training": "unknown"}  # who asks has seen what it is


class CheckedDaemon:
    """The process; `program` begins its command line. It ends with this one, and holds the journal's lock till then."""

    def __init__(
        self, program: Sequence[str], paths: Paths, configured: dict[str, Any], secret: str, journal: CheckJournal
    ) -> None:
        self.paths = paths
        self._journal = journal
        file = paths.root / "check.yaml"
        file.write_bytes(orjson.dumps(configured))  # JSON is YAML
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("LUNTREX_", "NOTIFY_", "LISTEN_"))
        }
        self._environment = kept | {_SECRET: secret, "TMPDIR": str(paths.temporary)}
        self._command = launched("self", Path(program[0]), *program[1:], "serve", "--config", str(file))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Started, ready, and ended. StoreError: it does not start."""
        process = self._spawn()
        try:
            await self._wait_ready(process)
            yield
        finally:
            await asyncio.to_thread(self._end, process)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.paths.output.open("ab") as output:
            return subprocess.Popen(  # noqa: S603 -- our own program
                self._command, env=self._environment, cwd=self.paths.root, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, pass_fds=(self._journal.descriptor,),
            )  # fmt: skip

    async def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = asyncio.get_running_loop().time() + _READY_WAIT_S
        while b" 200 " not in (await self.ask_control("/readyz"))[:40]:
            if process.poll() is not None or asyncio.get_running_loop().time() > deadline:
                said = self.paths.output.read_text(errors="replace").strip().splitlines()[-1:] or ["nothing"]
                raise StoreError(f"The daemon for the check does not start; it says: {said[0][:500]}")
            await asyncio.sleep(0.05)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    async def ask(self, request: bytes, *, leave_after: int = 0) -> bytes:
        """Send bytes to the gateway and read to the end; `leave_after` so many bytes the client is gone."""
        return await _exchange(self.paths.gateway, request, leave_after)

    async def ask_control(self, path: str) -> bytes:
        """A GET of the control plane."""
        return await _exchange(
            self.paths.control, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )


async def _exchange(socket: Path, request: bytes, leave_after: int = 0) -> bytes:
    received = b""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(request)
                await writer.drain()
                while (piece := await reader.read(65_536)) and not (leave_after and len(received) > leave_after):
                    received += piece
            finally:
                writer.close()
    return received
