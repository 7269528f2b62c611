"""Request ids: UUIDv7 (RFC 9562), so that they sort by time and fit a uuid column."""

import os

_STOCK = 256  # ids for which random bytes are fetched at once: a system call each would be a tenth of a request's cost
_FORM = b"-7xxx-Vxxx-xxxxxxxxxxxx\n"  # all of an id but its time, with version 7; each x, and the variant, is random
_PLACES = [at for at, each in enumerate(_FORM) if each in b"xV"]
_VARIANT = _FORM.index(b"V")
_VARIANTS = bytes.maketrans(b"0123456789abcdef", b"89ab" * 4)
_stock: list[str] = []  # all of an id but its time
_time: list[int | str] = [0, "00000000-0000"]  # the last id's: in milliseconds, and as it is written


def new_request_id(now: float) -> str:
    """A fresh id for a request that came at `now` (unix seconds)."""
    if not _stock:
        _stock.extend(_draw())
    now_ms = int(now * 1000)
    if now_ms != _time[0]:  # under load there are several in one
        _time[:] = now_ms, now_ms.to_bytes(6, "big").hex("-", -4)
    return f"{_time[1]}{_stock.pop()}"


def _draw() -> list[str]:
    """A stock. One digit of all ids is set at a time: it takes half as long as id by id."""
    digits = os.urandom(len(_PLACES) * _STOCK // 2).hex().encode()
    written = bytearray(_FORM * _STOCK)
    for number, place in enumerate(_PLACES):
        written[place :: len(_FORM)] = digits[number :: len(_PLACES)]
    written[_VARIANT :: len(_FORM)] = written[_VARIANT :: len(_FORM)].translate(_VARIANTS)
    return written.decode().split()


# After a fork both processes would give out the same ids.
os.register_at_fork(after_in_child=_stock.clear)
