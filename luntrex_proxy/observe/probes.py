"""What the process measures about itself: how late the event loop runs."""

import asyncio


class LoopLag:
    """Longest delay of a coarse timer over the last one to two windows; a stalled loop shows here first."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, period_s: float = 0.1, window_s: float = 15.0) -> None:
        self._loop = loop
        self._period_s = period_s
        self._window_s = window_s
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = 0.0
        self._window_ends_s = 0.0
        self._worst_s = 0.0
        self._worst_before_s = 0.0

    def start(self) -> None:
        """Begin to measure."""
        self._window_ends_s = self._loop.time() + self._window_s
        self._arm(self._loop.time())

    def stop(self) -> None:
        """End measuring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def seconds(self) -> float:
        """The longest delay in this window and the one before (two, so that a scrape never finds it just emptied)."""
        return max(self._worst_s, self._worst_before_s)

    def _arm(self, now_s: float) -> None:
        self._due_s = now_s + self._period_s
        self._timer = self._loop.call_at(self._due_s, self._tick)

    def _tick(self) -> None:
        now_s = self._loop.time()
        if now_s >= self._window_ends_s:
            self._window_ends_s = now_s + self._window_s
            self._worst_before_s, self._worst_s = self._worst_s, 0.0
        self._worst_s = max(self._worst_s, now_s - self._due_s)
        self._arm(now_s)
