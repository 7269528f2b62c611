"""The register of sub-processors in its tables: versions of entries, only ever added, and accounts' objections."""

import contextlib
import datetime
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import asyncpg
import msgspec

from luntrex_proxy.core.audit import Fact
from luntrex_proxy.core.registry import NOTICE, Entry, Register, Shipped, in_force, needs_notice
from luntrex_proxy.store import accounts, audit
from luntrex_proxy.store.changes import next_version
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.once import claimed

_COLUMNS: Final = tuple(Entry.__slots__)
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM subprocessor"  # noqa: S608 -- names of fields
_TEXT_MAX: Final = 500
NAME_RULE: Final = "1 to 63 small letters, digits, dots, dashes or underscores, the first a letter or digit"


async def entries(pool: Pool, name: str | None = None) -> list[Entry]:
    """All versions, of all entries or of one, the oldest first."""
    with store_errors("read the register of sub-processors"):
        rows = await pool.fetch(f"{_SELECT} WHERE $1::text IS NULL OR name = $1 ORDER BY name, entry_version", name)
    return [_entry(row) for row in rows]


async def change(
    pool: Pool, name: str, changes: Mapping[str, Any], *, in_use: bool = False, is_known: bool | None = None
) -> Entry:
    """Add a version of an entry with these fields, the others as in the version before.

    What lets a sub-processor do more holds 30 days later, so that accounts can object, unless it documents what is
    `in_use` already or there is no account to tell. Anything else holds at once. May raise RefusedError.

    `is_known`: whether there has to be such an entry already; None: either way.
    """
    if any(isinstance(value, str) and len(value) > _TEXT_MAX for value in changes.values()):
        raise RefusedError(f"Each part of an entry has at most {_TEXT_MAX} characters.")
    with store_errors("change the register of sub-processors"):
        async with pool.acquire() as connection, connection.transaction(), claimed(connection) as claim:
            version = await next_version(connection)
            claim.object_id = name
            now: datetime.datetime = await connection.fetchval("SELECT now()")
            known = [_entry(row) for row in await connection.fetch(f"{_SELECT} WHERE name = $1 ORDER BY 2", name)]
            _refuse_unexpected(name, bool(known), is_known)
            entry = _changed(name, known, changes, now)
            told = in_use or not await connection.fetchval("SELECT EXISTS (SELECT FROM account)")
            entry = replace(entry, effective_at=_effective_at(entry, known, now, told=told))
            await _insert(connection, entry, version)
            if entry.effective_at > now:
                await _tell_accounts(connection, entry)
            facts: dict[str, Fact] = {
                "entry_version": entry.entry_version,
                "changed": tuple(sorted(changes)),
                "effective_at": entry.effective_at.isoformat(),
                "retired": entry.retired,
                "in_use": in_use,
            }
            await audit.record(connection, "subprocessor.set", name, facts=facts)
    return entry


def _refuse_unexpected(name: str, is_known: bool, expected: bool | None) -> None:
    if is_known and expected is False:
        raise RefusedError(f"There is an entry {name!r} already.", "name_taken")
    if not is_known and expected:
        raise _unknown(name)


def _unknown(name: str) -> RefusedError:
    return RefusedError(f"There is no entry {name!r}; `luntrex-proxy registry list` shows all.", "not_found")


def _changed(name: str, known: list[Entry], changes: Mapping[str, Any], now: datetime.datetime) -> Entry:
    if known:
        newest = known[-1]
        given = {"retired": False, **changes}
        entry = replace(newest, **given, entry_version=newest.entry_version + 1, announced_at=now, effective_at=now)
        if replace(entry, entry_version=newest.entry_version, announced_at=newest.announced_at,
                   effective_at=newest.effective_at) == newest:  # fmt: skip
            raise RefusedError(f"The entry {name} says so already.", "unchanged")
        return entry
    if changes.get("retired"):
        raise _unknown(name)
    empty: dict[str, Any] = dict.fromkeys(_COLUMNS, "") | {"agreed_on": None, "next_review": None, "hosts": ()}
    known_by = {"name": name, "entry_version": 1, "retired": False, "announced_at": now, "effective_at": now}
    entry = Entry(**{**empty, **changes, **known_by})
    if not entry.hosts:
        raise RefusedError("A new entry needs the host names that it is for; give each with --host.")
    return entry


