"""Whoever must not be lost: the last owner of an account, the last operator. Asked in the transaction of the loss."""

import uuid

from luntrex_proxy.store.database import Connection
from luntrex_proxy.store.errors import RefusedError


class LastOwnerError(RefusedError):
    """The account would be left without an owner."""

    def __init__(self, account: str) -> None:
        super().__init__(
            f"This is the last owner of {account}; make another member its owner first, or close the account.",
            "last_owner",
        )


async def refuse_last_owner(connection: Connection, person_id: uuid.UUID, account_id: int | None = None) -> None:
    """LastOwnerError: without this person an account (None: any) would have nobody who can sign in as its owner.

    The accounts stay locked until the caller's transaction ends, so two owners cannot leave at once.
    """
    rows = await connection.fetch(
        "SELECT a.account_id, a.name FROM account a WHERE a.account_id IN (SELECT account_id FROM membership"
        " WHERE person_id = $1 AND role = 'owner' AND ($2::bigint IS NULL OR account_id = $2))"
        " ORDER BY a.account_id FOR UPDATE OF a",
        person_id,
        account_id,
    )
    for row in rows:
        others = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM membership m JOIN person p USING (person_id) WHERE m.account_id = $1"
            " AND m.role = 'owner' AND m.person_id <> $2 AND p.status IN ('active', 'restricted'))",
            row["account_id"],
            person_id,
        )
        if not others:
            raise LastOwnerError(row["name"])


async def refuse_last_operator(connection: Connection, person_id: uuid.UUID) -> None:
    """RefusedError: nobody else runs the installation. Behind `next_version`, so two cannot go at once."""
    is_last = await connection.fetchval(
        "SELECT operator AND NOT EXISTS (SELECT FROM person o WHERE o.operator AND o.person_id <> $1"
        " AND o.status IN ('active', 'restricted')) FROM person WHERE person_id = $1",
        person_id,
    )
    if is_last:
        raise RefusedError(
            "This is the last operator who can sign in; make another person one first, with"
            " `luntrex-proxy people operator ADDRESS`.",
            "last_operator",
        )
