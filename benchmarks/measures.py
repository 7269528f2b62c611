"""The measurements, each on one proxy for a bounded time. What they mean together is `comparison.py`'s."""

import asyncio
import collections
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field

import uvloop

from benchmarks import turns
from benchmarks.client import HeldStreams, Tally, closed_loop, open_loop, percentile
from benchmarks.questions import Question, Target
from benchmarks.starting import Proxy

_HELD_GAP_US = 1_000_000
_MIB = 1 << 20
MOST_FAILED = 0.001


def check(target: Target) -> None:
    """Ask one plain and one streaming question. Raises RuntimeError when an answer is not what it should be."""
    for question in (Question(), Question(stream=True, events=3, gap_us=10_000)):
        tally = uvloop.run(closed_loop(target, [question], connections=1, seconds=0))
        if tally.failed or not tally.requests:
            raise RuntimeError(f"{target.name} answers with {', '.join(+tally.failures) or 'nothing'}")


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU of a proxy for one request or event, in microseconds."""

    user_us: float
    system_us: float
    beside_us: float
    count: int
    per_s: float
    failures: collections.Counter[str] = field(default_factory=collections.Counter)

    @property
    def valid(self) -> bool:
        """Whether so few answers failed that the cost is that of answers."""
        return sum(self.failures.values()) <= max(1, self.count) * MOST_FAILED

    @property
    def cpu_us(self) -> float:
        """User and kernel together."""
        return self.user_us + self.system_us


def cost(proxy: Proxy, questions: list[Question], *, connections: int, seconds: float) -> Cost:
    """Put the proxy under load in a closed loop and read its CPU time before and after.

    Per event when the questions are streams (their requests are paid by the events), else per request.
    """
    connections = max(1, round(connections * proxy.share))
    before, beside = proxy.cpu(), proxy.helpers_cpu()
    tally = uvloop.run(closed_loop(proxy.target, questions, connections=connections, seconds=seconds))
    time.sleep(turns.SETTLE_S)
    used, used_beside = proxy.cpu() - before, proxy.helpers_cpu() - beside
    count = tally.events if questions[0].stream else tally.requests
    unit_us = 1e6 / max(1, count)
    return Cost(
        used.user_s * unit_us, used.system_s * unit_us, used_beside.total_s * unit_us,
        count, tally.per_second, tally.failures,
    )  # fmt: skip


def costs_in_turns(proxies: Sequence[Proxy], question: Question, *, connections: int, seconds: float) -> list[Cost]:
    """The same per request of several proxies, which take turns on the box; in their order."""
    costs = []
    for load, used in turns.measure(proxies, question, connections, seconds):
        count = load.tally.requests
        cpu_us = used.cpu_s * 1e6 / max(1, count)
        costs.append(Cost(
            cpu_us * used.user_share, cpu_us * (1 - used.user_share), used.beside_s * 1e6 / max(1, count),
            count, count / max(1e-9, load.turns_s), load.tally.failures,
        ))  # fmt: skip
    return costs


def latency_alone(target: Target, seconds: float) -> Tally:
    """One connection, one request at a time."""
    return uvloop.run(closed_loop(target, [Question()], connections=1, seconds=seconds))


def latency_at_rate(target: Target, rate: float, seconds: float) -> Tally:
    """Requests at a constant rate, latency from the intended time."""
    return uvloop.run(open_loop(target, Question(), rate=rate, seconds=seconds))


def watched_streams(target: Target, streams: int, *, events: int, gap_us: int) -> Tally:
    """Streams whose every event is stamped. They ask for usage, so that a proxy need not change a byte."""
    question = Question(stream=True, events=events, gap_us=gap_us, ask_usage=True)
    return uvloop.run(closed_loop(target, [question], connections=streams, seconds=0, watched=True))


@dataclass(frozen=True, slots=True)
class Held:
    """Memory of a proxy while streams are open."""

    kib_each: float
    flowing: int
    failures: collections.Counter[str]


def held_streams(proxy: Proxy, count: int) -> Held:
    """Open many streams, one event a second each, and see how much memory the proxy has more than before."""
    return uvloop.run(_held_streams(proxy, max(1, round(count * proxy.share))))


async def _held_streams(proxy: Proxy, count: int) -> Held:
    streams = HeldStreams(proxy.target, Question(stream=True, events=60, gap_us=_HELD_GAP_US))
    before = proxy.resident_bytes()
    try:
        await streams.open(count)
        more = proxy.resident_bytes() - before
        flowing = streams.flowing
        streams.failures["stream without a first event"] += count - flowing
        return Held(more / 1024 / max(1, flowing), flowing, streams.failures)
    finally:
        streams.close()
        await asyncio.sleep(0.5)  # let go on the other side too, before the next measurement


@dataclass(frozen=True, slots=True)
class Stall:
    """How long the daemon's event loop stood still under a mixed load."""

    loop_lag_ms: float
    small_p99_ms: float
    small_longest_ms: float
    scrape_longest_ms: float
    big_requests: int
    small_requests: int
    failures: dict[str, int]


def stall(proxy: Proxy, seconds: float, *, rate: float = 200) -> Stall:
    """Prompts of 1 MiB on four connections and scrapes five times a second, beside small requests at a constant rate.

    The daemon's own gauge looks ten times a second and may miss a short stall; the slowest small request does not.
    """
    return uvloop.run(_stall(proxy, seconds, rate))


async def _stall(proxy: Proxy, seconds: float, rate: float) -> Stall:
    big = Question(prompt_bytes=_MIB)
    scraping = asyncio.create_task(_scrape_until(proxy.control_port, time.monotonic() + seconds))
    loads = (
        closed_loop(proxy.target, [big], connections=4, seconds=seconds),
        open_loop(proxy.target, Question(), rate=rate, seconds=seconds),
    )
    big_tally, small_tally = await asyncio.gather(*loads)
    lag_s, scrape_s = await scraping
    small_ms = [value / 1e6 for value in small_tally.latencies_ns]
    return Stall(
        lag_s * 1e3, percentile(small_ms, 99), percentile(small_ms, 100), scrape_s * 1e3,
        big_tally.requests, small_tally.requests, dict(big_tally.failures + small_tally.failures),
    )  # fmt: skip


async def _scrape_until(port: int, until_s: float) -> tuple[float, float]:
    """The largest loop lag that the metrics showed, and the longest scrape, in seconds."""
    lag_s = scrape_s = 0.0
    while True:
        began_s = time.monotonic()
        lag_s = max(lag_s, await asyncio.to_thread(_loop_lag_s, port))
        scrape_s = max(scrape_s, time.monotonic() - began_s)
        if time.monotonic() > until_s:
            return lag_s, scrape_s
        await asyncio.sleep(0.2)


def _loop_lag_s(port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith("luntrex_loop_lag_seconds"):
                return float(line.rsplit(" ", 1)[1])
    raise RuntimeError("the daemon's metrics have no luntrex_loop_lag_seconds")
