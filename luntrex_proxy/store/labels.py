"""The tables `label_name` and `key_label`: what accounts declare, and what their keys carry since which day.

Usage of a UTC day counts for the label that its key carries on that day. A change holds from its day on (today, or the
day that is said) and leaves the days before as they were.
"""

import datetime
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from luntrex_proxy.core.audit import Fact
from luntrex_proxy.core.labels import NAMES_MAX, Allowed, BadLabelError, check_allowed, check_labels, check_name
from luntrex_proxy.store import accounts, audit
from luntrex_proxy.store.changes import next_version
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.keyrows import KeyInfo, info_of, refuse_no_id, unknown_key

_DECLARED: Final = """
SELECT name, allowed, (
    SELECT count(*) FROM key_label l JOIN api_key k USING (key_id)
    WHERE l.account_id = n.account_id AND l.name = n.name AND l.until IS NULL AND k.status <> 'revoked'
) AS keys
FROM label_name n WHERE account_id = $1 ORDER BY name
"""
# Keys that work still, or may again, with a value that is none any more.
_STRAYS: Final = """
SELECT count(*) FROM key_label l JOIN api_key k USING (key_id)
WHERE l.account_id = $1 AND l.name = $2 AND l.until IS NULL AND k.status <> 'revoked' AND ($3::text[] IS NULL
    OR l.value <> ALL($3))
"""
_BUDGETS: Final = """
SELECT count(*) FROM budget WHERE account_id = $1 AND label_name = $2 AND amount_pico IS NOT NULL
    AND ($3::text[] IS NULL OR label_value <> ALL($3))
"""
_DECLARE: Final = """
INSERT INTO label_name (account_id, name, allowed) VALUES ($1, $2, $3)
ON CONFLICT (account_id, name) DO UPDATE SET allowed = excluded.allowed
"""
TODAY: Final = "(now() AT TIME ZONE 'UTC')::date"
# ruff: noqa: S608 -- statements of constants of this file
# Everything from the day on goes, what reaches into it ends there, and the new value begins.
_CUT: Final = (
    "DELETE FROM key_label WHERE key_id = $1 AND name = ANY($2) AND since >= $3",
    "UPDATE key_label SET until = $3 WHERE key_id = $1 AND name = ANY($2) AND (until IS NULL OR until > $3)",
)
_BEGIN: Final = "INSERT INTO key_label (key_id, account_id, name, value, since) VALUES ($1, $2, $3, $4, $5)"
_COPY: Final = f"""
INSERT INTO key_label (key_id, account_id, name, value, since)
SELECT $2, account_id, name, value, {TODAY} FROM key_label WHERE key_id = $1 AND until IS NULL
"""


@dataclass(frozen=True, slots=True)
class Declaration:
    """A label that keys of an account can carry."""

    name: str
    allowed: Allowed  # None: any value
    keys: int  # not revoked, that carry it now


async def list_declared(pool: Pool, account_id: int) -> list[Declaration]:
    """The labels of an account, by name."""
    with store_errors("list the labels"):
        async with pool.acquire() as connection:
            return await declared(connection, account_id)


async def declared(connection: Connection, account_id: int) -> list[Declaration]:
    """The same, inside the caller's transaction."""
    rows = await connection.fetch(_DECLARED, account_id)
    return [
        Declaration(row["name"], None if row["allowed"] is None else frozenset(row["allowed"]), row["keys"])
        for row in rows
    ]


async def declare(pool: Pool, account: str, name: str, values: Collection[str] | None) -> Declaration:
    """Let keys of the account carry the label, with one of these values (None: any word).

    RefusedError: it cannot be, it is the sixth, or a key or budget has another value.
    """
    try:
        check_allowed(name, values or ())
    except BadLabelError as error:
        raise RefusedError(str(error), "bad_labels") from None
    allowed = None if values is None else sorted(set(values))
    with store_errors("declare the label"):
        async with pool.acquire() as connection, connection.transaction():
            await next_version(connection)
            account_id = await _account_id(connection, account)
            there = {each.name for each in await declared(connection, account_id)}
            if name not in there and len(there) >= NAMES_MAX:
                raise RefusedError(
                    f"An account has {NAMES_MAX} labels at most; first run `luntrex-proxy accounts labels remove`.",
                    "bad_labels",
                )
            strays = 0 if allowed is None else await connection.fetchval(_STRAYS, account_id, name, allowed)
            if strays:
                raise RefusedError(
                    f"{strays} keys carry another value of the label {name}; first run `luntrex-proxy keys label` on "
                    "them.",
                    "label_in_use",
                )
            if allowed is not None:
                await _refuse_budgets(connection, account_id, name, allowed)
            await connection.execute(_DECLARE, account_id, name, allowed)
            facts: dict[str, Fact] = {"label": name, "values": None if allowed is None else len(allowed)}
            await audit.record(connection, "label.declared", str(account_id), account_id, facts)
            return next(each for each in await declared(connection, account_id) if each.name == name)


