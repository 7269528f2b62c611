"""Whether our cost stays flat as things grow: `python -m benchmarks.slopes`.

CPU of the proxy per request (or event) while one thing grows and all else stays: stored keys, upstreams, header lines
of the client, open connections, events of a stream, bytes of a prompt. Runs are interleaved in random order; each
figure is the median of the rounds. `x` is the last figure over the first; `per doubling` what each doubling adds,
from a straight line through the figures (least squares over log2 of the size). Bytes cannot be free: for them the line
itself is shown, microseconds per MiB, beside nginx's when it is installed.
"""

import argparse
import json
import math
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.machine import Cores, OtherLoad, PythonBuild, allow_open_files, cpu_model
from benchmarks.measures import check, cost
from benchmarks.questions import MODEL, Question
from benchmarks.starting import NotInstalledError, Place, Proxy, start_nginx, start_ours, start_upstream

DIMENSIONS = ("keys", "upstreams", "header lines", "connections", "events per stream", "prompt bytes")
MOST_OTHER_LOAD = 0.10
_LEAST_ROUNDS = 2
_CONNECTIONS = 32
_UPSTREAMS = 100


@dataclass(slots=True)
class Point:
    """One size of one dimension on one proxy, and what it cost in each round."""

    dimension: str
    size: int
    proxy: Proxy
    questions: list[Question]
    connections: int
    samples: list[float] = field(default_factory=list)

    @property
    def cpu_us(self) -> float:
        """The median; not a number when nothing was measured."""
        return statistics.median(self.samples) if self.samples else math.nan

    def measure(self, seconds: float) -> None:
        """One more sample. Raises RuntimeError when answers failed: a refusal's cost says nothing."""
        stream = self.questions[0].stream
        found = cost(self.proxy, self.questions, connections=self.connections, seconds=seconds if not stream else 0.5)
        if not found.valid:
            raise RuntimeError(f"{self.proxy.name}, {self.dimension} {self.size}: {dict(+found.failures)}")
        self.samples.append(found.cpu_us)


