"""The table `api_key`: created, listed, rotated, revoked. A plain key passes through here once and is stored nowhere.

A name is used by one key of an account at a time. A key that is revoked, expired or replaced (rotated, living on for
its overlap) gives its name free, so a rotated key hands its name to its successor.
"""

import asyncio
import datetime
import secrets
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import bcrypt

from luntrex_proxy.core import apikeys
from luntrex_proxy.store import accounts
from luntrex_proxy.store.changes import next_version
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.pepper import Lookup

BCRYPT_COST: Final = 10
_LIST: Final = """
SELECT k.key_id, a.name AS account, k.name, k.not_before, k.expires_at, k.rotated_from, k.revoked_at, k.created_at,
       CASE WHEN k.status <> 'active' THEN k.status
            WHEN k.expires_at <= now() THEN 'expired'
            WHEN a.status <> 'active' THEN 'account suspended'
            ELSE 'active' END AS state
FROM api_key k JOIN account a USING (account_id)
"""
_CURRENT: Final = """
WHERE a.name = $1 AND k.status <> 'revoked' AND (k.expires_at IS NULL OR k.expires_at > now())
  AND NOT EXISTS (SELECT FROM api_key s WHERE s.rotated_from = k.key_id)
ORDER BY k.created_at DESC, k.key_id LIMIT 1
"""
_OLD: Final = """
SELECT k.account_id, k.name, k.status, k.expires_at, coalesce(k.expires_at <= now(), false) AS expired,
       (SELECT s.key_id FROM api_key s WHERE s.rotated_from = k.key_id AND s.status <> 'revoked' LIMIT 1) AS successor
FROM api_key k WHERE k.key_id = $1
"""


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What may be shown of a key. `state`: active, suspended, revoked, expired or "account suspended"."""

    key_id: str
    account: str
    name: str
    state: str
    not_before: datetime.datetime | None
    expires_at: datetime.datetime | None
    rotated_from: str | None
    revoked_at: datetime.datetime | None
    created_at: datetime.datetime


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made; `key` is the only copy there will ever be."""

    info: KeyInfo
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Made:
    key_id: str
    key: bytes = field(repr=False)
    lookup_hash: bytes
    bcrypt_hash: str


async def create(
    pool: Pool,
    lookup: Lookup,
    account: str,
    name: str,
    *,
    expires_at: datetime.datetime | None = None,
    bcrypt_cost: int = BCRYPT_COST,
) -> NewKey:
    """Make a key for the account of this name.

    RefusedError: the account is unknown or suspended, the name taken or unusable, the end in the past.
    """
    made = await _make(lookup, bcrypt_cost)
    with store_errors("create the key"):
        async with pool.acquire() as connection, connection.transaction():
            version = await next_version(connection)
            account_id = await _account_for_a_key(connection, account)
            if expires_at is not None and await connection.fetchval("SELECT $1 <= now()", expires_at):
                raise RefusedError("A key cannot end in the past; give a later time, in UTC.")
            await _refuse_taken_name(connection, account_id, name)
            await _insert(connection, made, lookup, account_id, name, version, expires_at=expires_at)
            info = await _info(connection, made.key_id)
    return NewKey(info, made.key.decode())


async def list_all(pool: Pool, account: str | None = None) -> list[KeyInfo]:
    """All keys, or those of one account, oldest first. An unknown account raises RefusedError."""
    if account is not None:
        await accounts.get(pool, account)
    with store_errors("list the keys"):
        rows = await pool.fetch(
            _LIST + "WHERE $1::text IS NULL OR a.name = $1 ORDER BY k.created_at, k.key_id", account
        )
    return [_key_info(row) for row in rows]


async def current(pool: Pool, account: str) -> KeyInfo | None:
    """The newest key of the account that is not revoked, expired or replaced; its account may be suspended."""
    with store_errors("find the key"):
        row = await pool.fetchrow(_LIST + _CURRENT, account)
    return None if row is None else _key_info(row)


async def rotate(
    pool: Pool, lookup: Lookup, key_id: str, *, overlap_s: float, bcrypt_cost: int = BCRYPT_COST
) -> NewKey:
    """Make a successor with the same account, name and planned end; the old key ends after `overlap_s` seconds."""
    made = await _make(lookup, bcrypt_cost)
    with store_errors("rotate the key"):
        async with pool.acquire() as connection, connection.transaction():
            version = await next_version(connection)
            old = _rotatable(await connection.fetchrow(_OLD, key_id), key_id)
            await _insert(
                connection, made, lookup, old["account_id"], old["name"], version,
                expires_at=old["expires_at"], rotated_from=key_id,
            )  # fmt: skip
            await connection.execute(
                "UPDATE api_key SET version = $2, expires_at = least(expires_at, now() + $3) WHERE key_id = $1",
                key_id,
                version,
                datetime.timedelta(seconds=overlap_s),
            )
            info = await _info(connection, made.key_id)
    return NewKey(info, made.key.decode())


