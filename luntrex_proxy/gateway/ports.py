"""What the way of a request needs from outside. Each port has one to three methods; none of them awaits."""

from collections.abc import Callable
from typing import Protocol

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.outcome import Opening, Outcome


class KeyRing(Protocol):
    """All live keys, in memory."""

    def find(self, key: bytes) -> Caller | None:
        """The caller of a well-formed key, or None. Constant time, no IO."""

    def is_current(self) -> bool:
        """Whether an unknown key is certainly unknown (False: the key store lags, answer 503 instead of 401)."""


class Ledger(Protocol):
    """The durable list of requests. Both calls return once the bytes are in the page cache."""

    def open(self, opening: Opening) -> None:
        """Append an opening. Raises LedgerFullError when there is no room: refuse the request."""

    def settle(self, outcome: Outcome) -> None:
        """Append the outcome. Room for it was reserved by `open`; never raises for lack of it."""


class LedgerFullError(Exception):
    """The ledger has no room for another request; nothing may be forwarded."""


Sink = Callable[[Outcome], None]
