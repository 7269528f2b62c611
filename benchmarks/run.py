"""Our proxy beside others, on one core each: `python -m benchmarks.run`.

Compared are nginx, HAProxy, LiteLLM, Portkey and sglang-router, as far as they are installed
(benchmarks/peers/README.md says how). Each proxy is pinned to one core, the client and the pretend provider to
another; runs are interleaved in random order, and JSON requests go to all proxies in turns of 50 ms, so that a box that
slows down for a while does so for all; what is compared is first of all CPU time, because it is what a core can be
divided by. Two equal measurements in each round (nginx against nginx, direct against direct) show how noisy the box
is: too noisy, and nothing is reported.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import measures, report
from benchmarks.client import percentile
from benchmarks.comparison import AGAIN, FLOOR, Found, row
from benchmarks.machine import Cores, OtherLoad, PythonBuild, allow_open_files, cpu_model
from benchmarks.questions import Question, Target
from benchmarks.starting import (
    OURS,
    STARTS,
    NotInstalledError,
    Place,
    Proxy,
    make_certificate,
    start_nginx,
    start_ours,
    start_upstream,
)

_TLS = " +tls"
_LEAST_ROUNDS = 2
_ONCE_S = 2.3  # what a measurement takes that is made once
_FILES_PER_STREAM = 2
Step = tuple[str, Callable[[], None]]


class Comparison:
    """One side-by-side run."""

    def __init__(self, options: argparse.Namespace, direct: Target, proxies: list[Proxy]) -> None:
        self.options = options
        self.direct = direct
        self.proxies = proxies
        self.found = Found()
        self.stall: measures.Stall | None = None

    def round(self) -> list[Step]:
        """The measurements that are made again in each round, in random order; nginx and direct twice."""
        steps: list[Step] = [("all in turns: CPU per request", self._json)]
        for proxy in self.proxies:
            for name in self._names(proxy):
                steps.append((f"{name}: CPU per event", partial(self._sse, proxy, name)))
        targets = [(target.name, target) for target in self._targets()]
        for name, target in [*targets, (self.direct.name + AGAIN, self.direct)]:
            steps.append((f"{name}: latency", partial(self._alone, target, name)))
        random.shuffle(steps)
        return steps

    def once(self) -> list[Step]:
        """The measurements that are made once."""
        steps: list[Step] = []
        for target in self._targets():
            steps.append((f"{target.name}: constant rate", partial(self._rate, target)))
            steps.append((f"{target.name}: events", partial(self._events, target)))
        ours = next(proxy for proxy in self.proxies if proxy.name == OURS)
        return [*steps, (f"{OURS}: longest stall", partial(self._stall, ours))]

    def beforehand(self) -> list[Step]:
        """Warm each proxy up, then its memory at once: after a load, new streams would live in what the load left."""
        steps: list[Step] = []
        for proxy in self.proxies:
            steps.append((f"{proxy.name}: warming up", partial(self._warm, proxy)))
            steps.append((f"{proxy.name}: memory", partial(self._memory, proxy)))
        return steps

    def _targets(self) -> list[Target]:
        return [self.direct, *(proxy.target for proxy in self.proxies if not proxy.name.endswith(_TLS))]

    def _warm(self, proxy: Proxy) -> None:
        measures.cost(proxy, [Question()], connections=8, seconds=0.3)
        measures.watched_streams(proxy.target, max(1, round(8 * proxy.share)), events=10, gap_us=20_000)

    def _names(self, proxy: Proxy) -> tuple[str, ...]:
        return (proxy.name, proxy.name + AGAIN) if proxy.name == FLOOR else (proxy.name,)

    def _json(self) -> None:
        options = self.options
        measured = [(proxy, name) for proxy in self.proxies for name in self._names(proxy)]
        costs = measures.costs_in_turns(
            [proxy for proxy, _ in measured], Question(), connections=options.connections, seconds=options.seconds
        )
        for (_, name), cost in zip(measured, costs, strict=True):
            self._enter("json", name, cost)

    def _sse(self, proxy: Proxy, name: str) -> None:
        question = Question(stream=True, events=self.options.events)
        self._enter("sse", name, measures.cost(proxy, [question], connections=self.options.streams, seconds=0))

    def _enter(self, what: str, name: str, cost: measures.Cost) -> None:
        self.found.fail(name.removesuffix(AGAIN), cost.failures)
        if not cost.valid:
            return  # refusing is cheap: its cost says nothing
        self.found.add(f"{what}_us", name, cost.cpu_us)
        self.found.add(f"{what}_user_us", name, cost.user_us)
        self.found.add(f"{what}_beside_us", name, cost.beside_us)

    def _alone(self, target: Target, name: str) -> None:
        tally = measures.latency_alone(target, 0.3)
        self.found.add("alone_p50_us", name, percentile(tally.latencies_ns, 50) / 1e3)
        self.found.add("alone_p99_us", name, percentile(tally.latencies_ns, 99) / 1e3)
        self.found.fail(name.removesuffix(AGAIN), tally.failures)

    def _rate(self, target: Target) -> None:
        tally = measures.latency_at_rate(target, self.options.rate, 2.0)
        for mark, percent in (("p50", 50), ("p99", 99), ("p999", 99.9)):
            self.found.add(f"rate_{mark}_ms", target.name, percentile(tally.latencies_ns, percent) / 1e6)
        self.found.fail(target.name, tally.failures)

    def _events(self, target: Target) -> None:
        shares = {proxy.name: proxy.share for proxy in self.proxies}
        streams = max(1, round(50 * shares.get(target.name, 1)))
        tally = measures.watched_streams(target, streams, events=80, gap_us=20_000)
        for mark, percent in (("p50", 50), ("p99", 99), ("p999", 99.9)):
            self.found.add(f"jitter_{mark}_us", target.name, percentile(tally.jitters_ns, percent) / 1e3)
            self.found.add(f"ttft_{mark}_us", target.name, percentile(tally.first_bytes_ns, percent) / 1e3)
        worst = next((grade for grade in ("lost", "changed", "bytes") if tally.fidelity[grade]), "lost")
        self.found.fidelity[target.name] = worst
        self.found.fail(target.name, tally.failures)

    def _memory(self, proxy: Proxy) -> None:
        held = measures.held_streams(proxy, self.options.open_streams)
        self.found.add("kib_per_stream", proxy.name, held.kib_each)
        self.found.add("held_streams", proxy.name, float(held.flowing))
        self.found.fail(proxy.name, held.failures)

    def _stall(self, proxy: Proxy) -> None:
        self.stall = measures.stall(proxy, 4.0)
        self.found.fail(proxy.name, self.stall.failures)


def start_all(options: argparse.Namespace, place: Place, console: Console) -> list[Proxy]:
    """Start what is installed and wanted; say in one sentence what is left out."""
    proxies = []
    for name, start in STARTS.items():
        if options.only and name not in {*options.only, OURS}:
            continue
        try:
            proxy = start(place)
            measures.check(proxy.target)
            proxies.append(proxy)
        except (NotInstalledError, RuntimeError) as error:
            if name == OURS:
                raise SystemExit(f"Our own proxy does not work: {error}.") from None
            console.print(f"Without {name}: {error}.", highlight=False)
    if options.limited:
        proxies.append(start_ours(place, limited=True))
        measures.check(proxies[-1].target)
    return proxies


def start_tls(place: Place, proxies: list[Proxy], console: Console) -> list[Proxy]:
    """Ours and nginx a second time, in front of the same provider on TLS."""
    try:
        certificate, key = make_certificate(place.directory)
    except NotInstalledError as error:
        console.print(f"Without a TLS upstream: {error}.", highlight=False)
        return []
    port = start_upstream(place.stack, place.cores, tls=(certificate, key))
    place = Place(place.stack, place.directory, place.cores, place.peers, port, certificate)
    starts = [start_nginx] if any(proxy.name == FLOOR for proxy in proxies) else []
    return [_renamed(start(place)) for start in [*starts, start_ours]]


def _renamed(proxy: Proxy) -> Proxy:
    target = Target(proxy.name + _TLS, proxy.target.port, proxy.target.headers)
    return Proxy(target, proxy.process, proxy.version, proxy.share, proxy.alone, proxy.control_port)


def measure(comparison: Comparison, progress: Progress, minutes: float) -> int:
    """Make as many rounds as the time allows, two at least; returns how many."""
    deadline_s = time.monotonic() + minutes * 60
    task = progress.add_task("")
    beforehand, once = comparison.beforehand(), comparison.once()
    done = 0

    def go(steps: list[Step], prefix: str, to_come: int) -> None:
        nonlocal done
        for at, (said, step) in enumerate(steps):
            progress.update(task, description=prefix + said, completed=done, total=done + len(steps) - at + to_come)
            step()
            done += 1

    most = comparison.options.rounds
    go(beforehand, "", most * len(comparison.round()) + len(once))
    for rounds in range(1, most + 1):
        began_s = time.monotonic()
        steps = comparison.round()
        go(steps, f"round {rounds}, ", (most - rounds) * len(steps) + len(once))
        now_s = time.monotonic()
        if rounds >= _LEAST_ROUNDS and now_s + (now_s - began_s) + _ONCE_S * len(once) > deadline_s:
            break
    go(once, "", 0)
    progress.update(task, description="done", completed=done)
    return rounds


def main() -> None:
    """Run the comparison and report it, unless the box is too noisy."""
    options = parse()
    console = Console(stderr=True)
    cores, other = Cores.of_this_machine(), OtherLoad()
    files = allow_open_files()
    if options.open_streams * _FILES_PER_STREAM + 500 > files:
        options.open_streams = (files - 500) // _FILES_PER_STREAM
        console.print(f"Only {options.open_streams} open streams: this shell may open {files} files (ulimit -Hn).")
    began_s = time.monotonic()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lx-bench-")))
        upstream = start_upstream(stack, cores)
        place = Place(stack, directory, cores, options.peers_directory.expanduser(), upstream)
        proxies = start_all(options, place, console)
        proxies += start_tls(place, proxies, console) if options.tls else []
        os.sched_setaffinity(0, {cores.client})
        comparison = Comparison(options, Target("direct", upstream), proxies)
        columns = (TextColumn("{task.description:40}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            rounds = measure(comparison, progress, options.minutes - (time.monotonic() - began_s) / 60)
        comparison.found.other_load = other.share()
    raise SystemExit(finish(options, comparison, rounds, cores, console))


def finish(options: argparse.Namespace, comparison: Comparison, rounds: int, cores: Cores, console: Console) -> int:
    """Judge the noise, then print, write and draw; returns the exit status."""
    found = comparison.found
    complaints = found.complaints()
    if complaints and not options.allow_noise:
        console.print(f"Not reported, the box is too noisy: {'; '.join(complaints)}.", highlight=False)
        console.print("Stop what else runs and start again, or see the figures anyway with --allow-noise.")
        return 1
    versions = {proxy.name: proxy.version for proxy in comparison.proxies}
    again = {FLOOR + AGAIN: versions[FLOOR]} if FLOOR in versions else {}
    rows = [row(found, name, version) for name, version in {"direct": "", **versions, **again}.items()]
    build = PythonBuild.of_this_process()
    summary: dict[str, Any] = {
        "machine": cpu_model(), "cores": cores.said(), "python": build.said(), "optimised_python": build.optimised,
        "rounds": rounds, "noise": complaints, "rate_per_s": options.rate,
        "events_per_stream": options.events,
        "stall": asdict(comparison.stall) if comparison.stall else None,
        "rows": [each.as_json() for each in rows],
    }  # fmt: skip
    report.show(rows, comparison.stall, summary, Console())
    if complaints:
        console.print(f"[bold red]Noisy:[/] {'; '.join(complaints)}. Do not quote these figures.", highlight=False)
    if options.json:
        options.json.write_text(json.dumps(summary, indent=1) + "\n")
    if options.plot:
        report.draw(
            summary["rows"], f"{summary['machine']} · {summary['python']}", options.plot, noisy=bool(complaints)
        )
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=STARTS, help="compare ours with these alone")
    parser.add_argument("--minutes", type=float, default=5, help="roughly how long it may take (default 5)")
    parser.add_argument("--rounds", type=int, default=7, help="at most; fewer when the time is over (default 7)")
    parser.add_argument("--seconds", type=float, default=1.2, help="of JSON requests per proxy and round")
    parser.add_argument("--connections", type=int, default=32, help="for JSON requests, closed loop")
    parser.add_argument("--streams", type=int, default=200, help="at once, one event per 50 ms each")
    # With few events the figure would be that of connections and requests: 100 tokens are a short answer.
    parser.add_argument("--events", type=int, default=100, help="of each stream; they pay for its request as well")
    parser.add_argument("--open-streams", type=int, default=1000, help="for memory per stream; up to 9000")
    parser.add_argument("--rate", type=float, default=250, help="requests per second in the open loop")
    parser.add_argument("--limited", action="store_true", help="ours a second time, under limits and budgets")
    parser.add_argument("--no-tls", dest="tls", action="store_false", help="without the rows with a TLS upstream")
    parser.add_argument("--peers-directory", type=Path, default=Path("~/.cache/luntrex-bench"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them there: .svg or .png, needs matplotlib")
    parser.add_argument("--allow-noise", action="store_true", help="report on a noisy box too, with a warning")
    options = parser.parse_args()
    if options.plot and not report.can_draw():
        parser.error("--plot needs matplotlib: pip install 'luntrex-proxy[bench]'")
    return options


if __name__ == "__main__":
    main()
