"""A quarantine without room, a wrong clock, a segment somebody cuts: what is there is kept, what is not is told."""

import asyncio
import errno
import os
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from luntrex_proxy.store import quarantine, shipper
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.failures import Failure
from luntrex_proxy.store.frames import encode_frame, parse_frames
from luntrex_proxy.store.quarantine import retry_quarantined
from luntrex_proxy.store.recovery import adopt_dead
from luntrex_proxy.store.segments import SpoolDirectory, directories
from luntrex_proxy.store.shipper import Shipper
from luntrex_proxy.store.spool import Spool
from tests.store.records import assert_sums_match, opening, outcome, ship, stored_numbers
from tests.store.test_recovery import endings, leave_dead
from tests.store.test_shipper import put, until
from tests.store.test_spool_position import assert_identity

MONTHS_US = 180 * 86_400_000_000


@pytest.fixture
async def root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
async def spool(root: Path) -> AsyncIterator[Spool]:
    made = Spool(root, uuid.uuid4(), segment_bytes=3000)
    yield made
    made.close()
    made.directory.unlock()


class FullDisk:
    """A quarantine that takes no byte while `full`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = True
        self._fsync = os.fsync
        monkeypatch.setattr(quarantine.os, "fsync", self._refuse)
        monkeypatch.setattr("luntrex_proxy.store.shipper._BACKOFF_S_MAX", 0.1)
        monkeypatch.setattr("luntrex_proxy.store.shipping._QUARANTINE_AGAIN_S", 0.1)

    def _refuse(self, fd: int) -> None:
        if self.full and "quarantine" in str(Path(f"/proc/self/fd/{fd}").readlink()):
            raise OSError(errno.ENOSPC, "no space")
        self._fsync(fd)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    return FullDisk(monkeypatch)


async def test_a_refused_record_without_room_holds_nothing_up(
    database: Pool, root: Path, spool: Spool, disk: FullDisk
) -> None:
    """All around it are stored; it stays in its segment until the quarantine has room. Both are told."""
    shipper = Shipper(lambda: database, root, spool)
    shipper.start()
    put(spool, *range(20))
    spool.settle(outcome(99, model="a\x00b"))
    put(spool, *range(20, 60))
    await until(lambda: shipper.stored == 60)
    await until(lambda: shipper.trouble is Failure.QUARANTINE)
    assert (shipper.quarantined, shipper.spooled) == (0, 1)
    assert_identity(shipper)
    put(spool, *range(60, 200))
    await until(lambda: shipper.stored == 200)
    assert list((root / "quarantine").iterdir()) == []
    assert spool.directory.segments()[0] < spool.end.segment - 3
    disk.full = False
    await until(lambda: shipper.quarantined == 1)
    await until(lambda: shipper.trouble is Failure.NONE)
    await until(lambda: len(spool.directory.segments()) <= 2)
    assert await shipper.drain(10)
    (aside,) = (root / "quarantine").iterdir()
    assert aside.read_bytes() == encode_frame(outcome(99, model="a\x00b"))
    assert await stored_numbers(database) == list(range(200))
    assert (shipper.accepted, shipper.stored, shipper.quarantined) == (201, 200, 1)
    assert_identity(shipper)
    await assert_sums_match(database)


async def test_a_process_that_dies_with_it_loses_it_not(
    database: Pool, root: Path, spool: Spool, disk: FullDisk
) -> None:
    """The stored position never passed it: the next process meets it again, and doubles nothing."""
    put(spool, *range(10))
    spool.settle(outcome(99, model="a\x00b"))
    put(spool, *range(10, 30))
    shipper = Shipper(lambda: database, root, spool)
    shipper.start()
    await until(lambda: shipper.stored == 30)
    assert not await shipper.drain(0.1)
    assert await stored_numbers(database) == list(range(30))
    spool.close()
    spool.directory.unlock()
    shipper = Shipper(lambda: database, root, None)
    shipper.start()
    await until(lambda: shipper.trouble is Failure.QUARANTINE)
    assert len(directories(root)) == 1
    assert_identity(shipper)
    disk.full = False
    assert await shipper.drain(10)
    assert len(list((root / "quarantine").iterdir())) == 1
    assert await stored_numbers(database) == list(range(30))
    assert (shipper.quarantined, shipper.spooled) == (1, 0)
    assert_identity(shipper)
    await assert_sums_match(database)


async def test_refused_openings_and_damage_wait_for_room_too(database: Pool, root: Path, disk: FullDisk) -> None:
    """A dead directory with damage in it and a poisonous opening: the others are stored."""
    path = leave_dead(root, range(5), segment_bytes=1 << 20)
    bad = Spool(root, uuid.uuid4())
    for number, model in ((7, "m"), (8, "nul\x00"), (9, "m")):
        bad.open(opening(number, model=model))
    bad.close()
    bad.directory.unlock()
    segment = path / "00000001.seg"
    data = bytearray(segment.read_bytes())
    hit = parse_frames(bytes(data)).frames[3]
    data[hit.start + 15] ^= 1
    segment.write_bytes(data)
    shipper = Shipper(lambda: database, root, None)
    assert not await shipper.drain(2.0)
    rows = await endings(database)
    assert {number for number, ending in rows.items() if ending == "complete"} == {0, 2, 3, 4}
    assert {7, 9} <= set(rows)
    assert len(directories(root)) == 2
    disk.full = False
    shipper = await ship(database, root)
    assert await endings(database) == {
        **dict.fromkeys((0, 2, 3, 4), "complete"),
        **dict.fromkeys((1, 7, 9), "interrupted"),
    }
    assert (shipper.interrupted, shipper.quarantined) == (3, 1)
    assert len(list((root / "quarantine").iterdir())) == 2
    assert_identity(shipper)


async def test_so_many_refused_records_do_wait(
    database: Pool, root: Path, spool: Spool, disk: FullDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of what waits has a bound; at the bound the directory waits instead. Nothing is lost."""
    monkeypatch.setattr("luntrex_proxy.store.deposit.WITHHELD_MAX", 3)
    for number in range(10):
        spool.settle(outcome(number, model="a\x00b" if number % 2 else "m"))
    shipper = Shipper(lambda: database, root, spool)
    assert not await shipper.drain(1.0)
    assert_identity(shipper)
    disk.full = False
    await ship(database, root, spool)
    assert await stored_numbers(database) == [0, 2, 4, 6, 8]
    assert len(list((root / "quarantine").iterdir())) == 5