async def remove(pool: Pool, account: str, name: str) -> None:
    """Take a label back that no key carries. Usage of before keeps it.

    RefusedError: there is none, or a key or a budget has it.
    """
    with store_errors("remove the label"):
        async with pool.acquire() as connection, connection.transaction():
            await next_version(connection)
            account_id = await _account_id(connection, account)
            keys = await connection.fetchval(_STRAYS, account_id, name, None)
            if keys:
                raise RefusedError(
                    f"{keys} keys carry the label {name}; first run `luntrex-proxy keys label --clear {name}` on them.",
                    "label_in_use",
                )
            await _refuse_budgets(connection, account_id, name, None)
            gone = await connection.execute(
                "DELETE FROM label_name WHERE account_id = $1 AND name = $2", account_id, name
            )
            if gone == "DELETE 0":
                raise RefusedError(
                    "The account declares no label of this name; `luntrex-proxy accounts labels list` shows all.",
                    "not_found",
                )
            await audit.record(connection, "label.removed", str(account_id), account_id, {"label": name})


async def _refuse_budgets(connection: Connection, account_id: int, name: str, allowed: list[str] | None) -> None:
    """A budget of a label that no key can carry would hold nobody, unsaid."""
    budgets = await connection.fetchval(_BUDGETS, account_id, name, allowed)
    if budgets:
        raise RefusedError(
            f"{budgets} budgets are of the label {name}; first run `luntrex-proxy budgets clear --label` on them.",
            "label_in_use",
        )


async def of_key(
    pool: Pool, key_id: str, labels: Mapping[str, str | None], *, since: datetime.date | None = None
) -> KeyInfo:
    """Give a key these labels from `since` on (a UTC day that is not ahead; None: today); None takes one away.

    Labels that are not named stay. RefusedError: the key has ended, or the account declares no such label or value.
    """
    refuse_no_id(key_id)
    with store_errors("label the key"):
        async with pool.acquire() as connection, connection.transaction():
            version = await next_version(connection)
            row = await connection.fetchrow("SELECT account_id, status FROM api_key WHERE key_id = $1", key_id)
            if row is None:
                raise unknown_key(key_id)
            if row["status"] == "revoked":
                raise RefusedError(f"The key {key_id} has ended; its labels stay as they were.", "key_ended")
            await put(connection, row["account_id"], key_id, labels, since=since)
            await connection.execute("UPDATE api_key SET version = $2 WHERE key_id = $1", key_id, version)
            return await info_of(connection, key_id)


async def put(
    connection: Connection,
    account_id: int,
    key_id: str,
    labels: Mapping[str, str | None],
    *,
    since: datetime.date | None = None,
) -> None:
    """The same, inside the caller's transaction, which holds the version."""
    if not labels:
        return
    wanted = {name: value for name, value in labels.items() if value is not None}
    try:
        for name in labels:
            check_name(name)
        check_labels(wanted, {each.name: each.allowed for each in await declared(connection, account_id)})
    except BadLabelError as error:
        raise RefusedError(str(error), "bad_labels") from None
    day = await _day(connection, since)
    for statement in _CUT:
        await connection.execute(statement, key_id, list(labels), day)
    await connection.executemany(_BEGIN, [(key_id, account_id, name, value, day) for name, value in wanted.items()])
    facts: dict[str, Fact] = {"labels": tuple(sorted(labels)), "since": day.isoformat()}
    words = {f"label.{name}": value for name, value in wanted.items()}
    await audit.record(connection, "key.labelled", key_id, account_id, facts, words)


async def copy_to_successor(connection: Connection, key_id: str, successor: str) -> None:
    """Let a key that replaces another carry its labels from today on."""
    await connection.execute(_COPY, key_id, successor)


async def _day(connection: Connection, since: datetime.date | None) -> datetime.date:
    today: datetime.date = await connection.fetchval(f"SELECT {TODAY}")
    if since is not None and since > today:
        raise RefusedError("A label begins today or on a day that has passed, in UTC.", "bad_labels")
    return since or today


async def _account_id(connection: Connection, account: str) -> int:
    if accounts.NAME.fullmatch(account) is None:
        raise accounts.unknown(account)
    account_id: int | None = await connection.fetchval("SELECT account_id FROM account WHERE name = $1", account)
    if account_id is None:
        raise accounts.unknown(account)
    return account_id