def line(sizes: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """The straight line through the points with the least squares: its value at 0 and its slope."""
    return statistics.linear_regression(sizes, values)[::-1] if len(set(sizes)) > 1 else (values[0], 0.0)


def per_doubling(points: Sequence[Point]) -> float:
    """What a doubling of the size adds, as a share of the first figure."""
    _, slope = line([math.log2(point.size) for point in points], [point.cpu_us for point in points])
    return slope / points[0].cpu_us


def microseconds_per_mib(points: Sequence[Point]) -> float:
    """What a MiB more adds, in microseconds."""
    return line([point.size / (1 << 20) for point in points], [point.cpu_us for point in points])[1]


def prepare(place: Place, wanted: Sequence[str], most_keys: int, console: Console) -> list[Point]:
    """Start the daemons that the wanted dimensions need, and list every point to measure."""
    ours = start_ours(place)
    points = []
    if "keys" in wanted:
        points.append(Point("keys", 1, ours, [Question()], _CONNECTIONS))
        for keys in sorted({10_000, most_keys}):
            console.print(f"Filling a database with {keys:,} keys ...", highlight=False)
            points.append(Point("keys", keys, start_ours(place, keys=keys), [Question()], _CONNECTIONS))
    if "upstreams" in wanted:
        # Each asked for a model by another name than the upstream's, which is written into the body: that is no slope.
        two, many = (start_ours(place, upstreams=count) for count in (2, _UPSTREAMS))
        questions = [Question(model=f"{MODEL}-{number}") for number in range(1, _UPSTREAMS)]
        points.append(Point("upstreams", 1, two, questions[:1], _UPSTREAMS))
        points.append(Point("upstreams", _UPSTREAMS, many, questions, _UPSTREAMS))
    # 13 lines are the SDK's own and Authorization, Host and Content-Length; 100 are allowed.
    plans = {
        "header lines": [(lines, [Question(more_headers=lines)], _CONNECTIONS) for lines in (1, 20, 80)],
        "connections": [(count, [Question()], count) for count in (8, 64, 512)],
        "events per stream": [
            (events, [Question(stream=True, events=events, gap_us=2000)], 20) for events in (40, 400, 2000)
        ],
        "prompt bytes": [
            (size, [Question(prompt_bytes=size)], 8) for size in (1 << 10, 64 << 10, 512 << 10, 1 << 20, 5 << 20)
        ],
    }
    proxies = [ours, *_floor(place, console)] if "prompt bytes" in wanted else [ours]
    for dimension in wanted:
        for size, questions, connections in plans.get(dimension, ()):
            beside = proxies if dimension == "prompt bytes" else [ours]
            points += [Point(dimension, size, proxy, questions, connections) for proxy in beside]
    for proxy in {id(point.proxy): point.proxy for point in points}.values():
        check(proxy.target)
    return points


def _floor(place: Place, console: Console) -> list[Proxy]:
    try:
        return [start_nginx(place)]
    except NotInstalledError as error:
        console.print(f"Without nginx: {error}.", highlight=False)
        return []


def measure(points: list[Point], options: argparse.Namespace, console: Console) -> None:
    """Rounds over all points in random order, as many as the time allows."""
    deadline_s = time.monotonic() + options.minutes * 60
    columns = (TextColumn("{task.description:40}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=options.rounds * len(points))
        for round_number in range(1, options.rounds + 1):
            began_s = time.monotonic()
            for point in random.sample(points, len(points)):
                said = f"round {round_number}, {point.dimension} {point.size:,}"
                progress.update(task, description=said)
                point.measure(options.seconds)
                progress.advance(task)
            now_s = time.monotonic()
            if round_number >= _LEAST_ROUNDS and now_s + (now_s - began_s) > deadline_s:
                break
        progress.update(task, description="done", completed=options.rounds * len(points))


def show(points: Sequence[Point], console: Console) -> list[dict[str, object]]:
    """Print one line per dimension and proxy; returns the same for `--json`."""
    table = Table(title="CPU of the proxy in µs per request, or per event of a stream", title_justify="left")
    for name in ("what grows", "proxy", "size: µs", "x", "per doubling", "µs per MiB"):
        table.add_column(name, justify="left" if name in {"what grows", "proxy", "size: µs"} else "right")
    found: list[dict[str, object]] = []
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        groups.setdefault((point.dimension, point.proxy.name), []).append(point)
    for (dimension, name), group in groups.items():
        times, doubling = group[-1].cpu_us / group[0].cpu_us, per_doubling(group)
        per_mib = microseconds_per_mib(group) if dimension == "prompt bytes" else None
        sizes = {point.size: round(point.cpu_us, 1) for point in group}
        said = "  ".join(f"{size:,}: {value:,}" for size, value in sizes.items())
        cells = ("-", "-", f"{per_mib:.0f}") if per_mib is not None else (f"{times:.2f}", f"{doubling:+.1%}", "-")
        table.add_row(dimension, name, said, *cells)
        found.append({
            "what": dimension, "proxy": name, "cpu_us": sizes, "last_over_first": round(times, 3),
            "per_doubling": round(doubling, 4), "us_per_mib": per_mib and round(per_mib, 1),
        })  # fmt: skip
    console.print(table)
    return found


def main() -> None:
    """Measure, judge the noise, print."""
    options = parse()
    console, cores, other = Console(stderr=True), Cores.of_this_machine(), OtherLoad()
    allow_open_files()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lx-bench-")))
        upstream = start_upstream(stack, cores, addresses=_UPSTREAMS)
        place = Place(stack, directory, cores, directory, upstream)
        try:
            points = prepare(place, options.only or DIMENSIONS, options.keys, console)
            os.sched_setaffinity(0, {cores.client})
            measure(points, options, console)
        except RuntimeError as error:
            raise SystemExit(f"Not measured, a proxy failed: {error}.") from None
        load = other.share()
    noisy = (
        f"other programs took {load:.0%} of a core (at most {MOST_OTHER_LOAD:.0%})" if load > MOST_OTHER_LOAD else ""
    )
    if noisy and not options.allow_noise:
        raise SystemExit(f"Not reported, the box is too noisy: {noisy}. --allow-noise shows the figures anyway.")
    build = PythonBuild.of_this_process()
    out = Console() if Console().is_terminal else Console(width=132)
    out.print(f"{cpu_model()}; {cores.said()}; {build.said()}", highlight=False)
    rows = show(points, out)
    if noisy:
        console.print(f"[bold red]Noisy:[/] {noisy}. Do not quote these figures.", highlight=False)
    if options.json:
        options.json.write_text(json.dumps({"python": build.said(), "noise": noisy, "rows": rows}, indent=1) + "\n")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=DIMENSIONS)
    parser.add_argument("--keys", type=int, default=10_000, help="a third point for the keys, 1000000 takes minutes")
    parser.add_argument("--minutes", type=float, default=2, help="of measuring, roughly (default 2)")
    parser.add_argument("--rounds", type=int, default=5, help="at most; fewer when the time is over (default 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="per figure and round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--allow-noise", action="store_true", help="report on a noisy box too, with a warning")
    return parser.parse_args()


if __name__ == "__main__":
    main()
