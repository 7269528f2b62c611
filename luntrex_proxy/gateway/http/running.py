"""Runs the coroutine of a request on the stack of whoever has news for it, instead of as a task.

A task takes a turn of the event loop to start and one for each wake-up, with a system call in each turn; on the way of
a request there is nothing to wait for in between. So the first step runs when the head has arrived, and the next one
when the answer has. What else is awaited (a connection being made) are futures, waited for as a task would.
"""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

import msgspec


class Signal(msgspec.Struct, eq=False):
    """Something one coroutine waits for, once. `fire` runs it on from there, before it returns."""

    _fired: bool = False
    waiting: "Running | None" = None  # who waits, if somebody does

    def __await__(self) -> Generator["Signal", None, None]:
        if not self._fired:
            yield self

    def fire(self) -> None:
        """What was waited for is there. Firing again does nothing."""
        self._fired = True
        waiting = self.waiting
        if waiting is not None:
            self.waiting = None
            waiting.step()


class Running(msgspec.Struct, eq=False):
    """One coroutine on its way. It must not raise, and may await nothing but signals and futures."""

    _coroutine: Coroutine[Any, Any, None]
    _waits_for: "Signal | asyncio.Future[Any] | None" = None  # None: it is running
    _cancelled: bool = False
    done: bool = False

    def __repr__(self) -> str:
        return "Running()"

    def cancel(self) -> None:
        """Raise CancelledError where it waits, or where it will wait next."""
        if self.done:
            return
        waits_for = self._waits_for
        if waits_for is None:
            self._cancelled = True
        elif isinstance(waits_for, Signal):
            waits_for.waiting = None
            self.step(asyncio.CancelledError())
        elif not waits_for.cancel():
            self._cancelled = True  # it is done already; the next wait ends at once

    def step(self, error: BaseException | None = None) -> None:
        """Run to the next wait, or to the end."""
        self._waits_for = None
        try:
            waits_for = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
        except StopIteration:
            self.done = True
            return
        except BaseException:
            self.done = True
            raise
        self._waits_for = waits_for
        if type(waits_for) is Signal:
            waits_for.waiting = self
        else:
            waits_for._asyncio_future_blocking = False
            waits_for.add_done_callback(self._woken)
        if self._cancelled:
            self._cancelled = False
            self.cancel()

    def _woken(self, future: "asyncio.Future[Any]") -> None:  # noqa: ARG002 -- the coroutine asks it for its result itself
        self.step()
