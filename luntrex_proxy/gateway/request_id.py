"""Request ids: UUIDv7 (RFC 9562), so that they sort by time and fit a uuid column."""

import os

_RANDOM_BYTES = 9
_STOCK = 256  # ids for which random bytes are fetched at once: a system call each would be a tenth of a request's cost
_stock: list[str] = []


def new_request_id(now: float) -> str:
    """A fresh id for a request that came at `now` (unix seconds)."""
    if not _stock:
        drawn = os.urandom(_RANDOM_BYTES * _STOCK).hex()
        size = 2 * _RANDOM_BYTES
        _stock.extend(drawn[start : start + size] for start in range(0, len(drawn), size))
    text = f"{int(now * 1000):012x}{_stock.pop()}"
    # Version 7 and variant 10 stand for 4 and 2 of the random bits; two more are given up for a table-free spelling.
    return f"{text[:8]}-{text[8:12]}-7{text[12:15]}-9{text[15:18]}-{text[18:30]}"


# After a fork both processes would give out the same ids.
os.register_at_fork(after_in_child=_stock.clear)
