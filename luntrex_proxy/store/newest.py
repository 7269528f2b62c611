"""While many keys are read: the few keys that changed last, and all accounts, do not wait for their turn."""

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from luntrex_proxy.store.database import Connection
from luntrex_proxy.store.keyselect import CHANGED_ACCOUNTS, NEWEST, THESE_ACCOUNTS

_EVERY_S: Final = 0.25


class Seen(NamedTuple):
    """How far the store has been read: something else after every change, restores included."""

    version: int = -1  # of the last change read
    newest: int = -1  # of the last change heard of; more while many are read
    history: tuple[int, bytes] = (0, b"")  # the audit log's last entry then
    readings: int = 0  # how often all was read


class Ring(Protocol):
    """What is kept current."""

    newest: int  # version of the last change heard of

    async def hear(self, connection: Connection, on_answer: Callable[[], None], accounts: str, *values: object) -> None:
        """Know what these accounts say."""

    async def read_books(self, connection: Connection, on_answer: Callable[[], None]) -> None:
        """Know what limits and budgets say."""

    def change(self, rows: list[Any]) -> None:
        """Bring keys up to their rows."""


class Newest:
    """What one reading has been told between its batches."""

    def __init__(self, ring: Ring, version: int, fingerprints: tuple[bytes, bytes]) -> None:
        self.rows: dict[str, Any] = {}  # by key id
        self._ring = ring
        self._seen = version
        self._fingerprints = fingerprints
        self._heard: set[int] = set()  # accounts
        self._due = time.monotonic() + _EVERY_S

    @property
    def accounts(self) -> list[int]:
        """Those of the keys that changed."""
        return [row["account_id"] for row in self.rows.values()]

    async def take(self, connection: Connection, on_answer: Callable[[], None], rows: list[Any]) -> None:
        """Have the ring change these keys. Their accounts first: one just made has no change to be read by.

        Then what they may cost, which a new one would not be held to else; keys that have ended wait for none of it.
        """
        self._ring.change([row for row in rows if not row["live"]])
        rows = [row for row in rows if row["live"]]
        accounts = {row["account_id"] for row in rows} - self._heard
        if accounts:
            await self._ring.hear(connection, on_answer, THESE_ACCOUNTS, list(accounts))
            self._heard |= accounts
        if rows:
            await self._ring.read_books(connection, on_answer)
        self._ring.change(rows)

    async def read(self, connection: Connection, on_answer: Callable[[], None]) -> None:
        """Now and then, in a fifth of the time at most: a slow database is caught up with all the same."""
        began_s = time.monotonic()
        if began_s < self._due:
            return
        version = await connection.fetchval("SELECT version FROM change_version")
        on_answer()
        if version > self._seen:
            await self._ring.hear(connection, on_answer, CHANGED_ACCOUNTS, self._seen)
            rows = await connection.fetch(NEWEST, *self._fingerprints, self._seen)
            on_answer()
            await self.take(connection, on_answer, rows)
            self.rows |= {row["key_id"]: row for row in rows}
            self._seen = self._ring.newest = version
        now_s = time.monotonic()
        self._due = now_s + max(_EVERY_S, 4 * (now_s - began_s))
