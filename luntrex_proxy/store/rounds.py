"""One task that asks the database again and again, and who waits for its next answer. What it asks: its subclasses."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final

import asyncpg

from luntrex_proxy.store.database import Pool, is_cancelled

WAIT_S: Final = 2.0  # the longest that a request waits
ANSWER_S: Final = 1.5  # that an answer may take: who waits for it hears then that there is no database, and is not late
_AGAIN_S: Final = 1.0  # between questions while there is no answer
_APART_S: Final = 0.025  # at least, of questions for which nobody waits


class Rounds:
    """One question at a time. `pool_source` gives the pool, or None while there is no database."""

    def __init__(self, pool_source: Callable[[], Pool | None], every_s: float) -> None:
        self.away = False  # the last question got no answer
        self._pool_source = pool_source
        self._every_s = every_s
        self._waiting: list[asyncio.Future[None]] = []  # for the answer to the next question
        self._answered_s = float("-inf")  # monotonic
        self._asked_s = float("-inf")  # when the last question began
        self._soon: asyncio.TimerHandle | None = None  # until the next one for which nobody waits
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Ask soon: a question for each request would keep the database at work all the time."""
        if self._soon is None and not self._woken.is_set():
            wait_s = self._asked_s + _APART_S - time.monotonic()
            if wait_s > 0:
                self._soon = asyncio.get_running_loop().call_later(wait_s, self._woken.set)
            else:
                self._woken.set()

    def start(self) -> None:
        """Begin asking."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=type(self).__name__)

    async def stop(self) -> None:
        """Ask nothing after this."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def ask(self) -> None:
        """Ask what there is to ask. Whatever it raises: there is no answer."""
        raise NotImplementedError

    async def ask_past_deadlocks(self, question: Callable[[], Awaitable[None]]) -> None:
        """One of several questions, again when a deadlock ended it: nothing of it was done, and no database is away."""
        try:
            await question()
        except asyncpg.DeadlockDetectedError:
            await question()

    async def next_answer(self) -> bool:
        """Wait for the answer to a question that has not begun; False: the database is away.

        TimeoutError: no answer in 2 s, and nobody knows why; a process that is asked too much at once hears nothing.
        """
        if self.away:
            return False
        loop, now_s = asyncio.get_running_loop(), time.monotonic()
        self._woken.set()
        # A future of its own, and no timeout of a task: who waits may be no task, and may be cancelled.
        waits = loop.create_future()
        self._waiting.append(waits)
        timer = loop.call_later(WAIT_S, _end, waits)
        try:
            await waits
        finally:
            timer.cancel()
        if self._answered_s < now_s and not self.away:
            raise TimeoutError
        return not self.away

    def pool(self) -> Pool:
        """The pool, for one question."""
        pool = self._pool_source()
        if pool is None:
            raise ConnectionError("no database yet")
        return pool

    async def _run(self) -> None:
        while not is_cancelled():
            if self.away:
                await asyncio.sleep(_AGAIN_S)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._every_s):
                        await self._woken.wait()
            self._woken.clear()
            if self._soon is not None:
                self._soon.cancel()
                self._soon = None
            self._asked_s = time.monotonic()
            waiting, self._waiting = self._waiting, []
            try:
                await self.ask()
            except Exception:  # noqa: BLE001 -- whatever the database did: who gets no answer must go on asking
                self.away = True
            else:
                self.away, self._answered_s = False, time.monotonic()
            finally:
                for each in waiting:
                    _end(each)


def _end(waits: asyncio.Future[None]) -> None:
    if not waits.done():
        waits.set_result(None)
