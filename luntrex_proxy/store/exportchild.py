"""Run as a process of its own: an export takes a core for seconds, and the loop of a daemon has none to give.

What it needs comes on stdin, as JSON, so that no password is on a command line; the zip goes to stdout, and to stderr
how many rows of how many are written, a line now and then.
"""

import asyncio
import os
import sys
import time
import uuid

import msgspec

from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.exporting import Tell, write_export

_NICE = 10  # requests come first
_TELLS_EVERY_S = 0.5


class Order(msgspec.Struct, frozen=True):
    """What to export."""

    dsn: str
    person_id: uuid.UUID
    days: dict[str, int]


def main() -> int:
    """Exit status 0: the zip is whole."""
    os.nice(_NICE)
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    try:
        asyncio.run(write_export(order.dsn, order.person_id, order.days, sys.stdout.buffer, _teller()))
        sys.stdout.buffer.flush()
    except (StoreError, OSError):
        return 1
    return 0


def _teller() -> Tell:
    told_at = 0.0

    def tell(done: int, expected: int) -> None:
        nonlocal told_at
        now = time.monotonic()
        if now - told_at > _TELLS_EVERY_S or done == expected:
            told_at = now
            sys.stderr.write(f"{done} {expected}\n")
            sys.stderr.flush()

    return tell


if __name__ == "__main__":
    sys.exit(main())
