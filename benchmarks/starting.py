"""Starts what is compared: the pretend provider, the peers that are installed, and ours. One function each."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import (
    Cores,
    Cpu,
    allow_open_files,
    cpu_of,
    free_port,
    resident_bytes,
    start,
    stop,
    tree,
    wait_for,
)
from benchmarks.questions import KEY, MODEL, UPSTREAM_KEY, Target

HERE = Path(__file__).parent
REPOSITORY = HERE.parent
OURS = "luntrex-proxy"
LIMITED = "luntrex-proxy, limited"
_LIMITS = ("requests/minute=6000000", "tokens/day=1000000000000", "streams=10000")
_BUDGETS = ("day=1000000", "month=10000000")
_SETTLE_S = 1.5


class NotInstalledError(Exception):
    """The peer is not on this machine; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a comparison happens."""

    stack: ExitStack
    directory: Path
    cores: Cores
    peers: Path
    upstream_port: int
    certificate: Path | None = None  # the upstream speaks TLS, and this file proves it

    def folder(self, name: str) -> Path:
        """A directory of its own for one program."""
        made = self.directory / (f"{name}-tls" if self.certificate else name)
        made.mkdir()
        return made


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy under test."""

    target: Target
    process: "subprocess.Popen[bytes]"
    version: str
    share: float = 1.0  # of the usual load; the slow ones would not finish in time with all of it
    alone: bool = False  # its child processes (a database) are counted for themselves
    control_port: int = 0

    @property
    def name(self) -> str:
        """As shown."""
        return self.target.name

    def pids(self) -> list[int]:
        """The processes that do the proxy's work."""
        return [self.process.pid] if self.alone else tree(self.process.pid)

    def cpu(self) -> Cpu:
        """CPU time so far."""
        return cpu_of(self.pids())

    def helpers_cpu(self) -> Cpu:
        """CPU time so far of the processes beside it."""
        return cpu_of(tree(self.process.pid)[1:] if self.alone else [])

    def resident_bytes(self) -> int:
        """Memory now."""
        return resident_bytes(self.pids())


def start_upstream(stack: ExitStack, cores: Cores, *, addresses: int = 1, tls: tuple[Path, Path] | None = None) -> int:
    """The pretend provider; returns its port. `tls` is a certificate and its key."""
    port = free_port()
    more = [str(path) for path in tls or ()]
    command = [sys.executable, "-m", "benchmarks.upstream", str(port), str(addresses), *more]
    process = start(stack, command, cores.upstream, directory=REPOSITORY)
    wait_for(port, process, "the pretend provider")
    return port


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """A throw-away certificate for the loopback address, and its key. Raises NotInstalledError."""
    if not shutil.which("openssl"):
        raise NotInstalledError("the TLS rows need openssl: apt install openssl")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return certificate, key


def fill(name: str, to: Path, place: Place, port: int, **more: object) -> Path:
    """Write a peer's configuration with this run's ports and paths."""
    text = (HERE / "peers" / name).read_text()
    known = {"PORT": port, "UPSTREAM_PORT": place.upstream_port, "KEY": KEY, "UPSTREAM_KEY": UPSTREAM_KEY}
    for mark, value in {"DIRECTORY": to, **known, **more}.items():
        text = text.replace(f"@{mark}@", str(value))
    (to / name).write_text(text)
    return to / name


def start_nginx(place: Place) -> Proxy:
    """nginx with one worker: the floor."""
    binary = _find("nginx", "apt install nginx-light")
    port, to = free_port(), place.folder("nginx")
    # The name of a certificate is only checked against host names there, not against addresses.
    tls = f"proxy_ssl_trusted_certificate {place.certificate}; proxy_ssl_verify on; proxy_ssl_name localhost;"
    scheme = "https" if place.certificate else "http"
    config = fill("nginx.conf", to, place, port, SCHEME=scheme, TLS=tls if place.certificate else "")
    process = _run(place, to, port, [binary, "-c", str(config), "-e", "stderr"], "nginx")
    said = subprocess.run([binary, "-v"], capture_output=True, text=True, check=False).stderr
    return Proxy(Target("nginx", port), process, said.rsplit("/", 1)[-1].strip())


