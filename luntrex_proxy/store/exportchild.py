"""Run as a process of its own: an export takes a core for seconds, and the loop of a daemon has none to give.

What it needs comes on stdin, as JSON, so that no password is on a command line; the zip goes to stdout.
"""

import asyncio
import os
import sys
import uuid

import msgspec

from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.exporting import write_export

_NICE = 10  # requests come first


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
        asyncio.run(write_export(order.dsn, order.person_id, order.days, sys.stdout.buffer))
        sys.stdout.buffer.flush()
    except (StoreError, OSError):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
