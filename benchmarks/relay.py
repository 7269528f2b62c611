"""CPU per JSON request and per paced SSE event, ours as a ratio to nginx's, in one run on one core.

    python benchmarks/relay.py            needs nginx: apt install nginx-light

Everything is on in ours: keys, usage injection and withholding, metering, ledger, metrics, one log line per request.
The proxies run on core 0, one after the other and interleaved; upstream, client and Postgres run on core 1. CPU is user
and system time of the proxy's process; what the embedded Postgres uses beside it is printed in a column of its own.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import uvloop

HERE = Path(__file__).parent
TICK = os.sysconf("SC_CLK_TCK")
JSON_BODY = b'{"model":"bench","messages":[{"role":"user","content":"' + b"word " * 160 + b'"}]}'
STREAM_BODY = JSON_BODY[:-1] + b',"stream":true}'
NGINX = """
daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_max_body_size 64m; client_body_buffer_size 1m;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;
  fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  map $http_authorization $upkey {{ default ""; "Bearer {key}" "Bearer upstream-secret"; }}
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 512; }}
  server {{ listen 127.0.0.1:{port}; keepalive_requests 100000000;
    location / {{ if ($upkey = "") {{ return 401; }}
      proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Authorization $upkey;
      proxy_buffering off; proxy_read_timeout 600s; }} }} }}
"""
OURS = """
gateway: {{listen: ["127.0.0.1:{port}"]}}
control: {{listen: ["127.0.0.1:{control}"]}}
state: {{directory: {dir}/state}}
upstreams:
  - {{name: bench, dialect: openai, base_url: "http://127.0.0.1:{upstream}/v1", api_key: upstream-secret,
     retention: none, training: never}}
models:
  - {{name: bench, targets: [{{upstream: bench, model: bench}}], price: {{input: 0.15, output: 0.6}}}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(entry.read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found += [int(entry.parent.name), *children(int(entry.parent.name))]
        except (OSError, ValueError):
            continue
    return found


class Proxy:
    """A proxy under test: where it listens, which process does the work, which ones help."""

    def __init__(self, name: str, port: int, key: str, worker: int, helpers: list[int]) -> None:
        self.name, self.port, self.key, self.worker, self.helpers = name, port, key, worker, helpers

    def read(self) -> tuple[float, float]:
        helpers = 0.0
        for pid in children(self.worker) if self.helpers else []:
            helpers += cpu_s(pid) if Path(f"/proc/{pid}").exists() else 0.0
        return cpu_s(self.worker), helpers


class Client(asyncio.Protocol):
    """One connection that asks again as soon as an answer is complete."""

    def __init__(self, request: bytes, counts: list[int], stream: bool, until: float) -> None:
        self.request, self.counts, self.stream, self.until = request, counts, stream, until
        self.done = asyncio.get_running_loop().create_future()
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self.request)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        if not self.done.done():
            self.done.set_exception(ConnectionError("the proxy closed a connection"))

    def data_received(self, data: bytes) -> None:
        if self.stream:
            self.counts[1] += data.count(b'"delta"')
            self.buffer = (self.buffer + data)[-64:]
            if not self.buffer.endswith(b"[DONE]\n\n\r\n0\r\n\r\n"):
                return
        else:
            self.buffer += data
            if not self.buffer.endswith(b"}}}"):
                return
            if not self.buffer.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"not a 200: {self.buffer[:40]!r}")
        self.buffer = b""
        self.counts[0] += 1
        if time.monotonic() < self.until:
            self.transport.write(self.request)
        elif not self.done.done():
            self.done.set_result(None)
            self.transport.close()


async def load(port: int, key: str, *, stream: bool, connections: int, seconds: float) -> tuple[int, int]:
    body = STREAM_BODY if stream else JSON_BODY
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept-Encoding: gzip, deflate\r\n"
        "Connection: keep-alive\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
        "User-Agent: OpenAI/Python 2.54.0\r\nX-Stainless-Lang: python\r\nX-Stainless-Package-Version: 2.54.0\r\n"
        "X-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\n"
        f"X-Stainless-Async: false\r\nx-stainless-retry-count: 0\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    counts = [0, 0]
    loop = asyncio.get_running_loop()
    until = time.monotonic() + seconds
    clients = []
    for number in range(connections):
        _, client = await loop.create_connection(lambda: Client(head + body, counts, stream, until), "127.0.0.1", port)
        clients.append(client.done)
        if stream and number % 8 == 7:
            await asyncio.sleep(0.002)  # spread the streams' phases
    await asyncio.wait_for(asyncio.gather(*clients), seconds + 60)
    return counts[0], counts[1]


