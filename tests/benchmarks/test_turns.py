"""Proxies that are measured in turns: one at a time, each pays for what it did."""

import itertools
from dataclasses import dataclass, field, replace

import pytest

from benchmarks import turns, upstream
from benchmarks.client import Tally
from benchmarks.machine import Cpu
from benchmarks.questions import Question, Target
from tests.benchmarks.test_client import listening


@dataclass(eq=False)
class Pretended:
    """A proxy whose CPU time is what the test says."""

    target: Target | None = None
    share: float = 1.0
    used: Cpu = field(default_factory=lambda: Cpu(0, 0))
    helpers_s: float = 0.0

    def cpu(self) -> Cpu:
        return self.used

    def helpers_cpu(self) -> Cpu:
        return Cpu(self.helpers_s, 0)


def telling(name: str, told: list[str]) -> type[upstream.Provider]:
    class Telling(upstream.Provider):
        def _answer(self, body: bytes) -> None:
            told.append(name)
            super()._answer(body)

    return Telling


async def test_one_at_a_time_is_asked():
    """While one has its turn nothing is under way at the others, and each has many."""
    told: list[str] = []
    async with listening(telling("a", told)) as first, listening(telling("b", told)) as second:
        loads = await turns.take_turns([Pretended(first), Pretended(second)], Question(), 4, 0.4)
    runs = [(name, len(list(run))) for name, run in itertools.groupby(told)]
    assert len(runs) > 4
    assert all(length >= 4 for _, length in runs)  # each connection asks once at least
    assert [load.tally.requests for load in loads] == [told.count("a"), told.count("b")]
    assert all(load.turns_s > 0.1 and load.tally.failed == 0 for load in loads)


async def test_one_that_fails_ends_and_the_others_go_on():
    """A proxy that closes its connections instead of answering takes nobody's turn."""

    class Closing(upstream.Provider):
        def _answer(self, body: bytes) -> None:
            self._transport.abort()

    told: list[str] = []
    async with listening(Closing) as broken, listening(telling("b", told)) as good:
        loads = await turns.take_turns([Pretended(broken), Pretended(good)], Question(), 4, 0.3)
    assert loads[0].tally.failures["connection lost"] == 4
    assert loads[1].tally.requests == len(told) > 4
    assert loads[1].tally.failed == 0


async def test_one_that_hangs_is_alone_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it has the turn the others cannot go on, but nothing of theirs was left unanswered."""
    monkeypatch.setattr("benchmarks.client._GRACE_S", 0.2)
    asked = 0

    class Hanging(upstream.Provider):
        def _answer(self, body: bytes) -> None:
            nonlocal asked
            asked += 1
            if asked <= 4:
                super()._answer(body)

    async with listening(upstream.Provider) as first, listening(Hanging) as second:
        loads = await turns.take_turns([Pretended(first), Pretended(second)], Question(), 4, 0.2)
    assert loads[0].tally.failed == 0
    assert loads[1].tally.failures["no answer in time"] == 4


def test_each_pays_for_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its turns, and its share of what was put off; not for what the proxy does while it is the others' turn."""
    now_s = 100.0
    monkeypatch.setattr(turns.time, "monotonic", lambda: now_s)
    proxy = Pretended(used=Cpu(5.0, 2.0), helpers_s=1.0)
    meter = turns._Meter(proxy)
    meter.begin(Cpu(4.9, 2.0), idle_s=10.0)  # a hundredth of a core
    loads = [
        turns.Load(proxy, Tally(requests=300), cpu_s=0.6, turns_s=1.0),
        turns.Load(proxy, Tally(requests=100), cpu_s=0.2, turns_s=1.0),
    ]
    now_s = 112.0  # ten seconds of it without a load
    proxy.used, proxy.helpers_s = Cpu(6.0, 2.5), 1.4
    first, second = meter.used(loads)
    assert first.cpu_s == pytest.approx(0.6 + 0.75 * (1.0 - 0.8 - 0.1))
    assert second.cpu_s == pytest.approx(0.2 + 0.25 * (1.0 - 0.8 - 0.1))
    assert first.beside_s == pytest.approx(0.3)
    assert first.user_share == pytest.approx(0.5)
    dearer = [replace(each, cpu_s=each.cpu_s * 1.25) for each in loads]
    assert meter.used(dearer)[0].cpu_s == pytest.approx(0.75)  # never less than its turns