def start_haproxy(place: Place) -> Proxy:
    """HAProxy with one thread."""
    binary = _find("haproxy", "apt install haproxy")
    port, to = free_port(), place.folder("haproxy")
    # Two files for each connection and some of its own: it refuses to start with more than it may open.
    connections = min(20000, (allow_open_files() - 200) // 2)
    config = fill("haproxy.cfg", to, place, port, CONNECTIONS=connections)
    process = _run(place, to, port, [binary, "-db", "-f", str(config)], "HAProxy")
    said = subprocess.run([binary, "-v"], capture_output=True, text=True, check=False).stdout.split()
    return Proxy(Target("haproxy", port), process, said[2] if len(said) > 2 else "")


def start_litellm(place: Place) -> Proxy:
    """LiteLLM with one worker, no database, offline."""
    python = _python_of(place, "litellm")
    port, to = free_port(), place.folder("litellm")
    shutil.copy(HERE / "peers" / "litellm_auth.py", to)
    config = fill("litellm.yaml", to, place, port)
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION"}
    command = [str(python.with_name("litellm")), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    process = _run(place, to, port, [*command, "--num_workers", "1"], "LiteLLM", NO_DOCS="True", BENCH_KEY=KEY, **quiet)
    return Proxy(Target("litellm", port), process, _package(python, "litellm"), share=0.1)


def start_sglang_router(place: Place) -> Proxy:
    """sglang-router, which has one key for all clients and passes it on."""
    python = _python_of(place, "sglang-router")
    port, to = free_port(), place.folder("sglang-router")
    command = [str(python), "-m", "sglang_router.launch_router", "--host", "127.0.0.1", "--port", str(port)]
    metrics = ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
    worker = ["--worker-urls", f"http://127.0.0.1:{place.upstream_port}", "--policy", "round_robin"]
    command += [*metrics, *worker, "--api-key", KEY, "--log-level", "warn"]
    process = _run(place, to, port, command, "sglang-router")
    return Proxy(Target("sglang-router", port), process, _package(python, "sglang-router"))


def start_portkey(place: Place) -> Proxy:
    """Portkey's open-source gateway: without keys of its own, the client names the upstream and brings its key."""
    node = _find("node", "apt install nodejs (20 or newer)")
    script = place.peers / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    if not script.exists():
        raise NotInstalledError(f"{script} is not there; benchmarks/peers/README.md says how to install it")
    port, to = free_port(), place.folder("portkey")
    # It refuses upstreams on loopback unless they are named.
    process = _run(
        place, to, port, [node, str(script), "--headless", f"--port={port}"], "Portkey",
        TRUSTED_CUSTOM_HOSTS="localhost,127.0.0.1", NODE_ENV="production",
    )  # fmt: skip
    headers = {
        "Authorization": f"Bearer {UPSTREAM_KEY}",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{place.upstream_port}/v1",
    }
    version = json.loads((script.parents[1] / "package.json").read_text())["version"]
    return Proxy(Target("portkey", port, headers), process, version, share=0.25)


def start_ours(
    place: Place,
    *,
    keys: int = 1,
    upstreams: int = 1,
    limited: bool = False,
    program: str = "luntrex_proxy",
    under: Sequence[str] = (),
) -> Proxy:
    """The daemon with everything on. More upstreams are more loopback addresses, each with a model `bench-N`.

    `limited`: account and key have limits and budgets, which nobody reaches. `program` is the module to run, one that
    does more than the daemon. `under`: a command that runs it, and stays the same process.
    """
    to = place.folder(f"{program}-{keys}-{upstreams}{'-limited' if limited else ''}")
    port, control = free_port(), free_port()
    scheme, trust = ("https", f", ca_file: {place.certificate}") if place.certificate else ("http", "")
    names = [MODEL, *(f"{MODEL}-{number}" for number in range(1, upstreams))]
    base = f"{scheme}://127.0.0.%d:{place.upstream_port}/v1"
    # The default policy of an account lets requests go only where nothing is trained on them.
    known = "region: eu, retention: none, training: never, max_connections: 20000"
    shape = f'  - {{name: %s, dialect: openai, base_url: "%s", api_key: %s, {known}%s}}'
    upstream_lines = [shape % (name, base % (at + 1), UPSTREAM_KEY, trust) for at, name in enumerate(names)]
    shape = "  - {name: %s, targets: [{upstream: %s, model: bench}], price: {input: 0.15, output: 0.6}}"
    model_lines = [shape % (name, name) for name in names]
    config = fill(
        "luntrex-proxy.yaml", to, place, port,
        CONTROL_PORT=control, UPSTREAMS="\n".join(upstream_lines), MODELS="\n".join(model_lines),
    )  # fmt: skip
    verbs, account = [sys.executable, "-m", "luntrex_proxy"], program.replace(".", "-").replace("_", "-")
    serve = [*under, sys.executable, "-m", program, "serve", "--config", str(config)]
    process = _run(place, to, port, serve, OURS)
    _command(verbs, config, "accounts", "create", account)
    made = _command(verbs, config, "keys", "create", "--account", account, "--name", "bench", "--json")
    if limited:
        for whose in (("--account", account), ("--key", json.loads(made)["id"])):
            _command(verbs, config, "limits", "set", *whose, *_LIMITS)
            _command(verbs, config, "budgets", "set", *whose, *_BUDGETS)
    if keys > 1:
        from benchmarks.filler import add_keys

        add_keys(to / "state", keys - 1)
        stop(process)  # a ring that grew at work is not the one that was loaded at start
        process = _run(place, to, port, serve, OURS)
    for helper in tree(process.pid)[1:]:
        os.sched_setaffinity(helper, {place.cores.upstream})  # its database works beside it, not on its core
    time.sleep(_SETTLE_S)
    target = Target(LIMITED if limited else OURS, port, {"Authorization": f"Bearer {json.loads(made)['key']}"})
    return Proxy(target, process, "this tree", alone=True, control_port=control)


STARTS: dict[str, Callable[[Place], Proxy]] = {
    "nginx": start_nginx,
    "haproxy": start_haproxy,
    OURS: start_ours,
    "sglang-router": start_sglang_router,
    "portkey": start_portkey,
    "litellm": start_litellm,
}


def _run(
    place: Place, to: Path, port: int, command: list[str], name: str, **environment: str
) -> "subprocess.Popen[bytes]":
    log = place.stack.enter_context((to / "log").open("ab"))
    source = {"PYTHONPATH": str(REPOSITORY)} if name == OURS else {}
    process = start(place.stack, command, place.cores.proxy, log=log, more_environment=environment | source)
    try:
        wait_for(port, process, name)
    except RuntimeError as error:
        tail = (to / "log").read_text(errors="replace").strip().splitlines()[-3:]
        raise RuntimeError(f"{error}; it said: {' / '.join(tail) or 'nothing'}") from None
    return process


def _command(program: list[str], config: Path, *verb: str) -> bytes:
    done = subprocess.run(
        [*program, *verb, "--config", str(config)], capture_output=True, check=False, cwd=REPOSITORY
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(verb)} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _find(name: str, how: str) -> str:
    binary = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    if not binary:
        raise NotInstalledError(f"it is not installed: {how}")
    return binary


def _python_of(place: Place, name: str) -> Path:
    python = place.peers / name / "bin" / "python"
    if not python.exists():
        raise NotInstalledError(f"{python} is not there; benchmarks/peers/README.md says how to install it")
    return python


def _package(python: Path, name: str) -> str:
    code = f"import importlib.metadata as m; print(m.version('{name}'))"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False).stdout.strip()