def start_nginx(stack: ExitStack, directory: Path, upstream: int) -> Proxy:
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(binary).exists():
        raise SystemExit("nginx is not installed: apt install nginx-light")
    port, key = free_port(), "lx_benchmark"
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(dir=directory, key=key, upstream=upstream, port=port))
    process = start(stack, ["taskset", "-c", "0", binary, "-c", str(config), "-e", "stderr"])
    wait_for(port)
    return Proxy("nginx", port, key, children(process.pid)[0], [])


def start_ours(stack: ExitStack, directory: Path, upstream: int) -> Proxy:
    port = free_port()
    config = directory / "luntrex.yaml"
    config.write_text(OURS.format(dir=directory, port=port, control=free_port(), upstream=upstream))
    program = [sys.executable, "-m", "luntrex_proxy"]
    log = stack.enter_context((directory / "log").open("wb"))
    command = ["taskset", "-c", "0", *program, "serve", "--config", str(config)]
    process = start(stack, command, stderr=log, stdout=subprocess.DEVNULL)
    wait_for(port)
    for helper in children(process.pid):
        os.sched_setaffinity(helper, os.sched_getaffinity(0))  # Postgres beside the client, not beside the proxy
    run = [*program, "accounts", "create", "bench", "--config", str(config)]
    subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
    run = [*program, "keys", "create", "--account", "bench", "--name", "bench", "--json", "--config", str(config)]
    made = subprocess.run(run, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    key = json.loads(made.stdout)["key"]
    time.sleep(1.5)
    return Proxy("luntrex-proxy", port, key, process.pid, [1])


def start(stack: ExitStack, command: list[str], **options: object) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(command, **options)  # type: ignore[call-overload]  # stderr passes through
    stack.callback(process.wait, 30)
    stack.callback(process.send_signal, signal.SIGTERM)
    return process


def wait_for(port: int) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


def measure(proxy: Proxy, *, stream: bool, connections: int, seconds: float) -> tuple[float, float, int]:
    """Microseconds of CPU per request or event of the proxy, and of its helpers, and how many there were."""
    before = proxy.read()
    requests, events = uvloop.run(load(proxy.port, proxy.key, stream=stream, connections=connections, seconds=seconds))
    time.sleep(0.5)  # what was put off (log, shipping) belongs to this run
    after = proxy.read()
    count = events if stream else requests
    return (after[0] - before[0]) / count * 1e6, (after[1] - before[1]) / count * 1e6, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=32, help="for JSON requests, closed loop")
    parser.add_argument("--streams", type=int, default=200, help="open streams, one event per 50 ms each")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, {1} if (os.cpu_count() or 1) > 1 else {0})
    results: dict[str, dict[str, list[tuple[float, float, int]]]] = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="luntrex-bench-")))
        upstream = free_port()
        start(stack, [sys.executable, str(HERE / "upstream.py"), str(upstream)])
        wait_for(upstream)
        proxies = [start_nginx(stack, directory, upstream), start_ours(stack, directory, upstream)]
        cases = {"JSON request": (False, options.connections), "SSE event": (True, options.streams)}
        for round_number in range(options.rounds + 1):
            for case, (stream, connections) in cases.items():
                for proxy in proxies if round_number % 2 else reversed(proxies):
                    print(f"\rround {round_number}/{options.rounds} {case} {proxy.name}      ", end="", file=sys.stderr)
                    found = measure(proxy, stream=stream, connections=connections, seconds=options.seconds)
                    if round_number:  # the first one warms up
                        results.setdefault(case, {}).setdefault(proxy.name, []).append(found)
    print(file=sys.stderr)
    report(results, as_json=options.json)


def report(results: dict[str, dict[str, list[tuple[float, float, int]]]], *, as_json: bool) -> None:
    rows = []
    for case, by_name in results.items():
        floor = statistics.median(run[0] for run in by_name["nginx"])
        for name, runs in by_name.items():
            cpu = statistics.median(run[0] for run in runs)
            ratios = sorted(run[0] / base[0] for run, base in zip(runs, by_name["nginx"], strict=True))
            helpers = statistics.median(run[1] for run in runs)
            rows.append(
                {"case": case, "proxy": name, "cpu_us": round(cpu, 1), "ratio_to_nginx": round(cpu / floor, 2),
                 "ratio_lowest": round(ratios[0], 2), "ratio_highest": round(ratios[-1], 2),
                 "postgres_cpu_us": round(helpers, 1), "count": sum(run[2] for run in runs)}
            )  # fmt: skip
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{'case':14}{'proxy':16}{'CPU us':>8}{'ratio':>7}{'lowest':>8}{'highest':>9}{'Postgres us':>13}{'count':>9}")
    for row in rows:
        print(
            f"{row['case']:14}{row['proxy']:16}{row['cpu_us']:>8}{row['ratio_to_nginx']:>7}{row['ratio_lowest']:>8}"
            f"{row['ratio_highest']:>9}{row['postgres_cpu_us']:>13}{row['count']:>9}"
        )


if __name__ == "__main__":
    main()
