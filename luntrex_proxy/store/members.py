"""The tables `membership` and `invitation`: who is what in an account, and who is asked to be.

An account never loses its last owner here.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from luntrex_proxy.store import audit, consents
from luntrex_proxy.store.changes import hold_changes, next_version
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.lastones import refuse_last_owner
from luntrex_proxy.store.links import LASTS
from luntrex_proxy.store.once import claimed

_OWNER: Final = "owner"
_MEMBERS: Final = (
    "SELECT m.person_id, p.email, p.name, p.status, m.role, m.created_at"
    " FROM membership m JOIN person p USING (person_id)"
)
_INVITATIONS: Final = (
    "SELECT i.invitation_id, i.account_id, a.name AS account, i.email, i.role, i.created_at, i.expires_at"
    " FROM invitation i JOIN account a USING (account_id)"
)
# An account's own keys are restricted while all members are (keyselect.py). Who comes or goes can change that.
_MAY_BE_RESTRICTED: Final = (
    "SELECT EXISTS (SELECT FROM membership JOIN person USING (person_id)"
    " WHERE account_id = $1 AND restricted_at IS NOT NULL)"
)
_CHANGED: Final = "UPDATE account SET version = $2 WHERE account_id = $1"


@dataclass(frozen=True, slots=True)
class MemberInfo:
    """A member as the others see it."""

    person_id: uuid.UUID
    email: str
    name: str
    status: str
    role: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Invitation:
    """Somebody who is asked into an account and has not come yet."""

    invitation_id: uuid.UUID
    account_id: int
    account: str
    email: str
    role: str
    created_at: datetime
    expires_at: datetime


async def list_page(
    pool: Pool, account_id: int, after: uuid.UUID | None = None, limit: int = 1_000
) -> list[MemberInfo]:
    """Members in the order of their ids, those after `after`."""
    with store_errors("list the members"):
        rows = await pool.fetch(
            f"{_MEMBERS} WHERE m.account_id = $1 AND ($2::uuid IS NULL OR m.person_id > $2)"
            " ORDER BY m.person_id LIMIT $3",
            account_id,
            after,
            limit,
        )
    return [MemberInfo(*row) for row in rows]


async def find(pool: Pool, account_id: int, person_id: uuid.UUID) -> MemberInfo | None:
    """One member; None: the person is none."""
    with store_errors("find the member"):
        row = await pool.fetchrow(f"{_MEMBERS} WHERE m.account_id = $1 AND m.person_id = $2", account_id, person_id)
    return None if row is None else MemberInfo(*row)


async def role_of(pool: Pool, account_id: int, person_id: uuid.UUID) -> str | None:
    """What the person is in the account; None: no member."""
    with store_errors("find the member"):
        role: str | None = await pool.fetchval(
            "SELECT role FROM membership WHERE account_id = $1 AND person_id = $2", account_id, person_id
        )
    return role


async def has_owner(pool: Pool, account_id: int) -> bool:
    """Whether anybody owns the account."""
    with store_errors("find the owner"):
        found: bool = await pool.fetchval(
            "SELECT EXISTS (SELECT FROM membership WHERE account_id = $1 AND role = 'owner')", account_id
        )
    return found


async def put(connection: Connection, account_id: int, person_id: uuid.UUID, role: str) -> None:
    """Make a person a member, or another one, in the caller's transaction. LastOwnerError."""
    if role != _OWNER:
        await refuse_last_owner(connection, person_id, account_id)
    comes = await connection.fetchval(
        "INSERT INTO membership (person_id, account_id, role) VALUES ($1, $2, $3)"
        " ON CONFLICT (person_id, account_id) DO UPDATE SET role = excluded.role"
        " RETURNING xmax = 0",  # no row was there
        person_id,
        account_id,
        role,
    )
    if comes:
        await consents.tell_members(connection, account_id, person_id)
    if await connection.fetchval(_MAY_BE_RESTRICTED, account_id):
        await connection.execute(_CHANGED, account_id, await next_version(connection))
    await audit.record(connection, "member.set", str(person_id), account_id, {"role": role})


async def put_person(pool: Pool, account_id: int, person_id: uuid.UUID, role: str) -> MemberInfo:
    """Make a person a member, or another one. LastOwnerError."""
    with store_errors("change the member"):
        async with pool.acquire() as connection, connection.transaction():
            await hold_changes(connection)
            await put(connection, account_id, person_id, role)
            return await _member(connection, account_id, person_id)


async def set_role(pool: Pool, account_id: int, person_id: uuid.UUID, role: str) -> MemberInfo:
    """Let a member be something else. RefusedError: no member; LastOwnerError."""
    with store_errors("change the member"):
        async with pool.acquire() as connection, connection.transaction():
            await hold_changes(connection)
            if not await _is_member(connection, account_id, person_id):
                raise _no_member()
            await put(connection, account_id, person_id, role)
            return await _member(connection, account_id, person_id)


async def remove(pool: Pool, account_id: int, person_id: uuid.UUID) -> int:
    """End a membership and, everywhere within a second, the member's own keys in the account; how many of these.

    RefusedError: no member; LastOwnerError.
    """
    with store_errors("remove the member"):
        async with pool.acquire() as connection, connection.transaction():
            version = await next_version(connection)
            if not await _is_member(connection, account_id, person_id):
                raise _no_member()
            await refuse_last_owner(connection, person_id, account_id)
            done = await connection.execute(
                "UPDATE api_key SET status = 'revoked', revoked_at = now(), version = $3"
                " WHERE person_id = $1 AND account_id = $2 AND status <> 'revoked'",
                person_id,
                account_id,
                version,
            )
            if await connection.fetchval(_MAY_BE_RESTRICTED, account_id):
                await connection.execute(_CHANGED, account_id, version)
            await connection.execute(
                "DELETE FROM membership WHERE person_id = $1 AND account_id = $2", person_id, account_id
            )
            keys = int(done.rpartition(" ")[2])
            await audit.record(connection, "member.removed", str(person_id), account_id, {"keys_revoked": keys})
    return keys


