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
        for start in range(0, len(drawn), size):
            text = drawn[start : start + size]
            # Version 7, variant 10: these and two bits that are given up for a table-free spelling are not random.
            _stock.append(f"-7{text[:3]}-9{text[3:6]}-{text[6:]}")
    return int(now * 1000).to_bytes(6, "big").hex("-", -4) + _stock.pop()


# After a fork both processes would give out the same ids.
os.register_at_fork(after_in_child=_stock.clear)
