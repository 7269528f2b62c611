"""A measurement cut into slices, each between two looks at how fast the proxy's core is just then.

On a machine shared with others a core runs at full speed now and then only: its sibling thread is busy, its clock is
low. CPU time grows with that, and that of code in user mode more than that of the kernel. Slices between two quick
looks are what the proxies cost on a core of their own.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.machine import spin_ms
from benchmarks.starting import Proxy

QUIET = 1.5  # times the shortest spin: the core is at two thirds of its full speed at least
_FASTEST_SHARE = 0.01  # of all spins; not the very shortest, which may be a mistake of the clock


class Slice(NamedTuple):
    """Some units (requests or events) in a row."""

    spin_ms: float  # the longer of the two beside it
    cpu_us: float  # of each unit


@dataclass(slots=True)
class Slices:
    """Those of one measurement of a proxy, whose `look` its load calls between them."""

    proxy: Proxy
    core: int
    found: list[Slice] = field(default_factory=list)
    spins_ms: list[float] = field(default_factory=list)
    cpu_s: float = 0.0  # of all slices together
    units: int = 0
    _cpu_s: float = 0.0  # when it was looked last
    _units: int = 0

    def look(self, units: int) -> None:
        """So many units are done: a slice ends, and the next one begins."""
        cpu_s = self.proxy.cpu().total_s
        spin = spin_ms(self.core)
        done = units - self._units
        if self.spins_ms and done > 0:
            used_s = cpu_s - self._cpu_s
            self.found.append(Slice(max(spin, self.spins_ms[-1]), used_s / done * 1e6))
            self.cpu_s += used_s
            self.units += done
        self.spins_ms.append(spin)
        self._cpu_s, self._units = self.proxy.cpu().total_s, units

    def beside(self, whole_us: float) -> float:
        """By how much the whole is dearer than its slices: what comes before, between and after them is paid too."""
        return whole_us * self.units / (self.cpu_s * 1e6) if self.cpu_s else 1.0


class Quiet(NamedTuple):
    """What a unit costs on a quiet core, and how many slices say so."""

    cpu_us: float
    slices: int


def longest_quiet_ms(spins_ms: Iterable[float]) -> float:
    """Up to which spin a core is quiet, by all that were seen in a run."""
    ranked = sorted(spins_ms)
    return QUIET * ranked[int(len(ranked) * _FASTEST_SHARE)] if ranked else 0.0


def quiet(measured: Sequence[tuple[Slices, float]], most_ms: float) -> Quiet:
    """Of measurements of one proxy and what a unit cost in each as a whole; not a number when no slice was quiet."""
    costs = [each.cpu_us for slices, _ in measured for each in slices.found if each.spin_ms <= most_ms]
    if not costs:
        return Quiet(float("nan"), 0)
    return Quiet(statistics.median(costs) * statistics.median(slices.beside(us) for slices, us in measured), len(costs))
