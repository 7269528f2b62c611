"""Links that give out a person's data once, and the process that writes it while it is given out."""

import asyncio
import contextlib
import subprocess
import sys
import uuid
from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from typing import IO, Final

import msgspec

from luntrex_proxy.store import audit
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.exportchild import Order
from luntrex_proxy.store.exporting import Tell

_PIECE_BYTES: Final = 64 * 1024
# Whose export this process gives out now: each takes a process and a snapshot for as long as its reader likes.
_under_way: set[uuid.UUID] = set()
_AT_ONCE_MAX: Final = 8
_COMMAND: Final = (sys.executable, "-P", "-m", "luntrex_proxy.store.exportchild")


class DeadExportError(RefusedError):
    """The link was used, is a day old, or never was one."""

    def __init__(self) -> None:
        super().__init__("This link does not work any more; ask for another one.", "not_found")


async def make_link(connection: Connection, person_id: uuid.UUID, token_hash: bytes) -> datetime:
    """A link for the person, in the caller's transaction; until when it works. Earlier ones are void."""
    await connection.execute("DELETE FROM export_link WHERE person_id = $1 AND used_at IS NULL", person_id)
    (row,) = await connection.fetch(
        "INSERT INTO export_link (person_id, token_hash) VALUES ($1, $2) RETURNING export_id, expires_at",
        person_id,
        token_hash,
    )
    await audit.record(connection, "export.offered", str(row["export_id"]), facts={"person": str(person_id)})
    expires_at: datetime = row["expires_at"]
    return expires_at


async def works(pool: Pool, token_hash: bytes) -> bool:
    """Whether a link could be used now."""
    with store_errors("look at the link"):
        return bool(
            await pool.fetchval(
                "SELECT EXISTS (SELECT FROM export_link WHERE token_hash = $1 AND used_at IS NULL"
                " AND expires_at > now())",
                token_hash,
            )
        )


async def use_link(pool: Pool, token_hash: bytes) -> uuid.UUID:
    """Whose data the link gives, once. DeadExportError: nobody's."""
    with store_errors("look at the link"):
        async with pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(
                "UPDATE export_link SET used_at = now() WHERE token_hash = $1 AND used_at IS NULL"
                " AND expires_at > now() RETURNING export_id, person_id",
                token_hash,
            )
            if row is None:
                raise DeadExportError
            if row["person_id"] in _under_way or len(_under_way) >= _AT_ONCE_MAX:
                raise RefusedError("An export is under way; try again when it has ended. This link is not used up.")
            await audit.record(
                connection, "export.given", str(row["export_id"]), facts={"person": str(row["person_id"])}
            )
    person_id: uuid.UUID = row["person_id"]
    return person_id


async def stream(
    dsn: str, person_id: uuid.UUID, days: Mapping[str, int], tell: Tell = lambda _done, _expected: None
) -> AsyncGenerator[bytes, None]:
    """The zip in pieces, as a process of its own writes it. StoreError: what came is not whole.

    `tell`: how many rows of how many are written, from time to time.
    """
    process = await asyncio.to_thread(_start, msgspec.json.encode(Order(dsn, person_id, dict(days))))
    if process.stdout is None or process.stderr is None:
        raise AssertionError
    pipes: list[asyncio.ReadTransport] = []
    hearing = None
    _under_way.add(person_id)
    try:
        reader = await _reader(process.stdout, pipes)
        hearing = asyncio.create_task(_hear(await _reader(process.stderr, pipes), tell))
        while piece := await reader.read(_PIECE_BYTES):
            yield piece
        await hearing
        if await asyncio.to_thread(process.wait) != 0:
            raise StoreError("The export could not be written; nothing of it is missing here, try again later.")
    finally:
        _under_way.discard(person_id)
        if hearing is not None:
            hearing.cancel()
        for pipe in pipes:
            pipe.close()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(asyncio.to_thread(process.wait))


async def _reader(pipe: IO[bytes], pipes: list[asyncio.ReadTransport]) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(_PIECE_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    pipes.append(transport)
    return reader


async def _hear(reader: asyncio.StreamReader, tell: Tell) -> None:
    """What else it says is nobody's: it may quote rows."""
    while True:
        try:
            line = await reader.readline()
        except ValueError:  # longer than anything that we write
            continue
        if not line:
            return
        numbers = line.split()
        if len(numbers) == 2 and all(each.isdigit() for each in numbers):
            tell(*map(int, numbers))


def _start(order: bytes) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(  # noqa: S603 -- our own module
        _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    if process.stdin is None:
        raise AssertionError
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(order)
        process.stdin.close()
    return process
