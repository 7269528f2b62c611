"""What one sees and ends of one's own: the profile, and where one is signed in."""

import uuid

from luntrex_proxy.control.access import NotFoundError, Person
from luntrex_proxy.store import profiles
from luntrex_proxy.store import sessions as table
from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.profiles import Profile
from luntrex_proxy.store.sessions import ListedSession

__all__ = ["ListedSession", "Profile", "end_other_sessions", "end_session", "profile", "sessions"]


async def profile(pool: Pool, person_id: str) -> Profile:
    """Who the person is. NotFoundError: erased a moment ago."""
    found = await profiles.find(pool, uuid.UUID(person_id))
    if found is None:
        raise NotFoundError
    return found


async def sessions(pool: Pool, person: Person, after: str, limit: int) -> list[ListedSession]:
    """The person's live sessions in the order of their ids, those after `after`."""
    found = await table.list_live(pool, uuid.UUID(person.person_id))
    return sorted((each for each in found if str(each.session_id) > after), key=lambda each: each.session_id)[:limit]


async def end_session(pool: Pool, person: Person, session_id: str) -> None:
    """End one of the person's own sessions; NotFoundError: it is not one of them, or over."""
    with store_errors("end the session"):
        async with pool.acquire() as connection, connection.transaction():
            ended = await table.end(connection, uuid.UUID(person.person_id), uuid.UUID(session_id))
    if not ended:
        raise NotFoundError


async def end_other_sessions(pool: Pool, person: Person) -> int:
    """End all sessions of the person but the one that asks; how many."""
    but = None if person.session_id is None else uuid.UUID(person.session_id)
    with store_errors("end the sessions"):
        async with pool.acquire() as connection, connection.transaction():
            return await table.end_all(connection, uuid.UUID(person.person_id), but=but)
