"""The table `session`: one row per sign-in, found by the hash of its cookie. Times are the database's."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from luntrex_proxy.store import audit
from luntrex_proxy.store.database import Connection, Pool, store_errors

IDLE: Final = timedelta(minutes=30)
ABSOLUTE: Final = timedelta(hours=12)
# Between password and second factor there is not much to do.
AWAITING_CODE: Final = timedelta(minutes=10)
# A session that lies ahead of the clock is over: it was put back, and would stretch every bound.
_LIVE: Final = (
    "s.ended_at IS NULL AND s.last_used_at > now() - $2::interval AND s.started_at > now() - $3::interval"
    " AND (NOT s.awaits_code OR s.started_at > now() - $4::interval) AND s.last_used_at < now() + interval '5 minutes'"
)
_BOUNDS: Final = (IDLE, ABSOLUTE, AWAITING_CODE)


@dataclass(frozen=True, slots=True)
class Membership:
    """What a person is in an account."""

    account_id: int
    account: str
    role: str


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A live session and its person. `age_s` is how long ago the person proved to be it."""

    session_id: uuid.UUID
    person_id: uuid.UUID
    awaits_code: bool
    authenticated_age_s: float
    email: str
    name: str
    status: str
    operator: bool
    has_totp: bool
    memberships: tuple[Membership, ...]


@dataclass(frozen=True, slots=True)
class ListedSession:
    """A session as its person sees it."""

    session_id: uuid.UUID
    network: str
    started_at: datetime
    last_used_at: datetime


async def find(pool: Pool, token_hash: bytes) -> SessionRow | None:
    """The live session of a cookie whose person may be signed in. Its use is written at most once a minute."""
    with store_errors("find the session"):
        rows = await pool.fetch(
            "SELECT s.session_id, s.person_id, s.awaits_code,"  # noqa: S608 -- a constant of this file
            " extract(epoch FROM now() - s.authenticated_at)::float8 AS age_s,"
            " s.last_used_at < now() - interval '1 minute' AS stale, p.email, p.name, p.status, p.operator,"
            " EXISTS (SELECT FROM totp t WHERE t.person_id = p.person_id AND t.confirmed_at IS NOT NULL) AS has_totp,"
            " m.account_id, a.name AS account, m.role"
            " FROM session s JOIN person p USING (person_id) LEFT JOIN membership m USING (person_id)"
            f" LEFT JOIN account a USING (account_id) WHERE s.token_hash = $1 AND {_LIVE}"
            " AND p.status IN ('active', 'restricted') ORDER BY a.name",
            token_hash,
            *_BOUNDS,
        )
        if not rows:
            return None
        row = rows[0]
        if row["stale"]:
            await pool.execute("UPDATE session SET last_used_at = now() WHERE session_id = $1", row["session_id"])
    memberships = tuple(
        Membership(each["account_id"], each["account"], each["role"]) for each in rows if each["account_id"] is not None
    )
    return SessionRow(
        row["session_id"], row["person_id"], row["awaits_code"], row["age_s"], row["email"], row["name"],
        row["status"], row["operator"], row["has_totp"], memberships,
    )  # fmt: skip


async def start(
    connection: Connection, person_id: uuid.UUID, token_hash: bytes, network: str, *, awaits_code: bool = False
) -> uuid.UUID:
    """Begin a session in the caller's transaction."""
    session_id: uuid.UUID = await connection.fetchval(
        "INSERT INTO session (person_id, token_hash, network, awaits_code) VALUES ($1, $2, $3, $4)"
        " RETURNING session_id",
        person_id,
        token_hash,
        network,
        awaits_code,
    )
    if not awaits_code:
        await connection.execute(
            "UPDATE person SET last_seen_at = date_trunc('day', now()) WHERE person_id = $1", person_id
        )
        await audit.record(connection, "session.started", str(session_id), facts={"person": str(person_id)})
    return session_id


async def prove(connection: Connection, session_id: uuid.UUID, token_hash: bytes) -> None:
    """The person proved to be it again: from now on the session has another cookie."""
    await connection.execute(
        "UPDATE session SET token_hash = $2, authenticated_at = now(), last_used_at = now() WHERE session_id = $1",
        session_id,
        token_hash,
    )


async def complete(connection: Connection, person_id: uuid.UUID, session_id: uuid.UUID, token_hash: bytes) -> bool:
    """The second factor was right too; the session begins now, with another cookie. False: it is over."""
    done = await connection.execute(
        "UPDATE session SET token_hash = $2, awaits_code = false, authenticated_at = now(), last_used_at = now(),"
        " started_at = now() WHERE session_id = $1 AND awaits_code AND ended_at IS NULL",
        session_id,
        token_hash,
    )
    if done == "UPDATE 0":
        return False
    await connection.execute(
        "UPDATE person SET last_seen_at = date_trunc('day', now()) WHERE person_id = $1", person_id
    )
    await audit.record(
        connection, "session.started", str(session_id), facts={"person": str(person_id), "second_factor": True}
    )
    return True


async def came_before(pool: Pool, email: str, network: str) -> bool:
    """Whether somebody signed in as the person of this address from this network before."""
    with store_errors("find the sessions"):
        found: bool = await pool.fetchval(
            "SELECT EXISTS (SELECT FROM session s JOIN person p USING (person_id)"
            " WHERE p.email = $1 AND s.network = $2 AND NOT s.awaits_code)",
            email,
            network,
        )
    return found


async def end(connection: Connection, person_id: uuid.UUID, session_id: uuid.UUID) -> bool:
    """End one session of the person; False: it has no such session."""
    done = await connection.execute(
        "UPDATE session SET ended_at = now() WHERE person_id = $1 AND session_id = $2 AND ended_at IS NULL",
        person_id,
        session_id,
    )
    if done == "UPDATE 0":
        return False
    await audit.record(connection, "session.ended", str(session_id), facts={"person": str(person_id)})
    return True


async def end_all(connection: Connection, person_id: uuid.UUID, *, but: uuid.UUID | None = None) -> int:
    """End all sessions of the person, but for one, in the caller's transaction; how many."""
    done = await connection.execute(
        "UPDATE session SET ended_at = now() WHERE person_id = $1 AND ended_at IS NULL"
        " AND session_id IS DISTINCT FROM $2",
        person_id,
        but,
    )
    count = int(done.rpartition(" ")[2])
    if count:
        await audit.record(connection, "session.others_ended", str(person_id), facts={"sessions": count})
    return count


async def list_live(pool: Pool, person_id: uuid.UUID) -> list[ListedSession]:
    """The person's live sessions, the last used first."""
    with store_errors("list the sessions"):
        rows = await pool.fetch(
            "SELECT session_id, network, started_at, last_used_at FROM session s"  # noqa: S608 -- a constant of this file
            f" WHERE s.person_id = $1 AND NOT s.awaits_code AND {_LIVE} ORDER BY last_used_at DESC",
            person_id,
            *_BOUNDS,
        )
    return [ListedSession(*row) for row in rows]
