"""All live keys in memory: the gateway's `KeyRing` port. Reads tables only; holds no plain key.

A key is found by the lookup hash of a pepper this process has: the present one, or while a rotation is under way the
one before. A key that has neither hash (brought from another installation, or its pepper is lost) is `unproven`: its
id and bcrypt hash are held, and `proving.py` asks bcrypt once. `following.py` calls `catch_up` whenever something may
have changed. Keys of suspended accounts stay, refused: what an account or a person says is read as the one row it is.
"""

import asyncio
import gc
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.apikeys import KEY_LENGTH, lookup_hash
from luntrex_proxy.store import keyselect
from luntrex_proxy.store.book import Book
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.livekeys import LiveKeys
from luntrex_proxy.store.newest import Newest, Seen
from luntrex_proxy.store.packedkeys import PackedKey, Packer
from luntrex_proxy.store.parts import Parts
from luntrex_proxy.store.pepper import Lookup

CURRENT_FOR_S: Final = 5.0
_BATCH_ROWS: Final = 500  # to pack so many keys holds the loop for a few milliseconds only
_SWEEPS_MAX: Final = 40  # with each heartbeat
_CLOCK_STEP_S: Final = 1.0  # what a clock may go back without keys being read anew
_RENEWED_MAX: Final = 10_000  # waiting to be written; a key that does not fit is renewed at a later use


