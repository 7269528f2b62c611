"""Everything that is kept of one person, as a zip of JSON and CSV, and the report that says why it is kept.

    access.json              what there is, its purpose, legal basis, period and source, and who else gets data
    data/<table>.json .csv   the rows, as they are
    manifest.json            SHA-256 and size of each file

All rows are of one moment. PostgreSQL writes JSON and CSV itself and nothing is gathered here, so memory stays flat
however many rows there are. Left out: what proves something to us and is worth nothing to its person (hashes, sealed
things), and whom else a row mentions.
"""

import hashlib
import zipfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any, Final
from uuid import UUID

import orjson

from luntrex_proxy.core.retention import BY_NAME
from luntrex_proxy.store import ownership, subjects
from luntrex_proxy.store.database import Connection, connect_directly, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.ownership import Column, Kind, Subject, Table, Where

Tell = Callable[[int, int], None]  # so much is done, of so much
_TIMEOUT_S: Final = 3600.0
_COMPRESSION: Final = 6
_NOT_IN_JSON: Final = "\x01"  # JSON escapes it, so a line of JSON is a line of "CSV" quoted by it
_PERSON_ID: Final = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# Whom the audit log speaks of stands in the entry's own words. Other people's ids are left out.
_AUDIT: Final = (
    "SELECT sequence, at, act, CASE WHEN object_id = {0}::text OR object_id NOT IN (SELECT person_id::text FROM person)"
    " THEN object_id END AS object_id,"
    " CASE WHEN facts ->> 'person' = {0}::text THEN facts ELSE facts - 'person' END - 'members' AS facts"
    " FROM audit_entry WHERE object_id = {0}::text"
    " OR facts ->> 'person' = {0}::text OR facts -> 'members' ? {0}::text OR split_part(actor, ':', 2) = {0}::text"
    " OR split_part(actor, ':', 3) = {0}::text"
)
_RECIPIENTS: Final = """
SELECT DISTINCT ON (name) name, purpose, region, kept, training FROM subprocessor
WHERE effective_at <= now() ORDER BY name, entry_version DESC
"""


@dataclass(frozen=True, slots=True)
class Source:
    """Rows of one table, and the query for them."""

    table: Table
    query: str
    arguments: Sequence[Any]
    columns: Sequence[Column]


async def sources(connection: Connection, subject: Subject) -> list[Source]:
    """Where there can be something of a subject, from the schema."""
    found = []
    for table in await ownership.tables(connection):
        where, columns = Where(), [column for column in table.columns if not column.is_secret]
        if table.name == "audit_entry":
            query = _AUDIT.format(where.value(str(subject.person_ids[0])))
        else:
            condition = where.any_of(table.declared, subject)
            if condition is None or table.subject == "none":
                continue
            shown = ", ".join(_shown(column, where, subject) for column in columns)
            query = f"SELECT {shown} FROM {table.name} WHERE {condition}"  # noqa: S608 -- names of the schema
        found.append(Source(table, query, where.arguments, columns))
    return sorted(found, key=lambda source: source.table.name)


def _shown(column: Column, where: Where, subject: Subject) -> str:
    """A column as it is; of others whom the row mentions, nothing."""
    if column.type == "text" and column.name.endswith("_by"):  # a way, such as console:ID
        ids = where.value([str(each) for each in subject.person_ids])
        return (
            f"CASE WHEN {column.name} !~ '{_PERSON_ID}' OR substring({column.name} FROM '{_PERSON_ID}') = ANY({ids})"
            f" THEN {column.name} END AS {column.name}"
        )
    if column.kind not in (Kind.PERSON, Kind.EMAIL):
        return column.name
    theirs = where.leads_to(column, subject)
    return f"CASE WHEN {theirs or 'false'} THEN {column.name} END AS {column.name}"


async def report(connection: Connection, subject: Subject, now: datetime, days: Mapping[str, int]) -> dict[str, Any]:
    """What is kept of a subject and why (GDPR article 15), without the rows."""
    kept = []
    for source in await sources(connection, subject):
        rows = await connection.fetchval(
            f"SELECT count(*) FROM ({source.query}) rows",  # noqa: S608 -- as above
            *source.arguments,
        )
        if rows:
            kept.append(_about(source, rows, days))
    return {
        "made_at": now.isoformat(),
        "person": str(subject.person_ids[0]),
        "kept": kept,
        "recipients": [dict(row) for row in await connection.fetch(_RECIPIENTS)],
        "sources": "you gave it (address, name, keys, notes), or it came of your use (usage, sessions, letters)",
        "decided_by_machine": "nothing",
        "rights": "access, correction, erasure, restriction, objection, and a complaint to a supervisory authority",
    }


