"""The table `account`: created, listed, suspended, resumed. Whoever must follow a change is told at its commit."""

import datetime
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from luntrex_proxy.core.audit import Fact
from luntrex_proxy.core.policy import BadPolicyError, Policy, read_policy
from luntrex_proxy.store import audit
from luntrex_proxy.store.changes import next_version
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import ChangedError, RefusedError
from luntrex_proxy.store.once import claimed
from luntrex_proxy.store.tombstones import hash_of

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_RULE: Final = "1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit"
_IS_ERASED: Final = f"SELECT EXISTS (SELECT FROM tombstone WHERE subject_hash = {hash_of('account', '$1::bigint')})"  # noqa: S608 -- constants
_NEXT_ID: Final = "UPDATE account SET account_id = DEFAULT WHERE account_id = $1 RETURNING *"


@dataclass(frozen=True, slots=True)
class Account:
    """Who keys and usage belong to. `status` is active or suspended."""

    account_id: int
    name: str
    status: str
    created_at: datetime.datetime
    policy: str | None = None  # None: the configuration's default
    version: int = 0  # of its last change
    consents: tuple[str, ...] = ()  # in force (store/consents.py)
    time_zone: str = "UTC"  # in which days and months of its budgets begin, and its pages show times


async def create(pool: Pool, name: str, policy: str | None = None) -> Account:
    """Make an active account. A taken or unusable name raises RefusedError."""
    if policy is not None:
        checked_policy(policy)
    with store_errors("create the account"):
        try:
            async with pool.acquire() as connection, connection.transaction(), claimed(connection) as claim:
                account = _account(await _insert(connection, name, policy))
                claim.object_id = str(account.account_id)
                await _record(connection, "account.created", account.account_id, name)
        except asyncpg.UniqueViolationError:
            raise RefusedError("An account of this name exists already; choose another name.", "name_taken") from None
        except (asyncpg.CheckViolationError, asyncpg.DataError):
            raise RefusedError(f"An account name is {NAME_RULE}.") from None
    return account


async def create_own(connection: Connection, email: str) -> int:
    """An account for somebody who signed up, named after the address, in the caller's transaction."""
    wish = re.sub(r"[^A-Za-z0-9._-]", "", email.partition("@")[0])[:50].strip("._-") or "account"
    name = f"{wish}-{secrets.token_hex(4)}"
    account_id: int = (await _insert(connection, name))["account_id"]
    await _record(connection, "account.created", account_id, name)
    return account_id


async def _insert(connection: Connection, name: str, policy: str | None = None) -> Any:
    """Its row. After a restore ids begin anew that were given away before: one with a tombstone is nobody's again."""
    row = await connection.fetchrow("INSERT INTO account (name, policy) VALUES ($1, $2) RETURNING *", name, policy)
    while row is not None and await connection.fetchval(_IS_ERASED, row["account_id"]):
        row = await connection.fetchrow(_NEXT_ID, row["account_id"])
    return row


async def list_all(pool: Pool) -> list[Account]:
    """All accounts, in the order of their creation."""
    with store_errors("list the accounts"):
        rows = await pool.fetch("SELECT * FROM account ORDER BY account_id")
    return [_account(row) for row in rows]


async def list_page(
    pool: Pool, known: Iterable[int] | None, after: int, limit: int, *, part: str = "", status: str | None = None
) -> list[Account]:
    """Accounts in the order of their ids, those after `after`; only those of `known` ids unless it is None.

    `part`: of their names, whatever its case; `status`: only those.
    """
    with store_errors("list the accounts"):
        rows = await pool.fetch(
            "SELECT * FROM account WHERE account_id > $1 AND ($2::bigint[] IS NULL OR account_id = ANY($2))"
            " AND strpos(lower(name), lower($4)) > 0 AND ($5::text IS NULL OR status = $5)"
            " ORDER BY account_id LIMIT $3",
            after, None if known is None else list(known), limit, part, status,
        )  # fmt: skip
    return [_account(row) for row in rows]


