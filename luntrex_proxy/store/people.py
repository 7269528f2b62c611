"""The table `person`: made, found, named, given passwords, suspended. Who must not be lost: lastones.py.

What people are in accounts is in members.py, how they sign in in sessions.py, links.py, totp.py.
"""

import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import asyncpg
import msgspec

from luntrex_proxy.core.people import ADDRESS_RULE, read_address
from luntrex_proxy.store import audit, links, sessions
from luntrex_proxy.store.changes import next_version
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.lastones import refuse_last_operator, refuse_last_owner

_SELECT: Final = """
SELECT p.person_id, p.email, p.name, p.status, p.operator, p.email_verified_at, p.created_at, p.last_seen_at,
    p.password_hash IS NOT NULL AS has_password,
    EXISTS (SELECT FROM totp t WHERE t.person_id = p.person_id AND t.confirmed_at IS NOT NULL) AS has_totp,
    (SELECT coalesce(jsonb_object_agg(a.name, m.role), '{}') FROM membership m JOIN account a USING (account_id)
     WHERE m.person_id = p.person_id) AS roles
FROM person p
"""
_RESUME: Final = """
UPDATE person SET status = CASE WHEN restricted_at IS NULL THEN 'active' ELSE 'restricted' END
WHERE person_id = $1 AND status = 'suspended'
"""


@dataclass(frozen=True, slots=True)
class PersonInfo:
    """What may be shown of a person."""

    person_id: uuid.UUID
    email: str
    name: str
    status: str
    operator: bool
    email_verified_at: datetime | None
    created_at: datetime
    last_seen_at: datetime | None
    has_password: bool
    has_totp: bool
    roles: dict[str, str]  # by account name


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a sign-in is checked against."""

    person_id: uuid.UUID
    status: str
    email: str
    name: str
    password_hash: str | None = field(repr=False)
    pepper_fingerprint: bytes | None = field(repr=False)
    has_totp: bool

    @property
    def may_sign_in(self) -> bool:
        """Whether the person may come in at all."""
        return self.status in ("active", "restricted")


async def anybody(pool: Pool | Connection) -> bool:
    """Whether there is a person at all."""
    with store_errors("say whether there is anybody"):
        found: bool = await pool.fetchval("SELECT EXISTS (SELECT FROM person)")
    return found


async def create(
    connection: Connection, email: str, name: str = "", *, operator: bool = False, status: str = "active"
) -> uuid.UUID:
    """Make a person who affirmed to be 16 or older, in the caller's transaction. RefusedError: the address is taken."""
    try:
        person_id: uuid.UUID = await connection.fetchval(
            "INSERT INTO person (email, name, operator, status, affirmed_16_at) VALUES ($1, $2, $3, $4, now())"
            " RETURNING person_id",
            email,
            name,
            operator,
            status,
        )
    except asyncpg.UniqueViolationError:
        raise RefusedError("There is a person with this address already.", "address_taken") from None
    await audit.record(
        connection, "person.created", str(person_id), facts={"operator": operator}, personal={"email": email}
    )
    return person_id


async def sign_up(connection: Connection, email: str, name: str) -> tuple[uuid.UUID, str]:
    """A person who has still to prove the address, or the one who has it already: the same work for both."""
    (row,) = await connection.fetch(
        "INSERT INTO person AS p (email, name, status, affirmed_16_at) VALUES ($1, $2, 'unverified', now())"
        " ON CONFLICT (email) DO UPDATE SET name = CASE WHEN p.status = 'unverified' THEN excluded.name ELSE p.name END"
        " RETURNING person_id, status",
        email,
        name,
    )
    return row["person_id"], row["status"]


async def find(pool: Pool, email: str) -> PersonInfo:
    """The person with this address. RefusedError: there is none."""
    address = read_address(email)
    with store_errors("find the person"):
        row = await pool.fetchrow(_SELECT + "WHERE p.email = $1", address)
    if row is None:
        raise RefusedError(
            "There is no person with this address; `luntrex-proxy people list` shows all." if address else ADDRESS_RULE,
            "not_found",
        )
    return _info(row)


