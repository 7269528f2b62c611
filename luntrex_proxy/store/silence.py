"""How long a connection may owe an answer: one that is dead or hung gives no other sign."""

import asyncio
from typing import Self

from luntrex_proxy.store.database import Connection


class Silence:
    """Drops a connection that owes an answer for too long. The driver would first wait to roll back on it."""

    def __init__(self, connection: Connection, longest_s: float) -> None:
        self._connection = connection
        self.longest_s = longest_s
        self._end: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self.broken()
        return self

    def broken(self) -> None:
        """An answer has come, another one is owed."""
        self.__exit__()
        self._end = asyncio.get_running_loop().call_later(self.longest_s, self._connection.terminate)

    def __exit__(self, *_: object) -> None:
        if self._end is not None:
            self._end.cancel()
