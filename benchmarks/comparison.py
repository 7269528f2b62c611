"""What a side-by-side run found: samples of each round, medians, ratios to nginx, and whether the box was quiet."""

import collections
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Above these the figures say more about the box than about the proxies. 5 %: half of the smallest step that the
# targets tell apart (1.1). Latency moves more from run to run than CPU time.
MOST_CPU_NOISE = 0.05
MOST_LATENCY_NOISE = 0.15
MOST_OTHER_LOAD = 0.10

FLOOR = "nginx"
AGAIN = " again"  # the second, equal measurement of an A/A pair


@dataclass(slots=True)
class Found:
    """Samples by measure and proxy, one per round."""

    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    failures: dict[str, collections.Counter[str]] = field(default_factory=dict)
    fidelity: dict[str, str] = field(default_factory=dict)
    other_load: float = 0.0

    def add(self, measure: str, name: str, value: float) -> None:
        """Enter one sample."""
        self.samples.setdefault(measure, {}).setdefault(name, []).append(value)

    def fail(self, name: str, failures: Mapping[str, int]) -> None:
        """Enter what went wrong."""
        self.failures.setdefault(name, collections.Counter()).update(
            {what: count for what, count in failures.items() if count}
        )

    def median(self, measure: str, name: str) -> float:
        """The median over the rounds; not a number when it was not measured."""
        values = self.samples.get(measure, {}).get(name)
        return statistics.median(values) if values else math.nan

    def added(self, measure: str, name: str) -> float:
        """What a proxy adds to the direct way."""
        return self.median(measure, name) - self.median(measure, "direct")

    def ratio(self, measure: str, name: str, floor: str = FLOOR) -> tuple[float, float, float]:
        """Median, lowest and highest ratio to the floor of the same round."""
        own, base = (self.samples.get(measure, {}).get(who, []) for who in (name, floor))
        ratios = sorted(mine / its for mine, its in zip(own, base, strict=False) if its > 0)
        if not ratios:
            return math.nan, math.nan, math.nan
        return statistics.median(ratios), ratios[0], ratios[-1]

    def noise(self, measure: str, name: str) -> float:
        """How far two equal measurements of one round lie apart, as a median over the rounds."""
        first, second = (self.samples.get(measure, {}).get(who, []) for who in (name, name + AGAIN))
        apart = [abs(a - b) / min(a, b) for a, b in zip(first, second, strict=False) if min(a, b) > 0]
        return statistics.median(apart) if apart else math.nan

    def complaints(self) -> list[str]:
        """Why the box was too noisy; empty when it was quiet enough."""
        checks = (
            (self.noise("json_us", FLOOR), MOST_CPU_NOISE, "CPU per request of nginx against nginx differs by"),
            (self.noise("sse_us", FLOOR), MOST_CPU_NOISE, "CPU per event of nginx against nginx differs by"),
            (self.noise("alone_p50_us", "direct"), MOST_LATENCY_NOISE, "latency of direct against direct differs by"),
            (self.other_load, MOST_OTHER_LOAD, "other programs took, in cores,"),
        )
        return [f"{what} {value:.0%} (at most {most:.0%})" for value, most, what in checks if value > most]


@dataclass(frozen=True, slots=True)
class Row:
    """One proxy in the tables. What was not measured is not a number."""

    name: str
    version: str
    json_us: float
    json_user_us: float
    json_ratio: float
    json_ratio_lowest: float
    json_ratio_highest: float
    json_per_core_s: float
    json_beside_us: float
    sse_us: float
    sse_user_us: float
    sse_ratio: float
    sse_ratio_lowest: float
    sse_ratio_highest: float
    added_p50_us: float
    added_p99_us: float
    added_ratio: float
    rate_p50_ms: float
    rate_p99_ms: float
    rate_p999_ms: float
    added_ttft_p50_us: float
    added_ttft_p99_us: float
    jitter_p50_us: float
    jitter_p99_us: float
    jitter_p999_us: float
    kib_per_stream: float
    held_streams: float
    fidelity: str
    failures: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """For `--json`: numbers rounded, what is not a number as null."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 3)
    return value


def row(found: Found, name: str, version: str) -> Row:
    """Everything that was found about one proxy. A proxy on TLS (`x +tls`) is compared with nginx on TLS."""
    tls = " +tls"
    floor = FLOOR + tls if name.endswith(tls) else FLOOR
    json_ratio, sse_ratio = found.ratio("json_us", name, floor), found.ratio("sse_us", name, floor)
    json_us = found.median("json_us", name)
    added, floor_added = (found.added("alone_p50_us", who) for who in (name, FLOOR))
    return Row(
        name=name,
        version=version,
        json_us=json_us,
        json_user_us=found.median("json_user_us", name),
        json_ratio=json_ratio[0],
        json_ratio_lowest=json_ratio[1],
        json_ratio_highest=json_ratio[2],
        json_per_core_s=1e6 / json_us if json_us > 0 else math.nan,
        json_beside_us=found.median("json_beside_us", name),
        sse_us=found.median("sse_us", name),
        sse_user_us=found.median("sse_user_us", name),
        sse_ratio=sse_ratio[0],
        sse_ratio_lowest=sse_ratio[1],
        sse_ratio_highest=sse_ratio[2],
        added_p50_us=added,
        added_p99_us=found.added("alone_p99_us", name),
        added_ratio=added / floor_added if floor_added > 0 and name != "direct" else math.nan,
        rate_p50_ms=found.median("rate_p50_ms", name),
        rate_p99_ms=found.median("rate_p99_ms", name),
        rate_p999_ms=found.median("rate_p999_ms", name),
        added_ttft_p50_us=found.added("ttft_p50_us", name),
        added_ttft_p99_us=found.added("ttft_p99_us", name),
        jitter_p50_us=found.median("jitter_p50_us", name),
        jitter_p99_us=found.median("jitter_p99_us", name),
        jitter_p999_us=found.median("jitter_p999_us", name),
        kib_per_stream=found.median("kib_per_stream", name),
        held_streams=found.median("held_streams", name),
        fidelity=found.fidelity.get(name, ""),
        failures=dict(found.failures.get(name, {})),
    )
