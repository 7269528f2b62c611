"""The table `api_key`: keys made, listed, limited, paused, rotated, ended. A plain key is stored nowhere.

A name is used by one key of an account at a time. A key that is revoked, expired or replaced (rotated, living on for
its overlap) gives its name free, so a rotated key hands its name to its successor.
"""

import asyncio
import datetime
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import bcrypt
from msgspec.structs import replace

from luntrex_proxy.core import apikeys
from luntrex_proxy.core.audit import Fact
from luntrex_proxy.core.scope import Scope
from luntrex_proxy.store import accounts, audit, labels
from luntrex_proxy.store.changes import next_version
from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.errors import ChangedError, RefusedError
from luntrex_proxy.store.keyrows import (
    LIST,
    KeyInfo,
    Proof,
    Terms,
    account_for_a_key,
    info_of,
    insert,
    key_info,
    limited_by_admin,
    owner_suspended,
    refuse_absent_owner,
    refuse_bad_name,
    refuse_bad_times,
    refuse_no_id,
    refuse_taken_name,
    scope_columns,
    scope_of,
    suspended_by_admin,
    unknown_key,
)
from luntrex_proxy.store.once import claimed
from luntrex_proxy.store.pepper import Lookup

BCRYPT_COST: Final = 10
LONGEST_OVERLAP_S: Final = 7 * 24 * 3600.0
_CURRENT: Final = """
WHERE a.name = $1 AND k.status <> 'revoked' AND (k.expires_at IS NULL OR k.expires_at > now())
  AND NOT EXISTS (SELECT FROM api_key s WHERE s.rotated_from = k.key_id)
ORDER BY k.created_at DESC, k.key_id LIMIT 1
"""
_OLD: Final = """
SELECT k.account_id, k.person_id::text, k.version, k.name, k.status, k.not_before, k.expires_at,
       k.endpoints, k.models, k.regions, k.networks, k.limited_by_admin,
       coalesce(k.expires_at <= now(), false) AS expired,
       (SELECT s.key_id FROM api_key s WHERE s.rotated_from = k.key_id AND s.status <> 'revoked' LIMIT 1) AS successor
FROM api_key k WHERE k.key_id = $1
"""
# An admin may also make a member's own suspension theirs; else suspending twice changes nothing.
_SUSPEND: Final = """
UPDATE api_key SET status = 'suspended', suspended_by_admin = $3, version = $2
WHERE key_id = $1 AND (status = 'active' OR status = 'suspended' AND $3 AND NOT suspended_by_admin)
"""
_RESUME: Final = """
UPDATE api_key SET status = 'active', suspended_by_admin = false, version = $2
WHERE key_id = $1 AND status = 'suspended' AND ($3 OR NOT suspended_by_admin)
"""
_OWNER_SUSPENDED: Final = (
    "SELECT EXISTS (SELECT FROM api_key JOIN person p USING (person_id) WHERE key_id = $1 AND p.status = 'suspended')"
)
_NO_TERMS: Final = Terms()
PreparedKey = tuple[Proof, bytes]  # what is stored of a key that is not there yet, and the key itself


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made; `key` is the only copy there will ever be."""

    info: KeyInfo
    key: str = field(repr=False)


async def create(
    pool: Pool,
    lookup: Lookup,
    account: str,
    name: str,
    terms: Terms = _NO_TERMS,
    *,
    person_id: str | None = None,
    bcrypt_cost: int = BCRYPT_COST,
    prepared: PreparedKey | None = None,
) -> NewKey:
    """Make a key for the account of this name; with `person_id` it is this member's own.

    RefusedError: the account is unknown or suspended, the name taken or unusable, the time over before it begins.
    """
    refuse_bad_name(name)
    proof, key = prepared or await prepare(lookup, bcrypt_cost)
    with store_errors("create the key"):
        async with pool.acquire() as connection, connection.transaction(), claimed(connection) as claim:
            version = await next_version(connection)
            account_id = await account_for_a_key(connection, account)
            if person_id is not None:
                await refuse_absent_owner(connection, account_id, person_id)
            await refuse_bad_times(connection, terms)
            await refuse_taken_name(connection, account_id, name)
            await insert(connection, proof, account_id, name, version, terms, person_id=person_id)
            claim.object_id = proof.key_id
            await audit.record(connection, "key.created", proof.key_id, account_id, {"person": person_id})
            await labels.put(connection, account_id, proof.key_id, terms.labels)
            info = await info_of(connection, proof.key_id)
    return NewKey(info, key.decode())


async def list_all(pool: Pool, account: str | None = None) -> list[KeyInfo]:
    """All keys, or those of one account, oldest first. An unknown account raises RefusedError."""
    if account is not None:
        await accounts.get(pool, account)
    with store_errors("list the keys"):
        rows = await pool.fetch(LIST + "WHERE $1::text IS NULL OR a.name = $1 ORDER BY k.created_at, k.key_id", account)
    return [key_info(row) for row in rows]


async def list_page(
    pool: Pool, account_id: int, person_id: str | None, after: tuple[datetime.datetime, str] | None, limit: int
) -> list[KeyInfo]:
    """Keys of an account, or those of one of its members, oldest first, those after (time, key id)."""
    with store_errors("list the keys"):
        rows = await pool.fetch(
            LIST + "WHERE k.account_id = $1 AND ($2::uuid IS NULL OR k.person_id = $2)"
            " AND ($3::timestamptz IS NULL OR (k.created_at, k.key_id) > ($3, $4)) ORDER BY k.created_at, k.key_id"
            " LIMIT $5",
            account_id,
            person_id,
            *(after or (None, None)),
            limit,
        )
    return [key_info(row) for row in rows]


async def find(pool: Pool, account_id: int, key_id: str) -> KeyInfo | None:
    """The key of this id, if it is this account's."""
    with store_errors("find the key"):
        row = await pool.fetchrow(LIST + "WHERE k.account_id = $1 AND k.key_id = $2", account_id, key_id)
    return None if row is None else key_info(row)


