"""Whom a right, a hold or a run of retention concerns: a person with what is theirs alone, an account with its keys."""

import uuid
from typing import Any, Final

from luntrex_proxy.store.database import Connection
from luntrex_proxy.store.ownership import Subject

# Keys of the person, in whatever account, and all keys of accounts that have no other member.
_PERSON: Final = """
WITH alone AS (
    SELECT account_id FROM membership GROUP BY account_id HAVING array_agg(person_id) = ARRAY[$1::uuid]
)
SELECT p.email, ARRAY(SELECT account_id FROM alone) AS account_ids,
    ARRAY(SELECT key_id FROM api_key WHERE person_id = $1 OR account_id IN (SELECT account_id FROM alone)) AS key_ids
FROM person p WHERE p.person_id = $1
"""
_LAST_OWNER_OF: Final = """
SELECT a.name FROM membership m JOIN account a USING (account_id)
WHERE m.person_id = $1 AND m.role = 'owner'
    AND EXISTS (SELECT FROM membership o WHERE o.account_id = m.account_id AND o.person_id <> $1)
    AND NOT EXISTS (SELECT FROM membership o WHERE o.account_id = m.account_id AND o.person_id <> $1
                    AND o.role = 'owner')
ORDER BY a.name
"""


async def of_person(connection: Connection, person_id: uuid.UUID) -> Subject | None:
    """A person, and accounts of which it is the only member; None: there is no such person."""
    row = await connection.fetchrow(_PERSON, person_id)
    return None if row is None else Subject([person_id], [row["email"]], row["key_ids"], row["account_ids"])


async def of_account(connection: Connection, account_id: int) -> Subject:
    """An account and its keys, without its people."""
    rows = await connection.fetch("SELECT key_id FROM api_key WHERE account_id = $1", account_id)
    return Subject(key_ids=[row["key_id"] for row in rows], account_ids=[account_id])


async def last_owner_of(connection: Connection, person_id: uuid.UUID) -> list[str]:
    """Accounts with other members that would be left without an owner."""
    return [row["name"] for row in await connection.fetch(_LAST_OWNER_OF, person_id)]


async def held(connection: Connection) -> Subject:
    """All whom a legal hold concerns, together."""
    found = Subject()
    for row in await connection.fetch("SELECT person_id, account_id FROM legal_hold"):
        found |= await _held_by(connection, row)
    return found


async def _held_by(connection: Connection, row: Any) -> Subject:
    if row["person_id"] is None:
        return await of_account(connection, row["account_id"])
    return await of_person(connection, row["person_id"]) or Subject()
