"""A stored position that cannot be (changed by hand, from a backup): nothing is lost, nothing is double."""

import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.frames import parse_frames
from luntrex_proxy.store.segments import Position, can_stand, closing_place, directories
from luntrex_proxy.store.shipper import Shipper
from luntrex_proxy.store.spool import Spool
from tests.store.records import assert_sums_match, outcome, ship, stored_numbers
from tests.store.test_recovery import endings, leave_dead
from tests.store.test_shipper import put, until

MOVES = {
    "closed": "closed = true",
    "forward": "byte_offset = byte_offset + 900",
    "far forward": "segment = segment + 7, byte_offset = 0",
    "to the next segment": "segment = segment + 1, byte_offset = 0",
    "back": "byte_offset = 0",
    "no border": "byte_offset = byte_offset - 5",
    "negative": "byte_offset = -1, segment = -1",
    "closed as we do": "segment = segment + 1, byte_offset = 1, closed = true",
}


@pytest.fixture
async def root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
async def spool(root: Path) -> AsyncIterator[Spool]:
    made = Spool(root, uuid.uuid4())
    yield made
    made.close()
    made.directory.unlock()


def assert_identity(shipper: Shipper) -> None:
    """Every settle is in exactly one place."""
    parts = (shipper.stored, shipper.spooled, shipper.quarantined, shipper.expired, shipper.lost)
    assert (sum(parts), min(parts) >= 0) == (shipper.accepted, True)


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES.keys())
async def test_a_position_moved_under_a_running_process(database: Pool, root: Path, spool: Spool, move: str) -> None:
    """Whatever somebody makes of it, what comes next is stored once, counted once, and the change is told once."""
    shipper = Shipper(lambda: database, root, spool)
    shipper.start()
    put(spool, 1, 2, 3)
    await until(lambda: shipper.stored == 3)
    await database.execute(f"UPDATE spool_position SET {move}")
    put(spool, 4, 5, 6)
    await until(lambda: shipper.stored == 6)
    put(spool, 7)
    assert await shipper.drain(10)
    assert await stored_numbers(database) == [1, 2, 3, 4, 5, 6, 7]
    assert (shipper.stored, shipper.quarantined, shipper.positions_refused) == (7, 0, 1)
    assert_identity(shipper)
    await assert_sums_match(database)
    assert directories(root) == []


async def test_an_idle_process_notices_and_keeps_its_position_young(database: Pool, root: Path, spool: Spool) -> None:
    """Without requests the position is looked at now and then, so that retention does not take it for a dead one's."""
    shipper = Shipper(lambda: database, root, spool, confirm_every_s=0.1)
    shipper.start()
    put(spool, 1)
    await until(lambda: shipper.stored == 1)
    await database.execute("UPDATE spool_position SET updated_at = now() - interval '400 days'")
    deadline = time.monotonic() + 10
    while await database.fetchval("SELECT count(*) FROM spool_position WHERE updated_at < now() - interval '1 day'"):
        assert time.monotonic() < deadline
    assert shipper.positions_refused == 0
    await database.execute("UPDATE spool_position SET closed = true")
    await until(lambda: shipper.positions_refused == 1)
    assert await shipper.drain(10)
    assert await stored_numbers(database) == [1]
    assert_identity(shipper)


async def test_a_dropped_position_changes_no_count(database: Pool, root: Path, spool: Spool) -> None:
    """Retention of one day drops position and rows of an idle process: nothing counts twice, nothing comes back."""
    shipper = Shipper(lambda: database, root, spool)
    shipper.start()
    put(spool, 1, 2, 3)
    await until(lambda: shipper.stored == 3)
    line = "timestamptz 'epoch' + ($1 + 60) * interval '1 second'"
    await database.execute(f"UPDATE usage_retention SET kept_from = {line}", outcome(0).started_us // 1_000_000)
    await database.execute("TRUNCATE usage, usage_rollup, usage_rollup_daily, spool_position")
    later = outcome(4, started_us=outcome(0).started_us + 3_600_000_000)
    spool.settle(later)
    await until(lambda: shipper.stored == 4)
    assert await shipper.drain(10)
    assert await stored_numbers(database) == [4]
    assert (shipper.accepted, shipper.stored, shipper.expired, shipper.quarantined) == (4, 4, 0, 0)
    assert_identity(shipper)


DEAD = {
    "closed": (0, 0, True),
    "closed in the middle": (2, 0, True),
    "far forward": (99, 0, False),
    "behind all": (None, 0, False),
    "closed as others do": (99, 1, True),
    "beyond the end": (2, 10_000_000, False),
    "no border": (2, 3, False),
}


@pytest.mark.parametrize("place", DEAD.values(), ids=DEAD.keys())
async def test_a_position_of_a_dead_process_that_cannot_be(
    database: Pool, root: Path, place: tuple[int | None, int, bool]
) -> None:
    """An adopted directory whose position the segments do not allow is stored from its beginning."""
    path = leave_dead(root, range(20), range(30, 32))
    segment = closing_place(path).segment if place[0] is None else place[0]
    await database.execute(
        "INSERT INTO spool_position (boot_id, segment, byte_offset, closed) VALUES ($1, $2, $3, $4)",
        uuid.UUID(path.name), segment, place[1], place[2],
    )  # fmt: skip
    shipper = await ship(database, root)
    assert sorted(await endings(database)) == [*range(20), 30, 31]
    assert (shipper.positions_refused, shipper.interrupted, shipper.accepted) == (1, 2, 22)
    assert_identity(shipper)
    assert directories(root) == []


def test_every_border_can_stand_and_nothing_else(root: Path) -> None:
    """Ends of frames, whatever became of the one between them; the next segment only when this one's end is damaged."""
    path = leave_dead(root, range(3), segment_bytes=1 << 20)
    segment = path / "00000001.seg"
    data = segment.read_bytes()
    borders = [0, *(frame.end for frame in parse_frames(data).frames)]

    def standing() -> list[int]:
        return [at for at in range(1 + len(data)) if can_stand(path, Position(1, at), closed=False)]

    assert standing() == borders
    assert not can_stand(path, Position(2, 0), closed=False)
    damaged = bytearray(data)
    damaged[borders[2] + 20] ^= 1
    segment.write_bytes(damaged)
    assert standing() == borders
    segment.write_bytes(data[:-3])
    assert standing() == borders[:-1]
    assert can_stand(path, Position(2, 0), closed=False)
    assert can_stand(path, Position(0, 77), closed=False)
    assert [can_stand(path, closing_place(path), closed=closed) for closed in (True, False)] == [True, False]
