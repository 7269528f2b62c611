"""The table `consent`: what an account's owner agreed to, since when and until when. A withdrawal deletes nothing.

Who asks whether something is allowed asks `in_force` or `since`; routing knows it from the key ring, within a second of
a change.
"""

import datetime
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from luntrex_proxy.core.consents import Purpose, version_of
from luntrex_proxy.core.roles import Role
from luntrex_proxy.store import accounts, audit
from luntrex_proxy.store.changes import next_version
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError

_TELL: Final = """
INSERT INTO mail (kind, person_id, facts) SELECT 'member_requests', m.person_id,
    jsonb_build_object('account', m.account_id, 'shown', c.given_at IS NOT NULL,
        'since', to_char(coalesce(c.given_at, now()) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'))
FROM membership m LEFT JOIN consent c
    ON c.account_id = m.account_id AND c.purpose = 'member_requests' AND c.withdrawn_at IS NULL
WHERE m.account_id = $1 AND ($2::uuid IS NULL OR (m.person_id = $2 AND c.given_at IS NOT NULL))
"""
_LIST: Final = (
    "SELECT purpose, text_version, given_at, given_by, withdrawn_at, withdrawn_by FROM consent WHERE account_id = $1"
)


@dataclass(frozen=True, slots=True)
class Consent:
    """One consent, in force as long as `withdrawn_at` is None."""

    purpose: str
    text_version: int
    given_at: datetime.datetime
    given_by: str
    withdrawn_at: datetime.datetime | None
    withdrawn_by: str | None


async def history(pool: Pool, account_id: int) -> list[Consent]:
    """All consents there ever were, the newest first."""
    with store_errors("list the consents"):
        return [Consent(**row) for row in await pool.fetch(f"{_LIST} ORDER BY consent_id DESC", account_id)]


async def in_force(connection: Connection | Pool, account_id: int, purpose: Purpose) -> bool:
    """Whether the account's owner has agreed to this and not withdrawn it."""
    found: bool = await connection.fetchval(
        "SELECT coalesce((SELECT $2 = ANY (consents) FROM account WHERE account_id = $1), false)", account_id, purpose
    )
    return found


async def since(pool: Pool, account_ids: Collection[int], purpose: Purpose) -> dict[int, datetime.datetime]:
    """Since when each of the accounts agrees to this, those that do."""
    with store_errors("list the consents"):
        rows = await pool.fetch(
            "SELECT account_id, given_at FROM consent WHERE account_id = ANY($1) AND purpose = $2"
            " AND withdrawn_at IS NULL",
            list(account_ids),
            purpose,
        )
    return {row["account_id"]: row["given_at"] for row in rows}


async def tell_members(connection: Connection, account_id: int, only: uuid.UUID | None = None) -> None:
    """A letter to all members, or to one, about whether others see their single requests, in the caller's transaction.

    One who comes is told only where that is so.
    """
    await connection.execute(_TELL, account_id, only)


async def give(pool: Pool, account: str, purpose: Purpose) -> Consent:
    """Agree to the present text. Giving twice changes nothing, unless the text is another one by now."""
    with store_errors("note the consent"):
        async with pool.acquire() as connection, connection.transaction():
            account_id = await _locked(connection, account)
            known = await connection.fetchrow(f"{_LIST} AND purpose = $2 AND withdrawn_at IS NULL", account_id, purpose)
            if known is not None and known["text_version"] == version_of(purpose):
                return Consent(**known)
            way = audit.actor_way()
            await _end(connection, account_id, purpose, way)
            (row,) = await connection.fetch(
                "INSERT INTO consent (account_id, purpose, text_version, given_by) VALUES ($1, $2, $3, $4)"
                " RETURNING purpose, text_version, given_at, given_by, withdrawn_at, withdrawn_by",
                account_id, purpose, version_of(purpose), way,
            )  # fmt: skip
            facts = {"purpose": purpose.value, "text_version": version_of(purpose)}
            await _record(connection, "consent.given", account, account_id, facts)
    return Consent(**row)


async def withdraw(pool: Pool, account: str, purpose: Purpose) -> Consent:
    """Take a consent back, everywhere within a second. RefusedError: there is none in force."""
    with store_errors("note the withdrawal"):
        async with pool.acquire() as connection, connection.transaction():
            account_id = await _locked(connection, account)
            row = await _end(connection, account_id, purpose, audit.actor_way())
            if row is None:
                raise RefusedError(f"The account {account} has given no consent to {purpose}.", "no_consent")
            await _record(connection, "consent.withdrawn", account, account_id, {"purpose": purpose.value})
    return row


async def owners(pool: Pool, account: str) -> list[str]:
    """The mail addresses of the account's owners, who alone may agree."""
    with store_errors("find the owners"):
        rows = await pool.fetch(
            "SELECT p.email FROM person p JOIN membership m USING (person_id) JOIN account a USING (account_id)"
            " WHERE a.name = $1 AND m.role = $2 ORDER BY 1",
            account,
            Role.OWNER,
        )
    return [row["email"] for row in rows]


async def _locked(connection: Connection, account: str) -> int:
    """The account's id. Its row stays locked, so two changes of its consents are one after the other."""
    version = await next_version(connection)
    if accounts.NAME.fullmatch(account) is None:
        raise accounts.unknown(account)
    account_id: int | None = await connection.fetchval(
        "UPDATE account SET version = $2 WHERE name = $1 RETURNING account_id", account, version
    )
    if account_id is None:
        raise accounts.unknown(account)
    return account_id


async def _end(connection: Connection, account_id: int, purpose: Purpose, way: str) -> Consent | None:
    row = await connection.fetchrow(
        "UPDATE consent SET withdrawn_at = now(), withdrawn_by = $3"
        " WHERE account_id = $1 AND purpose = $2 AND withdrawn_at IS NULL"
        " RETURNING purpose, text_version, given_at, given_by, withdrawn_at, withdrawn_by",
        account_id,
        purpose,
        way,
    )
    return None if row is None else Consent(**row)


async def _record(connection: Connection, act: str, account: str, account_id: int, facts: dict[str, str | int]) -> None:
    if facts["purpose"] == Purpose.MEMBER_REQUESTS:
        await tell_members(connection, account_id)
    await connection.execute(
        "UPDATE account SET consents = ARRAY(SELECT purpose FROM consent WHERE account_id = $1"
        " AND withdrawn_at IS NULL ORDER BY 1) WHERE account_id = $1",
        account_id,
    )
    await audit.record(connection, act, str(account_id), account_id, facts, {"name": account})
