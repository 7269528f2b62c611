"""Runs the coroutine of a request on the stack of whoever has news for it, instead of as a task.

A task takes a turn of the event loop to start and one for each wake-up, with a system call in each turn; on the way of
a request there is nothing to wait for in between. So the first step runs when the head has arrived, and the next one
when the answer has. What else is awaited (a connection being made) are futures, waited for as a task would.

Both are to be inherited from: an object of its own for each would cost a request more than what it does.
"""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

_END: Any = object()


class Signal:
    """Something one coroutine waits for. `fire` runs it on from there, before it returns."""

    __slots__ = ("fired", "waiting")

    def __init__(self) -> None:
        self.fired = False  # what is waited for is there
        self.waiting: Running | None = None  # who waits, if somebody does

    def __await__(self) -> Generator["Signal", None, None]:
        # `await` takes any iterator. A generator of our own would take longer to make than all that this does.
        return iter(() if self.fired else (self,))  # type: ignore[return-value]  # typeshed asks for a generator

    def fire(self) -> None:
        """What was waited for is there. Firing again does nothing."""
        self.fired = True
        waiting = self.waiting
        if waiting is not None:
            self.waiting = None
            waiting.step()


class Running:
    """What runs one coroutine. That must not raise, and may await nothing but signals and futures."""

    __slots__ = ("_cancelled", "_steps", "_waits_for", "running")

    _steps: Generator[Any, None, None]
    _waits_for: "Signal | asyncio.Future[Any] | None"  # None: it is running

    def __init__(self) -> None:
        self.running = False  # it has begun, and is not done
        self._cancelled = False

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Begin, and run to the first wait."""
        self._steps = coroutine.__await__()
        self.running = True
        self.step()

    def cancel(self) -> None:
        """Raise CancelledError where it waits, or where it will wait next."""
        if not self.running:
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
        steps = self._steps
        self._waits_for = None
        try:
            # Its end is no exception here, as `send` would raise one: that would take as long as ten steps.
            waits_for = next(steps, _END) if error is None else steps.throw(error)
        except StopIteration:
            waits_for = _END
        except BaseException:
            self.running = False
            raise
        if waits_for is _END:
            self.running = False
            return
        self._waits_for = waits_for
        if isinstance(waits_for, Signal):
            waits_for.waiting = self
        else:
            waits_for._asyncio_future_blocking = False
            waits_for.add_done_callback(self._woken)
        if self._cancelled:
            self._cancelled = False
            self.cancel()

    def _woken(self, future: "asyncio.Future[Any]") -> None:  # noqa: ARG002 -- the coroutine asks it for its result itself
        self.step()
