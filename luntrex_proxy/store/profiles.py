"""What a person sees of their own row in `person`, and of their memberships. Nothing is written here."""

import datetime
import uuid
from dataclasses import dataclass

from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.sessions import Membership


@dataclass(frozen=True, slots=True)
class Profile:
    """A person."""

    email: str
    name: str
    created_at: datetime.datetime
    members: tuple[Membership, ...]


async def find(pool: Pool, person_id: uuid.UUID) -> Profile | None:
    """The person of this id."""
    with store_errors("read the profile"):
        rows = await pool.fetch(
            "SELECT p.email, p.name, p.created_at, m.account_id, a.name AS account, m.role FROM person p"
            " LEFT JOIN membership m USING (person_id) LEFT JOIN account a USING (account_id)"
            " WHERE p.person_id = $1 ORDER BY a.name",
            person_id,
        )
    if not rows:
        return None
    members = tuple(Membership(*row[3:6]) for row in rows if row["account_id"] is not None)
    return Profile(rows[0]["email"], rows[0]["name"], rows[0]["created_at"], members)