async def by_id(pool: Pool, account_id: int) -> Account | None:
    """The account of this id."""
    with store_errors("find the account"):
        row = await pool.fetchrow("SELECT * FROM account WHERE account_id = $1", account_id)
    return None if row is None else _account(row)


async def by_ids(pool: Pool, account_ids: Collection[int]) -> list[Account]:
    """Those of these that are there."""
    with store_errors("find the accounts"):
        rows = await pool.fetch("SELECT * FROM account WHERE account_id = ANY($1)", list(account_ids))
    return [_account(row) for row in rows]


async def find(pool: Pool, name: str) -> Account | None:
    """The account of this name."""
    if not name.isprintable():  # nobody's, and PostgreSQL takes no NUL
        return None
    with store_errors("find the account"):
        row = await pool.fetchrow("SELECT * FROM account WHERE name = $1", name)
    return None if row is None else _account(row)


async def get(pool: Pool, name: str) -> Account:
    """The account of this name; an unknown one raises RefusedError."""
    if NAME.fullmatch(name) is None:
        raise unknown(name)
    with store_errors("find the account"):
        return _account(await pool.fetchrow("SELECT * FROM account WHERE name = $1", name), name)


async def suspend(pool: Pool, name: str) -> Account:
    """Stop all keys of the account, everywhere within a second. Suspending twice changes nothing."""
    return await _set_status(pool, name, "suspended")


async def resume(pool: Pool, name: str) -> Account:
    """Let the account's keys work again, those that were not revoked meanwhile."""
    return await _set_status(pool, name, "active")


async def set_policy(pool: Pool, name: str, policy: str | None, *, version: int | None = None) -> Account:
    """What upstreams may do with the account's requests, everywhere within a second; None: the default again.

    ChangedError: `version` is given and not the account's any more.
    """
    if policy is not None:
        checked_policy(policy)
    with store_errors("change the account"):
        async with pool.acquire() as connection, connection.transaction():
            new_version = await next_version(connection)
            seen = await connection.fetchval("SELECT version FROM account WHERE name = $1", name)
            if None not in (version, seen) and version != seen:
                raise ChangedError
            row = await connection.fetchrow(
                "UPDATE account SET policy = $2, version = $3 WHERE name = $1 RETURNING *", name, policy, new_version
            )
            account = _account(row, name)
            await _record(connection, "account.policy_set", account.account_id, name, {"policy": policy})
    return account


def checked_policy(words: str) -> Policy:
    """A policy from its words; RefusedError says how they read."""
    try:
        return read_policy(words)
    except BadPolicyError:
        raise RefusedError(
            "A policy reads like 'region=eu,ch; retention=abuse_monitoring:30; training=never'; retention and "
            "training have to be said, region only where it matters.",
            "bad_policy",
        ) from None


async def _set_status(pool: Pool, name: str, status: str) -> Account:
    with store_errors("change the account"):
        async with pool.acquire() as connection, connection.transaction():
            version = await next_version(connection)
            row = await connection.fetchrow(
                "UPDATE account SET status = $2, version = $3 WHERE name = $1 RETURNING *", name, status, version
            )
            account = _account(row, name)
            act = "account.resumed" if status == "active" else "account.suspended"
            await _record(connection, act, account.account_id, name)
    return account


async def _record(
    connection: Connection, act: str, account_id: int, name: str, facts: Mapping[str, Fact] | None = None
) -> None:
    # By its id: a name can be a person's, and has to be erasable.
    await audit.record(connection, act, str(account_id), account_id, facts, {"name": name})


def unknown(name: str) -> RefusedError:
    """What to say of a name that no account has. One that none can have is not repeated: it may be anything."""
    said = repr(name) if NAME.fullmatch(name) else "of this name"
    return RefusedError(f"There is no account {said}; `luntrex-proxy accounts list` shows all.", "no_account")


def _account(row: Any, wanted: str = "") -> Account:
    if row is None:
        raise unknown(wanted)
    names = ("account_id", "name", "status", "created_at", "policy", "version", "time_zone")
    return Account(**{name: row[name] for name in names}, consents=tuple(row["consents"]))
