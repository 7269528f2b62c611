"""The table `one_time_link`: made, looked at, used up. The database has the hashes of links only."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from luntrex_proxy.store import mail
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError

LASTS: Final = {
    "first": timedelta(minutes=15),
    "setup": timedelta(days=1),
    "reset": timedelta(hours=1),
    "invitation": timedelta(days=7),
    "address": timedelta(days=1),
}
_LIVE: Final = "l.used_at IS NULL AND l.expires_at > now()"


class DeadLinkError(RefusedError):
    """The link was used, is over, or never was."""

    def __init__(self) -> None:
        super().__init__("This link was used or is over; ask for a new one.", "dead_link")


@dataclass(frozen=True, slots=True)
class Link:
    """A live link: what it lets do, and for whom."""

    token_hash: bytes
    kind: str
    person_id: uuid.UUID | None
    invitation_id: uuid.UUID | None
    by_mail: bool
    email: str | None  # a new address that it proves


async def make(
    connection: Connection,
    token_hash: bytes,
    kind: str,
    *,
    person_id: uuid.UUID | None = None,
    invitation_id: uuid.UUID | None = None,
    by_mail: bool = False,
    email: str | None = None,
) -> datetime:
    """Keep a link in the caller's transaction; until when it works. A first link voids those before it."""
    if kind == "first":
        await connection.execute("DELETE FROM one_time_link WHERE kind = 'first'")
    expires_at: datetime = await connection.fetchval(
        "INSERT INTO one_time_link (token_hash, kind, person_id, invitation_id, by_mail, email, expires_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, now() + $7::interval) RETURNING expires_at",
        token_hash, kind, person_id, invitation_id, by_mail, email, LASTS[kind],
    )  # fmt: skip
    return expires_at


async def look_at(pool: Pool, token_hash: bytes) -> Link | None:
    """What a link would let do; changes nothing."""
    with store_errors("look at the link"):
        row = await pool.fetchrow(
            "SELECT token_hash, kind, person_id, invitation_id, by_mail, email"  # noqa: S608 -- a constant of this file
            f" FROM one_time_link l WHERE token_hash = $1 AND {_LIVE}",
            token_hash,
        )
    return None if row is None else Link(*row)


async def use(connection: Connection, token_hash: bytes, *kinds: str) -> Link:
    """Use a link up, and its siblings, in the caller's transaction: of two at once one gets it. DeadLinkError."""
    row = await connection.fetchrow(
        "UPDATE one_time_link l SET used_at = now()"  # noqa: S608 -- a constant of this file
        f" WHERE token_hash = $1 AND kind = ANY($2) AND {_LIVE}"
        " RETURNING token_hash, kind, person_id, invitation_id, by_mail, email",
        token_hash,
        list(kinds),
    )
    if row is None:
        raise DeadLinkError
    link = Link(*row)
    # Whoever may have an older link of the same kind, or one to set the password, has nothing any more.
    await connection.execute(
        "UPDATE one_time_link SET used_at = now() WHERE used_at IS NULL AND (invitation_id = $2 OR person_id = $1"
        " AND (kind = $3 OR kind IN ('setup', 'reset') AND $3 IN ('setup', 'reset')))",
        link.person_id,
        link.invitation_id,
        link.kind,
    )
    return link


async def void_all(connection: Connection, person_id: uuid.UUID) -> None:
    """No link of the person works any more, in the caller's transaction, nor will one to another address."""
    # That letter goes to whoever asked for it, maybe another, whose server can put it off for as long as it likes.
    await mail.end_address_letters(connection, person_id)
    await connection.execute(
        "UPDATE one_time_link SET used_at = now() WHERE person_id = $1 AND used_at IS NULL", person_id
    )
