"""Several proxies under the same load in turns, a moment each: what slows the machine down meets all of them alike.

On a machine shared with others a core runs at full speed now and then only, for seconds at a time: its sibling thread
is busy, its clock is low. Proxies measured one after another are measured on different machines, in effect; in turns
of some hundredths of a second all of them have the same one.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import uvloop

from benchmarks.client import Tally, closed_loop
from benchmarks.machine import Cpu
from benchmarks.questions import Question
from benchmarks.starting import Proxy

# What was put off (log lines, records on their way to the database) is paid within its own measurement.
SETTLE_S = 1.0
_IDLE_S = 2.0

Go = Callable[[], None]


@dataclass(slots=True, eq=False)
class Load:
    """The load on one proxy, and what its turns have taken. Two may be on the same proxy."""

    proxy: Proxy
    tally: Tally = field(default_factory=Tally)
    cpu_s: float = 0.0  # of the proxy, in its turns
    turns_s: float = 0.0


class Turns:
    """Lets each load go on in its turn; the order is drawn anew each time all have had one."""

    def __init__(self) -> None:
        self._resting: list[tuple[Load, Go]] = []
        self._to_come: list[Load] = []
        self._now: Load | None = None
        self._cpu_s = self._began_s = 0.0

    def rested(self, load: Load, go: Go) -> None:
        """Nothing of a load is under way: it waits for its turn, which `go` begins."""
        self._resting.append((load, go))
        if self._now is None or self._now is load:
            self._next()

    def over(self, load: Load) -> None:
        """It needs no more turns."""
        self._resting = [each for each in self._resting if each[0] is not load]
        if self._now is load:
            self._next()

    def _next(self) -> None:
        load, self._now = self._now, None
        if load is not None:
            load.cpu_s += load.proxy.cpu().total_s - self._cpu_s
            load.turns_s += time.monotonic() - self._began_s
        if not self._resting:
            return
        waiting = [each for each, _ in self._resting]
        self._to_come = [each for each in self._to_come if each in waiting] or random.sample(waiting, len(waiting))
        self._now = self._to_come.pop()
        _, go = self._resting.pop(waiting.index(self._now))
        self._cpu_s, self._began_s = self._now.proxy.cpu().total_s, time.monotonic()
        go()


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds that a load has cost its proxy: in its turns, and its share of what was put off."""

    cpu_s: float
    user_share: float
    beside_s: float  # of the proxy's helpers


async def take_turns(proxies: Sequence[Proxy], question: Question, connections: int, seconds: float) -> list[Load]:
    """A closed loop on each of these, of `seconds` each if all take their turns equally fast."""
    turns, loads = Turns(), [Load(proxy) for proxy in proxies]

    async def run(load: Load) -> None:
        load.tally = await closed_loop(
            load.proxy.target,
            [question],
            connections=max(1, round(connections * load.proxy.share)),
            seconds=seconds * len(loads),
            rest=lambda go: turns.rested(load, go),
        )
        turns.over(load)

    await asyncio.gather(*map(run, loads))
    return loads


@dataclass(slots=True)
class _Meter:
    """What one proxy uses, with and without load."""

    proxy: Proxy
    idle_share: float = 0.0  # of a core, while nobody asks
    before: Cpu = field(default_factory=lambda: Cpu(0, 0))
    beside_before_s: float = 0.0
    began_s: float = 0.0

    def begin(self, idle: Cpu, idle_s: float) -> None:
        self.before, self.beside_before_s = self.proxy.cpu(), self.proxy.helpers_cpu().total_s
        self.idle_share = (self.before - idle).total_s / idle_s
        self.began_s = time.monotonic()

    def used(self, loads: Sequence[Load]) -> list[Used]:
        """By all loads on it. What it does without any load while it is the others' turn is no cost of theirs."""
        whole = self.proxy.cpu() - self.before
        in_turns_s = sum(load.cpu_s for load in loads)
        others_s = time.monotonic() - self.began_s - sum(load.turns_s for load in loads)
        put_off_s = max(0.0, whole.total_s - in_turns_s - self.idle_share * others_s)
        beside_s = self.proxy.helpers_cpu().total_s - self.beside_before_s
        requests = max(1, sum(load.tally.requests for load in loads))
        user_share = whole.user_s / whole.total_s if whole.total_s else 0.0
        shares = [load.tally.requests / requests for load in loads]
        return [
            Used(load.cpu_s + put_off_s * share, user_share, beside_s * share)
            for load, share in zip(loads, shares, strict=True)
        ]


def measure(proxies: Sequence[Proxy], question: Question, connections: int, seconds: float) -> list[tuple[Load, Used]]:
    """Load these in turns; in their order. One that is there twice is measured twice."""
    meters = {id(proxy): _Meter(proxy) for proxy in proxies}
    time.sleep(SETTLE_S)  # what the measurement before has put off is no idling
    idle, idle_began_s = {key: meter.proxy.cpu() for key, meter in meters.items()}, time.monotonic()
    time.sleep(_IDLE_S)
    for key, meter in meters.items():
        meter.begin(idle[key], time.monotonic() - idle_began_s)
    loads = uvloop.run(take_turns(proxies, question, connections, seconds))
    time.sleep(SETTLE_S)
    used: dict[int, Used] = {}
    for key, meter in meters.items():
        own = [load for load in loads if id(load.proxy) == key]
        used |= {id(load): each for load, each in zip(own, meter.used(own), strict=True)}
    return [(load, used[id(load)]) for load in loads]
