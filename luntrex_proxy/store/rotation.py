"""Replacing the pepper without a flag day, with two of them for a while; and what to do when it is lost.

rotate    a new pepper becomes the present one, the present one the old: keys work by either, and each that is used
          gets its new lookup hash, without bcrypt
finish    the old pepper is forgotten; keys that were not used meanwhile are proven by bcrypt at their next use
lose      there is no pepper that fits: a new one, and every key is proven by bcrypt at its next use
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import bcrypt

from luntrex_proxy.core.audit import Fact
from luntrex_proxy.store import audit
from luntrex_proxy.store.apikeys import BCRYPT_COST
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.following import FOLLOWER
from luntrex_proxy.store.pepper import (
    NEW,
    OLD,
    PRESENT,
    fingerprint,
    fingerprint_in,
    is_pepper,
    is_sealed,
    lookup_of,
    new_pepper,
    stored_fingerprints,
    swap,
)
from luntrex_proxy.store.sealedfile import sealed, write_secret
from luntrex_proxy.store.segments import sync_directory
from luntrex_proxy.store.state import make_state_directory

if TYPE_CHECKING:
    from luntrex_proxy.store.wrappings import Wrappings

_ADVISORY_LOCK: Final = 0x6C756E74_04
_TIMED_CHECKS: Final = 3
_PASSWORDS: Final = """
SELECT count(*) FILTER (WHERE p.password_pepper_fingerprint = i.old_pepper_fingerprint) AS old,
       count(*) FILTER (WHERE p.password_pepper_fingerprint IS DISTINCT FROM i.old_pepper_fingerprint
                        AND p.password_pepper_fingerprint IS DISTINCT FROM i.pepper_fingerprint) AS lost
FROM person p, installation i WHERE p.password_hash IS NOT NULL
"""
_COUNTS: Final = """
SELECT count(*) AS live,
       count(*) FILTER (WHERE k.pepper_fingerprint = i.pepper_fingerprint) AS present,
       count(*) FILTER (WHERE k.pepper_fingerprint IS DISTINCT FROM i.pepper_fingerprint
                        AND i.old_pepper_fingerprint IN (k.pepper_fingerprint, k.old_pepper_fingerprint)) AS old
