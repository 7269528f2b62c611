"""One coarse clock for all connections: each has a deadline that this ticker compares a few times a second.

A timer per event would cost more than the event; deadlines here are accurate to `TICK_S`.
"""

import asyncio
from typing import Protocol

TICK_S = 0.25
NEVER = float("inf")


class Expiring(Protocol):
    """Something with a deadline on the ticker's clock."""

    deadline: float

    def expire(self) -> None:
        """Called once the deadline has passed; must move the deadline or leave the ticker."""


class Ticker:
    """Keeps `now` (loop time, seconds) and calls `expire` on members whose deadline has passed."""

    __slots__ = ("_handle", "_loop", "members", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None
        self.now = loop.time()
        self.members: set[Expiring] = set()

    def start(self) -> None:
        """Begin to tick."""
        self._tick()

    def stop(self) -> None:
        """Stop ticking; members are left as they are."""
        if self._handle is not None:
            self._handle.cancel()

    def _tick(self) -> None:
        self._handle = self._loop.call_later(TICK_S, self._tick)
        now = self.now = self._loop.time()
        for member in [m for m in self.members if m.deadline < now]:
            member.expire()