async def invite(
    connection: Connection, account_id: int, email: str, role: str, invited_by: uuid.UUID | None
) -> Invitation:
    """Ask somebody into an account, or anew, in the caller's transaction.

    RefusedError: a member already, or another invitation to the address is made at this moment.
    """
    if await connection.fetchval(
        "SELECT EXISTS (SELECT FROM membership JOIN person USING (person_id) WHERE account_id = $1 AND email = $2)",
        account_id,
        email,
    ):
        raise RefusedError("This person is a member already; change the role instead.", "member_already")
    async with claimed(connection) as claim:
        # Asked anew: the links of before are gone with the row that they belong to.
        await connection.execute("DELETE FROM invitation WHERE account_id = $1 AND email = $2", account_id, email)
        invitation_id = await _insert(connection, account_id, email, role, invited_by)
        claim.object_id = str(invitation_id)
        await audit.record(
            connection, "invitation.made", str(invitation_id), account_id, {"role": role}, {"email": email}
        )
        (row,) = await connection.fetch(f"{_INVITATIONS} WHERE i.invitation_id = $1", invitation_id)
    return Invitation(*row)


async def _insert(
    connection: Connection, account_id: int, email: str, role: str, invited_by: uuid.UUID | None
) -> uuid.UUID:
    try:
        invitation_id: uuid.UUID = await connection.fetchval(
            "INSERT INTO invitation (account_id, email, role, invited_by, expires_at)"
            " VALUES ($1, $2, $3, $4, now() + $5::interval) RETURNING invitation_id",
            account_id, email, role, invited_by, LASTS["invitation"],
        )  # fmt: skip
    except asyncpg.UniqueViolationError:
        raise RefusedError(
            "Somebody invited this address at the same moment; look at the invitations, then try again.",
            "invited_already",
        ) from None
    return invitation_id


async def invitations(
    pool: Pool, account_id: int, after: uuid.UUID | None = None, limit: int = 1_000
) -> list[Invitation]:
    """Invitations of an account that can be taken up, in the order of their ids, those after `after`."""
    with store_errors("list the invitations"):
        rows = await pool.fetch(
            f"{_INVITATIONS} WHERE i.account_id = $1 AND i.expires_at > now()"
            " AND ($2::uuid IS NULL OR i.invitation_id > $2) ORDER BY i.invitation_id LIMIT $3",
            account_id,
            after,
            limit,
        )
    return [Invitation(*row) for row in rows]


async def invitations_for(pool: Pool, email: str) -> list[Invitation]:
    """What the person with this address can take up."""
    with store_errors("list the invitations"):
        rows = await pool.fetch(f"{_INVITATIONS} WHERE i.email = $1 AND i.expires_at > now() ORDER BY a.name", email)
    return [Invitation(*row) for row in rows]


async def invitation(pool: Pool, invitation_id: uuid.UUID) -> Invitation | None:
    """An invitation that can be taken up."""
    with store_errors("find the invitation"):
        row = await pool.fetchrow(f"{_INVITATIONS} WHERE i.invitation_id = $1 AND i.expires_at > now()", invitation_id)
    return None if row is None else Invitation(*row)


async def take_up(connection: Connection, invitation_id: uuid.UUID, person_id: uuid.UUID, email: str) -> Invitation:
    """The person becomes a member, in the caller's transaction. RefusedError: it is not theirs, or over."""
    row = await connection.fetchrow(
        f"{_INVITATIONS} WHERE i.invitation_id = $1 AND i.email = $2 AND i.expires_at > now() FOR UPDATE OF i",
        invitation_id,
        email,
    )
    if row is None:
        raise RefusedError("This invitation is over; ask for a new one.", "dead_link")
    taken = Invitation(*row)
    await put(connection, taken.account_id, person_id, taken.role)
    await connection.execute("DELETE FROM invitation WHERE invitation_id = $1", invitation_id)
    return taken


async def withdraw(pool: Pool, account_id: int, invitation_id: uuid.UUID, email: str | None = None) -> bool:
    """Take an invitation back, or turn it down (`email`: whose it must be). False: there is none."""
    with store_errors("withdraw the invitation"):
        async with pool.acquire() as connection, connection.transaction():
            done = await connection.execute(
                "DELETE FROM invitation WHERE invitation_id = $1 AND account_id = $2"
                " AND ($3::text IS NULL OR email = $3)",
                invitation_id,
                account_id,
                email,
            )
            if done == "DELETE 0":
                return False
            act = "invitation.withdrawn" if email is None else "invitation.turned_down"
            await audit.record(connection, act, str(invitation_id), account_id)
    return True


async def _member(connection: Connection, account_id: int, person_id: uuid.UUID) -> MemberInfo:
    (row,) = await connection.fetch(f"{_MEMBERS} WHERE m.account_id = $1 AND m.person_id = $2", account_id, person_id)
    return MemberInfo(*row)


async def _is_member(connection: Connection, account_id: int, person_id: uuid.UUID) -> bool:
    found = await connection.fetchval(
        "SELECT role FROM membership WHERE account_id = $1 AND person_id = $2 FOR UPDATE", account_id, person_id
    )
    return found is not None


def _no_member() -> RefusedError:
    return RefusedError("There is no such member of this account.", "not_found")
