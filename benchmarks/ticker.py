"""A timer of the kernel's for the event loop: an event loop's own timers know whole milliseconds only."""

import asyncio
import contextlib
import ctypes
import os
import struct
import time
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_NS_PER_S = 1_000_000_000


class _Setting(ctypes.Structure):
    """`struct itimerspec`."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("first_s", ctypes.c_long),
        ("first_ns", ctypes.c_long),
    )


class Ticker:
    """Calls `due(intended_ns)` at a constant rate, `total` times. Late ticks are made up for, each with its own time.

    Python 3.13 has `os.timerfd_create`; until then the C library is asked.
    """

    def __init__(self, rate: float, total: int, due: Callable[[int], None]) -> None:
        self._gap_ns = _NS_PER_S / rate
        self._total = total
        self._due = due
        self._number = 0
        self.done = asyncio.Event()

    def start(self) -> int:
        """Begin 10 ms from now; returns that time in nanoseconds of CLOCK_MONOTONIC."""
        libc = ctypes.CDLL(None, use_errno=True)
        self._file = libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "the kernel gave no timer")
        self._start_ns = time.monotonic_ns() + 10_000_000
        interval = max(1, int(self._gap_ns))
        setting = _Setting(*divmod(interval, _NS_PER_S), *divmod(self._start_ns, _NS_PER_S))
        libc.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(setting), None)
        asyncio.get_running_loop().add_reader(self._file, self._tick)
        return self._start_ns

    def _tick(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._file, struct.calcsize("Q"))
        now_ns = time.monotonic_ns()
        while self._number < self._total:
            intended_ns = self._start_ns + int(self._number * self._gap_ns)
            if intended_ns > now_ns:
                return
            self._number += 1
            self._due(intended_ns)
        self.stop()
        self.done.set()

    def stop(self) -> None:
        """Give the timer back."""
        if self._file >= 0:
            asyncio.get_running_loop().remove_reader(self._file)
            os.close(self._file)
            self._file = -1
