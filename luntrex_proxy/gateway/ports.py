"""What the way of a request needs from outside. Each port has one to three methods; none awaits but
`prove`, `lend` and `tell`.
"""

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.buckets import Bucket, Limits
from luntrex_proxy.core.capture import Captured
from luntrex_proxy.core.catalogue import Candidate, Resolution
from luntrex_proxy.core.leases import Budgets, Purse
from luntrex_proxy.core.ledger import LedgerFullError
from luntrex_proxy.core.outcome import Opening, Outcome
from luntrex_proxy.core.pricing import Price

__all__ = ["KeyRing", "Ledger", "LedgerFullError", "Sink"]


class KeyRing(Protocol):
    """All live keys, in memory."""

    @property
    def generation(self) -> int:
        """Another number after each change: as long as it is the same, `find` says the same."""

    def find(self, key: bytes) -> Caller | None:
        """The caller of a well-formed key, or None. Constant time, no IO."""

    def hash_of(self, key: bytes) -> bytes:
        """What `at` knows the key by. It follows from the key, so who sees the same one again can keep it."""

    def at(self, key_hash: bytes) -> Caller | None:
        """The caller as `find` gives it, or None: ask `find`."""

    def is_current(self) -> bool:
        """Whether an unknown key is certainly unknown (False: the key store lags, answer 503 instead of 401)."""


class Ledger(Protocol):
    """The durable list of requests. `then` is called once the bytes are in the page cache, together with those of other
    requests: nearly always after the call has returned, and before the loop looks for news.
    """

    def open(self, opening: Opening, then: Callable[[], None], failed: Callable[[], None]) -> None:
        """Append an opening. Raises LedgerFullError when there is no room: refuse the request.

        `failed` is called instead of `then` when the disk refuses it.
        """

    def settle(self, outcome: Outcome, then: Callable[[], None] | None = None) -> None:
        """Append the outcome. Room for it was reserved by `open`; never raises for lack of it.

        Without `then` the bytes are there when it returns.
        """


class Captures(Protocol):
    """Debug captures that run now."""

    def admit(self, key_id: str) -> Callable[[Captured], None] | None:
        """Whom to give the next request of this key to once it is over; None: it is not captured."""


class Lender(Protocol):
    """Borrows money of budgets for this process."""

    async def lend(self, purses: Iterable[Purse], pico: int, at_us: int) -> bool:
        """Have so much of each at hand, if it can be had; False: the database is away.

        TimeoutError: no answer in 2 s, though the database may be there.
        """

    def wake(self) -> None:
        """Of some, little is left at hand: borrow ahead."""


class Teller(Protocol):
    """Tells other processes what this one lets in of limits, and hears of theirs."""

    async def tell(self, buckets: Iterable[Bucket]) -> bool:
        """Have these told and heard of; False: the database is away.

        TimeoutError: no answer in 2 s, though the database may be there.
        """

    def wake(self) -> None:
        """Of some, much is untold."""


class Prices(Protocol):
    """What tokens cost."""

    def price(self, resolution: Resolution, candidate: Candidate, asked: str) -> Price:
        """The price, and the name to record, of the model the client `asked` for when `candidate` serves it."""


Sink = Callable[[Outcome], None]
# The caller of a well-formed key that `find` cannot know yet (its hash is another pepper's), or None: it is wrong. The
# second argument is the client's network. Slow, and for few at a time: KeysBusyError when there is no place for it.
Prove = Callable[[bytes, str], Coroutine[Any, Any, Caller | None]]
# Told the client's network, the refusal's code, and the key id that was named ("": none).
KeyRefused = Callable[[str, str, str], None]


@dataclass(frozen=True, slots=True)
class Outside:
    """All ports together; only `daemon` fills this in."""

    keys: KeyRing
    prove: Prove
    ledger: Ledger
    sinks: tuple[Sink, ...]
    is_ready: Callable[[], bool]
    on_bug: Callable[[BaseException], None]  # told of an exception of ours; must not say its text
    on_key_refused: KeyRefused
    lender: Lender
    teller: Teller
    limits: Limits = field(default_factory=Limits)  # followed by who fills it in
    budgets: Budgets = field(default_factory=Budgets)  # likewise
