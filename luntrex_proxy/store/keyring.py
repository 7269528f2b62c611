"""All live keys in memory: the gateway's `KeyRing` port. Reads tables only; holds no plain key.

A key is found by the lookup hash of a pepper this process has: the present one, or while a rotation is under way the
one before. A key that has neither hash (brought from another installation, or its pepper is lost) is `unproven`: only
its id is held, and `proving.py` asks bcrypt once. `following.py` calls `catch_up` whenever something may have changed.
"""

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Any, Final

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.apikeys import KEY_LENGTH, lookup_hash
from luntrex_proxy.core.policy import NOTHING, BadPolicyError, Policy, read_policy
from luntrex_proxy.core.scope import Scope
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.pepper import Lookup

CURRENT_FOR_S: Final = 5.0
# Small enough that building the callers of one batch holds the loop for a few milliseconds only.
_BATCH_ROWS: Final = 2_000
_RENEWED_MAX: Final = 10_000  # waiting to be written; a key that does not fit is renewed at a later use

# $1 and $2 are the fingerprints of our peppers, the present one and the one before (or the same again).
_COLUMNS: Final = """
       k.key_id,
       CASE WHEN k.pepper_fingerprint = $1 THEN k.lookup_hash
            WHEN k.old_pepper_fingerprint = $1 THEN k.old_lookup_hash
            WHEN k.pepper_fingerprint = $2 THEN k.lookup_hash
            WHEN k.old_pepper_fingerprint = $2 THEN k.old_lookup_hash END AS hashed,
       k.account_id,
       coalesce(extract(epoch FROM k.not_before)::float8, 0) AS not_before,
       coalesce(extract(epoch FROM k.expires_at)::float8, 0) AS expires_at,
       a.policy, k.endpoints, k.models, k.regions, k.networks,
       k.status = 'active' AND a.status = 'active' AND (k.expires_at IS NULL OR k.expires_at > now()) AS live
"""
_FROM: Final = "FROM api_key k JOIN account a USING (account_id)"
_ALL_LIVE: Final = (
    f"SELECT {_COLUMNS} {_FROM}"
    " WHERE k.status = 'active' AND a.status = 'active' AND (k.expires_at IS NULL OR k.expires_at > now())"
)
_CHANGED_COLUMNS: Final = f"SELECT {_COLUMNS}, k.lookup_hash, k.old_lookup_hash {_FROM}"
_CHANGED: Final = (
    f"{_CHANGED_COLUMNS} WHERE k.version > $3 UNION ALL {_CHANGED_COLUMNS}"  # noqa: S608 -- constants of this file
    " WHERE k.account_id IN (SELECT account_id FROM account WHERE version > $3) AND k.version <= $3"
    " AND k.status = 'active'"
)
_ONE: Final = f"SELECT {_COLUMNS}, k.bcrypt_hash {_FROM} WHERE k.key_id = $3"
_STATE: Final = (
    "SELECT version, pepper_fingerprint, old_pepper_fingerprint FROM change_version LEFT JOIN installation ON true"
)


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
        self.unproven: set[str] = set()  # ids of live keys without a hash of a pepper we have
        self.renewed: dict[str, bytes] = {}  # key id -> hash with the present pepper, not in the table yet
        self._key = lookup.key
        self._old = lookup.old
        self._on_gone = on_gone
        self._max_staleness_s = max_staleness_s
        self._live: dict[bytes, Caller] = {}
        self._ending: dict[bytes, float] = {}  # those of _live with an end, so that the sweep is short
        self._moved: dict[str, bytes] = {}  # key id -> its hash in _live, where the table said another or none
        self._scopes: dict[object, Scope] = {}
        self._policies: dict[str, Policy] = {}
        self.version = -1  # of the last change read
        self._contact = float("-inf")
        self._given_up = False

    def __len__(self) -> int:
        return len(self._live)

    def find(self, key: bytes) -> Caller | None:
        """The caller of a live key. Whether its time has come or passed is the caller's to check."""
        # A hash that is in the table is proof of form and checksum too; they only sort what is not in it.
        if len(key) != KEY_LENGTH or time.monotonic() - self._contact > self._max_staleness_s:
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
        return None if time.monotonic() - self._contact > self._max_staleness_s else self._live.get(key_hash)

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
                await self._read_all(connection, old=self._old)

    async def catch_up(self, connection: Connection, on_answer: Callable[[], None] = lambda: None) -> None:
        """Bring the ring up to the store's present version; nearly always that is one small question.

        `on_answer` hears of each batch that came, so that a connection can be told from a dead one while many come.
        """
        asked_at = time.monotonic()
        version, *fingerprints = (await connection.fetch(_STATE))[0]
        on_answer()
        # The rotation is finished: rows no longer say the hashes we may know keys by.
        ended = self._old is not None and self._old.fingerprint not in fingerprints
        stranger = fingerprints[0] is not None and self.lookup.fingerprint not in fingerprints
        if version < self.version or ended or (stranger and version > self.version):
            # A lower version: the database was restored from an older backup.
            await self._read_all(connection, on_answer, old=None if ended else self._old)
            self._old = None if ended else self._old
        elif version > self.version:
            await self._read_changes(connection, version, on_answer)
        self._contact, self._given_up = asked_at, False
        self._sweep()

    async def read_unproven(self, connection: Connection, key_id: str) -> tuple[Caller, str] | None:
        """The caller and the bcrypt hash of a live key whose hash we do not have; None when it is not live."""
        row = await connection.fetchrow(_ONE, *self._fingerprints(self._old), key_id)
        if row is None or not row["live"]:
            return None
        return self._caller(row), row["bcrypt_hash"]

    def accept(self, caller: Caller, key: bytes) -> Caller | None:
        """Take in a key that bcrypt has proven; None when it stopped being live meanwhile."""
        if caller.key_id in self.unproven:
            self.unproven.discard(caller.key_id)
            self._put(lookup_hash(key, self._key), caller)
            self._moved[caller.key_id] = self.renewed[caller.key_id] = lookup_hash(key, self._key)
        return self.find(key)

    def give_up_when_too_old(self) -> None:
        """Once without contact for too long, any key may have been revoked: what runs with one must end."""
        self._sweep()
        if not self._given_up and self.lag_s() > self._max_staleness_s:
            self._given_up = True
            self._tell({caller.key_id for caller in self._live.values()})

    async def _read_all(
        self, connection: Connection, on_answer: Callable[[], None] = lambda: None, *, old: Lookup | None = None
    ) -> None:
        asked_at = time.monotonic()
        # The version first: a change that commits while the rows are read is read again, never missed.
        version, *_ = (await connection.fetch(_STATE))[0]
        live: dict[bytes, Caller] = {}
        unproven: set[str] = set()
        account_ids: dict[int, int] = {}  # one object per account, not one per key
        async with connection.transaction(readonly=True):
            cursor = await connection.cursor(_ALL_LIVE, *self._fingerprints(old))
            while rows := await cursor.fetch(_BATCH_ROWS):
                on_answer()
                for key_id, hashed, account_id, not_before, expires_at, policy, *limits, _ in rows:
                    if hashed is None:
                        unproven.add(key_id)
                        continue
                    shared_id = account_ids.setdefault(account_id, account_id)
                    scope = self._scope(limits) if any(limits) else None
                    live[hashed] = Caller(
                        shared_id, key_id, not_before or 0.0, expires_at or 0.0, self._policy(policy), scope
                    )
                await asyncio.sleep(0)
        before, self._live = self._live, live
        self._ending = {hashed: caller.expires_at for hashed, caller in live.items() if caller.expires_at}
        self.unproven, self._moved, self.renewed = unproven, {}, {}
        self.version, self._contact = version, asked_at
        # The keys stay for the life of the process: the collector need not look at them again.
        gc.freeze()
        gone = {caller.key_id for hashed, caller in before.items() if hashed not in live}
        if gone:  # of the few that are known by another hash now, or have to be proven, none is gone
            gone -= unproven
            gone -= {caller.key_id for caller in live.values() if caller.key_id in gone}
        self._tell(gone)

    async def _read_changes(self, connection: Connection, version: int, on_answer: Callable[[], None]) -> None:
        async with connection.transaction(readonly=True):
            cursor = await connection.cursor(_CHANGED, *self._fingerprints(self._old), self.version)
            while rows := await cursor.fetch(_BATCH_ROWS):
                on_answer()
                self._tell({row["key_id"] for row in rows if self._change(row)})
                await asyncio.sleep(0)
        self.version = version

    def _change(self, row: Any) -> bool:
        """Bring one key up to its row; whether it was live until now and is no longer."""
        key_id, hashed = row["key_id"], row["hashed"]
        moved = self._moved.pop(key_id, None)
        was_live = False
        for known_as in {moved, hashed, row["lookup_hash"], row["old_lookup_hash"]} - {None}:
            self._ending.pop(known_as, None)
            was_live |= self._live.pop(known_as, None) is not None
        self.unproven.discard(key_id)
        if not row["live"]:
            self.renewed.pop(key_id, None)
            return was_live
        if moved is not None and moved != hashed:
            self._moved[key_id] = moved  # the table will say so in a moment
        if moved is None and hashed is None:
            self.unproven.add(key_id)
        else:
            self._put(moved or hashed, self._caller(row))
        return False

    def _put(self, hashed: bytes, caller: Caller) -> None:
        self._live[hashed] = caller
        if caller.expires_at:
            self._ending[hashed] = caller.expires_at

    def _move(self, caller: Caller, old: bytes, new: bytes) -> None:
        """A key was found by the pepper before this one: from now on by the present one."""
        del self._live[old]
        self._ending.pop(old, None)
        self._put(new, caller)
        self._moved[caller.key_id] = self.renewed[caller.key_id] = new

    def _caller(self, row: Any) -> Caller:
        limits = [row["endpoints"], row["models"], row["regions"], row["networks"]]
        scope = self._scope(limits) if any(limits) else None
        policy = self._policy(row["policy"])
        return Caller(row["account_id"], row["key_id"], row["not_before"], row["expires_at"], policy, scope)

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
            self._policies[text] = policy
        return policy

    def _scope(self, limits: list[Any]) -> Scope:
        """One object for all keys that are limited alike."""
        name = tuple(None if words is None else tuple(words) for words in limits)
        scope = self._scopes.get(name)
        if scope is None:
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
        """Drop keys whose end has come."""
        now = time.time()
        ended = [hashed for hashed, expires_at in self._ending.items() if expires_at <= now]
        for hashed in ended:
            del self._ending[hashed]
        gone = {self._live.pop(hashed).key_id for hashed in ended}
        for key_id in gone:
            self._moved.pop(key_id, None)
            self.renewed.pop(key_id, None)
        self._tell(gone)

    def _tell(self, gone: set[str]) -> None:
        if gone and self._on_gone is not None:
            self._on_gone(gone)