FROM api_key k JOIN account a USING (account_id), installation i
WHERE k.status = 'active' AND a.status = 'active' AND (k.expires_at IS NULL OR k.expires_at > now())
"""


@dataclass(frozen=True, slots=True)
class PepperState:
    """How the live keys can be told. `unproven_keys` have no hash of a pepper in use: bcrypt has to prove them."""

    rotating: bool
    live_keys: int
    present_keys: int  # by the present pepper
    old_keys: int  # by the old one only, so far
    unproven_keys: int
    lagging_processes: int  # running, and without the present pepper
    old_passwords: int = 0  # of people who did not sign in since the rotation
    lost_passwords: int = 0  # by no pepper that is left: these people have to set another one


async def state_of(pool: Pool) -> PepperState:
    """Count the live keys by the pepper that tells them."""
    present, old = await stored_fingerprints(pool)
    with store_errors("count the keys by pepper"):
        (row,) = await pool.fetch(_COUNTS)
        (passwords,) = await pool.fetch(_PASSWORDS)
        lagging = 0 if present is None else await _lagging(pool, present)
    unproven = row["live"] - row["present"] - row["old"]
    return PepperState(
        old is not None, row["live"], row["present"], row["old"], unproven, lagging, passwords["old"], passwords["lost"]
    )


def keys_per_second() -> float:
    """How many unproven keys one process of this machine can prove: one at a time. Takes a moment, blocks."""
    hashed = bcrypt.hashpw(b"none", bcrypt.gensalt(BCRYPT_COST))
    started_at = time.perf_counter()
    for _ in range(_TIMED_CHECKS):
        bcrypt.checkpw(b"other", hashed)
    return _TIMED_CHECKS / (time.perf_counter() - started_at)


async def rotate(pool: Pool, state_directory: Path, wrappings: "Wrappings | None" = None) -> PepperState:
    """Make a new pepper the present one, sealed if that is; `wrappings` as in `lookup_of`.

    RefusedError: a rotation is under way, or this machine lags behind one.
    """
    async with alone(pool) as connection:
        lookup = await lookup_of(pool, state_directory, wrappings)
        if not lookup.is_present:
            raise RefusedError(
                "Another machine has rotated the pepper; copy its `pepper` and `pepper.old` into the state directory."
            )
        if (await stored_fingerprints(pool))[1] is not None:
            raise RefusedError(
                "A rotation is under way; when `luntrex-proxy secrets status` shows that the keys have moved, run "
                "`luntrex-proxy secrets rotate pepper --finish`."
            )
        await _replace(connection, state_directory, lookup.fingerprint, wrappings)
    return await state_of(pool)


async def finish(
    pool: Pool, state_directory: Path, wrappings: "Wrappings | None" = None, *, force: bool = False
) -> PepperState:
    """Forget the old pepper. RefusedError without `force`: keys or processes still need it."""
    async with alone(pool) as connection:
        lookup = await lookup_of(pool, state_directory, wrappings)
        state = await state_of(pool)
        if not state.rotating:
            raise RefusedError("No rotation is under way.")
        if not lookup.is_present:
            raise RefusedError("This machine has only the old pepper; finish where the rotation was begun.")
        if state.lagging_processes and not force:
            raise RefusedError(
                f"{state.lagging_processes} running processes do not have the new pepper; copy `pepper` and "
                "`pepper.old` into their state directories and restart them first."
            )
        if state.old_keys and not force:
            raise RefusedError(
                f"{state.old_keys} of {state.live_keys} keys were not used since the rotation; wait, or give --force: "
                "each is then proven by bcrypt at its next use."
            )
        if state.old_passwords and not force:
            raise RefusedError(
                f"{state.old_passwords} people did not sign in since the rotation; wait, or give --force: their "
                "passwords are lost then, and each needs a link (`luntrex-proxy people reset ADDRESS`)."
            )
        async with connection.transaction():
            await connection.execute("UPDATE installation SET old_pepper_fingerprint = NULL")
            facts: dict[str, Fact] = {"keys_left": state.old_keys, "passwords_left": state.old_passwords}
            await audit.record(connection, "pepper.rotation_finished", "pepper", facts=facts)
        (state_directory / OLD).unlink(missing_ok=True)
    return await state_of(pool)


async def lose(pool: Pool, state_directory: Path, wrappings: "Wrappings | None" = None) -> PepperState:
    """Go on with a new pepper because none fits. RefusedError: one does, here or in a running process."""
    make_state_directory(state_directory)
    async with alone(pool) as connection:
        known = [known for known in await stored_fingerprints(pool) if known is not None]
        if not known:
            raise RefusedError("This database has no pepper yet; there is nothing to lose.")
        have = {name: _fingerprint_of(state_directory / name) for name in (PRESENT, OLD, NEW)}
        fitting = [name for name, value in have.items() if value == known[0]]
        if fitting:
            file = state_directory / fitting[0]
            unless = "; if what seals it is gone for good, move the file away" if is_sealed(file) else ""
            raise RefusedError(f"The file {file} fits this database; the pepper is not lost{unless}.")
        holders = await pool.fetchval(f"SELECT count(*) {_FOLLOWERS}", f"{FOLLOWER} {known[0].hex()[:8]}")
        if holders:
            raise RefusedError(
                f"{holders} running processes have the pepper; copy the `pepper` file from their state directory."
            )
        _set_aside(state_directory / PRESENT, keep=have[PRESENT] in known)
        old = next((value for value in (have[PRESENT], have[OLD]) if value is not None and value in known), None)
        await _replace(connection, state_directory, old, wrappings)
    return await state_of(pool)


_FOLLOWERS: Final = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1"


async def _lagging(pool: Pool, present: bytes) -> int:
    count: int = await pool.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND starts_with(application_name, $1) AND application_name <> $2",
        f"{FOLLOWER} ",
        f"{FOLLOWER} {present.hex()[:8]}",
    )
    return count


async def _replace(
    connection: Connection, state_directory: Path, old: bytes | None, wrappings: "Wrappings | None"
) -> None:
    """New file, then the database, then the swap: whoever comes after a crash in between can go on."""
    pepper = content = new_pepper()
    if wrappings is not None and (wrappings.is_remote or is_sealed(state_directory / PRESENT)):
        content = await sealed(pepper, fingerprint(pepper), wrappings)
    try:
        write_secret(state_directory / NEW, content)
        sync_directory(state_directory)
    except OSError as error:
        raise StoreError(
            f"The pepper file {state_directory / NEW} cannot be made ({error.strerror}); "
            "run as the owner of the state directory."
        ) from None
    with store_errors("take a new pepper"):
        async with connection.transaction():
            await connection.execute(
                "UPDATE installation SET pepper_fingerprint = $1, old_pepper_fingerprint = $2", fingerprint(pepper), old
            )
            await audit.record(connection, f"pepper.{'rotated' if old else 'lost'}", "pepper")
    swap(state_directory, fingerprint(pepper))


def _fingerprint_of(path: Path) -> bytes | None:
    """None: there is no such file, or it is no pepper. One that cannot be read or is not private raises StoreError."""
    return fingerprint_in(path) if is_pepper(path) else None


def _set_aside(path: Path, *, keep: bool) -> None:
    """A file that is no pepper of this database is kept under another name: it may be another one's."""
    if path.exists() and not keep:
        path.rename(path.with_name(f"{PRESENT}.unfit-{int(time.time())}"))


@contextlib.asynccontextmanager
async def alone(pool: Pool) -> AsyncIterator[Connection]:
    """One rotation at a time, on whatever machine: of two at once each would forget the other's key. RefusedError."""
    with store_errors("rotate a secret"):
        async with pool.acquire() as connection:
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _ADVISORY_LOCK):
                raise RefusedError("Another `secrets rotate` is running; wait for it.")
            try:
                yield connection
            finally:
                await asyncio.shield(connection.execute("SELECT pg_advisory_unlock($1)", _ADVISORY_LOCK))
