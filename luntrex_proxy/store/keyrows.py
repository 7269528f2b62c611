"""Rows of the table `api_key` as values: what may be shown of a key, its terms, and how they are written."""

import datetime
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from msgspec.structs import astuple

from luntrex_proxy.core.scope import ANYTHING, Scope
from luntrex_proxy.store import accounts
from luntrex_proxy.store.database import Connection
from luntrex_proxy.store.errors import RefusedError

_KEY_ID: Final = re.compile(r"[0-9A-Za-z]{12}")
# Python and PostgreSQL both have ends of time, near which a time in another zone is none any more.
_EARLIEST: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_LATEST: Final = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
LIST: Final = """
SELECT k.key_id, a.name AS account, k.name, k.not_before, k.expires_at, k.rotated_from, k.revoked_at, k.created_at,
       k.last_used_at, k.endpoints, k.models, k.regions, k.networks, k.account_id, k.person_id::text, k.version,
       (SELECT coalesce(jsonb_object_agg(l.name, l.value), '{}') FROM key_label l
        WHERE l.key_id = k.key_id AND l.until IS NULL) AS labels,
       CASE WHEN k.status <> 'active' THEN k.status
            WHEN k.expires_at <= now() THEN 'expired'
            WHEN a.status <> 'active' THEN 'account suspended'
            WHEN k.not_before > now() THEN 'not yet valid'
            ELSE 'active' END AS state
FROM api_key k JOIN account a USING (account_id)
"""
read_labels: Final = msgspec.json.Decoder(dict[str, str]).decode


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What may be shown. `state`: active, suspended, revoked, expired, "not yet valid" or "account suspended"."""

    key_id: str
    account: str
    name: str
    state: str
    not_before: datetime.datetime | None
    expires_at: datetime.datetime | None
    rotated_from: str | None
    revoked_at: datetime.datetime | None
    created_at: datetime.datetime
    last_used_at: datetime.datetime | None  # to the minute
    endpoints: list[str] | None  # these four: what it is limited to
    models: list[str] | None
    regions: list[str] | None
    networks: list[str] | None
    account_id: int
    person_id: str | None  # the member whose key it is; None: the account's own
    version: int  # of its last change
    labels: dict[str, str]  # that it carries now


@dataclass(frozen=True, slots=True)
class Terms:
    """When a key may be used, for what, and the labels it begins with."""

    not_before: datetime.datetime | None = None
    expires_at: datetime.datetime | None = None
    scope: Scope = ANYTHING
    labels: Mapping[str, str] = field(default_factory=dict)


async def account_for_a_key(connection: Connection, account: str) -> int:
    if accounts.NAME.fullmatch(account) is None:
        raise accounts.unknown(account)
    row = await connection.fetchrow("SELECT account_id, status FROM account WHERE name = $1", account)
    if row is None:
        raise RefusedError(f"There is no account {account!r}; make it with `luntrex-proxy accounts create`.")
    if row["status"] != "active":
        raise RefusedError(
            f"The account {account} is suspended, so its keys would be refused; "
            f"first run `luntrex-proxy accounts resume {account}`.",
            "account_suspended",
        )
    return int(row["account_id"])


async def refuse_absent_owner(connection: Connection, account_id: int, person_id: str) -> None:
    # No race: who leaves or is suspended waits at the version row, or is gone.
    status = await connection.fetchval(
        "SELECT p.status FROM membership m JOIN person p USING (person_id) WHERE account_id = $1 AND person_id = $2",
        account_id,
        person_id,
    )
    if status is None:
        raise RefusedError("Only a member of the account can have a key of their own there.", "not_a_member")
    if status == "suspended":
        raise owner_suspended()


def owner_suspended() -> RefusedError:
    return RefusedError(
        "Who owns the key is suspended; first run `luntrex-proxy people resume ADDRESS`.", "person_suspended"
    )


def suspended_by_admin() -> RefusedError:
    return RefusedError("An admin of the account suspended this key; ask them to resume it.", "suspended_by_admin")


def limited_by_admin(before: Iterable[str], scope: Scope, kinds: set[str], *, by_admin: bool) -> list[str]:
    """The kinds that only an admin may change, once these are limited as `scope` says. RefusedError: one is theirs."""
    kept = set(before)
    if by_admin:
        return sorted(kept - kinds | {kind for kind in kinds if getattr(scope, kind) is not None})
    if kept & kinds:
        raise RefusedError(
            f"An admin of the account limited the {', '.join(sorted(kept & kinds))} of this key; ask them.",
            "limited_by_admin",
        )
    return sorted(kept)


def refuse_bad_name(name: str) -> None:
    if accounts.NAME.fullmatch(name) is None:
        raise RefusedError(f"A key name is {accounts.NAME_RULE}.")


def refuse_unusable_times(terms: Terms) -> None:
    """What no database is needed for; some of these times it could not even be told."""
    for what, time in (("begin", terms.not_before), ("end", terms.expires_at)):
        if time is not None and not _EARLIEST <= time <= _LATEST:
            raise RefusedError(
                f"A key can {what} between 1970 and 9999 only; give a time in those years, in UTC.", "bad_times"
            )


async def refuse_bad_times(connection: Connection, terms: Terms) -> None:
    refuse_unusable_times(terms)
    if terms.expires_at is None:
        return
    if await connection.fetchval("SELECT $1 <= now()", terms.expires_at):
        raise RefusedError("A key cannot end in the past; give a later time, in UTC.", "bad_times")
    if terms.not_before is not None and terms.not_before >= terms.expires_at:
        raise RefusedError("A key cannot end before it begins; give a later end or an earlier begin.", "bad_times")


async def refuse_taken_name(connection: Connection, account_id: int, name: str) -> None:
    # No race: changes wait for each other at the version row.
    taken_by = await connection.fetchval(
        "SELECT k.key_id FROM api_key k WHERE k.account_id = $1 AND k.name = $2 AND k.status <> 'revoked'"
        " AND (k.expires_at IS NULL OR k.expires_at > now())"
        " AND NOT EXISTS (SELECT FROM api_key s WHERE s.rotated_from = k.key_id) LIMIT 1",
        account_id,
        name,
    )
    if taken_by is not None:
        raise RefusedError(
            f"The key {taken_by} of this account has this name; choose another, or rotate that key.", "name_taken"
        )


@dataclass(frozen=True, slots=True)
class Proof:
    """How a key is told: by bcrypt, and by lookup hashes, each with its pepper's fingerprint, where there are some."""

    key_id: str
    bcrypt_hash: str
    lookup_hash: bytes | None = None
    fingerprint: bytes | None = None
    old_lookup_hash: bytes | None = None
    old_fingerprint: bytes | None = None


