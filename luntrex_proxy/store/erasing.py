"""Erasure: everything that leads to a person, or to an account, in every table; what stays, why and until when.

1. tombstones, outside the database first; keys revoked, sessions ended: from here on nobody acts as them
2. usage is unlinked (unlinking.py), in steps that nobody waits for
3. all other tables, read from the schema (ownership.py), in one transaction

Each step is right by itself. Killed in between, or undone by a restore, it is taken up at the next start, because the
tombstones are there (`catch_up`).
"""

import asyncio
import uuid
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg

from luntrex_proxy.core.rights import State
from luntrex_proxy.store import audit, billing, ownership, rights, subjects, tombstones, work
from luntrex_proxy.store.changes import next_version
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.lastones import LastOwnerError
from luntrex_proxy.store.ownership import Column, Kind, Subject, Table, Where
from luntrex_proxy.store.partitions import partition_days
from luntrex_proxy.store.unlinking import ERASED, unlink_stored
from luntrex_proxy.store.work import Tell, tell_nobody

ONE_AT_A_TIME: Final = 0x6C756E74_08
_TRIES: Final = 5  # of an erasure that meets deadlocks
_NOBODY: Final = uuid.UUID(int=0)
# They have steps of their own here, change with others (the totals of usage), or nothing of theirs goes.
_APART: Final = frozenset(
    {"usage", "usage_rollup", "usage_rollup_daily", "usage_total", "usage_total_daily", "usage_key_total",
     "usage_key_total_daily", "audit_entry", "person", "account", "api_key", "tombstone",
     "legal_hold", "billing.invoice"}
)  # fmt: skip
_PERSONAL_WORDS: Final = """
DELETE FROM audit_personal w USING audit_entry e WHERE w.sequence = e.sequence AND (w.word = ANY($1)
    OR (e.object_id = ANY($2) OR e.facts ->> 'person' = ANY($2) OR e.account_id = ANY($3)) AND w.field <> 'actor')
"""


class HeldError(RefusedError):
    """A legal hold wants the data: the erasure waits until it is lifted."""

    def __init__(self) -> None:
        super().__init__("A legal hold concerns this; it is erased when the hold is lifted.", "held")


@dataclass(frozen=True, slots=True)
class Kept:
    """Something that stays. `until` None: as long as it is needed for that."""

    what: str
    why: str
    until: date | None


@dataclass(slots=True)
class Receipt:
    """What was done: rows by table, and what stays. Numbers and fixed words, and numbers of invoices."""

    erased: dict[str, int] = field(default_factory=dict)
    unlinked: dict[str, int] = field(default_factory=dict)
    kept: list[Kept] = field(default_factory=list)

    def shown(self) -> dict[str, Any]:
        """As JSON would have it."""
        return asdict(self)


async def erase_person(
    pool: Pool,
    directory: Path,
    person_id: uuid.UUID,
    now: datetime,
    audit_days: int,
    *,
    although_last_owner: bool = False,
    request_id: uuid.UUID | None = None,
    tell: Tell = tell_nobody,
) -> Receipt:
    """Erase a person and accounts that are nobody else's. HeldError, LastOwnerError: nothing was done.

    RefusedError: neither, because the request for it has ended meanwhile.

    `tell` is asked for when nothing can keep it from being done any more: so many steps of so many are done.
    `although_last_owner` is for what has to happen at once, such as a confirmed report of a child.
    """
    with store_errors("erase the person"):
        async with pool.acquire() as connection:
            subject = await subjects.of_person(connection, person_id)
            if subject is None:
                raise RefusedError("There is no such person.", "not_found")
            lost = await subjects.last_owner_of(connection, person_id)
            if lost and not although_last_owner:
                raise LastOwnerError(lost[0])
            return await _erase(connection, directory, subject, now, audit_days, request_id, tell)


async def erase_account(pool: Pool, directory: Path, account_id: int, now: datetime, audit_days: int) -> Receipt:
    """Erase an account with its keys; its people stay. HeldError: nothing was done."""
    with store_errors("erase the account"):
        async with pool.acquire() as connection:
            subject = await subjects.of_account(connection, account_id)
            return await _erase(connection, directory, subject, now, audit_days)