def _rotatable(old: Any, key_id: str) -> Any:
    if old is None:
        raise _unknown(key_id)
    if old["status"] == "revoked" or old["expired"]:
        raise RefusedError(f"The key {key_id} has ended; make a new one with `luntrex-proxy keys create`.")
    if old["successor"] is not None:
        raise RefusedError(f"The key {key_id} was rotated already; rotate its successor {old['successor']}.")
    return old


async def revoke(pool: Pool, key_id: str) -> KeyInfo:
    """End the key for good, everywhere within a second. Revoking twice changes nothing."""
    with store_errors("revoke the key"):
        async with pool.acquire() as connection, connection.transaction():
            version = await next_version(connection)
            await connection.execute(
                "UPDATE api_key SET status = 'revoked', revoked_at = now(), version = $2"
                " WHERE key_id = $1 AND status <> 'revoked'",
                key_id,
                version,
            )
            return await _info(connection, key_id)


async def _make(lookup: Lookup, bcrypt_cost: int) -> _Made:
    """A fresh key and what is stored of it; bcrypt (59 ms at cost 10) runs in a thread."""
    key_id, key = apikeys.make_key(secrets.token_bytes(apikeys.RANDOM_BYTES))
    salt = bcrypt.gensalt(bcrypt_cost)
    proof = await asyncio.to_thread(bcrypt.hashpw, apikeys.bcrypt_input(key), salt)
    return _Made(key_id, key, apikeys.lookup_hash(key, lookup.key), proof.decode())


async def _account_for_a_key(connection: Connection, account: str) -> int:
    row = await connection.fetchrow("SELECT account_id, status FROM account WHERE name = $1", account)
    if row is None:
        raise RefusedError(f"There is no account {account!r}; make it with `luntrex-proxy accounts create`.")
    if row["status"] != "active":
        raise RefusedError(
            f"The account {account} is suspended, so its keys would be refused; "
            f"first run `luntrex-proxy accounts resume {account}`."
        )
    return int(row["account_id"])


async def _refuse_taken_name(connection: Connection, account_id: int, name: str) -> None:
    # No race: changes wait for each other at the version row.
    taken_by = await connection.fetchval(
        "SELECT k.key_id FROM api_key k WHERE k.account_id = $1 AND k.name = $2 AND k.status <> 'revoked'"
        " AND (k.expires_at IS NULL OR k.expires_at > now())"
        " AND NOT EXISTS (SELECT FROM api_key s WHERE s.rotated_from = k.key_id) LIMIT 1",
        account_id,
        name,
    )
    if taken_by is not None:
        raise RefusedError(f"The key {taken_by} of this account has this name; choose another, or rotate that key.")


async def _insert(
    connection: Connection,
    made: _Made,
    lookup: Lookup,
    account_id: int,
    name: str,
    version: int,
    *,
    expires_at: datetime.datetime | None,
    rotated_from: str | None = None,
) -> None:
    try:
        await connection.execute(
            "INSERT INTO api_key (key_id, account_id, name, bcrypt_hash, lookup_hash, pepper_fingerprint,"
            " expires_at, rotated_from, version) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            made.key_id, account_id, name, made.bcrypt_hash, made.lookup_hash, lookup.fingerprint,
            expires_at, rotated_from, version,
        )  # fmt: skip
    except (asyncpg.CheckViolationError, asyncpg.DataError):
        raise RefusedError(f"A key name is {accounts.NAME_RULE}.") from None


async def _info(connection: Connection, key_id: str) -> KeyInfo:
    row = await connection.fetchrow(_LIST + "WHERE k.key_id = $1", key_id)
    if row is None:
        raise _unknown(key_id)
    return _key_info(row)


def _key_info(row: Any) -> KeyInfo:
    return KeyInfo(**dict(row))


def _unknown(given: str) -> RefusedError:
    if apikeys.parse(given.encode()) is not None:
        # A whole key on a command line is a leak already; do not repeat it.
        return RefusedError("That is a whole key, not a key id; give the 12 characters after `lx_` only.")
    return RefusedError("There is no key of this id; `luntrex-proxy keys list` shows all.")