def _effective_at(entry: Entry, known: list[Entry], now: datetime.datetime, *, told: bool) -> datetime.datetime:
    if told or not needs_notice(in_force(known, now), entry):
        return now
    if known and known[-1].effective_at > now and not needs_notice(known[-1], entry):
        return known[-1].effective_at  # accounts were told of it when that one was announced
    return now + NOTICE


async def _insert(connection: Connection, entry: Entry, version: int) -> None:
    places = ", ".join(f"${at}" for at in range(1, len(_COLUMNS) + 2))
    try:
        await connection.execute(
            f"INSERT INTO subprocessor ({', '.join(_COLUMNS)}, version) VALUES ({places})",  # noqa: S608 -- see above
            *(getattr(entry, name) for name in _COLUMNS),
            version,
        )
    except (asyncpg.CheckViolationError, asyncpg.DataError):
        raise RefusedError(f"A sub-processor's name is {NAME_RULE}.") from None


async def _tell_accounts(connection: Connection, entry: Entry) -> None:
    """A letter to everybody who answers for an account, once each. The public list shows it from now on as well."""
    facts = msgspec.json.encode({"name": entry.name, "from": entry.effective_at.date().isoformat()}).decode()
    await connection.execute(
        "INSERT INTO mail (kind, person_id, facts) SELECT DISTINCT 'subprocessor_change', m.person_id, $1::jsonb"
        " FROM membership m WHERE m.role IN ('owner', 'admin', 'privacy')",
        facts,
    )


async def object_to(pool: Pool, account: str, name: str) -> None:
    """Nothing of this account goes to the sub-processor any more, everywhere within seconds. Twice changes nothing."""
    async with _objecting(pool, account) as (connection, account_id):
        done = await connection.execute(
            "INSERT INTO subprocessor_objection (account_id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            account_id,
            name,
        )
        if done.endswith("1"):
            await audit.record(connection, "subprocessor.objected", name, account_id)


async def withdraw_objection(pool: Pool, account: str, name: str) -> None:
    """The account takes its objection back; RefusedError: there is none."""
    async with _objecting(pool, account) as (connection, account_id):
        done = await connection.execute(
            "DELETE FROM subprocessor_objection WHERE account_id = $1 AND name = $2", account_id, name
        )
        if done.endswith("0"):
            raise RefusedError(f"The account {account} has not objected to {name}.", "no_objection")
        await audit.record(connection, "subprocessor.objection_withdrawn", name, account_id)


async def objections(pool: Pool) -> dict[int, frozenset[str]]:
    """Which accounts have objected to which sub-processors."""
    with store_errors("list the objections"):
        rows = await pool.fetch("SELECT account_id, array_agg(name) AS names FROM subprocessor_objection GROUP BY 1")
    return {row["account_id"]: frozenset(row["names"]) for row in rows}


@contextlib.asynccontextmanager
async def _objecting(pool: Pool, account: str) -> AsyncIterator[tuple[Connection, int]]:
    if accounts.NAME.fullmatch(account) is None:
        raise accounts.unknown(account)
    with store_errors("note the objection"):
        async with pool.acquire() as connection, connection.transaction():
            await next_version(connection)
            account_id: int | None = await connection.fetchval(
                "SELECT account_id FROM account WHERE name = $1", account
            )
            if account_id is None:
                raise accounts.unknown(account)
            yield connection, account_id


class RegisterBook:
    """The register that a daemon goes by, in memory; `refresh` when something may have changed."""

    def __init__(self, pool: Pool, shipped: Sequence[Shipped]) -> None:
        self.register = Register((), shipped)
        self.objections: dict[int, frozenset[str]] = {}
        self._pool = pool
        self._shipped = shipped

    async def refresh(self) -> None:
        """Read what the tables hold. Raises StoreError, and changes nothing."""
        found, objected = await entries(self._pool), await objections(self._pool)
        self.register, self.objections = Register(found, self._shipped), objected


def _entry(row: Any) -> Entry:
    return Entry(**{**row, "hosts": tuple(row["hosts"])})
