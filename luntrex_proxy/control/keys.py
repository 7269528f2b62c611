"""API keys of an account: who sees and changes which. A member's own are theirs; one without a member is the account's.

keys:read sees all, keys:write sees and changes all, keys:own sees, makes and changes one's own, except what was
suspended or limited by keys:write.
"""

import datetime
from collections.abc import Iterable
from typing import Final

from luntrex_proxy.control import accounts
from luntrex_proxy.control.access import DeniedError, NotFoundError, Person
from luntrex_proxy.control.services import Services
from luntrex_proxy.core.roles import Permission
from luntrex_proxy.core.scope import Scope
from luntrex_proxy.store import apikeys as table
from luntrex_proxy.store.accounts import NAME, NAME_RULE
from luntrex_proxy.store.apikeys import LONGEST_OVERLAP_S, NewKey
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.keyrows import KeyInfo, Terms

__all__ = [
    "LONGEST_OVERLAP_S",
    "NAME",
    "NAME_RULE",
    "KeyInfo",
    "NewKey",
    "Terms",
    "create",
    "get",
    "limit",
    "list_page",
    "resume",
    "revoke",
    "rotate",
    "suspend",
]
_SEES_ALL: Final = (Permission.KEYS_READ, Permission.KEYS_WRITE)


async def list_page(
    pool: Pool, person: Person, account_id: int, after: tuple[datetime.datetime, str] | None, limit: int
) -> list[KeyInfo]:
    """The keys of the account that the person may see, oldest first, those after (time, key id)."""
    own = None if _sees_all(person, account_id) else person.person_id
    return await table.list_page(pool, account_id, own, after, limit)


async def get(pool: Pool, person: Person, account_id: int, key_id: str) -> KeyInfo:
    """A key of the account; one that the person may not see raises NotFoundError."""
    found = await table.find(pool, account_id, key_id)
    if found is None or not (_sees_all(person, account_id) or _owns(person, found)):
        raise NotFoundError
    return found


async def create(services: Services, person: Person, account_id: int, name: str, terms: Terms, *, own: bool) -> NewKey:
    """A key of the person's own, or of the account's (`own` False), which needs keys:write."""
    if own and account_id not in person.roles:
        raise RefusedError("Only a member of the account can have a key of their own there.", "not_a_member")
    if not own and not person.may(account_id, Permission.KEYS_WRITE):
        raise DeniedError
    account = await accounts.get(services.pool, account_id)
    owner = person.person_id if own else None
    return await table.create(
        services.pool,
        services.lookup,
        account.name,
        name,
        terms,
        person_id=owner,
        bcrypt_cost=services.key_bcrypt_cost,
    )


async def rotate(services: Services, person: Person, account_id: int, key_id: str, overlap_s: float) -> NewKey:
    """A successor of the key, which itself ends after `overlap_s` seconds."""
    await _changeable(services.pool, person, account_id, key_id)
    cost = services.key_bcrypt_cost
    return await table.rotate(services.pool, services.lookup, key_id, overlap_s=overlap_s, bcrypt_cost=cost)


async def limit(
    pool: Pool, person: Person, account_id: int, key_id: str, scope: Scope, kinds: Iterable[str], version: int | None
) -> KeyInfo:
    """Limit the key anew in these kinds (fields of `Scope`). `version`: refuse when it was changed since."""
    by_admin = await _changeable(pool, person, account_id, key_id)
    return await table.limit(pool, key_id, scope, kinds, version=version, by_admin=by_admin)


async def suspend(pool: Pool, person: Person, account_id: int, key_id: str) -> KeyInfo:
    """Stop the key until it is resumed."""
    by_admin = await _changeable(pool, person, account_id, key_id)
    return await table.suspend(pool, key_id, by_admin=by_admin)


async def resume(pool: Pool, person: Person, account_id: int, key_id: str) -> KeyInfo:
    """Let a suspended key work again."""
    by_admin = await _changeable(pool, person, account_id, key_id)
    return await table.resume(pool, key_id, by_admin=by_admin)


async def revoke(pool: Pool, person: Person, account_id: int, key_id: str) -> KeyInfo:
    """End the key for good."""
    await _changeable(pool, person, account_id, key_id)
    return await table.revoke(pool, key_id)


async def _changeable(pool: Pool, person: Person, account_id: int, key_id: str) -> bool:
    """Whether the person changes the key as an admin, else as whose own it is; that never changes.

    NotFoundError or DeniedError: neither.
    """
    key = await get(pool, person, account_id, key_id)
    by_admin = person.may(account_id, Permission.KEYS_WRITE)
    if not (by_admin or (_owns(person, key) and person.may(account_id, Permission.KEYS_OWN))):
        raise DeniedError
    return by_admin


def _sees_all(person: Person, account_id: int) -> bool:
    return any(person.may(account_id, permission) for permission in _SEES_ALL)


def _owns(person: Person, key: KeyInfo) -> bool:
    return key.person_id == person.person_id
