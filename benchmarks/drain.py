"""How fast a backlog of usage records drains: `python -m benchmarks.drain --records 1000000`.

Writes that many requests (opening and settle each) into a spool as the daemon does, as if the database had been away,
then starts a shipper in front of an embedded PostgreSQL. Prints records per second, CPU of the shipper's process and of
PostgreSQL, and the longest time the loop was not free. `--dead` leaves the directory of a dead process instead, which
is adopted. The process and PostgreSQL have a core each where there are two.
"""

import argparse
import asyncio
import gc
import json
import os
import sys
import tempfile
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.machine import Cores, Cpu, cpu_model, cpu_of, resident_bytes, tree
from luntrex_proxy.core.outcome import Opening, Outcome, Tokens
from luntrex_proxy.daemon import GC_THRESHOLDS
from luntrex_proxy.store.database import Pool, opened_pool
from luntrex_proxy.store.embedded import EmbeddedPostgres
from luntrex_proxy.store.migrate import migrate
from luntrex_proxy.store.shipper import Shipper
from luntrex_proxy.store.spool import Spool

_TICK_S = 0.001
_LOOK_S = 0.2
_PER_S = 5_000  # requests per second of the outage: how many hours, so how many sums, the backlog covers


@dataclass(slots=True)
class Drained:
    """One run."""

    records: int
    spool_mib: float
    write_us: float  # per request, opening and settle
    seconds: float
    records_per_s: float
    own_cpu_us: float  # per record
    postgres_cpu_us: float
    stall_ms: float  # the longest
    stalls_over_5_ms: int
    busy_ms: float  # the longest the loop's own code ran in one go: what a noisy machine cannot blow up
    rss_mib: float


class Stalls:
    """How late a timer of a millisecond came, less the time in which others had the core."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.over_5_ms = 0
        self.busy_s = 0.0

    async def watch(self) -> None:
        """Until cancelled."""
        began_s, waited_s, cpu_s = time.monotonic(), _waited_s(), time.thread_time()
        while True:
            await asyncio.sleep(_TICK_S)
            now_s = time.monotonic()
            late_s = now_s - began_s - _TICK_S
            began_s = now_s
            known_s, waited_s = waited_s, _waited_s()
            late_s -= waited_s - known_s
            busy_s, cpu_s = time.thread_time() - cpu_s, time.thread_time()
            self.busy_s = max(self.busy_s, busy_s)
            self.longest_s = max(self.longest_s, late_s)
            self.over_5_ms += late_s > 0.005


def _waited_s() -> float:
    """How long this thread was ready to run and had no core."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


def write(spool: Spool, records: int) -> float:
    """A backlog of requests of 20 keys, 3 models and 2 upstreams; seconds it took."""
    start_us = 1_790_000_000_000_000
    tokens = Tokens(1200, 300, 0, 0, 0, 350, 120, 0).columns()
    began_s = time.perf_counter()
    for number in range(records):
        ids = {
            "request_id": str(uuid.UUID(int=(7 << 76) | (2 << 62) | number)),
            "started_us": start_us + number * 1_000_000 // _PER_S,
            "account_id": 1 + number % 5,
            "key_id": f"key{number % 20:09}",
            "route": "chat_completions",
            "model": f"model-{number % 3}",
            "upstream": f"upstream-{number % 2}",
            "streamed": number % 2 == 0,
        }
        spool.open(Opening(**ids, request_bytes=2_345))
        spool.settle(
            Outcome(
                **ids, status=200, code="ok", ending="complete", usage_source="reported", **tokens,
                cost_pico=390_000_000 + number, price_version="2026-11", request_bytes=2_345, response_bytes=9_876,
                events=120, attempts=1, duration_us=1_234_567, first_byte_us=210_000, overhead_us=61,
            )
        )  # fmt: skip
    return time.perf_counter() - began_s


async def drain(pool: Pool, root: Path, options: argparse.Namespace, postgres: int, console: Console) -> Drained:
    """Write, then ship all of it."""
    spool = Spool(root, uuid.uuid4(), max_bytes=1 << 40)
    written_s = write(spool, options.records)
    size = spool.size_bytes
    if options.dead:
        spool.close()
        spool.directory.unlock()
    shipper = Shipper(lambda: pool, root, None if options.dead else spool)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    stalls = Stalls()
    watching = asyncio.ensure_future(stalls.watch())
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    own, theirs, began_s = cpu_of([os.getpid()]), _cpu(postgres), time.perf_counter()
    shipper.start()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        line = bar.add_task("storing", total=options.records)
        while shipper.stored < options.records:
            await asyncio.sleep(_LOOK_S)
            seconds = time.perf_counter() - began_s
            about = f"{options.records - shipper.stored:,} in the spool, {shipper.stored / seconds:,.0f}/s"
            bar.update(line, completed=shipper.stored, description=about)
            if seconds > options.seconds:
                break
    seconds = time.perf_counter() - began_s
    watching.cancel()
    own, theirs, count = cpu_of([os.getpid()]) - own, _cpu(postgres) - theirs, max(1, shipper.stored)
    rss = resident_bytes([os.getpid()])
    await shipper.drain(5)
    stored = await pool.fetchval("SELECT count(*) FROM usage")
    sums = await pool.fetchval("SELECT sum(requests)::bigint FROM usage_rollup")
    if not stored == sums == shipper.stored:
        raise SystemExit(f"It does not add up: {stored} rows, {sums} in the sums, {shipper.stored} counted.")
    return Drained(
        count, size / 2**20, written_s / options.records * 1e6, seconds, count / seconds, own.total_s / count * 1e6,
        theirs.total_s / count * 1e6, stalls.longest_s * 1e3, stalls.over_5_ms,
        stalls.busy_s * 1e3, rss / 2**20,
    )  # fmt: skip


def _cpu(postgres: int) -> Cpu:
    return cpu_of(tree(postgres))


async def run(dsn: str, root: Path, options: argparse.Namespace, postgres: int, console: Console) -> Drained:
    """The tables, then the run."""
    async with opened_pool(dsn) as pool:
        await migrate(pool, post=True)
        return await drain(pool, root, options, postgres, console)


def main() -> int:
    """Measure and print; 1 when it was slower than asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=300, help="give up after this long")
    parser.add_argument("--dead", action="store_true", help="the backlog of a dead process")
    parser.add_argument("--least", type=float, default=20_000, help="records per second that are enough")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    console, cores = Console(stderr=True), Cores.of_this_machine()
    with tempfile.TemporaryDirectory(prefix="lx-drain-") as directory:
        os.sched_setaffinity(0, {cores.upstream})  # inherited by PostgreSQL
        server = EmbeddedPostgres(Path(directory))
        dsn = server.start()
        try:
            os.sched_setaffinity(0, {cores.proxy})
            postgres = next(pid for pid in tree(os.getpid()) if pid != os.getpid())
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found = runner.run(run(dsn, Path(directory) / "spool", options, postgres, console))
        finally:
            server.stop()
    out = Console()
    shared = "a core each" if cores.proxy != cores.upstream else "one core for both"
    out.print(f"{cpu_model()}; shipper and PostgreSQL have {shared}", highlight=False)
    for name, value in asdict(found).items():
        out.print(
            f"{name:18}{value:>12,.1f}" if isinstance(value, float) else f"{name:18}{value:>12,}", highlight=False
        )
    if options.json:
        options.json.write_text(json.dumps(asdict(found), indent=1) + "\n")
    return 0 if found.records == options.records and found.records_per_s >= options.least else 1


if __name__ == "__main__":
    sys.exit(main())
