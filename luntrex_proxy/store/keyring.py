"""All live keys in memory: the gateway's `KeyRing` port. Reads tables only; holds no plain key.

A key is found by the lookup hash of a pepper this process has: the present one, or while a rotation is under way the
one before. A key that has neither hash (brought from another installation, or its pepper is lost) is `unproven`: its
id and bcrypt hash are held, and `proving.py` asks bcrypt once. `following.py` calls `catch_up` whenever something may
have changed.
"""

import asyncio
import gc
import heapq
import time
from collections.abc import Callable
from typing import Any, Final

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.apikeys import KEY_LENGTH, lookup_hash
from luntrex_proxy.core.policy import NOTHING, BadPolicyError, Policy, read_policy
from luntrex_proxy.core.scope import Scope
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.keyselect import ALL_LIVE, CHANGED, ONE, STATE
from luntrex_proxy.store.pepper import Lookup

CURRENT_FOR_S: Final = 5.0
# Small enough that building the callers of one batch holds the loop for a few milliseconds only.
_BATCH_ROWS: Final = 2_000
_RENEWED_MAX: Final = 10_000  # waiting to be written; a key that does not fit is renewed at a later use
_SHARED_MAX: Final = 10_000  # scopes, and policies; beyond it equal ones are no longer one object


class KeyRing:
    """Live keys as `lookup hash -> Caller`. `on_gone` hears the ids of keys that stopped being live."""

    def __init__(
        self,
        lookup: Lookup,
        on_gone: Callable[[set[str]], None] | None = None,
        *,
        max_staleness_s: float = 3600.0,
    ) -> None:
        self.lookup = lookup
        self.unproven: dict[str, bytes] = {}  # live keys without a hash of a pepper we have: id -> bcrypt hash
        self.renewed: dict[str, bytes] = {}  # key id -> hash with the present pepper, not in the table yet
        self._key = lookup.key
        self._old = lookup.old
        self._on_gone = on_gone
        self._max_staleness_s = max_staleness_s
        self._live: dict[bytes, Caller] = {}
        self._ending: list[tuple[float, bytes]] = []  # a heap of ends, also of keys that have another one by now
        self._moved: dict[str, bytes] = {}  # key id -> its hash in _live, where the table said another or none
        self._scopes: dict[object, Scope] = {}
        self._policies: dict[str, Policy] = {}
        self.version = -1  # of the last change read
        self.history: tuple[int, bytes] = (0, b"")  # the audit log's last entry then
        self.generation = 0  # another number after each change, also of one key
        self.contact = float("-inf")  # when the store was last asked and answered, by time.monotonic
        self._given_up = False

    def __len__(self) -> int:
        return len(self._live)

    def find(self, key: bytes) -> Caller | None:
        """The caller of a live key. Whether its time has come or passed is the caller's to check."""
        # A hash that is in the table is proof of form and checksum too; they only sort what is not in it.
        if len(key) != KEY_LENGTH or time.monotonic() - self.contact > self._max_staleness_s:
            return None
        hashed = self.hash_of(key)
        caller = self._live.get(hashed)
        if caller is None and self._old is not None:
            old_hash = lookup_hash(key, self._old.key)
            caller = self._live.get(old_hash)
            if caller is not None and len(self.renewed) < _RENEWED_MAX:
                self._move(caller, old_hash, hashed)
        return caller

    def hash_of(self, key: bytes) -> bytes:
        """What `at` knows the key by."""
        return lookup_hash(key, self._key)

    def at(self, key_hash: bytes) -> Caller | None:
        """The caller as `find` gives it, or None: ask `find`."""
        return None if time.monotonic() - self.contact > self._max_staleness_s else self._live.get(key_hash)

    def is_current(self) -> bool:
        """Whether an unknown key is certainly unknown: the store answered within the last 5 s."""
        return time.monotonic() - self.contact <= CURRENT_FOR_S

    def lag_s(self) -> float:
        """Seconds since the ring was last known to be equal to the store."""
        return time.monotonic() - self.contact

    @property
    def seen(self) -> tuple[int, tuple[int, bytes]]:
        """How far the store has been read: something else after every change, restores included."""
        return self.version, self.history

    async def load(self, pool: Pool) -> None:
        """Read all live keys. Before it, no key is known. Raises StoreError."""
        with store_errors("list the live keys"):
            async with pool.acquire() as connection:
                await self._read_all(connection, old=self._old)

    async def catch_up(self, connection: Connection, on_answer: Callable[[], None] = lambda: None) -> None:
        """Bring the ring up to the store's present version; nearly always that is one small question.

        `on_answer` hears of each batch that came, so that a connection can be told from a dead one while many come.
        """
        asked_at = time.monotonic()
        version, *fingerprints, sequence, hashed, known = (await connection.fetch(STATE, self.history[0]))[0]
        on_answer()
        # The rotation is finished: rows no longer say the hashes we may know keys by.
        ended = self._old is not None and self._old.fingerprint not in fingerprints
        stranger = fingerprints[0] is not None and self.lookup.fingerprint not in fingerprints
        restored = version < self.version or known != self.history[1]
        if restored or ended or (stranger and version > self.version):
            await self._read_all(connection, on_answer, old=None if ended else self._old)
            self._old = None if ended else self._old
        else:
            if version > self.version:
                await self._read_changes(connection, version, on_answer)
            self.history = sequence, hashed  # acts that changed no key as well: retention may drop those before
        self.contact, self._given_up = asked_at, False
        self._sweep()

    async def read_live(self, connection: Connection, key_id: str) -> Caller | None:
        """The caller of a key as its row is now; None when it is not live."""
        row = await connection.fetchrow(ONE, *self._fingerprints(self._old), key_id)
        return self._caller(row) if row is not None and row["live"] else None

    def accept(self, caller: Caller, key: bytes) -> Caller | None:
        """Take in a key that bcrypt has proven; None when it stopped being live meanwhile."""
        if self.unproven.pop(caller.key_id, None) is not None:
            self._put(lookup_hash(key, self._key), caller)
            self._moved[caller.key_id] = self.renewed[caller.key_id] = lookup_hash(key, self._key)
            self.generation += 1
        return self.find(key)

    def give_up_when_too_old(self) -> None:
        """Once without contact for too long, any key may have been revoked: what runs with one must end."""
        self._sweep()
        if not self._given_up and self.lag_s() > self._max_staleness_s:
            self._given_up = True
            self.generation += 1
            # With those that have to be proven: they may have been known when what runs with them began.
            self._tell({caller.key_id for caller in self._live.values()} | self.unproven.keys())

    async def _read_all(
        self, connection: Connection, on_answer: Callable[[], None] = lambda: None, *, old: Lookup | None = None
    ) -> None:
        asked_at = time.monotonic()
        # The version first: a change that commits while the rows are read is read again, never missed.
        version, _, _, sequence, head_hash, _ = (await connection.fetch(STATE, 0))[0]
        live: dict[bytes, Caller] = {}
        ending: list[tuple[float, bytes]] = []
        unproven: dict[str, bytes] = {}
        account_ids: dict[int, int] = {}  # one object per account, not one per key
        async with connection.transaction(readonly=True):
            on_answer()
            cursor = await connection.cursor(ALL_LIVE, *self._fingerprints(old))
            on_answer()
            while rows := await cursor.fetch(_BATCH_ROWS):
                on_answer()
                for (
                    key_id,
                    hashed,
                    bcrypt_hash,
                    account_id,
                    not_before,
                    expires_at,
                    policy,
                    consents,
                    *limits,
                    _,
                ) in rows:
                    if hashed is None:
                        unproven[key_id] = bcrypt_hash.encode()
                        continue
                    shared_id = account_ids.setdefault(account_id, account_id)
                    scope = self._scope(limits) if any(limits) else None
                    live[hashed] = Caller(
                        shared_id, key_id, not_before or 0.0, expires_at or 0.0, self._policy(policy), scope, consents
                    )
                    if expires_at:
                        heapq.heappush(ending, (expires_at, hashed))
                await asyncio.sleep(0)
        before, self._live, self._ending = self._live, live, ending
        waited, self.unproven = self.unproven, unproven
        self._moved, self.renewed = {}, {}
        self.version, self.history, self.contact = version, (sequence, head_hash), asked_at
        self.generation += 1
        # The keys stay for the life of the process: the collector need not look at them again.
        gc.freeze()
        self._tell(await self._gone(before, waited, on_answer))

    async def _gone(
        self, before: dict[bytes, Caller], waited: dict[str, bytes], on_step: Callable[[], None]
    ) -> set[str]:
        """The ids of those that are neither live nor unproven any more. Empties `before` as it goes.

        In steps: comparing a million keys, and giving their memory back, takes longer than requests should wait.
        """
        gone: set[str] = set()
        while before:
            for _ in range(min(_BATCH_ROWS, len(before))):
                hashed, caller = before.popitem()
                if hashed not in self._live:
                    gone.add(caller.key_id)
            on_step()
            await asyncio.sleep(0)
        gone |= waited.keys()
        gone -= self.unproven.keys()
        if gone:  # of the few that are known by another hash now none is gone
            callers = list(self._live.values())
            for start in range(0, len(callers), _BATCH_ROWS):
                gone.difference_update([caller.key_id for caller in callers[start : start + _BATCH_ROWS]])
                on_step()
                await asyncio.sleep(0)
        return gone

    async def _read_changes(self, connection: Connection, version: int, on_answer: Callable[[], None]) -> None:
        async with connection.transaction(readonly=True):
            on_answer()
            cursor = await connection.cursor(CHANGED, *self._fingerprints(self._old), self.version)
            on_answer()
            while rows := await cursor.fetch(_BATCH_ROWS):
                on_answer()
                self.generation += 1
                self._tell({row["key_id"] for row in rows if not self._change(row)})
                await asyncio.sleep(0)
        self.version = version

    def _change(self, row: Any) -> bool:
        """Bring one key up to its row; whether it is live."""
        key_id, hashed = row["key_id"], row["hashed"]
        moved = self._moved.pop(key_id, None)
        place = moved or hashed
        before = None if place is None else self._live.get(place)
        for known_as in {moved, hashed, row["lookup_hash"], row["old_lookup_hash"]} - {None}:
            self._live.pop(known_as, None)
        self.unproven.pop(key_id, None)
        if not row["live"]:
            self.renewed.pop(key_id, None)
            return False
        if moved is not None and moved != hashed:
            self._moved[key_id] = moved  # the table will say so in a moment
        if place is None:
            self.unproven[key_id] = row["unproven"].encode()
        else:
            self._put(place, self._caller(row), before)
        return True

    def _put(self, hashed: bytes, caller: Caller, before: Caller | None = None) -> None:
        self._live[hashed] = caller
        if caller.expires_at and (before is None or before.expires_at != caller.expires_at):
            heapq.heappush(self._ending, (caller.expires_at, hashed))

    def _move(self, caller: Caller, old: bytes, new: bytes) -> None:
        """A key was found by the pepper before this one: from now on by the present one."""
        del self._live[old]
        self._put(new, caller)
        self._moved[caller.key_id] = self.renewed[caller.key_id] = new

    def _caller(self, row: Any) -> Caller:
        limits = [row["endpoints"], row["models"], row["regions"], row["networks"]]
        scope = self._scope(limits) if any(limits) else None
        policy = self._policy(row["policy"])
        return Caller(
            row["account_id"], row["key_id"], row["not_before"], row["expires_at"], policy, scope, row["consents"]
        )

    def _policy(self, text: str | None) -> Policy | None:
        """One object for all accounts with the same policy. One that nobody understands admits nothing."""
        if text is None:
            return None
        policy = self._policies.get(text)
        if policy is None:
            try:
                policy = read_policy(text)
            except BadPolicyError:
                policy = NOTHING
            if len(self._policies) >= _SHARED_MAX:
                self._policies.clear()
            self._policies[text] = policy
        return policy

    def _scope(self, limits: list[Any]) -> Scope:
        """One object for all keys that are limited alike."""
        name = tuple(None if words is None else tuple(words) for words in limits)
        scope = self._scopes.get(name)
        if scope is None:
            if len(self._scopes) >= _SHARED_MAX:
                self._scopes.clear()
            endpoints, models, regions, networks = name
            scope = self._scopes[name] = Scope(
                None if endpoints is None else frozenset(endpoints),
                models,
                None if regions is None else frozenset(regions),
                networks,
            )
        return scope

    def _fingerprints(self, old: Lookup | None) -> tuple[bytes, bytes]:
        present = self.lookup.fingerprint
        return present, present if old is None else old.fingerprint

    def _sweep(self) -> None:
        """Drop keys whose end has come, some at a time; until then they are refused by their end."""
        now, gone = time.time(), set()
        for _ in range(_BATCH_ROWS):
            if not self._ending or self._ending[0][0] > now:
                break
            _, hashed = heapq.heappop(self._ending)
            caller = self._live.get(hashed)
            if caller is not None and caller.expires_at and caller.expires_at <= now:
                del self._live[hashed]
                self._moved.pop(caller.key_id, None)
                self.renewed.pop(caller.key_id, None)
                gone.add(caller.key_id)
        self.generation += bool(gone)
        self._tell(gone)

    def _tell(self, gone: set[str]) -> None:
        if gone and self._on_gone is not None:
            self._on_gone(gone)
