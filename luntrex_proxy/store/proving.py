"""Keys that only bcrypt can tell: brought from another installation, or made with a pepper that is lost.

Each is proven once, at its first use; from then on its lookup hash finds it. bcrypt takes a twentieth of a second of
CPU or more, so one key at a time is looked at, and only if its id is known to be unproven.

Nobody without the right key learns which ids exist. So everything but bcrypt itself is the same for a key whose id is
unproven, proven or unknown: the failures that are counted, the place among the few that are looked at, how long that
place is held, and the moment of the answer. Nothing on the way to it asks the database, which can be slow or away.
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
from luntrex_proxy.store.packedkeys import PackedKey

WAITING_MAX: Final = 16
KEPT_FREE: Final = 4  # of those, for networks that sent no wrong key of late and have no other one waiting
_FAILURES_PER_MINUTE: Final = 5  # of one id, from one network
# A wrong key is answered so long after it came. In this time bcrypt can look at all that wait, four times over at our
# own cost of 10, just so at 12, the highest that is taken over; later it would be seen that it was asked.
_WRONG_AFTER_S: Final = 4.0
_READ_WAIT_S: Final = 2.0


class Prover:
    """Proves unproven keys of a ring. `pool_source` gives the pool on which rows of proven keys are read."""

    def __init__(self, ring: KeyRing, pool_source: Callable[[], Pool], wrong_after_s: float = _WRONG_AFTER_S) -> None:
        self._ring = ring
        self._pool_source = pool_source
        self._wrong_after_s = wrong_after_s
        self._attempts = Attempts(_FAILURES_PER_MINUTE)  # by id and network
        self._failed = Attempts(1)  # by network
        self._checks: dict[bytes, tuple[str, asyncio.Task[Caller | None]]] = {}  # key's hash -> network that sent it
        self._turn = asyncio.Semaphore(1)

    async def prove(self, key: bytes, network: str) -> Caller | None:
        """The caller of an unproven key that came from a network; None when it is wrong. Raises KeysBusyError."""
        key_id = parse(key)
        if key_id is None or not self._ring.unproven:
            return None
        arrived_at = time.monotonic()
        place = f"{key_id} {network}"
        if self._attempts.wait_s(place, arrived_at):
            raise KeysBusyError
        caller = await self._join(key, key_id, network)
        if caller is None:
            self._attempts.note(place, arrived_at)
            self._failed.note(network, arrived_at)
        return caller

    async def _join(self, key: bytes, key_id: str, network: str) -> Caller | None:
        """Retries of one client wait for one check; when too many keys are looked at, others come back later."""
        hashed = self._ring.hash_of(key)
        _, check = self._checks.get(hashed, (network, None))
        if check is None:
            if len(self._checks) >= self._room(network):
                raise KeysBusyError
            check = asyncio.create_task(self._check(key, key_id))
            self._checks[hashed] = network, check
            check.add_done_callback(lambda done: self._done(hashed, done))
        return await asyncio.shield(check)  # the one who asked first may leave; the others still want to know

    def _room(self, network: str) -> int:
        """How many may be looked at when this network wants one more: with wrong keys it can't fill all places."""
        waits = any(other == network for other, _ in self._checks.values())
        return WAITING_MAX - KEPT_FREE * (waits or self._failed.owes(network, time.monotonic()))

    def _done(self, hashed: bytes, check: asyncio.Task[Caller | None]) -> None:
        del self._checks[hashed]
        if not check.cancelled():
            check.exception()  # taken, so that nobody complains when all who asked have left

    async def _check(self, key: bytes, key_id: str) -> Caller | None:
        arrived_at = time.monotonic()
        bcrypt_hash = self._ring.unproven.get(key_id)
        if bcrypt_hash is not None:
            async with self._turn:
                is_proven = await asyncio.to_thread(_is_proven, key, bcrypt_hash)
            if is_proven:
                return await self._take_in(key, key_id)
        elapsed_s = time.monotonic() - arrived_at
        await asyncio.sleep(self._wrong_after_s - elapsed_s % self._wrong_after_s)
        return self._ring.find(key)  # another process may have proven it meanwhile

    async def _take_in(self, key: bytes, key_id: str) -> Caller | None:
        """Put a proven key into the ring as its row is; one that changed while it was read is read again."""
        while (entry := self._ring.unproven.get(key_id)) is not None:
            proven = await self._read(key_id)
            if proven is None:
                return None
            if self._ring.unproven.get(key_id) is entry:  # a change that the ring hears of is another object
                return self._ring.accept(proven, key)
        return self._ring.find(key)

    async def _read(self, key_id: str) -> PackedKey | None:
        try:
            async with asyncio.timeout(_READ_WAIT_S), self._pool_source().acquire() as connection:
                return await self._ring.read_live(connection, key_id)
        except DRIVER_ERRORS:
            raise KeysBusyError from None


def _is_proven(key: bytes, bcrypt_hash: bytes) -> bool:
    try:
        return bcrypt.checkpw(bcrypt_input(key), bcrypt_hash)
    except ValueError:  # not a hash that bcrypt makes
        return False
