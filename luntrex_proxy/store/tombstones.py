"""Tombstones: hashes of the ids of who was erased, in the table `tombstone` and in a file that no restore brings back.

    tombstones.jsonl    one line per hash in the state directory, never shortened

The hash is keyed with the installation's id, which every backup of it has and the file has not: alone it names nobody.
A line is on disk before the erasure begins, so one that is cut short is done again at the next start.
"""

import asyncio
import errno
import os
import uuid
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from luntrex_proxy.store.database import Connection
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.ownership import Subject
from luntrex_proxy.store.state import file_errors, open_private

TOMBSTONE_FILE: Final = "tombstones.jsonl"
# Shippers hold it shared while they store: after a tombstone is committed none of them stores what is behind it.
ADVISORY_LOCK: Final = 0x6C756E74_05
_HASH: Final = "sha256(convert_to((SELECT installation_id FROM installation) || '|{kind}|' || {id}, 'UTF8'))"


class Tombstone(msgspec.Struct, frozen=True):
    """Somebody, or a key or an account, is gone since."""

    hash: bytes
    erased_at: datetime


def hash_of(kind: str, column: str) -> str:
    """SQL of the hash of an id in a column. `kind`: person, account or key."""
    return _HASH.format(kind=kind, id=column)


async def of_subject(connection: Connection, subject: Subject, now: datetime) -> list[Tombstone]:
    """The tombstones that a subject gets."""
    found = []
    kinds = (("person", subject.person_ids), ("account", subject.account_ids), ("key", subject.key_ids))
    for kind, ids in kinds:
        rows = await connection.fetch(
            f"SELECT {hash_of(kind, 'id')} AS hash FROM unnest($1::text[]) id",  # noqa: S608 -- constants of this file
            [str(each) for each in ids],
        )
        found += [Tombstone(row["hash"], now) for row in rows]
    return found


async def insert(connection: Connection, tombstones: Iterable[Tombstone]) -> None:
    """Into the table; those that are there stay as they are."""
    await connection.executemany(
        "INSERT INTO tombstone (subject_hash, erased_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        [(each.hash, each.erased_at) for each in tombstones],
    )


async def is_gone(connection: Connection, person_id: uuid.UUID) -> bool:
    """Whether the person is erased, or is being erased."""
    return bool(
        await connection.fetchval(
            f"SELECT EXISTS (SELECT FROM tombstone WHERE subject_hash = {hash_of('person', '$1::uuid')})",  # noqa: S608 -- as above
            person_id,
        )
    )


async def share(connection: Connection, directory: Path) -> list[Tombstone]:
    """Bring table and file to the union of both, and return it."""
    rows = await connection.fetch("SELECT subject_hash, erased_at FROM tombstone")
    inside = {row["subject_hash"]: Tombstone(row["subject_hash"], row["erased_at"]) for row in rows}
    outside = {each.hash: each for each in await asyncio.to_thread(read, directory)}
    await insert(connection, [each for hashed, each in outside.items() if hashed not in inside])
    missing = [each for hashed, each in inside.items() if hashed not in outside]
    if missing:
        await asyncio.to_thread(append, directory, missing)
    return list((inside | outside).values())


async def matching(connection: Connection, tombstones: Iterable[Tombstone]) -> Subject:
    """Whoever is in the tables and has a tombstone."""
    hashes = [each.hash for each in tombstones]
    people = await connection.fetch(
        f"SELECT person_id, email FROM person WHERE {hash_of('person', 'person_id')} = ANY($1)",  # noqa: S608 -- as above
        hashes,
    )
    accounts = await connection.fetch(
        f"SELECT account_id FROM account WHERE {hash_of('account', 'account_id')} = ANY($1)",  # noqa: S608 -- as above
        hashes,
    )
    person_ids: list[uuid.UUID] = [row["person_id"] for row in people]
    account_ids: list[int] = [row["account_id"] for row in accounts]
    keys = await connection.fetch(
        f"SELECT key_id FROM api_key WHERE {hash_of('key', 'key_id')} = ANY($1)"  # noqa: S608 -- as above
        " OR person_id = ANY($2) OR account_id = ANY($3)",
        hashes,
        person_ids,
        account_ids,
    )
    return Subject(person_ids, [row["email"] for row in people], [row["key_id"] for row in keys], account_ids)


def read(directory: Path) -> list[Tombstone]:
    """The lines of the file; the last one counts only when it is whole. StoreError: another one is none."""
    path = directory / TOMBSTONE_FILE
    with file_errors(path):
        if not path.exists():
            return []
        whole, _, _ = path.read_bytes().rpartition(b"\n")
    try:
        return [msgspec.json.decode(line, type=Tombstone) for line in whole.splitlines()]
    except msgspec.MsgspecError:
        raise StoreError(f"The file {path} is damaged: take it from the last copy of the state directory.") from None


def append(directory: Path, tombstones: Iterable[Tombstone]) -> None:
    """Add lines; they are on disk on return. What a killed writer left half is ended first."""
    path = directory / TOMBSTONE_FILE
    with file_errors(path):
        descriptor = open_private(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            size = os.fstat(descriptor).st_size
            whole = os.pread(descriptor, size, 0).rfind(b"\n") + 1
            if whole < size:
                os.ftruncate(descriptor, whole)
            lines = b"".join(msgspec.json.encode(each) + b"\n" for each in tombstones)
            if os.write(descriptor, lines) < len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # the half line is ended by whoever comes next
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
