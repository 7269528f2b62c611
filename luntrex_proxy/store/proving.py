"""Keys that only bcrypt can tell: brought from another installation, or made with a pepper that is lost.

Each is proven once, at its first use; from then on its lookup hash finds it. bcrypt takes a twentieth of a second of
CPU or more, so one key at a time is looked at, few may wait, and an id for which wrong keys come has to wait. Only ids
known to be unproven ever reach bcrypt. A wrong key is answered at the same moments whether its id exists or not.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import bcrypt

from luntrex_proxy.core.access import Caller, KeysBusyError
from luntrex_proxy.core.apikeys import bcrypt_input, parse
from luntrex_proxy.core.attempts import Attempts
from luntrex_proxy.store.database import DRIVER_ERRORS, Pool
from luntrex_proxy.store.keyring import KeyRing

WAITING_MAX: Final = 16
_FAILURES_PER_MINUTE: Final = 5  # of one id
_WRONG_AFTER_S: Final = 1.0  # wrong keys are answered at whole seconds from their arrival
_READ_WAIT_S: Final = 2.0


class Prover:
    """Proves unproven keys of a ring. `pool_source` gives the pool on which their rows are read."""

    def __init__(self, ring: KeyRing, pool_source: Callable[[], Pool], wrong_after_s: float = _WRONG_AFTER_S) -> None:
        self._ring = ring
        self._pool_source = pool_source
        self._wrong_after_s = wrong_after_s
        self._attempts = Attempts(_FAILURES_PER_MINUTE)
        self._running: dict[str, tuple[bytes, asyncio.Task[Caller | None]]] = {}  # by id
        self._turn = asyncio.Semaphore(1)

    async def prove(self, key: bytes) -> Caller | None:
        """The caller of an unproven key; None when it is wrong. Raises KeysBusyError."""
        key_id = parse(key)
        if key_id is None or not self._ring.unproven:
            return None
        arrived_at = time.monotonic()
        if self._attempts.wait_s(key_id, arrived_at):
            raise KeysBusyError
        caller = await self._join(key, key_id) if key_id in self._ring.unproven else self._ring.find(key)
        if caller is None:
            self._attempts.note(key_id, arrived_at)
            elapsed_s = time.monotonic() - arrived_at
            await asyncio.sleep(self._wrong_after_s - elapsed_s % self._wrong_after_s)
        return caller

    async def _join(self, key: bytes, key_id: str) -> Caller | None:
        """Retries of one client wait for one check; another key for the same id, or too many ids, come back later."""
        asked, running = self._running.get(key_id, (key, None))
        if asked != key or (running is None and len(self._running) >= WAITING_MAX):
            raise KeysBusyError
        if running is None:
            running = asyncio.create_task(self._check(key, key_id))
            self._running[key_id] = key, running
            running.add_done_callback(lambda _: self._running.pop(key_id, None))
        return await asyncio.shield(running)  # the one who asked first may leave; the others still want to know

    async def _check(self, key: bytes, key_id: str) -> Caller | None:
        async with self._turn:
            found = await self._read(key_id)
            if found is None or not await asyncio.to_thread(_is_proven, key, found[1]):
                return None
            now = await self._read(key_id)  # bcrypt took a while, in which the key can have been changed
            return None if now is None else self._ring.accept(now[0], key)

    async def _read(self, key_id: str) -> tuple[Caller, str] | None:
        try:
            async with asyncio.timeout(_READ_WAIT_S), self._pool_source().acquire() as connection:
                return await self._ring.read_unproven(connection, key_id)
        except DRIVER_ERRORS:
            raise KeysBusyError from None


def _is_proven(key: bytes, hashed: str) -> bool:
    try:
        return bcrypt.checkpw(bcrypt_input(key), hashed.encode())
    except ValueError:  # not a hash that bcrypt makes
        return False