async def current(pool: Pool, account: str) -> KeyInfo | None:
    """The newest key of the account that is not revoked, expired or replaced; its account may be suspended."""
    with store_errors("find the key"):
        row = await pool.fetchrow(LIST + _CURRENT, account)
    return None if row is None else key_info(row)


async def rotate(
    pool: Pool, lookup: Lookup, key_id: str, *, overlap_s: float, bcrypt_cost: int = BCRYPT_COST
) -> NewKey:
    """Make a successor with the same account, name and terms; the old key ends after `overlap_s` seconds.

    RefusedError: the key is unknown, has ended, is suspended or replaced already; the overlap is too long.
    """
    refuse_no_id(key_id)
    if not 0 <= overlap_s <= LONGEST_OVERLAP_S:
        raise RefusedError(f"The overlap of two keys is 0 to {LONGEST_OVERLAP_S / 3600:.0f} hours.")
    proof, key = await prepare(lookup, bcrypt_cost)
    with store_errors("rotate the key"):
        async with pool.acquire() as connection, connection.transaction(), claimed(connection) as claim:
            version = await next_version(connection)
            old = _rotatable(await connection.fetchrow(_OLD, key_id), key_id)
            terms = Terms(old["not_before"], old["expires_at"], scope_of(old))
            await insert(connection, proof, old["account_id"], old["name"], version, terms, key_id, old["person_id"])
            await labels.copy_to_successor(connection, key_id, proof.key_id)
            claim.object_id = proof.key_id
            await connection.execute(
                "UPDATE api_key SET version = $2, expires_at = least(expires_at, now() + $3) WHERE key_id = $1",
                key_id,
                version,
                datetime.timedelta(seconds=overlap_s),
            )
            info = await info_of(connection, proof.key_id)
            facts: dict[str, Fact] = {"successor": proof.key_id, "overlap_s": round(overlap_s)}
            await audit.record(connection, "key.rotated", key_id, old["account_id"], facts)
    return NewKey(info, key.decode())


def _rotatable(old: Any, key_id: str) -> Any:
    if old is None:
        raise unknown_key(key_id)
    if old["status"] == "revoked" or old["expired"]:
        raise RefusedError(f"The key {key_id} has ended; make a new one with `luntrex-proxy keys create`.", "key_ended")
    if old["status"] == "suspended":
        raise RefusedError(
            f"The key {key_id} is suspended; run `luntrex-proxy keys resume {key_id}` first.", "key_suspended"
        )
    if old["successor"] is not None:
        raise RefusedError(
            f"The key {key_id} was rotated already; rotate its successor {old['successor']}.", "key_rotated"
        )
    return old