async def test_a_drain_that_gives_up_leaves_nobody_at_work(database: Pool, root: Path, disk: FullDisk) -> None:
    """Its task is over before the directory is given to the next, whatever it was at; the next stores everything.

    The driver keeps a cancellation to itself now and then: about one time in three here.
    """
    leave_dead(root, range(5), segment_bytes=1 << 20)
    bad = Spool(root, uuid.uuid4())
    bad.settle(outcome(8, model="nul\x00"))
    bad.close()
    bad.directory.unlock()
    for hundredths in range(2, 32, 2):
        assert not await Shipper(lambda: database, root, None).drain(hundredths / 100)
        assert [task for task in asyncio.all_tasks() if task.get_name() == "ledger-shipper"] == []
    disk.full = False
    await ship(database, root)
    assert await stored_numbers(database) == [0, 1, 2, 3, 4]


async def test_what_is_adopted_while_a_drain_gives_up_is_let_go(
    database: Pool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are looked at in a thread, which goes on: the next drain found them locked, and took that for none."""
    leave_dead(root, range(5))

    def slowly(*arguments: Any) -> Any:
        adopted = adopt_dead(*arguments)
        time.sleep(0.3)
        return adopted

    with monkeypatch.context() as patched:
        patched.setattr(shipper, "adopt_dead", slowly)
        assert not await Shipper(lambda: database, root, None).drain(0.05)
    assert await Shipper(lambda: database, root, None).drain(20)
    assert await stored_numbers(database) == [0, 1, 2, 3, 4]


async def test_what_a_thread_is_at_while_a_drain_gives_up_is_waited_for(
    database: Pool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory was unlocked while a thread removed it: a lock closed twice may be somebody else's file by then."""
    leave_dead(root, range(5))
    told: list[str] = []
    remove = SpoolDirectory.remove

    def slowly(directory: SpoolDirectory) -> None:
        told.append("begun")
        time.sleep(0.4)
        remove(directory)
        told.append("done")

    monkeypatch.setattr(SpoolDirectory, "remove", slowly)
    given_up = Shipper(lambda: database, root, None)
    given_up.start()
    await until(lambda: "begun" in told)
    assert not await given_up.drain(0.0)
    assert told == ["begun", "done"]
    assert directories(root) == []
    assert await stored_numbers(database) == [0, 1, 2, 3, 4]


def test_a_directory_unlocked_by_two_threads_closes_one_descriptor(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing lets other threads run: the second one closed a number that may have been given out again."""
    directory = SpoolDirectory.create(root, uuid.uuid4())
    closed: list[int] = []
    close = os.close

    def meanwhile(fd: int) -> None:
        closed.append(fd)
        if len(closed) == 1:
            directory.unlock()
        close(fd)

    monkeypatch.setattr(os, "close", meanwhile)
    directory.unlock()
    monkeypatch.undo()
    assert len(closed) == 1


async def test_records_of_a_wrong_clock_are_kept(database: Pool, root: Path, spool: Spool) -> None:
    """A process believes in 1970, then in last spring, then the clock is right: nothing expires, all can come back."""
    await database.execute("UPDATE usage_retention SET kept_from = '2026-06-01'")
    put(spool, 1)
    for number in range(2, 5):
        spool.open(opening(number, started_us=60_000_000 + number))
        spool.settle(outcome(number, started_us=60_000_000 + number))
    spool.settle(outcome(5, started_us=outcome(5).started_us - MONTHS_US))
    put(spool, 6)
    shipper = await ship(database, root, spool)
    assert await stored_numbers(database) == [1, 6]
    assert (shipper.accepted, shipper.stored, shipper.quarantined, shipper.expired) == (6, 2, 4, 0)
    assert_identity(shipper)
    asides = list((root / "quarantine").iterdir())
    assert all(aside.name.endswith(".clock.seg") for aside in asides)
    now_us = outcome(0).started_us + 5_000_000
    assert retry_quarantined(root, now_us) == (4, 0)
    assert retry_quarantined(root, now_us + 1) == (0, 0)
    again = await ship(database, root)
    assert (again.stored, again.quarantined, again.expired) == (4, 0, 0)
    assert await stored_numbers(database) == [1, 2, 3, 4, 5, 6]
    await assert_sums_match(database)


async def test_an_honest_old_record_of_a_dead_process_expires(database: Pool, root: Path) -> None:
    """It lay longer than retention keeps usage: counted as expired, no row; one of 1970 beside it is kept."""
    await database.execute("UPDATE usage_retention SET kept_from = '2026-06-01'")
    dead = Spool(root, uuid.uuid4())
    for number, started_us in ((1, outcome(1).started_us), (2, outcome(2).started_us - MONTHS_US), (3, 5_000_000)):
        dead.settle(outcome(number, started_us=started_us))
    dead.close()
    dead.directory.unlock()
    shipper = await ship(database, root)
    assert (shipper.stored, shipper.expired, shipper.quarantined, shipper.lost) == (1, 1, 1, 0)
    assert_identity(shipper)
    assert await stored_numbers(database) == [1]


@pytest.mark.parametrize("how", ["removed", "emptied", "cut in a record", "cut between two"])
async def test_the_present_segment_is_cut(database: Pool, root: Path, how: str) -> None:
    """Exactly what was not stored yet and is gone counts as lost; the next record begins a segment; it is told."""
    spool = Spool(root, uuid.uuid4())
    put(spool, *range(10))
    path = spool.directory.segment_path(1)
    ends = [0, *(frame.end for frame in parse_frames(path.read_bytes()).frames)]
    kept = {"removed": 0, "emptied": 0, "cut in a record": 3, "cut between two": 4}[how]
    if how == "removed":
        path.unlink()
    else:
        os.truncate(path, 0 if not kept else ends[2 * kept] + (5 if "in" in how.split() else 0))
    await until(lambda: not spool._syncer.dirty)
    put(spool, 20, 21)
    assert (spool.end.segment, spool.cut_segments) == (2, 1)
    shipper = await ship(database, root, spool)
    assert await stored_numbers(database) == [*range(kept), 20, 21]
    assert (shipper.accepted, shipper.stored, shipper.lost, shipper.quarantined) == (12, kept + 2, 10 - kept, 0)
    assert_identity(shipper)
    await assert_sums_match(database)


@pytest.mark.parametrize("how", ["removed", "cut", "moved", "replaced"])
async def test_a_cut_is_noticed_without_another_record(database: Pool, root: Path, how: str) -> None:
    """The shipper misses what the writer says is there: counted, told, and the drain ends."""
    spool = Spool(root, uuid.uuid4())
    shipper = Shipper(lambda: database, root, spool)
    put(spool, 1, 2)
    await shipper._round()
    assert shipper.stored == 2
    put(spool, 3)
    path = spool.directory.segment_path(1)
    if how == "cut":
        os.truncate(path, 10)
    else:
        path.rename(root / "away") if how != "removed" else path.unlink()
    if how == "replaced":
        path.write_bytes(b"")
    shipper.start()
    await until(lambda: shipper.lost == 1)
    assert (shipper.spooled, spool.cut_segments) == (0, 1)
    put(spool, 4)
    await until(lambda: shipper.stored == 3)
    assert await shipper.drain(10)
    assert await stored_numbers(database) == [1, 2, 4]
    assert_identity(shipper)


async def test_a_cut_of_what_is_stored_loses_nothing(database: Pool, root: Path) -> None:
    """All was shipped before: nothing is lost, and what comes next is stored."""
    spool = Spool(root, uuid.uuid4())
    shipper = Shipper(lambda: database, root, spool)
    shipper.start()
    put(spool, 1, 2)
    await until(lambda: shipper.stored == 2)
    await until(lambda: not spool._syncer.dirty)
    os.truncate(spool.directory.segment_path(1), 0)
    put(spool, 3)
    assert await shipper.drain(10)
    assert await stored_numbers(database) == [1, 2, 3]
    assert (shipper.stored, shipper.lost, spool.cut_segments) == (3, 0, 1)
    assert spool.size_bytes == len(encode_frame(opening(3)) + encode_frame(outcome(3)))
    assert_identity(shipper)
