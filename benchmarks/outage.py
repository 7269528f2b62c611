"""What an outage of the database costs, and how long the loop stands still: `python -m benchmarks.outage`.

The daemon works on a PostgreSQL beside it that is stopped and started again; rounds with it and without it alternate,
so that a noisy box moves both. CPU is that of the daemon's process per JSON request, shipping included while there is
a database. Then, at the full rate of a closed loop, the longest stall of the daemon's event loop while its records are
shipped, and while they are not: how late a timer of a millisecond came, less the time in which others had the core
(up to 1 ms of it is the loop's own rounding), and how long the loop's own code ran in one go.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import asyncpg
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.client import closed_loop
from benchmarks.machine import Cores, OtherLoad, PythonBuild, allow_open_files, cpu_model
from benchmarks.measures import check, cost
from benchmarks.questions import Question
from benchmarks.starting import Place, Proxy, start_ours, start_upstream
from luntrex_proxy.store.embedded import EmbeddedPostgres

GOAL, BOUND = 1.05, 1.15
STALL_BOUND_MS = 5.0
MOST_OTHER_LOAD = 0.10
_CONNECTIONS = 32
_STALL_CONNECTIONS = 8
_DRAIN_WAIT_S = 120.0
_NOTICE_S = 7.0  # by then the daemon has told the outage


@dataclass(slots=True)
class Found:
    """All figures."""

    up_us: list[float] = field(default_factory=list)
    down_us: list[float] = field(default_factory=list)
    stall_up_ms: list[float] = field(default_factory=list)  # the longest of each round
    stall_down_ms: list[float] = field(default_factory=list)
    busy_up_ms: list[float] = field(default_factory=list)
    busy_down_ms: list[float] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """CPU without the database over CPU with it, of the medians."""
        return statistics.median(self.down_us) / statistics.median(self.up_us)


class Outage:
    """A daemon, its database, and switching that off and on."""

    def __init__(self, stack: ExitStack, place: Place) -> None:
        self.stalls = place.directory / "stalls"
        os.environ["BENCH_STALLS"] = str(self.stalls)
        self._cores = place.cores
        self._server = EmbeddedPostgres(place.directory / "database")
        stack.callback(self._server.stop)
        dsn = self._start()
        os.environ["LUNTREX_DATABASE__URL"] = dsn
        self.plain = start_ours(place)
        asyncio.run(_make_database(dsn, "watched"))
        os.environ["LUNTREX_DATABASE__URL"] = dsn.replace("/postgres?", "/watched?")
        self.watched = start_ours(place, program="benchmarks.watched")
        for proxy in (self.plain, self.watched):
            check(proxy.target)

    def _start(self) -> str:
        os.sched_setaffinity(0, {self._cores.upstream})  # inherited by PostgreSQL
        dsn = self._server.start()
        os.sched_setaffinity(0, {self._cores.client})
        return dsn

    def on(self) -> None:
        """Start the database, and wait until all records are stored."""
        self._start()
        deadline_s = time.monotonic() + _DRAIN_WAIT_S
        while any(_metric(proxy, "luntrex_ledger_spooled_total") for proxy in (self.plain, self.watched)):
            if time.monotonic() > deadline_s:
                raise RuntimeError("the backlog did not drain")
            time.sleep(0.2)

    def off(self) -> None:
        """Stop the database, and wait until the daemons have met that."""
        self._server.stop()
        time.sleep(_NOTICE_S)

    def cpu_us(self, seconds: float) -> float:
        """CPU per request now."""
        found = cost(self.plain, [Question()], connections=_CONNECTIONS, seconds=seconds)
        if not found.valid:
            raise RuntimeError(f"requests failed: {dict(+found.failures)}")
        return found.cpu_us

    def stall(self, seconds: float) -> tuple[float, float, float]:
        """The longest stall and the longest run in one go, in ms, at so many requests per second."""
        began_s = time.monotonic()
        tally = uvloop.run(
            closed_loop(self.watched.target, [Question()], connections=_STALL_CONNECTIONS, seconds=seconds)
        )
        ended_s = time.monotonic()
        time.sleep(0.5)
        lines = [[float(word) for word in line.split()] for line in self.stalls.read_text().splitlines()]
        inside = [line[1:] for line in lines if began_s + 0.25 < line[0] <= ended_s]
        return max(line[0] for line in inside), max(line[1] for line in inside), tally.per_second


async def _make_database(dsn: str, name: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()


def _metric(proxy: Proxy, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{proxy.control_port}/metrics", timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.rsplit(" ", 1)[1])
    raise RuntimeError(f"the daemon's metrics have no {name}")


def measure(outage: Outage, options: argparse.Namespace, console: Console) -> Found:
    """Rounds, each with the database and without it."""
    found = Found()
    columns = (TextColumn("{task.description:32}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=options.rounds * 4)
        for number in range(options.rounds):
            for is_up in (True, False):
                progress.update(task, description=f"round {number + 1}, database {'up' if is_up else 'stopped'}")
                (found.up_us if is_up else found.down_us).append(outage.cpu_us(options.seconds))
                progress.advance(task)
                stall_ms, busy_ms, per_s = outage.stall(options.seconds)
                (found.stall_up_ms if is_up else found.stall_down_ms).append(stall_ms)
                (found.busy_up_ms if is_up else found.busy_down_ms).append(busy_ms)
                found.per_s.append(per_s)
                progress.advance(task)
                outage.off() if is_up else outage.on()
    return found


def show(found: Found, console: Console) -> None:
    """Print the figures."""
    table = Table()
    for name in ("", "database up", "stopped", "stopped / up", "goal", "not above"):
        table.add_column(name, justify="right" if name else "left")
    up, down = statistics.median(found.up_us), statistics.median(found.down_us)
    table.add_row("CPU per request, µs", f"{up:.1f}", f"{down:.1f}", f"{found.ratio:.3f}", f"{GOAL}", f"{BOUND}")
    for name, with_it, without in (
        ("longest stall, ms", found.stall_up_ms, found.stall_down_ms),
        ("longest run in one go, ms", found.busy_up_ms, found.busy_down_ms),
    ):
        table.add_row(name, f"{max(with_it):.1f}", f"{max(without):.1f}", "", "", f"{STALL_BOUND_MS:.0f}")
    console.print(table)
    console.print(f"at {statistics.median(found.per_s):,.0f} requests per second", highlight=False)


def main() -> None:
    """Measure, judge the noise, print."""
    options = parse()
    console, cores, other = Console(stderr=True), Cores.of_this_machine(), OtherLoad()
    allow_open_files()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lx-bench-")))
        place = Place(stack, directory, cores, directory, start_upstream(stack, cores))
        try:
            found = measure(Outage(stack, place), options, console)
        except RuntimeError as error:
            raise SystemExit(f"Not measured: {error}.") from None
        load = other.share()
    noisy = f"other programs took {load:.0%} of a core" if load > MOST_OTHER_LOAD else ""
    if noisy and not options.allow_noise:
        raise SystemExit(f"Not reported, the box is too noisy: {noisy}. --allow-noise shows the figures anyway.")
    build = PythonBuild.of_this_process()
    out = Console() if Console().is_terminal else Console(width=132)
    out.print(f"{cpu_model()}; {cores.said()}; {build.said()}", highlight=False)
    show(found, out)
    if noisy:
        console.print(f"[bold red]Noisy:[/] {noisy}. Do not quote these figures.", highlight=False)
    if options.json:
        figures = {"python": build.said(), "noise": noisy, "ratio": found.ratio, **asdict(found)}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="each with the database and without it (default 5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="per figure and round (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--allow-noise", action="store_true", help="report on a noisy box too, with a warning")
    return parser.parse_args()


if __name__ == "__main__":
    main()
