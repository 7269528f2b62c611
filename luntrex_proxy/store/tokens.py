"""The table `access_token`: personal access tokens made, found, listed, revoked. A plain token is stored nowhere."""

# ruff: noqa: S608 -- every part of these statements is a constant of this file
import datetime
import secrets
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from luntrex_proxy.core import apikeys, tokens
from luntrex_proxy.store import audit
from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.once import claimed

_COLUMNS: Final = "token_id, name, scopes, created_at, expires_at, last_used_on, revoked_at"
# A person who may not sign in is nobody here either.
_HOLDER: Final = """
SELECT t.token_id, t.scopes, t.last_used_on IS DISTINCT FROM current_date AS first_today, p.person_id::text, p.operator,
    (SELECT coalesce(array_agg(account_id), '{}') FROM membership m WHERE m.person_id = p.person_id) AS account_ids,
    (SELECT coalesce(array_agg(role), '{}') FROM membership m WHERE m.person_id = p.person_id) AS roles
FROM access_token t JOIN person p USING (person_id)
WHERE t.token_hash = $1 AND t.revoked_at IS NULL AND t.expires_at > now() AND p.status IN ('active', 'restricted')
"""


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """What may be shown of a token."""

    token_id: str
    name: str
    scopes: list[str]
    created_at: datetime.datetime
    expires_at: datetime.datetime
    last_used_on: datetime.date | None
    revoked_at: datetime.datetime | None


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made; `token` is the only copy there will ever be."""

    info: TokenInfo
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who sent a token, and what they are at this moment."""

    person_id: str
    operator: bool
    roles: dict[int, str]  # by account id
    token_id: str
    scopes: list[str]


async def create(pool: Pool, person_id: str, name: str, scopes: list[str], expires_at: datetime.datetime) -> NewToken:
    """Make a token for a person. RefusedError: it would be over already, or last longer than a year."""
    token_id, token = tokens.make_token(secrets.token_bytes(apikeys.RANDOM_BYTES))
    with store_errors("create the token"):
        async with pool.acquire() as connection, connection.transaction(), claimed(connection) as claim:
            try:
                row = await connection.fetchrow(
                    "INSERT INTO access_token (token_id, person_id, name, token_hash, scopes, expires_at)"
                    f" VALUES ($1, $2, $3, $4, $5, $6) RETURNING {_COLUMNS}",
                    token_id, person_id, name, tokens.token_hash(token), scopes, expires_at,
                )  # fmt: skip
            except (asyncpg.CheckViolationError, asyncpg.DataError):
                raise RefusedError("A token ends in the future, within a year at most.", code="bad_expiry") from None
            claim.object_id = token_id
            await audit.record(connection, "token.created", token_id, facts={"scopes": tuple(scopes)})
    return NewToken(_info(row), token.decode())


async def find_holder(pool: Pool, token: bytes) -> Holder | None:
    """Whose live token this is; notes the day."""
    with store_errors("look up the token"):
        row = await pool.fetchrow(_HOLDER, tokens.token_hash(token))
        if row is None:
            return None
        if row["first_today"]:
            await pool.execute(
                "UPDATE access_token SET last_used_on = current_date WHERE token_id = $1", row["token_id"]
            )
    roles = dict(zip(row["account_ids"], row["roles"], strict=True))
    return Holder(row["person_id"], row["operator"], roles, row["token_id"], row["scopes"])


async def list_page(pool: Pool, person_id: str, after: str, limit: int) -> list[TokenInfo]:
    """A person's tokens in the order of their ids, those after `after`; revoked and expired ones too."""
    with store_errors("list the tokens"):
        rows = await pool.fetch(
            f"SELECT {_COLUMNS} FROM access_token WHERE person_id = $1 AND token_id > $2 ORDER BY token_id LIMIT $3",
            person_id,
            after,
            limit,
        )
    return [_info(row) for row in rows]


async def find(pool: Pool, person_id: str, token_id: str) -> TokenInfo | None:
    """A person's token; None: the person has no such token."""
    with store_errors("find the token"):
        row = await pool.fetchrow(
            f"SELECT {_COLUMNS} FROM access_token WHERE person_id = $1 AND token_id = $2", person_id, token_id
        )
    return None if row is None else _info(row)


async def revoke(pool: Pool, person_id: str, token_id: str) -> TokenInfo | None:
    """End a person's token for good; None: the person has no such token. Revoking twice changes nothing."""
    with store_errors("revoke the token"):
        async with pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(
                "UPDATE access_token SET revoked_at = coalesce(revoked_at, now())"
                f" WHERE person_id = $1 AND token_id = $2 RETURNING {_COLUMNS}",
                person_id,
                token_id,
            )
            if row is None:
                return None
            await audit.record(connection, "token.revoked", token_id)
    return _info(row)


def _info(row: Any) -> TokenInfo:
    return TokenInfo(**dict(row))
