"""One batch of a spool directory into the tables, exactly once in effect, whatever a record or the connection does.

The transaction begins by moving the directory's position from the value known here. After any failure that value is
read again, so neither a repeated batch nor a commit whose answer was lost counts twice.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import date
from uuid import UUID

import asyncpg

from luntrex_proxy.core.outcome import Outcome
from luntrex_proxy.store.charging import end_leases
from luntrex_proxy.store.database import Connection, Pool
from luntrex_proxy.store.failures import REFUSED_RECORD, PositionMovedError, SpoolUnreadableError, on_files
from luntrex_proxy.store.frames import Frame, request_id
from luntrex_proxy.store.partitions import ensure_partitions
from luntrex_proxy.store.quarantine import set_aside, set_aside_wrong_clock
from luntrex_proxy.store.segments import CLOSED_OFFSET, Position, can_stand
from luntrex_proxy.store.source import START, WITHHELD_MAX, Source, Withheld, position_after, position_of
from luntrex_proxy.store.usage_rows import (
    WrongClockError,
    days_of,
    forget_position,
    insert_rows,
    load_position,
    move_position,
    reset_position,
)


class Deposit:
    """Stores frames of a source. Every method leaves `source.stored` as what the database holds, or unchanged."""

    def __init__(
        self, pool_source: Callable[[], Pool | None], attempt_s: float, on_step: Callable[[str], None]
    ) -> None:
        self._pool_source = pool_source
        self._attempt_s = attempt_s
        self._on_step = on_step
        self._connection: Connection | None = None
        self.positions_refused = 0  # stored positions that could not be: all was stored again

    async def store(
        self, source: Source, frames: Sequence[Frame], after: Position | None = None, *, closed: bool = False
    ) -> None:
        """Store outcomes, or their halves when a record is refused, down to the one that is set aside.

        The position then is `after`, by default that of the last frame.
        """
        end = after or position_after(frames[-1])
        try:
            await self._commit_with_partitions(source, frames, end, closed)
        except WrongClockError as error:
            await self._set_aside_wrong_clock(source, [frame for frame in frames if _id(frame) in error.ids])
            right = [frame for frame in frames if _id(frame) not in error.ids]
            if right:
                await self.store(source, right, end, closed=closed)
            else:
                await self.commit(source, [], end, closed=closed)
        except REFUSED_RECORD:
            if len(frames) > 1:
                middle = len(frames) // 2
                await self.store(source, frames[:middle], None if after is None else source.stored)
                await self.store(source, frames[middle:], after, closed=closed)
                return
            await self._park(source, frames[0])
            await self.commit(source, [], end, closed=closed)

    async def commit(self, source: Source, frames: Sequence[Frame], after: Position, *, closed: bool = False) -> None:
        """The one transaction: position, rows, sums. What is withheld holds the position back and the closing up."""
        old = source.stored
        if old is None:
            raise PositionMovedError
        after, closed = source.held(after), closed and not source.withheld
        source.attempted.add(after)
        age_s = None if source.spool is None else source.spool.age_s
        expired: set[UUID] = set()
        async with self._connected() as connection, connection.transaction():
            if not await move_position(connection, source.directory.boot_id, old, after, closed):
                raise PositionMovedError
            if frames:
                payloads, boot_id = [frame.payload for frame in frames], source.directory.boot_id
                expired = await insert_rows(connection, payloads, age_s, again=source.again, boot_id=boot_id)
            if closed:
                await end_leases(connection, source.directory.boot_id)
            self._on_step("before_commit")
        if expired:
            source.expired |= {position_after(frame) for frame in frames if _id(frame) in expired}
        source.believe(after, closed=closed)
        self._on_step("committed")

    async def load(self, source: Source) -> None:
        """Read from the database how far the source is stored, and see whether that can be.

        What neither we have sent nor the segments allow (a database brought back from a backup, or changed by hand) is
        told, and all that is on disk is stored again: nothing is lost, and rows that are there are skipped.
        """
        boot_id = source.directory.boot_id
        async with self._connected() as connection:
            place, closed = await load_position(connection, boot_id)
        if await self._is_right(source, place, closed):
            if source.known is None and source.spool is None and source.counted == START:
                source.counted = place  # counted in an earlier life
            source.believe(place, closed=closed)
            return
        async with self._connected() as connection:
            await reset_position(connection, boot_id)
        self.positions_refused += 1
        source.begin_again()

    async def _is_right(self, source: Source, place: Position, closed: bool) -> bool:
        if source.known is None:
            return await on_files(can_stand, source.directory.path, place, closed=closed)
        if closed != (place.offset == CLOSED_OFFSET):
            return False
        return place == source.known or place in source.attempted

    async def set_withheld_aside(self, source: Source) -> int:
        """Bring what waits for it into the quarantine; how many of it were records. Raises SpoolUnreadableError."""
        records = 0
        for start, (end, is_record) in list(source.withheld.items()):
            await on_files(set_aside, source.directory, start, end)
            del source.withheld[start]
            records += is_record
        return records

    async def withhold_or_set_aside(self, source: Source, start: Position, end: int | None, *, is_record: bool) -> bool:
        """Bring bytes into the quarantine, now or, when it has no room, later; whether they are there."""
        if start in source.withheld:
            return False
        try:
            await on_files(set_aside, source.directory, start, end)
        except SpoolUnreadableError:
            if len(source.withheld) >= WITHHELD_MAX:
                raise
            source.withheld[start] = Withheld(end, is_record)
            return False
        return True

    async def forget(self, source: Source) -> None:
        """Remove the position of a source whose directory is gone."""
        async with self._connected() as connection:
            await forget_position(connection, source.directory.boot_id)

    def abort(self) -> None:
        """Drop the connection in use, so that whatever waits on it fails now."""
        if self._connection is not None:
            _drop(self._connection)

    async def _commit_with_partitions(
        self, source: Source, frames: Sequence[Frame], after: Position, closed: bool
    ) -> None:
        try:
            await self.commit(source, frames, after, closed=closed)
        except asyncpg.CheckViolationError:
            # A row without a partition fails like this too. Another process may make it first: always try again.
            for day in await asyncio.to_thread(_days, frames):
                await ensure_partitions(self._pool(), day, days_ahead=0)
            await self.commit(source, frames, after, closed=closed)

    async def _park(self, source: Source, frame: Frame) -> None:
        if await self.withhold_or_set_aside(source, position_of(frame), frame.end, is_record=True):
            source.parked.add(position_after(frame))
        self._on_step("parked")

    async def _set_aside_wrong_clock(self, source: Source, frames: list[Frame]) -> None:
        for segment in sorted({frame.segment for frame in frames}):
            group = [frame for frame in frames if frame.segment == segment]
            await on_files(set_aside_wrong_clock, source.directory, group)
        source.parked |= {position_after(frame) for frame in frames}
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
        except (*REFUSED_RECORD, WrongClockError):
            raise
        except BaseException:
            _drop(connection)  # a demoted primary, a half-dead socket: the next attempt connects anew
            raise
        finally:
            watchdog.cancel()
            self._connection = None
            await pool.release(connection, timeout=self._attempt_s)


def _days(frames: Sequence[Frame]) -> list[date]:
    return days_of(record for frame in frames if isinstance(record := frame.record, Outcome))


def _id(frame: Frame) -> UUID:
    return UUID(request_id(frame).strip(b'"').decode())


def _drop(connection: Connection) -> None:
    with contextlib.suppress(asyncpg.InterfaceError):  # it broke meanwhile, so the pool took it back
        connection.terminate()