async def by_id(pool: Pool, person_id: uuid.UUID) -> PersonInfo | None:
    """The person of this id."""
    with store_errors("find the person"):
        row = await pool.fetchrow(_SELECT + "WHERE p.person_id = $1", person_id)
    return None if row is None else _info(row)


async def list_page(
    pool: Pool, after: uuid.UUID | None, limit: int, *, part: str = "", status: str | None = None
) -> list[PersonInfo]:
    """Everybody in the order of their ids, those after `after`. `part`: of their addresses; `status`: only those."""
    with store_errors("list the people"):
        rows = await pool.fetch(
            _SELECT + "WHERE ($1::uuid IS NULL OR p.person_id > $1) AND strpos(p.email, $3) > 0"
            " AND ($4::text IS NULL OR p.status = $4) ORDER BY p.person_id LIMIT $2",
            after, limit, part, status,
        )  # fmt: skip
    return [_info(row) for row in rows]


async def addresses(pool: Pool, person_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, str]:
    """The addresses of these people, by id; of who is not here, none."""
    with store_errors("find the people"):
        rows = await pool.fetch("SELECT person_id, email FROM person WHERE person_id = ANY($1)", list(person_ids))
    return {row["person_id"]: row["email"] for row in rows}


async def list_all(pool: Pool) -> list[PersonInfo]:
    """Everybody, in the order of their addresses."""
    with store_errors("list the people"):
        rows = await pool.fetch(_SELECT + "ORDER BY p.email")
    return [_info(row) for row in rows]


async def credentials(pool: Pool, email: str | None, person_id: uuid.UUID | None = None) -> Credentials | None:
    """What a sign-in is checked against, by address or id."""
    with store_errors("find the person"):
        row = await pool.fetchrow(
            "SELECT p.person_id, p.status, p.email, p.name, p.password_hash, p.password_pepper_fingerprint,"
            " EXISTS (SELECT FROM totp t WHERE t.person_id = p.person_id AND t.confirmed_at IS NOT NULL)"
            " FROM person p WHERE p.email = $1 OR p.person_id = $2",
            email,
            person_id,
        )
    return None if row is None else Credentials(*row)


async def is_still(connection: Connection, seen: Credentials) -> bool:
    """Whether what was seen holds still, and until the caller's transaction ends: the password, and being let in."""
    row = await connection.fetchrow(
        "SELECT p.status, p.password_hash, EXISTS (SELECT FROM totp t WHERE t.person_id = p.person_id"
        " AND t.confirmed_at IS NOT NULL) AS has_totp FROM person p WHERE p.person_id = $1 FOR SHARE OF p",
        seen.person_id,
    )
    return row is not None and tuple(row) == (seen.status, seen.password_hash, seen.has_totp)


async def set_password(
    connection: Connection, person_id: uuid.UUID, hashed: str, fingerprint: bytes, *, but: uuid.UUID | None = None
) -> None:
    """Another password, in the caller's transaction: every session but one ends, every link is void."""
    await connection.execute(
        "UPDATE person SET password_hash = $2, password_pepper_fingerprint = $3 WHERE person_id = $1",
        person_id,
        hashed,
        fingerprint,
    )
    await _void_links(connection, person_id)
    await audit.record(connection, "password.set", str(person_id))
    await sessions.end_all(connection, person_id, but=but)


async def renew_hash(pool: Pool, person_id: uuid.UUID, old: str, hashed: str, fingerprint: bytes) -> None:
    """The same password under the present pepper and cost; not when it was changed meanwhile."""
    with store_errors("renew the password's hash"):
        await pool.execute(
            "UPDATE person SET password_hash = $3, password_pepper_fingerprint = $4"
            " WHERE person_id = $1 AND password_hash = $2",
            person_id,
            old,
            hashed,
            fingerprint,
        )


