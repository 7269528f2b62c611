"""The limits in the memory of a process: read before READY, and followed. The counts are not here: core/buckets.py."""

import asyncio
import time
from typing import Final

import msgspec

from luntrex_proxy.core.buckets import Limits
from luntrex_proxy.core.limits import WHATS, Terms
from luntrex_proxy.store import limits as table
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.silence import Silence

_SHARED_MAX: Final = 10_000
# Less than the ring waits for a silent connection and another one (following.py): limits come no later than keys.
_ANSWER_WAIT_S: Final = 2.0
_AT_ONCE: Final = 1_000  # accounts and keys, while requests wait


class LimitBook:
    """Keeps `limits` as the tables say."""

    def __init__(self, pool: Pool) -> None:
        self.limits = Limits()
        self._pool = pool
        self._version = -1  # of the last change read
        self._readings = 1  # of the ring's, when all was read; at the start both read all
        self._shared: dict[str, Terms] = {}  # keys with the same limits share one object

    async def refresh(self, readings: int = 1) -> None:
        """Read what has changed. Raises StoreError.

        `readings`: how often the ring has read all. Once more than before: the database may be an older one now,
        whatever its version.
        """
        with store_errors("read the limits"):
            async with self._pool.acquire(timeout=_ANSWER_WAIT_S) as connection:
                with Silence(connection, _ANSWER_WAIT_S) as silence:
                    version = await connection.fetchval("SELECT version FROM change_version")
                    silence.broken()
                    if version < self._version or readings != self._readings:
                        await self._read_all(connection, silence)
                    else:
                        await self._read(connection, self._version, silence)
                self._version, self._readings = max(version, 0), readings

    async def _read(self, connection: Connection, since: int, silence: Silence) -> set[int | str]:
        said: set[int | str] = set()
        async for rows in table.changed(connection, since):
            silence.broken()
            for account_id, key_id, text, is_open in rows:
                ident = account_id if key_id is None else key_id
                said.add(ident)
                self.limits.say(ident, self._terms(text), time.perf_counter_ns(), is_open=is_open)
            await asyncio.sleep(0)
        return said

    async def _read_all(self, connection: Connection, silence: Silence) -> None:
        said = await self._read(connection, -1, silence)
        gone = []
        for number, ident in enumerate(self.limits.terms):  # nobody but us changes which there are
            if not number % _AT_ONCE:
                await asyncio.sleep(0)
            if ident not in said:
                gone.append(ident)
        for ident in gone:
            self.limits.say(ident, {}, time.perf_counter_ns())

    def _terms(self, text: str) -> Terms:
        """The limits in a row; of a later release's kinds, and of rows only it can read, this one knows nothing."""
        terms = self._shared.get(text)
        if terms is None:
            try:
                read = table.read_terms(text)
            except msgspec.MsgspecError:
                read = {}
            terms = {m: known for m, each in read.items() if (known := {w: n for w, n in each.items() if w in WHATS})}
            if len(self._shared) >= _SHARED_MAX:
                self._shared.clear()
            self._shared[text] = terms
        return terms
