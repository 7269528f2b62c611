"""The lane of slow hashes: one thread beside the loop, a short queue, and no network that fills it."""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from luntrex_proxy.store.errors import StoreUnavailableError

WAITING_MAX: Final = 16
KEPT_FREE: Final = 4  # of those, for networks that have none waiting
RETRY_AFTER_S: Final = 5
T = TypeVar("T")


class BusyError(StoreUnavailableError):
    """Too many wait already; the same call may work in a few seconds."""

    def __init__(self) -> None:
        super().__init__("Too many people sign in at this moment; try again in a few seconds.")


class Lane:
    """Runs one function at a time, in the order of their coming."""

    def __init__(self, waiting_max: int = WAITING_MAX) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passwords")
        self._waiting: Counter[str] = Counter()  # by network
        self._waiting_max = waiting_max

    async def run(self, network: str, function: Callable[..., T], *arguments: object) -> T:
        """The function's result. BusyError: the queue is full."""
        room = self._waiting_max - KEPT_FREE * (self._waiting[network] > 0)
        if self._waiting.total() >= room:
            raise BusyError
        self._waiting[network] += 1
        running = asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        running.add_done_callback(lambda _: self._done(network))  # also when who asked has left
        return await asyncio.shield(running)

    def _done(self, network: str) -> None:
        self._waiting[network] -= 1
        if not self._waiting[network]:
            del self._waiting[network]