async def insert(
    connection: Connection,
    proof: Proof,
    account_id: int,
    name: str,
    version: int,
    terms: Terms,
    rotated_from: str | None = None,
    person_id: str | None = None,
) -> None:
    """Write a new key, of which everything was checked before. What an admin limited of its predecessor stays so."""
    await connection.execute(
        "INSERT INTO api_key (key_id, account_id, name, bcrypt_hash, lookup_hash, pepper_fingerprint,"
        " old_lookup_hash, old_pepper_fingerprint, rotated_from, version, not_before, expires_at,"
        " person_id, endpoints, models, regions, networks, limited_by_admin)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,"
        " coalesce((SELECT limited_by_admin FROM api_key WHERE key_id = $9), '{}'))",
        proof.key_id, account_id, name, proof.bcrypt_hash, proof.lookup_hash, proof.fingerprint,
        proof.old_lookup_hash, proof.old_fingerprint, rotated_from, version, terms.not_before, terms.expires_at,
        person_id, *scope_columns(terms.scope),
    )  # fmt: skip


async def info_of(connection: Connection, key_id: str) -> KeyInfo:
    row = await connection.fetchrow(LIST + "WHERE k.key_id = $1", key_id)
    if row is None:
        raise unknown_key(key_id)
    return key_info(row)


def key_info(row: Any) -> KeyInfo:
    networks = row["networks"]
    shown = None if networks is None else [str(network) for network in networks]
    return KeyInfo(**{**row, "networks": shown, "labels": read_labels(row["labels"])})


def scope_columns(scope: Scope) -> tuple[Any, ...]:
    """A scope as values of the columns endpoints, models, regions, networks."""
    return tuple(None if words is None else sorted(words, key=str) for words in astuple(scope))


def scope_of(row: Any) -> Scope:
    """The scope in the four columns of a row."""
    endpoints, models, regions, networks = (row[name] for name in Scope.__struct_fields__)
    return Scope(
        None if endpoints is None else frozenset(endpoints),
        None if models is None else tuple(models),
        None if regions is None else frozenset(regions),
        None if networks is None else tuple(networks),
    )


def refuse_no_id(given: str) -> None:
    """What cannot be a key id: the database need not be asked."""
    if _KEY_ID.fullmatch(given) is None:
        raise unknown_key(given)


def unknown_key(given: str) -> RefusedError:
    if given.startswith("lx_"):
        # A whole key on a command line is a leak already, also one with a typing error; do not repeat it.
        return RefusedError("That is a whole key, not a key id; give the 12 characters after `lx_` only.")
    return RefusedError("There is no key of this id; `luntrex-proxy keys list` shows all.")
