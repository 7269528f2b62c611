"""One batch of a spool directory into the tables, exactly once in effect, whatever a record or the connection does.

The transaction begins by moving the directory's position from the value known here. After any failure that value is
read again, so neither a repeated batch nor a commit whose answer was lost counts twice.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import date

import asyncpg

from luntrex_proxy.core.outcome import Outcome
from luntrex_proxy.store.database import Connection, Pool
from luntrex_proxy.store.failures import REFUSED_RECORD, PositionMovedError, on_files
from luntrex_proxy.store.frames import Frame, decode_record
from luntrex_proxy.store.partitions import ensure_partitions
from luntrex_proxy.store.segments import Position, SpoolDirectory, set_aside
from luntrex_proxy.store.spool import Spool
from luntrex_proxy.store.usage_rows import (
    days_of,
    forget_position,
    insert_rows,
    load_position,
    move_position,
)

START = Position(0, 0)


class Source:
    """One spool directory and how far it is read, counted and known to be stored."""

    def __init__(
        self, directory: SpoolDirectory, spool: Spool | None, byte_count: int = 0, written_s: float = 0.0
    ) -> None:
        self.directory = directory
        self.spool = spool  # None: adopted, nobody writes to it
        self.byte_count = byte_count  # of an adopted one, when it was adopted
        self.behind_since_s = written_s  # unix time of about the oldest record not stored; 0: none
        self.bytes_read = 0  # of an adopted one
        self.read = START
        self.stored: Position | None = None  # None: ask the database
        self.counted = START  # settles up to here are in the counters
        self.settles = 0  # how many those were
        self.parked: set[Position] = set()  # quarantined, their batch not yet counted
        self.waiting: dict[bytes, Frame] = {}  # adopted only: openings without a settle so far
        self.deleted_below = 0
        self.retry_at = 0.0  # monotonic; trouble with the files of this directory
        self.closed = False  # the database says it is finished
        self.removed = False

    @property
    def bytes_behind(self) -> int:
        """Not read yet; of an adopted one no more is known than its size at adoption."""
        return max(0, self.byte_count - self.bytes_read) if self.spool is None else self.spool.bytes_after(self.read)

    def advance(self, to: Position) -> None:
        """All up to there is stored, set aside or waits in `waiting`, and is counted."""
        if to.segment == self.read.segment:
            self.bytes_read += to.offset - self.read.offset
        else:
            self.bytes_read += to.offset
        self.read = to
        self.counted = max(self.counted, to)


class Deposit:
    """Stores frames of a source. Every method leaves `source.stored` as what the database holds, or unchanged."""

    def __init__(
        self, pool_source: Callable[[], Pool | None], attempt_s: float, on_step: Callable[[str], None]
    ) -> None:
        self._pool_source = pool_source
        self._attempt_s = attempt_s
        self._on_step = on_step
        self._connection: Connection | None = None
        self.expired = 0  # records older than what retention keeps: their position advanced, no row was made

    async def store(
        self, source: Source, frames: Sequence[Frame], after: Position | None = None, closed: bool = False
    ) -> None:
        """Store outcomes, or their halves when a record is refused, down to the one that is set aside.

        The position then is `after`, by default that of the last frame.
        """
        end = after or position_after(frames[-1])
        try:
            await self._commit_with_partitions(source, [frame.payload for frame in frames], end, closed)
        except REFUSED_RECORD:
            if len(frames) > 1:
                middle = len(frames) // 2
                await self.store(source, frames[:middle], after)
                await self.store(source, frames[middle:], after, closed)
                return
            await self._park(source, frames[0])
            await self.commit(source, [], end, closed)

    async def commit(self, source: Source, rows: Sequence[bytes], after: Position, closed: bool = False) -> None:
        """The one transaction: position, rows, sums."""
        if source.stored is None:
            await self.load(source)
        old = START if source.stored is None else source.stored
        async with self._connected() as connection, connection.transaction():
            if not await move_position(connection, source.directory.boot_id, old, after, closed):
                raise PositionMovedError
            expired = await insert_rows(connection, rows) if rows else 0
            self._on_step("before_commit")
        self.expired += expired
        source.stored = after
        source.closed = closed
        self._on_step("committed")

    async def load(self, source: Source) -> None:
        """Read from the database how far the source is stored."""
        async with self._connected() as connection:
            stored, source.closed = await load_position(connection, source.directory.boot_id)
        source.stored = stored
        # A database brought back from a backup knows less than was read: go back. Rows it still has are skipped.
        if stored < source.read:
            source.read = stored
            source.bytes_read = 0
        if source.spool is None and source.counted == START:
            source.counted = stored

    async def forget(self, source: Source) -> None:
        """Remove the position of a source whose directory is gone."""
        async with self._connected() as connection:
            await forget_position(connection, source.directory.boot_id)

    def abort(self) -> None:
        """Drop the connection in use, so that whatever waits on it fails now."""
        if self._connection is not None:
            _drop(self._connection)

    async def _commit_with_partitions(
        self, source: Source, rows: Sequence[bytes], after: Position, closed: bool
    ) -> None:
        try:
            await self.commit(source, rows, after, closed)
        except asyncpg.CheckViolationError:
            # A row without a partition fails like this too. Another process may make it first: always try again.
            for day in await asyncio.to_thread(_days, rows):
                await ensure_partitions(self._pool(), day, days_ahead=0)
            await self.commit(source, rows, after, closed)

    async def _park(self, source: Source, frame: Frame) -> None:
        await on_files(set_aside, source.directory, Position(frame.segment, frame.start), frame.end)
        source.parked.add(position_after(frame))
        self._on_step("parked")

    def _pool(self) -> Pool:
        pool = self._pool_source()
        if pool is None:
            raise ConnectionError("no database yet")
        return pool

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Connection]:
        """A connection for one attempt. The driver has no deadline of its own for a peer that stopped answering."""
        pool = self._pool()
        connection = await pool.acquire(timeout=self._attempt_s)
        watchdog = asyncio.get_running_loop().call_later(self._attempt_s, _drop, connection)
        self._connection = connection
        try:
            yield connection
        except REFUSED_RECORD:
            raise
        except BaseException:
            _drop(connection)  # a demoted primary, a half-dead socket: the next attempt connects anew
            raise
        finally:
            watchdog.cancel()
            self._connection = None
            await pool.release(connection, timeout=self._attempt_s)


def position_after(frame: Frame) -> Position:
    """The place where the next frame begins."""
    return Position(frame.segment, frame.end)


def _days(rows: Sequence[bytes]) -> list[date]:
    outcomes = map(decode_record, rows)
    return days_of(outcome for outcome in outcomes if isinstance(outcome, Outcome))


def _drop(connection: Connection) -> None:
    with contextlib.suppress(asyncpg.InterfaceError):  # it broke meanwhile, so the pool took it back
        connection.terminate()
