"""All live keys in memory: the gateway's `KeyRing` port. Reads tables only; holds no plain key.

`following.py` calls `catch_up` whenever something may have changed.
"""

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Final

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.apikeys import KEY_LENGTH, lookup_hash
from luntrex_proxy.store.database import Connection, Pool, store_errors

CURRENT_FOR_S: Final = 5.0
# Small enough that building the callers of one batch holds the loop for a few milliseconds only.
_BATCH_ROWS: Final = 2_000

_SELECT: Final = """
SELECT k.key_id, k.lookup_hash, k.account_id,
       coalesce(extract(epoch FROM k.not_before)::float8, 0) AS not_before,
       coalesce(extract(epoch FROM k.expires_at)::float8, 0) AS expires_at,
       k.status = 'active' AND a.status = 'active' AND (k.expires_at IS NULL OR k.expires_at > now()) AS live
FROM api_key k JOIN account a USING (account_id)
"""
_ALL_LIVE: Final = (
    _SELECT + "WHERE k.status = 'active' AND a.status = 'active' AND (k.expires_at IS NULL OR k.expires_at > now())"
)
_CHANGED: Final = _SELECT + "WHERE k.version > $1"
_VERSION: Final = "SELECT version FROM change_version"


class KeyRing:
    """Live keys as `lookup hash -> Caller`. `on_gone` hears the ids of keys that stopped being live."""

    def __init__(
        self,
        lookup_key: bytes,
        on_gone: Callable[[set[str]], None] | None = None,
        *,
        max_staleness_s: float = 3600.0,
    ) -> None:
        self._lookup_key = lookup_key
        self._on_gone = on_gone
        self._max_staleness_s = max_staleness_s
        self._live: dict[bytes, Caller] = {}
        self._ending: dict[bytes, float] = {}  # those of _live with an end, so that the sweep is short
        self._version = -1
        self._contact = float("-inf")
        self._given_up = False

    def __len__(self) -> int:
        return len(self._live)

    def find(self, key: bytes) -> Caller | None:
        """The caller of a live key. Whether its time has come or passed is the caller's to check."""
        # A hash that is in the table is proof of form and checksum too; they only sort what is not in it.
        if len(key) != KEY_LENGTH or time.monotonic() - self._contact > self._max_staleness_s:
            return None
        return self._live.get(lookup_hash(key, self._lookup_key))

    def is_current(self) -> bool:
        """Whether an unknown key is certainly unknown: the store answered within the last 5 s."""
        return time.monotonic() - self._contact <= CURRENT_FOR_S

    def lag_s(self) -> float:
        """Seconds since the ring was last known to be equal to the store."""
        return time.monotonic() - self._contact

    async def load(self, pool: Pool) -> None:
        """Read all live keys. Before it, no key is known. Raises StoreError."""
        with store_errors("list the live keys"):
            async with pool.acquire() as connection:
                await self._read_all(connection)

    async def catch_up(self, connection: Connection) -> None:
        """Bring the ring up to the store's present version; nearly always that is one small question."""
        asked_at = time.monotonic()
        version = await connection.fetchval(_VERSION)
        if version < self._version:
            await self._read_all(connection)  # the database was restored from an older backup
        elif version > self._version:
            await self._read_changes(connection, version)
        self._contact, self._given_up = asked_at, False
        self._sweep()

    async def _read_all(self, connection: Connection) -> None:
        asked_at = time.monotonic()
        # The version first: a change that commits while the rows are read is read again, never missed.
        version = await connection.fetchval(_VERSION)
        live: dict[bytes, Caller] = {}
        account_ids: dict[int, int] = {}  # one object per account, not one per key
        async with connection.transaction(readonly=True):
            cursor = await connection.cursor(_ALL_LIVE)
            while rows := await cursor.fetch(_BATCH_ROWS):
                for key_id, hashed, account_id, not_before, expires_at, _ in rows:
                    shared_id = account_ids.setdefault(account_id, account_id)
                    live[hashed] = Caller(shared_id, key_id, not_before or 0.0, expires_at or 0.0)
                await asyncio.sleep(0)
        before, self._live = self._live, live
        self._ending = {hashed: caller.expires_at for hashed, caller in live.items() if caller.expires_at}
        self._version, self._contact = version, asked_at
        # The keys stay for the life of the process: the collector need not look at them again.
        gc.freeze()
        self._tell({caller.key_id for hashed, caller in before.items() if hashed not in live})

    async def _read_changes(self, connection: Connection, version: int) -> None:
        async with connection.transaction(readonly=True):
            cursor = await connection.cursor(_CHANGED, self._version)
            while rows := await cursor.fetch(_BATCH_ROWS):
                gone: set[str] = set()
                for key_id, hashed, account_id, not_before, expires_at, live in rows:
                    self._ending.pop(hashed, None)
                    if live:
                        self._live[hashed] = Caller(account_id, key_id, not_before, expires_at)
                        if expires_at:
                            self._ending[hashed] = expires_at
                    elif self._live.pop(hashed, None) is not None:
                        gone.add(key_id)
                self._tell(gone)
                await asyncio.sleep(0)
        self._version = version

    def _sweep(self) -> None:
        """Drop keys whose end has come."""
        now = time.time()
        ended = [hashed for hashed, expires_at in self._ending.items() if expires_at <= now]
        for hashed in ended:
            del self._ending[hashed]
        self._tell({self._live.pop(hashed).key_id for hashed in ended})

    def give_up_when_too_old(self) -> None:
        """Once without contact for too long, any key may have been revoked: what runs with one must end."""
        if not self._given_up and self.lag_s() > self._max_staleness_s:
            self._given_up = True
            self._tell({caller.key_id for caller in self._live.values()})

    def _tell(self, gone: set[str]) -> None:
        if gone and self._on_gone is not None:
            self._on_gone(gone)
