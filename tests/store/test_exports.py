"""Exports: every row of the person and none of another's, of one moment, whole and provable; links that work once."""

import asyncio
import csv
import hashlib
import io
import json
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from luntrex_proxy.core.consents import Purpose
from luntrex_proxy.settings.retention import RetentionPeriods
from luntrex_proxy.store import audit, consents, exporting, exports, people, subjects
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.exports import DeadExportError
from tests.people import make_person
from tests.store.notes import NOTE
from tests.store.test_erasing import NOW, fill, key_of, use

DAYS = RetentionPeriods().by_class()


async def put_people(pool: Pool, root: Path) -> tuple[uuid.UUID, str, str]:
    """A developer with rows everywhere, beside the owner of the account with rows as well; and the keys of both."""
    await pool.execute(NOTE)
    person = await make_person(pool, "canary@example.org", acme="developer")
    other = await make_person(pool, "other@example.org", acme="owner")
    theirs, others = await key_of(pool, "acme", "mine", person), await key_of(pool, "acme", "secret-of-other", other)
    await pool.execute(
        "INSERT INTO note VALUES ($1, 'secret-note'), ($2, $3)", other, person, 'a "quoted"\nnote, \x02 ü'
    )
    await fill(pool, person)
    await pool.execute("UPDATE invitation SET invited_by = $1", other)
    await use(pool, root, 1, theirs, *range(20))
    await use(pool, root, 1, others, *range(20, 25))
    return person, theirs, others


