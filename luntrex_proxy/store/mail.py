"""The table `mail`: letters queued in the transaction of what they tell of, claimed by one sender at a time.

Nothing that a letter lets do is in the queue: a link is made when the letter is sent (control/letters.py). A claim is
noted before sending and resolved after it, so a sender that dies in between makes a letter go out twice at most.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import msgspec

from luntrex_proxy.core.audit import Fact
from luntrex_proxy.store.database import Connection, Pool, store_errors

_ADVISORY_LOCK: Final = 0x6C756E74_06
_CLAIM: Final = timedelta(minutes=3)  # much longer than one letter may take
_UNRESOLVED_MAX: Final = 2
GIVEN_UP_AFTER: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Queued:
    """A claimed letter. It goes to a person, or else to an address."""

    mail_id: uuid.UUID
    kind: str
    person_id: uuid.UUID | None
    address: str | None
    facts: dict[str, Any]
    tries: int  # this one included


async def enqueue(
    connection: Connection, kind: str, to: uuid.UUID | str, facts: Mapping[str, Fact] | None = None
) -> uuid.UUID:
    """Queue a letter to a person (its id) or to an address, in the caller's transaction. `kind`: control/letters.py."""
    person_id, address = (to, None) if isinstance(to, uuid.UUID) else (None, to)
    mail_id: uuid.UUID = await connection.fetchval(
        "INSERT INTO mail (kind, person_id, address, facts) VALUES ($1, $2, $3, $4) RETURNING mail_id",
        kind,
        person_id,
        address,
        msgspec.json.encode(dict(facts or {})).decode(),
    )
    return mail_id


async def enqueue_none(connection: Connection, kind: str) -> None:
    """As much work as `enqueue`, for a letter that nobody gets: the time does not say whether there was somebody."""
    await connection.fetchval(
        "INSERT INTO mail (kind, facts, ended_at, outcome) VALUES ($1, '{}', now(), 'needless') RETURNING mail_id", kind
    )


@contextlib.asynccontextmanager
async def turn(pool: Pool) -> AsyncIterator[bool]:
    """Whether this process may send now: one does at a time, so that a server sees one connection of ours."""
    with store_errors("let letters be sent"):
        async with pool.acquire() as connection:
            is_ours = await connection.fetchval("SELECT pg_try_advisory_lock($1)", _ADVISORY_LOCK)
            try:
                yield is_ours
            finally:
                if is_ours:
                    await asyncio.shield(connection.execute("SELECT pg_advisory_unlock($1)", _ADVISORY_LOCK))


async def claim(pool: Pool) -> Queued | None:
    """The next letter that is due, for this sender alone; None: there is none."""
    with store_errors("give a letter to send"):
        row = await pool.fetchrow(
            "UPDATE mail SET due_at = now() + $1::interval, tries = tries + 1, unresolved = unresolved + 1"
            " WHERE mail_id = (SELECT mail_id FROM mail WHERE ended_at IS NULL AND due_at <= now() AND unresolved < $2"
            " ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)"
            " RETURNING mail_id, kind, person_id, address, facts, tries",
            _CLAIM,
            _UNRESOLVED_MAX,
        )
    if row is None:
        return None
    return Queued(
        row["mail_id"], row["kind"], row["person_id"], row["address"], msgspec.json.decode(row["facts"]), row["tries"]
    )


async def close(pool: Pool, mail_id: uuid.UUID, outcome: str, reason: str | None = None) -> None:
    """Nothing more is to be done: sent, needless or refused."""
    with store_errors("note how a letter ended"):
        await pool.execute(
            "UPDATE mail SET ended_at = now(), outcome = $2, last_error = $3, unresolved = 0, address = NULL"
            " WHERE mail_id = $1 AND ended_at IS NULL",
            mail_id,
            outcome,
            reason,
        )


async def is_wanted(connection: Connection, mail_id: uuid.UUID) -> bool:
    """Whether a claimed letter is still to be sent, and stays so until the caller's transaction ends."""
    return bool(
        await connection.fetchval("SELECT true FROM mail WHERE mail_id = $1 AND ended_at IS NULL FOR UPDATE", mail_id)
    )


async def end_address_letters(connection: Connection, person_id: uuid.UUID) -> None:
    """No letter that waits makes a link to another address of this person, in the caller's transaction."""
    await connection.execute(
        "UPDATE mail SET ended_at = now(), outcome = 'needless', unresolved = 0, address = NULL"
        " WHERE kind = 'address' AND facts ->> 'person' = $1::text AND ended_at IS NULL",
        str(person_id),
    )


async def postpone(pool: Pool, mail_id: uuid.UUID, wait: timedelta, reason: str) -> None:
    """It was certainly not taken: try again later."""
    with store_errors("note that a letter has to wait"):
        await pool.execute(
            "UPDATE mail SET due_at = now() + $2::interval, last_error = $3, unresolved = 0"
            " WHERE mail_id = $1 AND ended_at IS NULL",
            mail_id,
            wait,
            reason,
        )


async def give_up_old(pool: Pool) -> int:
    """End what could not be sent for a day, and what may have gone out twice; how many."""
    with store_errors("give up old letters"):
        done = await pool.execute(
            "UPDATE mail SET ended_at = now(), address = NULL,"
            " outcome = CASE WHEN unresolved >= $2 THEN 'unknown' ELSE 'given_up' END"
            " WHERE ended_at IS NULL AND due_at <= now() AND (unresolved >= $2 OR queued_at < now() - $1::interval)",
            GIVEN_UP_AFTER,
            _UNRESOLVED_MAX,
        )
    return int(done.rpartition(" ")[2])