async def limit(
    pool: Pool, key_id: str, scope: Scope, kinds: Iterable[str], *, version: int | None = None, by_admin: bool = True
) -> KeyInfo:
    """Limit the key anew: of these kinds (fields of `Scope`) as `scope` says, of the others as before.

    ChangedError: `version` is given and not the key's any more. RefusedError: also when only an admin may.
    """
    refuse_no_id(key_id)
    with store_errors("limit the key"):
        async with pool.acquire() as connection, connection.transaction():
            new_version = await next_version(connection)
            old = await connection.fetchrow(_OLD, key_id)
            if old is None:
                raise unknown_key(key_id)
            if version not in (None, old["version"]):
                raise ChangedError
            if old["status"] == "revoked" or old["expired"]:
                raise RefusedError(f"The key {key_id} has ended; there is nothing to limit any more.", "key_ended")
            of_admin = limited_by_admin(old["limited_by_admin"], scope, set(kinds), by_admin=by_admin)
            limited = replace(scope_of(old), **{kind: getattr(scope, kind) for kind in kinds})
            await connection.execute(
                "UPDATE api_key SET endpoints = $3, models = $4, regions = $5, networks = $6, version = $2,"
                " limited_by_admin = $7 WHERE key_id = $1",
                key_id,
                new_version,
                *scope_columns(limited),
                of_admin,
            )
            info = await info_of(connection, key_id)
            limits: dict[str, Fact] = {kind: tuple(getattr(info, kind) or ()) for kind in kinds}
            await audit.record(connection, "key.limited", key_id, old["account_id"], limits)
    return info


async def suspend(pool: Pool, key_id: str, *, by_admin: bool = True) -> KeyInfo:
    """Stop the key, everywhere within a second, until it is resumed. Suspending twice changes nothing."""
    return await _set_status(pool, key_id, _SUSPEND, "key.suspended", by_admin=by_admin)


async def resume(pool: Pool, key_id: str, *, by_admin: bool = True) -> KeyInfo:
    """Let a suspended key work again. Resuming twice changes nothing.

    RefusedError: who owns it is suspended; or it is not `by_admin`, and an admin suspended it.
    """
    return await _set_status(pool, key_id, _RESUME, "key.resumed", by_admin=by_admin)


async def _set_status(pool: Pool, key_id: str, statement: str, act: str, *, by_admin: bool) -> KeyInfo:
    refuse_no_id(key_id)
    with store_errors("change the key"):
        async with pool.acquire() as connection, connection.transaction():
            version = await next_version(connection)
            if statement is _RESUME and await connection.fetchval(_OWNER_SUSPENDED, key_id):
                raise owner_suspended()
            await connection.execute(statement, key_id, version, by_admin)
            info = await info_of(connection, key_id)
            if info.state == "revoked":
                raise RefusedError(f"The key {key_id} is revoked for good; make a new one.", "key_ended")
            if statement is _RESUME and info.state == "suspended":
                raise suspended_by_admin()
            await audit.record(connection, act, key_id, info.account_id)
    return info


async def revoke(pool: Pool, key_id: str) -> KeyInfo:
    """End the key for good, everywhere within a second. Revoking twice changes nothing."""
    refuse_no_id(key_id)
    with store_errors("revoke the key"):
        async with pool.acquire() as connection, connection.transaction():
            version = await next_version(connection)
            await connection.execute(
                "UPDATE api_key SET status = 'revoked', revoked_at = now(), version = $2"
                " WHERE key_id = $1 AND status <> 'revoked'",
                key_id,
                version,
            )
            info = await info_of(connection, key_id)
            await audit.record(connection, "key.revoked", key_id, info.account_id)
    return info


async def prepare(lookup: Lookup, bcrypt_cost: int = BCRYPT_COST) -> PreparedKey:
    """What is stored of a fresh key, and the key; bcrypt (59 ms at cost 10) runs in a thread."""
    key_id, key = apikeys.make_key(secrets.token_bytes(apikeys.RANDOM_BYTES))
    hashed = await asyncio.to_thread(bcrypt.hashpw, apikeys.bcrypt_input(key), bcrypt.gensalt(bcrypt_cost))
    old = lookup.old  # for processes that were not given the present pepper yet
    return Proof(
        key_id,
        hashed.decode(),
        apikeys.lookup_hash(key, lookup.key),
        lookup.fingerprint,
        None if old is None else apikeys.lookup_hash(key, old.key),
        None if old is None else old.fingerprint,
    ), key
