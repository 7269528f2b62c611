"""Accounts that nobody uses: their owners are told, and when nobody came by the day in that letter, they are erased.

Used is an account whose keys were used, or one of whose members was here; one with a member who asked that data only be
stored is left alone. Without mail nobody can be told, and nothing
is erased: they are listed only (`retention show`).
"""

import uuid
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

from luntrex_proxy.store import audit, erasing, mail
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.erasing import HeldError

LETTER: Final = "idle_account"
_IDLE: Final = """
SELECT a.account_id, a.name, a.idle_notice_at FROM account a
WHERE a.created_at < $1
    AND NOT EXISTS (SELECT FROM api_key k WHERE k.account_id = a.account_id
                    AND (k.last_used_at >= $1 OR k.created_at >= $1))
    AND NOT EXISTS (SELECT FROM membership m JOIN person p USING (person_id) WHERE m.account_id = a.account_id
                    AND (p.last_seen_at >= $1 OR m.created_at >= $1 OR p.operator
                         OR p.restricted_at IS NOT NULL))
ORDER BY a.account_id
"""
# Our mail did not go out: that is no notice. One that was refused for good is: an address that is gone keeps no data.
_NOT_TOLD: Final = """
UPDATE account a SET idle_notice_at = NULL WHERE idle_notice_at IS NOT NULL AND (
    SELECT bool_and(coalesce(l.outcome IN ('given_up', 'unknown'), false)) FROM mail l
    JOIN membership m ON m.person_id = l.person_id AND m.account_id = a.account_id AND m.role = 'owner'
    WHERE l.kind = $1 AND l.queued_at >= a.idle_notice_at)
"""
# People whom only such an account kept here.
_LEFT_ALONE: Final = """
SELECT person_id FROM person p WHERE person_id = ANY($1) AND coalesce(last_seen_at, created_at) < $2 AND NOT operator
    AND NOT EXISTS (SELECT FROM membership m WHERE m.person_id = p.person_id)
"""


@dataclass(frozen=True, slots=True)
class Idle:
    """An account that nobody uses, and when its owners were told."""

    account_id: int
    name: str
    told_at: datetime | None


async def listed(pool: Pool, now: datetime, idle_days: int) -> list[Idle]:
    """All of them."""
    with store_errors("find accounts that nobody uses"):
        async with pool.acquire() as connection:
            return await _listed(connection, now - timedelta(days=idle_days))


async def _listed(connection: Connection, line: datetime) -> list[Idle]:
    return [Idle(*row) for row in await connection.fetch(_IDLE, line)]


async def tell_owners(pool: Pool, now: datetime, idle_days: int, notice_days: int) -> int:
    """Queue a letter to the owners of each that was not told, once; how many.

    Forgotten is the notice of those used since, and of those whose letters did not go out.
    """
    told = 0
    with store_errors("tell owners of accounts that nobody uses"):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(_NOT_TOLD, LETTER)
            found = await _listed(connection, now - timedelta(days=idle_days))
            await connection.execute(
                "UPDATE account SET idle_notice_at = NULL WHERE idle_notice_at IS NOT NULL AND account_id <> ALL($1)",
                [each.account_id for each in found],
            )
            for each in found:
                if each.told_at is None and await _tell(connection, each, now, (now + timedelta(notice_days)).date()):
                    told += 1
    return told


async def _tell(connection: Connection, account: Idle, now: datetime, erased_on: date) -> bool:
    done = await connection.execute(
        "UPDATE account SET idle_notice_at = $2 WHERE account_id = $1 AND idle_notice_at IS NULL",
        account.account_id,
        now,
    )
    if done == "UPDATE 0":
        return False  # by another process
    owners = await connection.fetch(
        "SELECT person_id FROM membership WHERE account_id = $1 AND role = 'owner'", account.account_id
    )
    for owner in owners:
        await mail.enqueue(connection, LETTER, owner["person_id"], {"erased_on": erased_on.isoformat()})
    await audit.record(connection, "account.idle_told", str(account.account_id), account.account_id)
    return True


async def erase_idle(
    pool: Pool, directory: Path, now: datetime, idle_days: int, notice_days: int, audit_days: int
) -> int:
    """Erase those told long enough ago that are still not used, and people whom nothing else keeps here; how many."""
    erased, line = 0, now - timedelta(days=idle_days)
    for account in await listed(pool, now, idle_days):
        if account.told_at is None or account.told_at > now - timedelta(days=notice_days):
            continue
        with store_errors("find the members"):
            rows = await pool.fetch("SELECT person_id FROM membership WHERE account_id = $1", account.account_id)
        try:
            await erasing.erase_account(pool, directory, account.account_id, now, audit_days)
            erased += 1
            for person_id in await _left_alone(pool, [row["person_id"] for row in rows], line):
                await erasing.erase_person(pool, directory, person_id, now, audit_days)
        except HeldError:
            continue
    return erased


async def _left_alone(pool: Pool, members: list[uuid.UUID], line: datetime) -> list[uuid.UUID]:
    with store_errors("find the members"):
        return [row["person_id"] for row in await pool.fetch(_LEFT_ALONE, members, line)]