def _about(source: Source, rows: int, days: Mapping[str, int]) -> dict[str, Any]:
    table = source.table
    period = _days(days[table.retention]) if table.retention in BY_NAME else "as long as you are here"
    return {
        "table": table.name,
        "rows": rows,
        "purpose": table.purpose,
        "basis": table.basis,
        "kept_for": "until the date of its country's law" if table.retention == "invoice" else period,
        "columns": [column.name for column in source.columns],
    }


def _days(days: int) -> str:
    return f"{days} day{'s' * (days != 1)}"


async def write_export(
    dsn: str, person_id: UUID, days: Mapping[str, int], out: IO[bytes], tell: Tell = lambda _done, _expected: None
) -> None:
    """Write the zip of a person, telling how many rows of how many are written. RefusedError: there is none."""
    with store_errors("be exported"):
        connection = await connect_directly(
            dsn, application_name="luntrex-proxy export", timeout_s=10, command_timeout_s=_TIMEOUT_S
        )
        try:
            await connection.execute("SET statement_timeout = 0")
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                subject = await subjects.of_person(connection, person_id)
                if subject is None:
                    raise RefusedError("There is no such person.", "not_found")
                now: datetime = await connection.fetchval("SELECT now()")
                await _write(connection, subject, now.astimezone(UTC), days, out, tell)
        finally:
            await connection.close(timeout=5)


async def _write(
    connection: Connection, subject: Subject, now: datetime, days: Mapping[str, int], out: IO[bytes], tell: Tell
) -> None:
    about = await report(connection, subject, now, days)
    filled = {each["table"]: each["rows"] for each in about["kept"]}
    rows = _Rows(tell, 2 * sum(filled.values()))  # each as CSV and as JSON
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION) as archive:
        files = _Files(archive, now)
        await files.add("access.json", _constant(orjson.dumps(about, option=orjson.OPT_INDENT_2, default=str)))
        for source in await sources(connection, subject):
            if source.table.name in filled:
                name = f"data/{source.table.name}"
                for ending, writer in (("csv", _csv), ("json", _json)):
                    await files.add(f"{name}.{ending}", writer(connection, source), rows.of(filled[source.table.name]))
        await files.add("manifest.json", _constant(orjson.dumps(files.sums, option=orjson.OPT_INDENT_2)))


_Sink = Callable[[bytes], None]
_Writer = Callable[[_Sink], Awaitable[None]]


class _Rows:
    """How many rows are written."""

    def __init__(self, tell: Tell, expected: int) -> None:
        self._tell, self._expected, self._done = tell, expected, 0

    def of(self, rows: int) -> _Sink:
        """Counts in what is written of a file with so many rows: its lines, of which a row can have several."""
        before, self._done, lines = self._done, self._done + rows, 0

        def seen(data: bytes) -> None:
            nonlocal lines
            lines += data.count(b"\n")
            self._tell(before + min(lines, rows), self._expected)

        return seen


class _Files:
    """The files of the archive as they are written, with their sums."""

    def __init__(self, archive: zipfile.ZipFile, now: datetime) -> None:
        self.sums: dict[str, dict[str, Any]] = {}
        self._archive = archive
        self._date = (now.year, now.month, now.day, now.hour, now.minute, now.second)

    async def add(self, name: str, write: _Writer, seen: _Sink = lambda _data: None) -> None:
        """One file."""
        info = zipfile.ZipInfo(name, self._date)
        info.compress_type = zipfile.ZIP_DEFLATED
        digest, size = hashlib.sha256(), 0
        with self._archive.open(info, "w", force_zip64=True) as file:

            def sink(data: bytes) -> None:
                nonlocal size
                file.write(data)
                digest.update(data)
                size += len(data)
                seen(data)

            await write(sink)
        self.sums[name] = {"sha256": digest.hexdigest(), "bytes": size}


def _constant(data: bytes) -> _Writer:
    async def write(sink: _Sink) -> None:
        sink(data)

    return write


def _csv(connection: Connection, source: Source) -> _Writer:
    async def write(sink: _Sink) -> None:
        async def output(data: bytes) -> None:
            sink(data)

        await connection.copy_from_query(source.query, *source.arguments, output=output, format="csv", header=True)

    return write


def _json(connection: Connection, source: Source) -> _Writer:
    """One array, a row per line."""
    query = f"SELECT row_to_json(rows) FROM ({source.query}) rows"  # noqa: S608 -- as above

    async def write(sink: _Sink) -> None:
        held = b"[\n"  # the end of a line waits for what follows it: a comma, or the end of the array

        async def output(data: bytes) -> None:
            nonlocal held
            if not data:
                return
            sink(held)
            held = b""
            if data.endswith(b"\n"):
                data, held = data[:-1], b",\n"
            sink(data.replace(b"\n", b",\n"))

        await connection.copy_from_query(
            query, *source.arguments, output=output, format="csv", quote=_NOT_IN_JSON, delimiter="\x02"
        )
        sink(b"[]\n" if held == b"[\n" else b"\n]\n")

    return write