async def exported(dsn: str, person: uuid.UUID) -> dict[str, bytes]:
    """The files of an export by the process that makes it."""
    data = b"".join([piece async for piece in exports.stream(dsn, person, DAYS)])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def rows_of(files: Mapping[str, bytes], table: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(files[f"data/{table}.json"])
    return rows


async def test_an_export_is_all_of_one_person(database: Pool, database_dsn: str, tmp_path: Path) -> None:
    """Both forms have the same rows, those of the tables; sums prove it; of the other member there is no trace."""
    person, theirs, _ = await put_people(database, tmp_path)
    files = await exported(database_dsn, person)
    sums = json.loads(files.pop("manifest.json"))
    assert {name: each["sha256"] for name, each in sums.items()} == {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items()
    }
    usage = rows_of(files, "usage")
    assert [row["key_id"] for row in usage] == [theirs] * 20
    stored = await database.fetch("SELECT request_id::text, cost_pico FROM usage WHERE key_id = $1", theirs)
    assert {(row["request_id"], row["cost_pico"]) for row in usage} == {tuple(row) for row in stored}
    for name in (name for name in files if name.endswith(".json") and name.startswith("data/")):
        lines = list(csv.DictReader(io.StringIO(files[name.replace(".json", ".csv")].decode())))
        assert len(lines) == len(json.loads(files[name])) > 0, name
    assert {row["text"] for row in rows_of(files, "note")} == {"canary-of-a-new-table", 'a "quoted"\nnote, \x02 ü'}
    assert rows_of(files, "person")[0]["email"] == "canary@example.org"
    assert rows_of(files, "invitation")[0]["invited_by"] is None
    whole = b"".join(files.values())
    for foreign in (b"other@example.org", b"secret"):
        assert foreign not in whole
    assert not any(word in whole for word in (b"bcrypt_hash", b"token_hash", b"canary-seed", b"password_hash"))
    about = json.loads(files["access.json"])
    tables = {each["table"]: each for each in about["kept"]}
    assert (tables["usage"]["rows"], tables["usage"]["kept_for"]) == (20, "396 days")
    assert "proof" in tables["rights_request"]["purpose"] or tables["rights_request"]["basis"] == "legal_obligation"
    assert tables["session"]["purpose"]
    assert tables.keys() >= {"person", "membership", "api_key", "mail", "note", "usage_rollup"} - {"audit_entry"}


async def test_the_log_names_nobody_else(database: Pool, database_dsn: str, tmp_path: Path) -> None:
    """What a person did to others is in its export, without who they are."""
    person, other = await make_person(database, acme="owner"), await make_person(database, "o@x.org", acme="owner")
    with audit.acting_as(audit.Actor(f"console:{person}")):
        async with database.acquire() as connection, connection.transaction():
            await audit.record(connection, "person.suspended", str(other))
            await audit.record(connection, "key.created", "abcdefghijkl", 1, {"person": str(other)})
            await audit.record(connection, "key.created", "mnopqrstuvwx", 1, {"person": str(person)})
            await audit.record(connection, "member.requests_seen", "x", 1, {"members": (str(other),), "requests": 3})
    files = await exported(database_dsn, person)
    acts = {row["act"] for row in rows_of(files, "audit_entry")}
    assert acts >= {"person.suspended", "key.created"}
    assert str(other).encode() not in b"".join(files.values())
    assert {"person": str(person)} in [row["facts"] for row in rows_of(files, "audit_entry")]
    looks = rows_of(await exported(database_dsn, other), "audit_entry")
    assert [row["facts"] for row in looks if row["act"] == "member.requests_seen"] == [{"requests": 3}]


async def test_one_person_gets_one_export_at_a_time(database: Pool, database_dsn: str, tmp_path: Path) -> None:
    """Each takes a process and a connection for as long as its reader likes; a refused link still works."""
    person, _, _ = await put_people(database, tmp_path)
    async with database.acquire() as connection, connection.transaction():
        await exports.make_link(connection, person, b"two".ljust(32))
    pieces = exports.stream(database_dsn, person, DAYS)
    await anext(pieces)
    with pytest.raises(RefusedError, match="under way"):
        await exports.use_link(database, b"two".ljust(32))
    await pieces.aclose()
    assert await exports.use_link(database, b"two".ljust(32)) == person


async def test_an_export_is_of_one_moment(database: Pool, database_dsn: str, tmp_path: Path) -> None:
    """What is stored meanwhile is in neither form."""
    person, theirs, _ = await put_people(database, tmp_path)
    out, storing = Growing(), []

    def more() -> None:
        storing.append(asyncio.ensure_future(use(database, tmp_path, 1, theirs, *range(100, 130))))

    out.on_first = more
    await exporting.write_export(database_dsn, person, DAYS, out)
    await asyncio.gather(*storing)
    with zipfile.ZipFile(out) as archive:
        assert len(json.loads(archive.read("data/usage.json"))) == 20
        assert len(archive.read("data/usage.csv").splitlines()) == 21
        (sums,) = {sum(row["requests"] for row in json.loads(archive.read("data/usage_rollup.json")))}
        assert sums == 20


class Growing(io.BytesIO):
    """Tells of its first bytes."""

    on_first: Any = None

    def write(self, data: Any) -> int:
        if self.on_first is not None:
            act, self.on_first = self.on_first, None
            act()
        return super().write(data)


async def test_a_link_works_once_and_for_its_person(database: Pool) -> None:
    """Once, for a day, and the newest only."""
    person = await make_person(database)

    async def link(name: bytes) -> None:
        async with database.acquire() as connection, connection.transaction():
            await exports.make_link(connection, person, name.ljust(32))

    await link(b"old")
    await link(b"new")
    with pytest.raises(DeadExportError):
        await exports.use_link(database, b"old".ljust(32))
    assert await exports.works(database, b"new".ljust(32))
    assert await exports.use_link(database, b"new".ljust(32)) == person
    for name in (b"new", b"never"):
        with pytest.raises(DeadExportError):
            await exports.use_link(database, name.ljust(32))
    await link(b"late")
    await database.execute("UPDATE export_link SET expires_at = now()")
    with pytest.raises(DeadExportError):
        await exports.use_link(database, b"late".ljust(32))


async def test_an_export_that_fails_or_is_left_ends(database: Pool, database_dsn: str, tmp_path: Path) -> None:
    """Nobody there, or the reader goes: no zip that looks whole, and no process stays."""
    with pytest.raises(StoreError):
        await exported(database_dsn, uuid.uuid4())
    with pytest.raises(RefusedError):
        await exporting.write_export(database_dsn, uuid.uuid4(), DAYS, io.BytesIO())
    person, _, _ = await put_people(database, tmp_path)
    pieces = exports.stream(database_dsn, person, DAYS)
    assert await anext(pieces)
    await pieces.aclose()  # it is a generator


async def test_whose_accounts_are_theirs_alone(database: Pool, tmp_path: Path) -> None:
    """Of an account without another member, all; of a shared one, what is one's own."""
    person = await make_person(database, solo="owner", acme="viewer")
    await make_person(database, "o@example.org", acme="owner")
    service, others = await key_of(database, "solo", "s"), await key_of(database, "acme", "x")
    await use(database, tmp_path, 1, service, 1)
    await use(database, tmp_path, 2, others, 2)
    async with database.acquire() as connection:
        subject = await subjects.of_person(connection, person)
        assert subject is not None
        assert (list(subject.key_ids), list(subject.account_ids)) == ([service], [1])
        report = await exporting.report(connection, subject, NOW, DAYS)
    rows = {each["table"]: each["rows"] for each in report["kept"]}
    assert (rows["usage"], rows["api_key"], rows["account"], rows["membership"]) == (1, 1, 1, 2)


async def test_a_suspension_or_another_password_ends_links_of_before(database: Pool) -> None:
    """And not one that is asked for afterwards, by the suspended as well: it is their data."""
    person = await make_person(database)

    async def link(name: bytes) -> None:
        async with database.acquire() as connection, connection.transaction():
            await exports.make_link(connection, person, name.ljust(32))

    await link(b"stolen")
    async with database.acquire() as connection, connection.transaction():
        await people.set_password(connection, person, "$2b$12$" + "x" * 53, b"f" * 16)
    assert not await exports.works(database, b"stolen".ljust(32))
    await link(b"before")
    await people.suspend(database, person)
    assert not await exports.works(database, b"before".ljust(32))
    with pytest.raises(DeadExportError):
        await exports.use_link(database, b"before".ljust(32))
    await link(b"after")
    assert await exports.use_link(database, b"after".ljust(32)) == person


async def test_a_consent_names_nobody_else(database: Pool, database_dsn: str) -> None:
    """Of an account that is one's own by now: what a former member agreed to is there, without who it was."""
    person, former = await make_person(database, acme="owner"), await make_person(database, "f@x.org", acme="owner")
    mine = f"token:abcdefghijkl:{person}"
    for who, purpose in ((f"console:{former}", Purpose.TRAINING), (mine, Purpose.BENCHMARKING)):
        with audit.acting_as(audit.Actor(who)):
            await consents.give(database, "acme", purpose)
    with audit.acting_as(audit.Actor("command line")):
        await consents.withdraw(database, "acme", Purpose.TRAINING)
    await database.execute("DELETE FROM membership WHERE person_id = $1", former)
    files = await exported(database_dsn, person)
    found = {row["purpose"]: (row["given_by"], row["withdrawn_by"]) for row in rows_of(files, "consent")}
    assert found == {"training": (None, "command line"), "benchmarking": (mine, None)}
    assert str(former).encode() not in b"".join(files.values())
