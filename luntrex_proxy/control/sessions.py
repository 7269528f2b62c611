"""Who is signed in: from a session's cookie to the person, and what a signed-in person may do. Cookies themselves are
the console's matter.

The cookie is a random number of 256 bits of which the database has only the hash. Form tokens are made from the
session's id by a secret key, so a form works in its own session only, and there to its end: proving it again renews the
cookie, and forms that are open in other windows keep what was typed.
"""

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from luntrex_proxy.control.services import Services
from luntrex_proxy.core.roles import Permission, Role, may
from luntrex_proxy.store import sessions as table
from luntrex_proxy.store.database import store_errors
from luntrex_proxy.store.sessions import ListedSession

FRESH_S: Final = 600.0
_TOKEN_BYTES: Final = 32
_TOKEN_CHARACTERS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Member:
    """What the signed-in person is in one of its accounts."""

    account_id: int
    account: str
    role: Role


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The person behind a request. Whoever does something dangerous asks `is_fresh` first."""

    person_id: uuid.UUID
    session_id: uuid.UUID
    email: str
    name: str
    operator: bool
    restricted: bool  # asked that its data only be stored
    has_totp: bool
    awaits_code: bool  # the password was right, the second factor is still to come: may do nothing else
    authenticated_age_s: float  # since it last proved to be it, by password or code
    form_token: str = field(repr=False)
    members: Sequence[Member] = ()

    @property
    def is_fresh(self) -> bool:
        """Whether the person proved to be it within the last ten minutes."""
        return self.authenticated_age_s <= FRESH_S

    def role_in(self, account: str | int) -> Role | None:
        """What the person is in an account, by name or id; None: no member."""
        return next((one.role for one in self.members if account in (one.account, one.account_id)), None)

    def may(self, account: str | int, permission: Permission) -> bool:
        """Whether the person's role in the account has the permission."""
        return may(self.role_in(account), permission)


async def signed_in(services: Services, token: str | None) -> SignedIn | None:
    """The person whose session cookie this is; None: nobody's, or over. `awaits_code` is the caller's to look at."""
    if not token or len(token) > _TOKEN_CHARACTERS_MAX:
        return None
    row = await table.find(services.pool, token_hash(token))
    if row is None:
        return None
    return SignedIn(
        row.person_id,
        row.session_id,
        row.email,
        row.name,
        row.operator,
        row.status == "restricted",
        row.has_totp,
        row.awaits_code,
        row.authenticated_age_s,
        _form_token(services, row.session_id),
        tuple(Member(one.account_id, one.account, Role(one.role)) for one in row.memberships),
    )


async def begin(services: Services, person_id: uuid.UUID, network: str, *, awaits_code: bool = False) -> str:
    """Begin a session; returns its cookie."""
    token = new_token()
    with store_errors("begin a session"):
        async with services.pool.acquire() as connection, connection.transaction():
            await table.start(connection, person_id, token_hash(token), network, awaits_code=awaits_code)
    return token


async def renew(services: Services, who: SignedIn) -> str:
    """The person proved to be it again; returns the session's new cookie."""
    token = new_token()
    with store_errors("renew the session"):
        async with services.pool.acquire() as connection:
            await table.prove(connection, who.session_id, token_hash(token))
    return token


async def end(services: Services, who: SignedIn, session_id: uuid.UUID) -> bool:
    """End one of the person's own sessions; False: it is not one of them."""
    with store_errors("end the session"):
        async with services.pool.acquire() as connection, connection.transaction():
            return await table.end(connection, who.person_id, session_id)


async def end_others(services: Services, who: SignedIn) -> int:
    """End all sessions of the person but the one that asks; how many."""
    with store_errors("end the sessions"):
        async with services.pool.acquire() as connection, connection.transaction():
            return await table.end_all(connection, who.person_id, but=who.session_id)


async def list_own(services: Services, who: SignedIn) -> list[ListedSession]:
    """The person's live sessions."""
    return await table.list_live(services.pool, who.person_id)


def new_token() -> str:
    """A secret for a cookie or a link."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def token_hash(token: str) -> bytes:
    """What the database has of a token."""
    return hashlib.sha256(token.encode(errors="replace")).digest()


def _form_token(services: Services, session_id: uuid.UUID) -> str:
    """What forms of a session carry, so that no other page can send them."""
    return hmac.digest(services.lookup.key, b"form\0" + session_id.bytes, "sha256").hex()


def is_form_token(who: SignedIn, sent: str) -> bool:
    """Whether a form carries this session's token."""
    return hmac.compare_digest(who.form_token.encode(), sent.encode(errors="replace"))
