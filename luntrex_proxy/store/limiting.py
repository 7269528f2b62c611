"""The limits in the memory of a process. The counts are not here: core/buckets.py."""

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final

import msgspec

from luntrex_proxy.core.buckets import Limits
from luntrex_proxy.core.limits import WHATS, Terms
from luntrex_proxy.store import limits as table
from luntrex_proxy.store.book import Book
from luntrex_proxy.store.database import Connection, Pool

_SHARED_MAX: Final = 10_000


class LimitBook(Book):
    """Keeps `limits` as the tables say."""

    what = "limits"

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.limits = Limits()
        self._shared: dict[str, Terms] = {}  # keys with the same limits share one object

    def changed(self, connection: Connection, since: int) -> AsyncIterator[Sequence[Any]]:
        """Of accounts and keys."""
        return table.changed(connection, since)

    def say(self, row: Any) -> int | str:
        """An account's id, or a key's."""
        account_id, key_id, text, is_open = row
        ident: int | str = account_id if key_id is None else key_id
        self.limits.say(ident, self._terms(text), time.perf_counter_ns(), is_open=is_open)
        return ident

    def known(self) -> Iterable[int | str]:
        """Accounts and keys that are limited."""
        return self.limits.terms

    def forget(self, ident: int | str) -> None:
        """It is not limited any more."""
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
