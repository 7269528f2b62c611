"""What the tables have of the accounts, members and keys that a file names. Nothing is written here."""

from collections.abc import Collection
from typing import Any, Final

from luntrex_proxy.core.declared import Present, PresentAccount, PresentKey
from luntrex_proxy.store.database import Connection
from luntrex_proxy.store.keyrows import scope_of

_ACCOUNTS: Final = "SELECT account_id, name, status, policy FROM account WHERE name = ANY($1)"
_MEMBERS: Final = (
    "SELECT m.account_id, p.email, m.role FROM membership m JOIN person p USING (person_id)"
    " WHERE m.account_id = ANY($1)"
)
# A name's live key: not ended, not replaced by a successor.
_KEYS: Final = """
SELECT k.account_id, k.key_id, k.name, k.status, p.email AS owner, k.not_before, k.expires_at,
    k.endpoints, k.models, k.regions, k.networks
FROM api_key k LEFT JOIN person p USING (person_id)
WHERE k.account_id = ANY($1) AND k.name = ANY($2) AND k.status <> 'revoked'
    AND (k.expires_at IS NULL OR k.expires_at > now())
    AND NOT EXISTS (SELECT FROM api_key s WHERE s.rotated_from = k.key_id)
"""


async def present(
    connection: Connection, accounts: Collection[str], people: Collection[str], keys: Collection[str]
) -> Present:
    """What there is of these account names, addresses and key names."""
    rows = await connection.fetch(_ACCOUNTS, list(accounts))
    ids = [row["account_id"] for row in rows]
    members: dict[int, dict[str, str]] = {account_id: {} for account_id in ids}
    for row in await connection.fetch(_MEMBERS, ids):
        members[row["account_id"]][row["email"]] = row["role"]
    live: dict[int, dict[str, PresentKey]] = {account_id: {} for account_id in ids}
    for row in await connection.fetch(_KEYS, ids, list(keys)):
        live[row["account_id"]][row["name"]] = _key(row)
    known = await connection.fetch("SELECT email FROM person WHERE email = ANY($1)", list(people))
    found = {
        row["name"]: PresentAccount(row["status"], row["policy"], members[row["account_id"]], live[row["account_id"]])
        for row in rows
    }
    return Present(found, frozenset(row["email"] for row in known))


def _key(row: Any) -> PresentKey:
    return PresentKey(
        row["key_id"], row["status"], row["owner"], row["not_before"], row["expires_at"], scope_of(row)
    )  # fmt: skip
