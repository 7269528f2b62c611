"""What a process knows of a table that follows `change_version`: read before READY, and kept as the table says."""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from typing import Any, ClassVar, Final

from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.silence import Silence

_ANSWER_WAIT_S: Final = 2.0  # at the start, and of verbs; what changes then is read by the ring that is given it
_AT_ONCE: Final = 100  # rows, while requests wait


class Book:
    """Its subclasses say which rows there are and what is done with each."""

    what: ClassVar[str]

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._version = -1  # of the last change read
        self._readings = 1  # of the ring's, when all was read; at the start both read all

    async def refresh(self, readings: int = 1) -> None:
        """Read what has changed. Raises StoreError.

        `readings`: how often the ring has read all. Once more than before: the database may be an older one now,
        whatever its version, and knows nothing of what was told it since.
        """
        with store_errors(f"read the {self.what}"):
            async with self._pool.acquire(timeout=_ANSWER_WAIT_S) as connection:
                with Silence(connection, _ANSWER_WAIT_S) as silence:
                    await self.catch_up(connection, silence.broken, readings)

    async def catch_up(self, connection: Connection, on_answer: Callable[[], None], readings: int) -> None:
        """The same on a connection that is there; `on_answer` hears of each answer. One at a time."""
        version = await connection.fetchval("SELECT version FROM change_version")
        on_answer()
        if version < self._version or readings != self._readings:
            await self._read_all(connection, on_answer)
        elif version > self._version:
            await self._read(connection, self._version, on_answer)
        self._version, self._readings = max(version, 0), readings

    def changed(self, connection: Connection, since: int) -> AsyncIterator[Sequence[Any]]:
        """The rows that changed after a version, in batches; after -1: all."""
        raise NotImplementedError

    def say(self, row: Any) -> Hashable:
        """What the row says holds from now on; whose it is."""
        raise NotImplementedError

    def known(self) -> Iterable[Hashable]:
        """Of whom there is something."""
        raise NotImplementedError

    def forget(self, ident: Any) -> None:
        """There is no row of it any more."""
        raise NotImplementedError

    async def _read(self, connection: Connection, since: int, on_answer: Callable[[], None]) -> set[Hashable]:
        said: set[Hashable] = set()
        async for rows in self.changed(connection, since):
            on_answer()
            for number, row in enumerate(rows, 1):
                said.add(self.say(row))
                if not number % _AT_ONCE:
                    await asyncio.sleep(0)
            await asyncio.sleep(0)
        return said

    async def _read_all(self, connection: Connection, on_answer: Callable[[], None]) -> None:
        said = await self._read(connection, -1, on_answer)
        gone = []
        for number, ident in enumerate(self.known()):  # nobody but us changes which there are
            if not number % _AT_ONCE:
                await asyncio.sleep(0)
            if ident not in said:
                gone.append(ident)
        for ident in gone:
            self.forget(ident)
