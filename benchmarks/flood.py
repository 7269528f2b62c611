"""What floods of wrong keys do to a good one: its latency with and without each flood, and the proxy's memory. By hand:

    python -m benchmarks.flood [--flood-rate 1000] [--rounds 5] [--seconds 4] [--json FILE]

Four floods: random keys, keys with a right checksum, the good key's own id with another secret, and over-long keys. The
good key asks at a constant rate; rounds with and without a flood alternate, so that a noisy box moves both. The limit
of failures by network is on, as by default: after the first 20 wrong keys the answer is 429.
"""

import argparse
import asyncio
import contextlib
import json
import secrets
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.client import open_loop, percentile
from benchmarks.machine import Cores, start
from benchmarks.questions import Question, Target
from benchmarks.starting import REPOSITORY, Place, Proxy, start_ours, start_upstream
from luntrex_proxy.core.apikeys import RANDOM_BYTES, make_key

FLOODS = ("random", "right checksum", "right id", "over-long")
_CONNECTIONS = 16
_KEYS = 500  # different ones, sent round and round
_QUIET = "none"


def wrong_keys(kind: str, good: str) -> list[bytes]:
    """Keys of one kind, none of which works."""
    if kind == "over-long":
        return [b"lx_" + secrets.token_hex(15_000).encode() for _ in range(8)]
    made = [make_key(secrets.token_bytes(RANDOM_BYTES))[1] for _ in range(_KEYS)]
    if kind == "right checksum":
        return made
    if kind == "right id":
        return [good[:16].encode() + key[16:] for key in made]
    return [key[:-6] + secrets.token_hex(3).encode() for key in made]


async def flood(port: int, keys: list[bytes], rate: float) -> None:
    """Send wrong keys until ended, over kept connections, opened again whenever they close."""

    async def one(number: int) -> None:
        gap_s, turn = _CONNECTIONS / rate, number
        due = time.monotonic() + gap_s * number / _CONNECTIONS
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                while True:
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    due, turn = due + gap_s, turn + _CONNECTIONS
                    head = (
                        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nAuthorization: Bearer "
                    )
                    writer.write(head + keys[turn % len(keys)] + b"\r\n\r\n")
                    answer = await reader.readuntil(b"\r\n\r\n")
                    length = next(
                        int(line[15:]) for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length:")
                    )
                    await reader.readexactly(length)

    await asyncio.gather(*(one(number) for number in range(_CONNECTIONS)))


def measure(proxy: Proxy, place: Place, options: argparse.Namespace) -> dict[str, list[tuple[float, float, int]]]:
    """(p50 ms, p99 ms, resident bytes) of each round, by flood."""
    found: dict[str, list[tuple[float, float, int]]] = {kind: [] for kind in (_QUIET, *FLOODS)}
    order = [kind for flood_kind in FLOODS for kind in (_QUIET, flood_kind)]
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("rounds", total=options.rounds * len(order))
        for _ in range(options.rounds):
            for kind in order:
                found[kind].append(_round(kind, proxy, place, options))
                progress.advance(task)
    return found


def _round(kind: str, proxy: Proxy, place: Place, options: argparse.Namespace) -> tuple[float, float, int]:
    target: Target = proxy.target
    with ExitStack() as stack:
        if kind != _QUIET:
            key = target.headers["Authorization"].removeprefix("Bearer ")
            command = [
                sys.executable,
                "-m",
                "benchmarks.flood",
                "--send",
                kind,
                str(target.port),
                str(options.flood_rate),
                key,
            ]
            start(stack, command, place.cores.upstream, directory=REPOSITORY)
            time.sleep(1.0)
        tally = uvloop.run(open_loop(target, Question(), rate=options.rate, seconds=options.seconds))
        if sum(tally.failures.values()):
            raise SystemExit(f"Not measured: the good key failed, {dict(tally.failures)}.")
        latencies_ms = [value / 1e6 for value in tally.latencies_ns]
        return percentile(latencies_ms, 50), percentile(latencies_ms, 99), proxy.resident_bytes()


def main() -> None:
    """Measure and print, or be the flood."""
    if sys.argv[1:2] == ["--send"]:
        kind, port, rate, key = sys.argv[2:6]
        uvloop.run(flood(int(port), wrong_keys(kind, key), float(rate)))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flood-rate", type=float, default=1000, help="wrong keys per second")
    parser.add_argument("--rate", type=float, default=200, help="requests per second of the good key")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with ExitStack() as stack:
        cores = Cores.of_this_machine()
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lx-bench-")))
        place = Place(stack, directory, cores, directory, start_upstream(stack, cores))
        found = measure(start_ours(place), place, options)
    table = Table("flood", "p50 ms", "x", "p99 ms", "x", "memory MiB, first", "last")
    rows = []
    quiet = found[_QUIET]
    for kind, rounds in found.items():
        p50, p99 = (statistics.median(one[at] for one in rounds) for at in (0, 1))
        ratios = [p50 / statistics.median(one[0] for one in quiet), p99 / statistics.median(one[1] for one in quiet)]
        memory = [rounds[0][2] / 2**20, rounds[-1][2] / 2**20]
        rows.append(
            {"flood": kind, "p50_ms": p50, "p50_x": ratios[0], "p99_ms": p99, "p99_x": ratios[1], "mib": memory}
        )
        table.add_row(
            kind, f"{p50:.3f}", f"{ratios[0]:.3f}", f"{p99:.3f}", f"{ratios[1]:.3f}", *(f"{mib:.1f}" for mib in memory)
        )
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
