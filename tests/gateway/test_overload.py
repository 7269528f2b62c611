"""Overload: stages with hysteresis, what is measured, and that each change is told once."""

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.gateway import overload
from luntrex_proxy.gateway.overload import Overload, Sampler, memory_limit_of_cgroup, next_stage, open_files
from tests.fakes import until


@pytest.mark.parametrize(
    ("stage", "load", "then"),
    [
        (0, 0.69, 0), (0, 0.70, 1), (0, 0.85, 2), (0, 0.95, 3), (0, 5.0, 3),
        (1, 0.66, 1), (1, 0.64, 0), (1, 0.86, 2), (2, 0.81, 2), (2, 0.79, 1), (2, 0.1, 0),
        (3, 0.91, 3), (3, 0.89, 2), (3, 0.66, 1), (3, 0.0, 0),
    ],
)  # fmt: skip
def test_stages_are_left_lower_than_they_are_entered(stage: int, load: float, then: int) -> None:
    """70, 85 and 95 % in; 65, 80 and 90 % out."""
    assert next_stage(stage, load) == then


@given(st.integers(0, 3), st.floats(0, 2))
def test_a_stage_is_stable_at_a_steady_load(stage: int, load: float) -> None:
    """The same load never moves it twice, and it is never below what the load enters by itself."""
    after = next_stage(stage, load)
    assert next_stage(after, load) == after >= next_stage(0, load)


async def test_memory_moves_the_stage_and_it_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process's own memory against a bound set around it: in at once, out by itself, each change told once."""
    monkeypatch.setattr(overload, "_SAMPLE_S", 0.02)
    told: list[tuple[int, str]] = []
    state = Overload()
    sampler = Sampler(state, asyncio.get_running_loop(), None, lambda stage, reason: told.append((stage, reason)))
    sampler.start()
    try:
        await asyncio.sleep(0.1)
        assert (state.stage, told) == (0, [])
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        sampler.memory_limit_bytes = int(resident / 0.88)
        await until(lambda: state.stage == 2)
        await asyncio.sleep(0.1)
        sampler.memory_limit_bytes = resident * 100
        await until(lambda: state.stage == 0)
        assert [stage for stage, _ in told] == [2, 0]
        assert told[0][1] == "memory"
    finally:
        sampler.stop()


async def test_a_loop_that_stays_late_refuses_but_never_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One stall is forgiven; several in a row are stage 2 at most."""
    told: list[tuple[int, str]] = []
    monkeypatch.setattr(overload, "_SAMPLE_S", 0.01)
    monkeypatch.setattr(overload, "_DELAY_LIMIT_S", 0.02)
    loop = asyncio.get_running_loop()
    state = Overload()
    sampler = Sampler(state, loop, None, lambda stage, reason: told.append((stage, reason)))
    sampler.start()
    try:
        await asyncio.sleep(0.05)
        told.clear()
        for _ in range(8):
            deadline = loop.time() + 0.1
            while loop.time() < deadline:
                pass
            await asyncio.sleep(0)
        assert (state.stage, told[-1]) == (2, (2, "delay"))
        monkeypatch.setattr(overload, "_DELAY_LIMIT_S", 10)
        await until(lambda: state.stage == 0)
    finally:
        sampler.stop()


def test_open_files_are_counted() -> None:
    """Near enough, with and without Linux 6.2's help."""
    before = open_files()
    fds = [os.dup(1) for _ in range(50)]
    try:
        assert before + 45 <= open_files() <= before + 55
    finally:
        for fd in fds:
            os.close(fd)


def test_open_files_are_counted_on_older_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the directory has no size, the next free number stands for the count."""
    monkeypatch.setattr(overload, "_OPEN_FILES", "/dev/null")
    before = open_files()
    fds = [os.dup(1) for _ in range(50)]
    try:
        assert open_files() >= before + 50 or before > 50
    finally:
        for fd in fds:
            os.close(fd)


def test_the_smallest_limit_above_us_counts(tmp_path: Path) -> None:
    """memory.max and memory.high of our cgroup and of those it is in; none, or cgroup v1, is None."""
    own, root = tmp_path / "own", tmp_path / "cgroup"
    inner = root / "system.slice" / "luntrex.service"
    inner.mkdir(parents=True)
    own.write_text("4:memory:/old\n0::/system.slice/luntrex.service\n")
    assert memory_limit_of_cgroup(root, own) is None
    (inner / "memory.max").write_text("max\n")
    (inner.parent / "memory.max").write_text("2000\n")
    assert memory_limit_of_cgroup(root, own) == 2000
    (inner / "memory.high").write_text("1500\n")
    assert memory_limit_of_cgroup(root, own) == 1500
    own.write_text("4:memory:/old\n")
    assert memory_limit_of_cgroup(root, own) is None
    assert memory_limit_of_cgroup(root, tmp_path / "none") is None