async def catch_up(pool: Pool, directory: Path, now: datetime, audit_days: int) -> int:
    """Erase again whoever has a tombstone and is there: brought back by a restore, or half done; how many people.

    What a hold concerns (a restore brings those back as well) stays, with its keys refused, until that is lifted.
    """
    erased = 0
    with store_errors("erase who is gone"):
        async with pool.acquire() as connection:
            known = await tombstones.share(connection, directory)
            back = await tombstones.matching(connection, known) if known else Subject()
            for subject in await _each(connection, back):
                async with connection.transaction():
                    await _shut_out(connection, subject)
                    is_held = await _is_held(connection, subject)
                if not is_held:
                    await _finish(connection, subject, now, audit_days)
                    erased += len(subject.person_ids)
    return erased


async def _each(connection: Connection, back: Subject) -> list[Subject]:
    """Each person with accounts of their own, and what is left of accounts and keys."""
    found = [await subjects.of_person(connection, person_id) for person_id in back.person_ids]
    people_back = [
        # Accounts only as far as they have a tombstone: it may have got members before the backup.
        Subject(
            each.person_ids, each.emails, each.key_ids, [one for one in each.account_ids if one in back.account_ids]
        )
        for each in found
        if each is not None
    ]
    accounts = {one for one in back.account_ids if not any(one in each.account_ids for each in people_back)}
    keys = {one for one in back.key_ids if not any(one in each.key_ids for each in people_back)}
    rest = [await subjects.of_account(connection, account_id) for account_id in sorted(accounts)]
    keys -= {key_id for each in rest for key_id in each.key_ids}
    return [*people_back, *rest, *([Subject(key_ids=sorted(keys))] if keys else [])]


async def count_graves(pool: Pool) -> int:
    """How many tombstones there are."""
    with store_errors("count its tombstones"):
        count: int = await pool.fetchval("SELECT count(*) FROM tombstone")
        return count


async def _erase(
    connection: Connection, directory: Path, subject: Subject, now: datetime, audit_days: int,
    request_id: uuid.UUID | None = None, tell: Tell = tell_nobody,
) -> Receipt:  # fmt: skip
    async with connection.transaction():
        # Whoever makes a key of theirs at this moment has made it, or waits and is refused.
        await next_version(connection)
        if request_id is not None:
            await rights.refuse_ended(connection, request_id)
        subject = await _by_now(connection, subject)
        if await _is_held(connection, subject):
            raise HeldError
        # Before anything else of it is on record: what a crash leaves half done is ended at the next start.
        graves = await tombstones.of_subject(connection, subject, now)
        await asyncio.to_thread(tombstones.append, directory, graves)
        await _shut_out(connection, subject)
        await connection.execute("SELECT pg_advisory_xact_lock($1)", tombstones.ADVISORY_LOCK)
        await tombstones.insert(connection, graves)
    return await _finish(connection, subject, now, audit_days, tell)


async def _by_now(connection: Connection, subject: Subject) -> Subject:
    if not subject.person_ids:
        return await subjects.of_account(connection, subject.account_ids[0])
    found = await subjects.of_person(connection, subject.person_ids[0])
    if found is None:
        raise RefusedError("There is no such person.", "not_found")
    return found


async def _shut_out(connection: Connection, subject: Subject) -> None:
    """From here on nobody acts as them."""
    version = await next_version(connection)
    await connection.execute(
        "UPDATE api_key SET status = 'revoked', revoked_at = coalesce(revoked_at, now()), version = $2"
        " WHERE key_id = ANY($1)",
        list(subject.key_ids),
        version,
    )
    person_ids = list(subject.person_ids)
    await connection.execute("UPDATE person SET status = 'suspended' WHERE person_id = ANY($1)", person_ids)
    await connection.execute(
        "UPDATE session SET ended_at = now() WHERE person_id = ANY($1) AND ended_at IS NULL", person_ids
    )


async def _is_held(connection: Connection, subject: Subject) -> bool:
    held = await subjects.held(connection)
    return bool(
        set(held.person_ids) & set(subject.person_ids)
        or set(held.account_ids) & set(subject.account_ids)
        or set(held.key_ids) & set(subject.key_ids)
    )


