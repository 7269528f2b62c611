"""Keeps the key ring current: the connection that listens for changes, its heartbeat, and what happens without it.

Changes arrive by NOTIFY on a connection of its own. NOTIFY alone is not trusted: a connection can be dead or hung
without a sign. So every second the same connection is asked for the last change version (the heartbeat is the poll),
and each new connection starts with LISTEN and then reads what changed since.
"""

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Final

from luntrex_proxy.store.changes import CHANNEL
from luntrex_proxy.store.database import Pool, connect_directly, is_cancelled, store_errors
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.keyring import KeyRing
from luntrex_proxy.store.silence import Silence

FOLLOWER: Final = "luntrex-proxy keyring"  # in pg_stat_activity, with the beginning of the pepper's fingerprint
# From the commit of a change until it is known here, should the connection fall silent at the worst moment, such as
# between two answers:
#     _HEARTBEAT_S     until the next question, when the notification is lost       0.5 s
#   + _ANSWER_WAIT_S   until the connection counts as dead: since the last answer   1.5 s
#   + _CONNECT_WAIT_S  until there is another one                                   2.0 s
#   = 4.0 s, and then LISTEN and the changes, which are milliseconds. 5 s are promised.
_HEARTBEAT_S: Final = 0.5
_ANSWER_WAIT_S: Final = 1.5
_CONNECT_WAIT_S: Final = 2.0
_PATIENCE_MAX: Final = 4  # times both waits, after failures in a row: a database that is only slow is caught up with
_PROBE_WAIT_S: Final = 5.0  # at the start, when everybody else starts too
_FIRST_BACKOFF_S: Final = 0.1
_LONGEST_BACKOFF_S: Final = 1.0


async def check_listening(pool: Pool, dsn: str, *, has_direct_url: bool) -> None:
    """Raise StoreError unless what is announced through `pool` is heard at `dsn`, as revocations must be."""
    channel = f"luntrex_probe_{secrets.token_hex(8)}"
    heard = asyncio.Event()
    with store_errors("be listened to"):
        connection = await connect_directly(
            dsn, application_name="luntrex-proxy probe", timeout_s=_PROBE_WAIT_S, command_timeout_s=_PROBE_WAIT_S
        )
        try:
            await connection.add_listener(channel, lambda *_: heard.set())
            await pool.execute("SELECT pg_notify($1, '')", channel)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PROBE_WAIT_S):
                    await heard.wait()
        finally:
            connection.terminate()
    if not heard.is_set():
        raise StoreError(
            "A notification sent through database.url is not heard at database.direct_url; let direct_url lead to the "
            "same database, around every connection pooler."
            if has_direct_url
            else "Notifications of the database do not arrive, so it is reached through a connection pooler that does "
            "not carry them; set database.direct_url to the PostgreSQL server behind it, for revocations."
        )


async def _tell_nobody() -> None:
    pass


async def follow(ring: KeyRing, dsn: str, on_connected: Callable[[], Awaitable[None]] = _tell_nobody) -> None:
    """Keep `ring` current until cancelled. `dsn` must lead to PostgreSQL itself, not to a transaction pooler.

    `on_connected` hears of each new connection once it has answered: what waits on an older one may wait for nobody.
    """
    backoff_s, patience = 0.0, 1
    while True:
        connected_at, contact = time.monotonic(), ring.contact
        # Whatever it is: a ring that ceased to follow would honour revoked keys until the next start.
        with contextlib.suppress(Exception):
            await _follow_one_connection(ring, dsn, on_connected, patience)
        if is_cancelled():
            raise asyncio.CancelledError
        ring.give_up_when_too_old()
        patience = 1 if ring.contact > contact else min(patience * 2, _PATIENCE_MAX)
        if time.monotonic() - connected_at > _LONGEST_BACKOFF_S:
            backoff_s = 0.0  # it worked for a while: come back at once
        await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 -- spreads processes, no secret
        backoff_s = min(max(backoff_s * 2, _FIRST_BACKOFF_S), _LONGEST_BACKOFF_S)


async def _follow_one_connection(
    ring: KeyRing, dsn: str, on_connected: Callable[[], Awaitable[None]], patience: int
) -> None:
    name = f"{FOLLOWER} {ring.lookup.fingerprint.hex()[:8]}"
    connection = await connect_directly(dsn, application_name=name, timeout_s=_CONNECT_WAIT_S * patience)
    silence = Silence(connection, _ANSWER_WAIT_S * patience)
    try:
        woken = asyncio.Event()
        connection.add_termination_listener(lambda _: woken.set())
        # LISTEN first, then read: what commits in between is seen by one of the two.
        with silence:
            await connection.add_listener(CHANNEL, lambda *_: woken.set())
        with silence:
            await ring.catch_up(connection, silence.broken)
        silence.longest_s = _ANSWER_WAIT_S
        await on_connected()
        while not is_cancelled():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_HEARTBEAT_S):
                    await woken.wait()
            woken.clear()
            with silence:
                await ring.catch_up(connection, silence.broken)
    finally:
        connection.terminate()