class KeyRing:
    """Live keys as `lookup hash -> Caller`.

    `on_gone` hears the ids of keys that stopped being live; where all are read anew, or an account is suspended, of
    those in use only. `in_use` gives these: key id -> account id. `books` are read before new keys are live.
    """

    def __init__(
        self,
        lookup: Lookup,
        on_gone: Callable[[set[str]], None] = lambda _: None,
        in_use: Callable[[], dict[str, int]] = dict,
        *,
        books: Sequence[Book] = (),
        max_staleness_s: float = 3600.0,
    ) -> None:
        self.lookup = lookup
        self.unproven = Parts[str, bytes]()  # live keys without a hash of a pepper we have: id -> bcrypt hash
        self.renewed: dict[str, bytes] = {}  # key id -> hash with the present pepper, not in the table yet
        self._key = lookup.key
        self._old = lookup.old
        self._on_gone = on_gone
        self._in_use = in_use
        self._books = books
        self._books_behind = False  # one of them could not be read
        self._max_staleness_s = max_staleness_s
        self._live = LiveKeys(time.time())
        self._packer = Packer()
        # Key id -> its hash in _live, where the table says another or none, or may come to without our hearing of it.
        self._moved = Parts[str, bytes]()
        self._peppers: list[bytes | None] = [None]  # the installation's when all keys were read last
        self.version, self.newest, self.history, self._readings = Seen()
        self._sure = -1  # the change up to which no key was removed before we had read it
        self.generation = 0  # another number after each change, also of one key
        self.contact = float("-inf")  # when the store was last asked and answered, by time.monotonic
        self._answered = float("-inf")  # the same, and it said that much is to be read
        self._given_up = False
        self._ended_at = float("-inf")  # unix time at which keys were last dropped because their end had come

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
                self._live.move(old_hash, hashed)
                self._moved[caller.key_id] = self.renewed[caller.key_id] = hashed
        return caller

    def hash_of(self, key: bytes) -> bytes:
        """What `at` knows the key by."""
        return lookup_hash(key, self._key)

    def at(self, key_hash: bytes) -> Caller | None:
        """The caller as `find` gives it, or None: ask `find`."""
        if time.monotonic() - self.contact > self._max_staleness_s:
            return None
        # A key in use is looked up for every request: without a call.
        return self._live.at_hand.get(key_hash) or self._live.get(key_hash)

    def is_current(self) -> bool:
        """Whether an unknown key is certainly unknown: the store answered within the last 5 s."""
        return time.monotonic() - self.contact <= CURRENT_FOR_S

    def answers(self) -> bool:
        """Whether the store answers: it did within the last 5 s, if only with a part of much that is to be read."""
        return time.monotonic() - max(self.contact, self._answered) <= CURRENT_FOR_S

    def lag_s(self) -> float:
        """Seconds since the ring was last known to be equal to the store."""
        return time.monotonic() - self.contact

    @property
    def seen(self) -> Seen:
        """How far the store has been read."""
        return Seen(self.version, self.newest, self.history, self._readings)

    async def load(self, pool: Pool) -> None:
        """Read all live keys. Before it, no key is known. Raises StoreError."""
        with store_errors("list the live keys"):
            async with pool.acquire() as connection:
                await self._read_all(connection, old=self._old)

    async def catch_up(self, connection: Connection, on_answer: Callable[[], None] = lambda: None) -> None:
        """Bring the ring up to the store's present version; nearly always that is one small question.

        `on_answer` hears of each batch that came, so that a connection can be told from a dead one while many come.
        """

        def heard() -> None:
            self._answered = time.monotonic()
            on_answer()

        asked_at = time.monotonic()
        state = (await connection.fetch(keyselect.STATE, self.history[0]))[0]
        version, removed, *fingerprints, sequence, hashed, known = state
        on_answer()
        # The rotation is finished: rows no longer say the hashes we may know keys by.
        ended = self._old is not None and self._old.fingerprint not in fingerprints
        abandoned = self._is_stranger(fingerprints) and fingerprints != self._peppers
        restored = version < self.version or known != self.history[1]
        put_back = time.time() < self._ended_at - _CLOCK_STEP_S  # the clock: keys were taken for ended that are not
        missed = removed > self._sure  # keys went that were revoked in what we had not read
        if restored or missed or put_back or ended or abandoned:
            freed = await self._read_all(connection, heard, old=None if ended else self._old)
            self._old = None if ended else self._old
            await self._tell_gone(on_answer)
            for _ in freed:
                on_answer()
                await asyncio.sleep(0)
        else:
            self._sure = seen = self.version
            if version > seen:
                await self._read_changes(connection, version, heard)
                # At once: somebody who is being erased now goes in a moment.
                if await connection.fetchval(keyselect.REMOVED) <= self._sure:
                    self._sure = version
            if version > seen or self._books_behind:  # also where no key has changed
                await self.read_books(connection, heard)
            self.history = sequence, hashed  # acts that changed no key as well: retention may drop those before
        self.contact, self._given_up = asked_at, False
        for _ in range(_SWEEPS_MAX):
            self._sweep()
            if not self._live.is_behind(time.time()):
                break
            await asyncio.sleep(0)

    async def read_live(self, connection: Connection, key_id: str) -> PackedKey | None:
        """A key as its row is now; None when it is not live."""
        row = await connection.fetchrow(keyselect.ONE, *self._fingerprints(self._old), key_id)
        return self._packer.of(row) if row is not None and row["live"] else None

    def accept(self, proven: PackedKey, key: bytes) -> Caller | None:
        """Take in a key that bcrypt has proven; None when it stopped being live meanwhile."""
        key_id = proven.key_id
        if self.unproven.pop(key_id, None) is not None:
            hashed = self.hash_of(key)
            self._live.put(hashed, proven)
            self._moved[key_id] = self.renewed[key_id] = hashed
            self.generation += 1
        return self.find(key)

    def give_up_when_too_old(self) -> None:
        """Once without contact for too long, any key may have been revoked: what runs with one must end."""
        self._sweep()
        if not self._given_up and self.lag_s() > self._max_staleness_s:
            self._given_up = True
            self.generation += 1
            self._tell(set(self._in_use()))

    async def _read_all(
        self, connection: Connection, on_answer: Callable[[], None] = lambda: None, *, old: Lookup | None = None
    ) -> Iterator[None]:
        """Have the ring say what the tables say. What is given back is to be run through: it frees what was there."""
        asked_at = time.monotonic()
        # The version first: a change that commits while the rows are read is read again, never missed.
        version, _, *peppers, sequence, head_hash, _ = (await connection.fetch(keyselect.STATE, 0))[0]
        live, unproven, moved = LiveKeys(time.time()), Parts[str, bytes](), Parts[str, bytes]()
        is_stranger = self._is_stranger(peppers)
        newest = Newest(self, version, self._fingerprints(old))
        async with connection.transaction(readonly=True):
            on_answer()
            cursor = await connection.cursor(keyselect.ALL_LIVE, *self._fingerprints(old))
            on_answer()
            while rows := await cursor.fetch(_BATCH_ROWS):
                on_answer()
                for row in rows:
                    if row["hashed"] is None:
                        unproven[row["key_id"]] = row["unproven"].encode()
                    else:
                        live.put(row["hashed"], self._packer.of(row))
                        if is_stranger:  # others will write hashes that are not ours over it
                            moved[row["key_id"]] = row["hashed"]
                await newest.read(connection, on_answer)
                await asyncio.sleep(0)
            # After the keys, so that no key is known longer than what its account says; and what was said meanwhile.
            await live.standings.read(connection, on_answer, keyselect.ACCOUNTS, between=newest.read)
            await live.standings.read(connection, on_answer, keyselect.NEWEST_ACCOUNTS, version, newest.accounts)
        await self.read_books(connection, on_answer, self._readings + 1)
        before = self._live, self.unproven, self._moved
        self._live, self.unproven, self._moved = live, unproven, moved
        self.renewed, self._ended_at, self._peppers = {}, float("-inf"), peppers
        for row in newest.rows.values():
            self._change(row)
        self.version, self.history, self.contact = version, (sequence, head_hash), asked_at
        self._sure = version
        self.generation += 1
        self._readings += 1
        gc.freeze()  # what stays for the life of the process need not be looked at again
        return itertools.chain.from_iterable(each.emptied() for each in before)

    async def _tell_gone(self, on_step: Callable[[], None]) -> None:
        """Of the keys that something runs with, which are neither live nor unproven any more."""
        in_use = self._in_use()
        gone = {key_id for key_id in in_use if key_id not in self.unproven}
        if gone:
            for ids in self._live.ids():
                gone.difference_update(ids)
                on_step()
                await asyncio.sleep(0)
        # Those that moved may have been where we had looked.
        gone = {key_id for key_id in gone if key_id not in self._moved and key_id not in self.unproven}
        self._tell(gone | self._live.standings.of_suspended(in_use))

    async def _read_changes(self, connection: Connection, version: int, on_answer: Callable[[], None]) -> None:
        async with connection.transaction(readonly=True):
            on_answer()
            newest = Newest(self, self.version, self._fingerprints(self._old))
            await self.hear(connection, on_answer, keyselect.CHANGED_ACCOUNTS, self.version)
            cursor = await connection.cursor(keyselect.CHANGED, *self._fingerprints(self._old), self.version)
            on_answer()
            while rows := await cursor.fetch(_BATCH_ROWS):
                on_answer()
                # What was read newest counts: these say what was before.
                await newest.take(connection, on_answer, [row for row in rows if row["key_id"] not in newest.rows])
                await newest.read(connection, on_answer)
                await asyncio.sleep(0)
        self.version = version

    async def hear(self, connection: Connection, on_answer: Callable[[], None], accounts: str, *values: Any) -> None:
        """Know what these accounts say, and who is restricted; end what runs with keys of a suspended account."""
        suspended = await self._live.standings.read(connection, on_answer, accounts, *values)
        self.generation += 1
        if suspended:
            self._tell(self._live.standings.of_suspended(self._in_use()))

    async def read_books(
        self, connection: Connection, on_answer: Callable[[], None], readings: int | None = None
    ) -> None:
        """Know what limits and budgets say now."""
        self._books_behind = False
        for book in self._books:
            try:
                await book.catch_up(connection, on_answer, self._readings if readings is None else readings)
            except Exception:  # whatever cannot be read: who followed no keys would honour revoked ones
                self._books_behind = True
                if connection.is_closed():
                    raise

    def change(self, rows: list[Any]) -> None:
        """Bring these keys up to their rows, and tell of those that are not live."""
        self.generation += 1
        self._tell({row["key_id"] for row in rows if not self._change(row)})

    def _change(self, row: Any) -> bool:
        """Bring one key up to its row; whether it is live."""
        key_id, hashed = row["key_id"], row["hashed"]
        moved = self._moved.pop(key_id, None)
        place = (moved or hashed) if row["live"] else None
        for known_as in {moved, hashed, row["lookup_hash"], row["old_lookup_hash"]} - {None, place}:
            self._live.drop(known_as)
        self.unproven.pop(key_id, None)
        if not row["live"]:
            self.renewed.pop(key_id, None)
            return False
        if place is not None and (place != hashed or self._is_stranger(self._peppers)):
            self._moved[key_id] = place  # the table will say so in a moment, or may say it no more
        if place is None:
            self.unproven[key_id] = row["unproven"].encode()
        else:
            self._live.put(place, self._packer.of(row))
        return True

    def _is_stranger(self, peppers: list[bytes | None]) -> bool:
        """Whether the installation goes by other peppers: hashes of ours leave its tables unseen."""
        return peppers[0] is not None and self.lookup.fingerprint not in peppers

    def _fingerprints(self, old: Lookup | None) -> tuple[bytes, bytes]:
        present = self.lookup.fingerprint
        return present, present if old is None else old.fingerprint

    def _sweep(self) -> None:
        """Drop keys whose end has come, some at a time; until then they are refused by their end."""
        # Few of the last ones: with them hundreds of MiB may go back to the system.
        now = time.time()
        gone = self._live.drop_ended(now, max(50, min(len(self._live) // 100, 1_000)))
        if gone:
            self._ended_at, self.generation = max(now, self._ended_at), self.generation + 1
        for key_id in gone:
            self._moved.pop(key_id, None)
            self.renewed.pop(key_id, None)
        self._tell(gone)

    def _tell(self, gone: set[str]) -> None:
        if gone:
            self._on_gone(gone)
