"""The tables `debug_capture` and `debug_capture_record`: started, stopped, shown; what was captured is ciphertext.

Whether somebody may is decided in control; here stands what holds always: at most 100 requests in at most 60 minutes,
a service key only while the account's owner consents, and ciphertext for 24 hours.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from luntrex_proxy.core.audit import Fact
from luntrex_proxy.core.capture import KEPT_HOURS, MINUTES_MAX, REQUESTS_MAX
from luntrex_proxy.core.consents import Purpose
from luntrex_proxy.store import audit, consents
from luntrex_proxy.store.changes import next_version
from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.once import claimed
from luntrex_proxy.store.sealedbox import seal

_KEPT: Final = timedelta(hours=KEPT_HOURS)
_CLOCK_DRIFT: Final = timedelta(minutes=5)
_SECONDS_LEFT: Final = "least(c.seconds_left, extract(epoch FROM c.expires_at - now()))::float8"
# A key that ended, a consent that was withdrawn, and a member who left or may not act end the capture as well.
LIVE: Final = f"""
FROM debug_capture c JOIN api_key k USING (key_id) JOIN account a ON a.account_id = c.account_id
WHERE c.ended_at IS NULL AND {_SECONDS_LEFT} > 0 AND k.status = 'active' AND a.status = 'active'
  AND CASE WHEN k.person_id IS NULL THEN '{Purpose.DEBUG_CAPTURE.value}' = ANY (a.consents)
      ELSE k.person_id = c.person_id END
  AND EXISTS (SELECT FROM membership m JOIN person p USING (person_id)
      WHERE m.account_id = c.account_id AND m.person_id = c.person_id AND p.status = 'active')
"""
_SHOWN: Final = f"""
SELECT c.capture_id, c.account_id, c.key_id, c.person_id, c.requests_left, c.started_at, c.expires_at, c.ended_at,
       c.capture_id IN (SELECT c.capture_id {LIVE}) AS live,
       (SELECT count(*) FROM debug_capture_record r WHERE r.capture_id = c.capture_id) AS records
FROM debug_capture c WHERE c.account_id = $1
"""  # noqa: S608 -- constants


@dataclass(frozen=True, slots=True)
class Capture:
    """A capture as it may be shown."""

    capture_id: uuid.UUID
    account_id: int
    key_id: str
    person_id: uuid.UUID
    requests_left: int  # not taken yet by a process
    started_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    live: bool
    records: int


async def start(
    pool: Pool, account_id: int, key_id: str, person_id: uuid.UUID, public_key: bytes, requests: int, minutes: int
) -> Capture:
    """Capture the next requests of a key for a person. May raise RefusedError."""
    if not (1 <= requests <= REQUESTS_MAX and 1 <= minutes <= MINUTES_MAX):
        raise RefusedError(f"A capture has 1 to {REQUESTS_MAX} requests in 1 to {MINUTES_MAX} minutes.")
    seal(public_key, b"", b"")  # refuses what is no public key
    with store_errors("start the debug capture"):
        async with pool.acquire() as connection, connection.transaction(), claimed(connection) as claim:
            await next_version(connection)
            owner = await connection.fetchval("SELECT person_id FROM api_key WHERE key_id = $1", key_id)
            if owner is None and not await consents.in_force(connection, account_id, Purpose.DEBUG_CAPTURE):
                raise RefusedError(
                    "A service key is captured only with the account's consent debug_capture.", "no_capture_consent"
                )
            await connection.execute(
                "UPDATE debug_capture SET ended_at = now() WHERE key_id = $1 AND ended_at IS NULL"
                " AND (expires_at <= now() OR seconds_left <= 0 OR requests_left = 0)",
                key_id,
            )
            try:
                capture_id: uuid.UUID = await connection.fetchval(
                    "INSERT INTO debug_capture"
                    " (account_id, key_id, person_id, public_key, requests_left, seconds_left, expires_at)"
                    " VALUES ($1, $2, $3, $4, $5, $6::int * 60, now() + $6::int * interval '1 minute')"
                    " RETURNING capture_id",
                    account_id, key_id, person_id, public_key, requests, minutes,
                )  # fmt: skip
            except asyncpg.UniqueViolationError:
                raise RefusedError("The key is captured already; stop that first.", "captured_already") from None
            claim.object_id = str(capture_id)
            facts: dict[str, Fact] = {"key_id": key_id, "requests": requests, "minutes": minutes}
            await audit.record(connection, "debug_capture.started", str(capture_id), account_id, facts)
    found = await find(pool, account_id, capture_id)
    assert found is not None  # noqa: S101 -- committed just now, and kept for a day
    return found


async def stop(pool: Pool, account_id: int, capture_id: uuid.UUID) -> None:
    """End a capture, everywhere within a second; what it has stays its owner's for the rest of the 24 hours."""
    with store_errors("stop the debug capture"):
        async with pool.acquire() as connection, connection.transaction():
            await next_version(connection)
            done = await connection.execute(
                "UPDATE debug_capture SET ended_at = now(), seconds_left = 0 WHERE capture_id = $1 AND account_id = $2"
                " AND ended_at IS NULL",
                capture_id,
                account_id,
            )
            if done != "UPDATE 0":
                await audit.record(connection, "debug_capture.stopped", str(capture_id), account_id)


async def find(pool: Pool, account_id: int, capture_id: uuid.UUID) -> Capture | None:
    """One capture of the account."""
    with store_errors("show the debug capture"):
        row = await pool.fetchrow(f"{_SHOWN} AND c.capture_id = $2", account_id, capture_id)
    return None if row is None else Capture(**row)


async def list_page(
    pool: Pool, account_id: int, person_id: uuid.UUID | None, after: tuple[str, str] | None, limit: int
) -> list[Capture]:
    """The newest first, of one person or (None) all."""
    at, capture_id = after or (None, None)
    with store_errors("list debug captures"):
        rows = await pool.fetch(
            f"{_SHOWN} AND ($2::uuid IS NULL OR c.person_id = $2)"
            " AND ($3::timestamptz IS NULL OR (c.started_at, c.capture_id) < ($3, $4::uuid))"
            " ORDER BY c.started_at DESC, c.capture_id DESC LIMIT $5",
            account_id, person_id, at and datetime.fromisoformat(at), capture_id and uuid.UUID(capture_id), limit,
        )  # fmt: skip
    return [Capture(**row) for row in rows]


@dataclass(frozen=True, slots=True)
class SealedRecord:
    """One captured request, encrypted."""

    record_id: int
    at: datetime
    sealed: bytes


async def records(pool: Pool, capture: Capture, after: int, limit: int) -> list[SealedRecord]:
    """What was captured in the last 24 hours, in its order. That it was asked for is on record."""
    with store_errors("give what was captured"):
        async with pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(
                "SELECT record_id, at, sealed FROM debug_capture_record WHERE capture_id = $1 AND record_id > $2"
                " AND at > now() - $4::interval ORDER BY record_id LIMIT $3",
                capture.capture_id,
                after,
                limit,
                _KEPT,
            )
            if after == 0:
                await audit.record(connection, "debug_capture.read", str(capture.capture_id), capture.account_id)
    return [SealedRecord(**row) for row in rows]


async def delete_old(pool: Pool) -> None:
    """Ciphertext goes after 24 hours, to the minute; and what lies ahead of a clock that was put back, at once."""
    with store_errors("delete what was captured"):
        await pool.execute(
            "DELETE FROM debug_capture_record WHERE at < now() - $1::interval OR at > now() + $2::interval",
            _KEPT,
            _CLOCK_DRIFT,
        )
