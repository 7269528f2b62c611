"""What this process has learnt about keys, written in batches beside the requests: last use, and new lookup hashes."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from luntrex_proxy.core.outcome import Outcome
from luntrex_proxy.store.changes import next_version
from luntrex_proxy.store.database import DRIVER_ERRORS, Pool
from luntrex_proxy.store.keyring import KeyRing

_RENEW_EVERY_S: Final = 1.0
_LAST_USED_EVERY_S: Final = 60.0
_BATCH: Final = 1_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Only who has the present pepper may write, and what the key had from the one before stays for those who have only it.
_RENEW: Final = """
UPDATE api_key k SET lookup_hash = new.hash, pepper_fingerprint = $4, version = $3,
    old_lookup_hash = CASE WHEN k.pepper_fingerprint = i.old_pepper_fingerprint THEN k.lookup_hash END,
    old_pepper_fingerprint = CASE WHEN k.pepper_fingerprint = i.old_pepper_fingerprint THEN k.pepper_fingerprint END
FROM unnest($1::text[], $2::bytea[]) AS new(key_id, hash), installation i
WHERE k.key_id = new.key_id AND i.pepper_fingerprint = $4 AND k.pepper_fingerprint IS DISTINCT FROM $4
"""
# Another process may be writing some of the same rows: those are skipped, so that nobody waits for anybody.
_USED: Final = """
UPDATE api_key k SET last_used_at = new.at
FROM (SELECT key_id, used.at FROM unnest($1::text[], $2::timestamptz[]) AS used(key_id, at)
      JOIN api_key old USING (key_id) WHERE old.last_used_at IS NULL OR old.last_used_at < used.at
      FOR UPDATE OF old SKIP LOCKED) new
WHERE k.key_id = new.key_id
"""


class KeyUpkeep:
    """Takes outcomes, and is the task that writes."""

    def __init__(self, ring: KeyRing, pool: Pool) -> None:
        self._ring = ring
        self._pool = pool
        self._used_us: dict[str, int] = {}  # key id -> start of its newest request

    def take(self, outcomes: Sequence[Outcome]) -> None:
        """Note which keys these were made with."""
        self._used_us.update({outcome.key_id: outcome.started_us for outcome in outcomes})

    async def run(self) -> None:
        """Write now and then until cancelled. What cannot be written now waits; last uses are bounded by the keys."""
        due = time.monotonic() + _LAST_USED_EVERY_S
        while True:
            await asyncio.sleep(_RENEW_EVERY_S)
            try:
                await self.write_renewed()
                if time.monotonic() >= due:
                    due = time.monotonic() + _LAST_USED_EVERY_S
                    await self.write_last_used()
            except DRIVER_ERRORS:
                await asyncio.sleep(_RENEW_EVERY_S)

    async def finish(self, deadline_s: float) -> None:
        """Write what is left, if the database takes it in time."""
        with contextlib.suppress(*DRIVER_ERRORS):
            async with asyncio.timeout(deadline_s):
                await self.write_renewed()
                await self.write_last_used()

    async def write_renewed(self) -> None:
        """Put hashes made with the present pepper into the table, for all processes."""
        renewed = list(self._ring.renewed.items())[:_BATCH]
        if not renewed:
            return
        key_ids, hashes = [key_id for key_id, _ in renewed], [hashed for _, hashed in renewed]
        async with self._pool.acquire() as connection, connection.transaction():
            version = await next_version(connection)
            await connection.execute(_RENEW, key_ids, hashes, version, self._ring.lookup.fingerprint)
        for key_id, hashed in renewed:
            if self._ring.renewed.get(key_id) == hashed:
                del self._ring.renewed[key_id]

    async def write_last_used(self) -> None:
        """Put the last uses since the last call into the table."""
        used_us, self._used_us = self._used_us, {}
        used_us.pop("", None)  # callers nobody knows
        try:
            for start in range(0, len(used_us), _BATCH):
                key_ids = list(used_us)[start : start + _BATCH]
                times = [_EPOCH + timedelta(microseconds=used_us[key_id]) for key_id in key_ids]
                async with asyncio.timeout(_LAST_USED_EVERY_S):
                    await self._pool.execute(_USED, key_ids, times)
        except DRIVER_ERRORS:
            self._used_us = used_us | self._used_us
            raise