async def verified(connection: Connection, person_id: uuid.UUID) -> bool:
    """The address is the person's: it was reached there. Whether the person had to prove it to come in."""
    was_unverified: bool = await connection.fetchval(
        "UPDATE person p SET email_verified_at = coalesce(p.email_verified_at, now()),"
        " status = CASE WHEN p.status <> 'unverified' THEN p.status WHEN p.restricted_at IS NULL THEN 'active'"
        " ELSE 'restricted' END"
        " FROM (SELECT status FROM person WHERE person_id = $1 FOR UPDATE) old"
        " WHERE p.person_id = $1 RETURNING old.status = 'unverified'",
        person_id,
    )
    if was_unverified:
        email = await connection.fetchval("SELECT email FROM person WHERE person_id = $1", person_id)
        await audit.record(connection, "person.signed_up", str(person_id), personal={"email": email})
    return was_unverified


async def set_name(pool: Pool, person_id: uuid.UUID, name: str) -> None:
    """What the person is called."""
    with store_errors("change the person"):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("UPDATE person SET name = $2 WHERE person_id = $1", person_id, name)
            await audit.record(connection, "person.name_set", str(person_id))


async def set_address(connection: Connection, person_id: uuid.UUID, email: str) -> None:
    """A proven new address, in the caller's transaction. RefusedError: somebody has it."""
    try:
        await connection.execute(
            "UPDATE person SET email = $2, email_verified_at = now() WHERE person_id = $1", person_id, email
        )
    except asyncpg.UniqueViolationError:
        raise RefusedError("There is a person with this address already.", "address_taken") from None
    await links.void_all(connection, person_id)
    await audit.record(connection, "person.address_set", str(person_id), personal={"email": email})


async def set_operator(pool: Pool, person_id: uuid.UUID, *, operator: bool) -> None:
    """Whether the person runs the installation."""
    with store_errors("change the person"):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("UPDATE person SET operator = $2 WHERE person_id = $1", person_id, operator)
            act = "person.made_operator" if operator else "person.operator_ended"
            await audit.record(connection, act, str(person_id))


async def suspend(pool: Pool, person_id: uuid.UUID, *, although_last_owner: bool = False) -> None:
    """Nobody gets in as this person any more, by session, token, link or its own API keys; no export is given out.

    LastOwnerError, RefusedError: an account, or the installation, would be left to nobody.

    `although_last_owner` is for what has to happen at once, such as a confirmed report of a child.
    """
    with store_errors("suspend the person"):
        async with pool.acquire() as connection, connection.transaction():
            version = await next_version(connection)
            if not although_last_owner:
                await refuse_last_owner(connection, person_id)
                await refuse_last_operator(connection, person_id)
            await connection.execute(
                "UPDATE api_key SET status = 'suspended', version = $2 WHERE person_id = $1 AND status = 'active'",
                person_id,
                version,
            )
            await connection.execute(
                "UPDATE person SET status = 'suspended' WHERE person_id = $1 AND status <> 'suspended'", person_id
            )
            await _void_links(connection, person_id)
            await audit.record(connection, "person.suspended", str(person_id))
            await sessions.end_all(connection, person_id)


async def resume(pool: Pool, person_id: uuid.UUID) -> None:
    """The person may sign in again, restricted if it asked for that. Its keys stay suspended until resumed."""
    with store_errors("change the person"):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(_RESUME, person_id)
            await audit.record(connection, "person.resumed", str(person_id))


async def _void_links(connection: Connection, person_id: uuid.UUID) -> None:
    """No link of before lets anybody in or gives data out any more."""
    await links.void_all(connection, person_id)
    await connection.execute("DELETE FROM export_link WHERE person_id = $1 AND used_at IS NULL", person_id)


def _info(row: Any) -> PersonInfo:
    fields = dict(row)
    return PersonInfo(**fields | {"roles": msgspec.json.decode(fields["roles"])})
