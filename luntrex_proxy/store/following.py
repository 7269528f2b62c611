"""Keeps the key ring current: the connection that listens for changes, its heartbeat, and what happens without it.

Changes arrive by NOTIFY on a connection of its own. NOTIFY alone is not trusted: a connection can be dead or hung
without a sign. So every second the same connection is asked for the last change version (the heartbeat is the poll),
and each new connection starts with LISTEN and then reads what changed since.
"""

import asyncio
import contextlib
import random
import time
from typing import Final

from luntrex_proxy.store.changes import CHANNEL
from luntrex_proxy.store.database import connect_directly
from luntrex_proxy.store.keyring import KeyRing

FOLLOWER: Final = "luntrex-proxy keyring"  # in pg_stat_activity, with the beginning of the pepper's fingerprint
_HEARTBEAT_S: Final = 1.0
_ANSWER_WAIT_S: Final = 2.0  # for a connection and for each statement on it
_FIRST_BACKOFF_S: Final = 0.1
_LONGEST_BACKOFF_S: Final = 2.0


async def follow(ring: KeyRing, dsn: str) -> None:
    """Keep `ring` current until cancelled. `dsn` must lead to PostgreSQL itself, not to a transaction pooler."""
    backoff_s = 0.0
    while True:
        connected_at = time.monotonic()
        # Whatever it is: a ring that ceased to follow would honour revoked keys until the next start.
        with contextlib.suppress(Exception):
            await _follow_one_connection(ring, dsn)
        ring.give_up_when_too_old()
        if time.monotonic() - connected_at > _LONGEST_BACKOFF_S:
            backoff_s = 0.0  # it worked for a while: come back at once
        await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 -- spreads processes, no secret
        backoff_s = min(max(backoff_s * 2, _FIRST_BACKOFF_S), _LONGEST_BACKOFF_S)


async def _follow_one_connection(ring: KeyRing, dsn: str) -> None:
    name = f"{FOLLOWER} {ring.lookup.fingerprint.hex()[:8]}"
    connection = await connect_directly(
        dsn, application_name=name, timeout_s=_ANSWER_WAIT_S, command_timeout_s=_ANSWER_WAIT_S
    )
    try:
        woken = asyncio.Event()
        connection.add_termination_listener(lambda _: woken.set())
        # LISTEN first, then read: what commits in between is seen by one of the two.
        async with asyncio.timeout(_ANSWER_WAIT_S):
            await connection.add_listener(CHANNEL, lambda *_: woken.set())
        while True:
            woken.clear()
            await ring.catch_up(connection)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_HEARTBEAT_S):
                    await woken.wait()
    finally:
        connection.terminate()
