"""Who may capture requests for debugging: the member whose key it is; of a service key, who may change the account's
keys, with the owner's consent. Never who runs the installation, and only who started it gets what was captured.
"""

import uuid

from luntrex_proxy.control import keys
from luntrex_proxy.control.access import DeniedError, NotFoundError, Person
from luntrex_proxy.core.roles import Permission, may
from luntrex_proxy.store import debugcapture as table
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.debugcapture import Capture, SealedRecord

__all__ = ["Capture", "SealedRecord", "get", "list_page", "records", "start", "stop"]


async def start(
    pool: Pool, person: Person, account_id: int, key_id: str, public_key: bytes, requests: int, minutes: int
) -> Capture:
    """Capture the next requests of a key, encrypted to `public_key`."""
    key = await keys.get(pool, person, account_id, key_id)
    own = key.person_id == person.person_id and person.may(account_id, Permission.KEYS_OWN)
    service = key.person_id is None and _as_member(person, account_id, Permission.KEYS_WRITE)
    if not (own or service) or account_id not in person.roles:
        raise DeniedError
    who = uuid.UUID(person.person_id)
    return await table.start(pool, account_id, key_id, who, public_key, requests, minutes)


async def get(pool: Pool, person: Person, account_id: int, capture_id: uuid.UUID) -> Capture:
    """A capture of the account; one that the person may not see raises NotFoundError."""
    found = await table.find(pool, account_id, capture_id)
    if found is None or not (_sees_all(person, account_id) or str(found.person_id) == person.person_id):
        raise NotFoundError
    return found


async def stop(pool: Pool, person: Person, account_id: int, capture_id: uuid.UUID) -> Capture:
    """End a capture: one's own, or any of the account with keys:write."""
    found = await get(pool, person, account_id, capture_id)
    if str(found.person_id) != person.person_id and not person.may(account_id, Permission.KEYS_WRITE):
        raise DeniedError
    await table.stop(pool, account_id, capture_id)
    return await get(pool, person, account_id, capture_id)


async def list_page(
    pool: Pool, person: Person, account_id: int, after: tuple[str, str] | None, limit: int
) -> list[Capture]:
    """The captures of an account: that there are any is no secret to who may see its keys."""
    own = None if _sees_all(person, account_id) else uuid.UUID(person.person_id)
    return await table.list_page(pool, account_id, own, after, limit)


async def records(
    pool: Pool, person: Person, account_id: int, capture_id: uuid.UUID, after: int, limit: int
) -> list[SealedRecord]:
    """What was captured, for who started it, and for nobody else: it is ciphertext to them anyway."""
    found = await get(pool, person, account_id, capture_id)
    if str(found.person_id) != person.person_id or account_id not in person.roles:
        raise DeniedError
    return await table.records(pool, found, after, limit)


def _as_member(person: Person, account_id: int, permission: Permission) -> bool:
    """By the role in the account alone, not because the person runs the installation."""
    return may(person.roles.get(account_id), permission) and person.in_scope(permission)


def _sees_all(person: Person, account_id: int) -> bool:
    return any(person.may(account_id, each) for each in (Permission.KEYS_READ, Permission.KEYS_WRITE))
