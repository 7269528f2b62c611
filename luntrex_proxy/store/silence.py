"""How long a connection may owe an answer: one that is dead or hung gives no other sign."""

import asyncio
from typing import Final, Self

from luntrex_proxy.store.database import Connection

# The time is counted in parts, one in each turn of the loop at most: a process that is asked too much at once is late
# to read what the database has said long ago, and must not take that for silence.
_PARTS: Final = 6


class Silence:
    """Drops a connection that owes an answer for too long. The driver would first wait to roll back on it."""

    def __init__(self, connection: Connection, longest_s: float) -> None:
        self._connection = connection
        self.longest_s = longest_s
        self._parts = 0  # that have passed
        self._end: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self.broken()
        return self

    def broken(self) -> None:
        """An answer has come, another one is owed."""
        self.__exit__()
        self._parts = -1
        self._part()

    def __exit__(self, *_: object) -> None:
        if self._end is not None:
            self._end.cancel()

    def _part(self) -> None:
        self._parts += 1
        if self._parts == _PARTS:
            self._connection.terminate()
        else:
            self._end = asyncio.get_running_loop().call_later(self.longest_s / _PARTS, self._part)