async def _finish(
    connection: Connection, subject: Subject, now: datetime, audit_days: int, tell: Tell = tell_nobody
) -> Receipt:
    await connection.execute("SELECT pg_advisory_lock($1)", ONE_AT_A_TIME, timeout=600)
    try:
        await connection.execute("SET statement_timeout = '10min'")
        receipt = Receipt()
        for left in reversed(range(_TRIES)):
            try:
                steps, done = len(await partition_days(connection)) + 2, 0
                await tell(done, steps)
                async for table, rows in unlink_stored(connection, subject):
                    receipt.unlinked[table] = receipt.unlinked.get(table, 0) + rows
                    done += table == "usage_rollup"  # which is the last of each day
                    await tell(done, steps)
                receipt = await _erase_at_once(connection, subject, receipt, now, audit_days)
            except asyncpg.DeadlockDetectedError:
                # With so many tables somebody locks two of them in another order some day; who is erased is ended by
                # us, not at the next start. What was unlinked stays so: doing it again finds what is left.
                if not left:
                    raise
            else:
                await tell(steps, steps)
                return receipt
    finally:
        await connection.execute("RESET statement_timeout")
        await connection.execute("SELECT pg_advisory_unlock($1)", ONE_AT_A_TIME)
    raise AssertionError  # the last try returns or raises


async def _erase_at_once(
    connection: Connection, subject: Subject, unlinked: Receipt, now: datetime, audit_days: int
) -> Receipt:
    """All but usage, or nothing."""
    receipt = Receipt(unlinked=dict(unlinked.unlinked))
    try:
        async with connection.transaction():
            asked = await rights.open_erasures(connection, subject.person_ids)
            await erase_everywhere(connection, subject, receipt)
            await _list_kept(connection, subject, receipt, now, audit_days)
            await _note(connection, subject, receipt)
            for request_id in asked:  # here, so that a crash leaves nobody without an answer
                await rights.end(connection, request_id, State.DONE, "erased", receipt.shown())
                await work.erasure_ended(connection, request_id)
    except asyncpg.ForeignKeyViolationError as error:
        raise StoreError(
            f"The table {error.table_name} still refers to what is erased; nothing more was done."
        ) from None
    return receipt


async def erase_everywhere(connection: Connection, subject: Subject, receipt: Receipt) -> None:
    """Erase what leads to a subject in every table but those of usage, in the caller's transaction."""
    words = await _words(connection, subject)
    receipt.erased["audit_personal"] = _rows(
        await connection.execute(
            _PERSONAL_WORDS,
            words,
            [
                *(str(each) for each in subject.person_ids),
                *subject.key_ids,
                *(str(each) for each in subject.account_ids),
            ],
            list(subject.account_ids),
        )
    )
    # Who is gone agrees to nothing any more; and of account 0 one consent of each kind at most could be in force.
    await connection.execute(
        "UPDATE consent SET withdrawn_at = now(), withdrawn_by = 'erasure'"
        " WHERE account_id = ANY($1) AND withdrawn_at IS NULL",
        list(subject.account_ids),
    )
    for table in await ownership.tables(connection):
        if table.name not in _APART:
            await _forget_ways(connection, table, subject)
            await _erase_from(connection, table, subject, receipt)
    # Letters about them: to a new address not proven yet or the one before, and to others about their keys.
    await connection.execute(
        "DELETE FROM mail WHERE facts ->> 'person' = ANY($1) OR facts ->> 'key_id' = ANY($2)",
        [str(each) for each in subject.person_ids],
        list(subject.key_ids),
    )
    # What an alert was about is a key or a network, so no column of it leads to a key.
    await connection.execute("DELETE FROM alert WHERE kind = 'key' AND subject = ANY($1)", list(subject.key_ids))
    await connection.execute(
        "UPDATE api_key SET rotated_from = NULL WHERE rotated_from = ANY($1)", list(subject.key_ids)
    )
    for name, column, ids in (
        ("api_key", "key_id", subject.key_ids),
        ("account", "account_id", subject.account_ids),
        ("person", "person_id", subject.person_ids),
    ):
        done = await connection.execute(f"DELETE FROM {name} WHERE {column} = ANY($1)", list(ids))  # noqa: S608 -- constants
        receipt.erased[name] = _rows(done)
    receipt.erased = {name: rows for name, rows in receipt.erased.items() if rows}


