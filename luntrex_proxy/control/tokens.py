"""Personal access tokens: what a person's programs send instead of signing in."""

import datetime

from luntrex_proxy.control.access import NotFoundError, Person
from luntrex_proxy.core.roles import Permission, Role
from luntrex_proxy.core.tokens import token_hash
from luntrex_proxy.store import tokens as table
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.tokens import NewToken, TokenInfo

__all__ = ["NewToken", "TokenInfo", "create", "get", "holder", "list_page", "revoke", "token_hash"]
list_page, revoke = table.list_page, table.revoke


async def create(
    pool: Pool, person: Person, name: str, scopes: list[Permission], expires_at: datetime.datetime
) -> NewToken:
    """A token for this person, whatever their roles are: at each use it may what both roles and scopes allow."""
    return await table.create(pool, person.person_id, name, sorted({scope.value for scope in scopes}), expires_at)


async def get(pool: Pool, person_id: str, token_id: str) -> TokenInfo:
    """A person's token; another's raises NotFoundError."""
    found = await table.find(pool, person_id, token_id)
    if found is None:
        raise NotFoundError
    return found


async def holder(pool: Pool, token: bytes) -> Person | None:
    """Who sends this token, as they are now."""
    found = await table.find_holder(pool, token)
    if found is None:
        return None
    known = {permission.value for permission in Permission}
    return Person(
        found.person_id,
        found.operator,
        {account_id: Role(role) for account_id, role in found.roles.items()},
        frozenset(Permission(scope) for scope in found.scopes if scope in known),
        found.token_id,
    )
