"""Request ids: UUIDv7 (RFC 9562), so that they sort by time and fit a uuid column."""

import os
from itertools import repeat

_STOCK = 256  # ids for which random bytes are fetched at once: a system call each would be a tenth of a request's cost
_stock: list[str] = []  # all of an id but its time
_time: list[int | str] = [0, "00000000-0000"]  # the last id's: in milliseconds, and as it is written


def new_request_id(now: float) -> str:
    """A fresh id for a request that came at `now` (unix seconds)."""
    if not _stock:
        _stock.extend(map("-".join, zip(repeat("", _STOCK), *_draw(), strict=True)))
    now_ms = int(now * 1000)
    if now_ms != _time[0]:  # under load there are several in one
        _time[:] = now_ms, now_ms.to_bytes(6, "big").hex("-", -4)
    return f"{_time[1]}{_stock.pop()}"


def _draw() -> tuple[list[str], list[str], list[str]]:
    """The three random groups of each id; version 7 and variant 10 are set in all of them at once."""
    with_version = _words(2, b"\x0f\xff", b"\x70\x00")
    with_variant = _words(2, b"\x3f\xff", b"\x80\x00")
    return with_version, with_variant, os.urandom(6 * _STOCK).hex("-", 6).split("-")


def _words(size: int, random: bytes, fixed: bytes) -> list[str]:
    """As many hexadecimal words of so many bytes: random where `random` has ones, as in `fixed` elsewhere."""
    drawn = int.from_bytes(os.urandom(size * _STOCK), "big")
    made = drawn & int.from_bytes(random * _STOCK, "big") | int.from_bytes(fixed * _STOCK, "big")
    return made.to_bytes(size * _STOCK, "big").hex("-", size).split("-")


# After a fork both processes would give out the same ids.
os.register_at_fork(after_in_child=_stock.clear)