async def _words(connection: Connection, subject: Subject) -> list[str]:
    """The personal words by which the audit log may know the subject."""
    found = await connection.fetch(
        "SELECT unnest(ARRAY[email, name]) AS word FROM person WHERE person_id = ANY($1)"
        " UNION SELECT name FROM account WHERE account_id = ANY($2)",
        list(subject.person_ids),
        list(subject.account_ids),
    )
    return [*(row["word"] for row in found if row["word"]), *subject.emails]


async def _erase_from(connection: Connection, table: Table, subject: Subject, receipt: Receipt) -> None:
    for column in table.links:
        where = Where()
        condition = where.leads_to(column, subject)
        if condition is None:
            continue
        instead = _instead(table, column)
        if instead is None:
            statement = f"DELETE FROM {table.name} WHERE {condition}"  # noqa: S608 -- names of the schema
        else:
            value = where.value(instead.value)
            statement = f"UPDATE {table.name} SET {column.name} = {value} WHERE {condition}"  # noqa: S608 -- as above
        rows = _rows(await connection.execute(statement, *where.arguments))
        counts = receipt.erased if instead is None else receipt.unlinked
        if rows:
            counts[table.name] = counts.get(table.name, 0) + rows


async def _forget_ways(connection: Connection, table: Table, subject: Subject) -> None:
    """Take the id out of columns that say by which way, and by whom, something was done (audit.actor_way)."""
    ids = [str(each) for each in subject.person_ids]
    for column in table.columns:
        if ids and column.type == "text" and column.name.endswith("_by"):
            await connection.execute(
                f"UPDATE {table.name} SET {column.name} = split_part({column.name}, ':', 1)"  # noqa: S608 -- names of the schema
                f" WHERE split_part({column.name}, ':', 2) = ANY($1) OR split_part({column.name}, ':', 3) = ANY($1)",
                ids,
            )


@dataclass(frozen=True, slots=True)
class _Instead:
    """What stands where somebody's id or address was."""

    value: Any


def _instead(table: Table, column: Column) -> _Instead | None:
    """What to write over a link; None: the row goes."""
    is_about_them = column.declared and not table.keeps_proof
    if is_about_them or (column.kind is Kind.ACCOUNT and not table.keeps_proof):
        return None
    if column.kind is Kind.EMAIL and not table.keeps_proof:
        return None  # an address is all that such a row is for
    if column.nullable:
        return _Instead(None)
    if column.kind is Kind.PERSON:
        return None if column.cascades else _Instead(_NOBODY if column.type == "uuid" else "")
    if column.kind is Kind.ACCOUNT:
        return None if column.cascades else _Instead(0)
    return _Instead(ERASED if column.kind is Kind.KEY else "")


async def _list_kept(
    connection: Connection, subject: Subject, receipt: Receipt, now: datetime, audit_days: int
) -> None:
    receipt.kept = [
        Kept("usage without a link", "bills of the installation have to add up", None),
        Kept("audit log without names", "proof of what was done", (now + timedelta(days=audit_days)).date()),
        Kept("this request", "proof that it was answered", (now + timedelta(days=audit_days)).date()),
        Kept("keyed hash of the id", "so that no backup brings it back", None),
        Kept("backups made before", "whoever runs this keeps them; restoring one erases this again", None),
    ]
    for invoice in await billing.of_accounts(connection, list(subject.account_ids)):
        why = f"tax law of {invoice.country}" + ("" if invoice.paid_on else ", and it is not paid yet")
        receipt.kept.append(Kept(f"invoice {invoice.number}", why, invoice.keep_until))


async def _note(connection: Connection, subject: Subject, receipt: Receipt) -> None:
    act = "person.erased" if subject.person_ids else "account.erased"
    ids = [str(each) for each in (subject.person_ids or subject.account_ids)]
    for object_id in ids or ["keys"]:
        await audit.record(connection, act, object_id, facts={"tables": len(receipt.erased)})
    await next_version(connection)
    # The release before this one knows by it that keys are gone, and reads all anew.
    await connection.execute("UPDATE change_version SET removed_at_sequence = (SELECT sequence FROM audit_head)")


def _rows(status: str) -> int:
    return int(status.rpartition(" ")[2])
