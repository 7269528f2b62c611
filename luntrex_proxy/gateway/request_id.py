"""Request ids: UUIDv7 (RFC 9562), so that they sort by time and fit a uuid column."""

import os


def new_request_id(now: float) -> str:
    """A fresh id for a request that came at `now` (unix seconds)."""
    text = f"{int(now * 1000):012x}{os.urandom(9).hex()}"
    # Version 7 and variant 10 stand for 4 and 2 of the random bits; two more are given up for a table-free spelling.
    return f"{text[:8]}-{text[8:12]}-7{text[12:15]}-9{text[15:18]}-{text[18:30]}"
