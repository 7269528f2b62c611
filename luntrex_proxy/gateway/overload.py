"""Overload: how full the process is, as a stage that the way of a request looks at, and the clock that measures it.

    0  all is well
    1  answers close their connection, so that idle ones do not pile up        from 70 %
    2  new requests get 503 before any work; idle connections are closed       from 85 %
    3  new connections are closed at once                                       from 95 %

What runs is never sacrificed. A stage is left five points lower than it is entered, so that it does not flicker.
"""

import asyncio
import os
import resource
from collections import deque
from collections.abc import Callable
from pathlib import Path

_ENTER = (0.70, 0.85, 0.95)
_LEAVE = (0.65, 0.80, 0.90)
REFUSING = 2
CLOSED = 3
_SAMPLE_S = 0.5
# A loop this late three times in a row has more to do than it can; who is told so at once can go elsewhere.
_DELAY_LIMIT_S = 1.0
_DELAYS = 3
_DELAY_AT_MOST = 0.94  # being slow is no reason to close new connections
_PAGE_BYTES = resource.getpagesize()
_OPEN_FILES = "/proc/self/fd"


def next_stage(stage: int, load: float) -> int:
    """The stage after `stage` at a load (1.0 is full)."""
    entered = sum(load >= bound for bound in _ENTER)
    kept = sum(load >= bound for bound in _LEAVE)
    return max(entered, min(stage, kept))


class Overload:
    """The stage right now. Read on every request, changed twice a second at most."""

    __slots__ = ("stage",)

    def __init__(self) -> None:
        self.stage = 0


class Sampler:
    """Measures twice a second and moves the stage. `on_change(stage, reason)` is told of each move."""

    def __init__(
        self,
        overload: Overload,
        loop: asyncio.AbstractEventLoop,
        memory_limit_bytes: int | None,
        on_change: Callable[[int, str], None],
    ) -> None:
        self._overload = overload
        self._loop = loop
        self.memory_limit_bytes = memory_limit_bytes
        self._on_change = on_change
        self._delays: deque[float] = deque([0.0] * _DELAYS, maxlen=_DELAYS)
        self._due = 0.0
        self._handle: asyncio.TimerHandle | None = None
        self._statm = -1

    def start(self) -> None:
        """Begin."""
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)  # kept open: no file may be left later
        self._again()

    def stop(self) -> None:
        """End."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
            os.close(self._statm)

    def loads(self) -> dict[str, float]:
        """How full the process is of each thing that can run out; 1.0 is full."""
        files_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        found = {
            "open_files": open_files() / files_limit,
            "delay": min(min(self._delays) / _DELAY_LIMIT_S, _DELAY_AT_MOST),
        }
        if self.memory_limit_bytes:
            resident_bytes = int(os.pread(self._statm, 128, 0).split()[1]) * _PAGE_BYTES
            found["memory"] = resident_bytes / self.memory_limit_bytes
        return found

    def _again(self) -> None:
        self._due = self._loop.time() + _SAMPLE_S
        self._handle = self._loop.call_later(_SAMPLE_S, self._sample)

    def _sample(self) -> None:
        self._delays.append(self._loop.time() - self._due)
        self._again()
        loads = self.loads()
        reason = max(loads, key=loads.__getitem__)
        stage = next_stage(self._overload.stage, loads[reason])
        if stage != self._overload.stage:
            self._overload.stage = stage
            self._on_change(stage, reason)


def open_files() -> int:
    """How many files this process has open, without listing them (20,000 take 15 ms)."""
    try:
        count = Path(_OPEN_FILES).stat().st_size  # Linux 6.2 and newer
        if count:
            return count
        lowest_free = os.dup(1)  # older: the next number, which is what runs out in the end
    except OSError:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    os.close(lowest_free)
    return lowest_free


def memory_limit_of_cgroup(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """The smallest memory.max or memory.high above this process (cgroup v2), or None."""
    try:
        line = next(text for text in own.read_text().splitlines() if text.startswith("0::"))
    except (OSError, StopIteration):
        return None
    found: list[int] = []
    place = root / line.removeprefix("0::").lstrip("/")
    while place.is_relative_to(root):
        for name in ("memory.max", "memory.high"):
            try:
                found.append(int((place / name).read_text()))
            except (OSError, ValueError):  # not there, or "max"
                continue
        if place == root:
            break
        place = place.parent
    return min(found, default=None)
