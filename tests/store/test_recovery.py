"""Recovery: what dead processes left is stored once, what they never settled becomes interrupted once."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from luntrex_proxy.core.outcome import Outcome
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.frames import encode_frame, parse_frames
from luntrex_proxy.store.ledger import status_of
from luntrex_proxy.store.quarantine import retry_quarantined
from luntrex_proxy.store.recovery import adopt_dead, interrupted
from luntrex_proxy.store.segments import Position, SpoolDirectory, closing_place, directories
from luntrex_proxy.store.shipper import Shipper
from luntrex_proxy.store.spool import Spool
from tests.store.records import COLUMNS, assert_sums_match, opening, outcome, records_in, row_of, ship, stored_numbers


def leave_dead(root: Path, settled: range, unsettled: range = range(0), segment_bytes: int = 2000) -> Path:
    """A directory as a killed process leaves it."""
    spool = Spool(root, uuid.uuid4(), segment_bytes=segment_bytes)
    for number in unsettled:
        spool.open(opening(number))
    for number in settled:
        spool.open(opening(number))
        spool.settle(outcome(number))
    spool.close()
    spool.directory.unlock()
    return spool.directory.path


async def endings(pool: Pool) -> dict[int, str]:
    """Ending by number; fails on doubles."""
    rows = await pool.fetch("SELECT request_id, ending FROM usage")
    found = {row[0].int & 0xFFFFFFFF: row[1] for row in rows}
    assert len(found) == len(rows)
    return found


async def test_a_dead_directory_is_stored_and_removed(database: Pool, tmp_path: Path) -> None:
    """Settled requests keep their outcome, unsettled ones become interrupted with all that is known of them."""
    leave_dead(tmp_path, range(50), range(100, 105))
    shipper = await ship(database, tmp_path)
    found = await endings(database)
    assert found == {**dict.fromkeys(range(50), "complete"), **dict.fromkeys(range(100, 105), "interrupted")}
    row = await database.fetchrow(f"SELECT {', '.join(COLUMNS)} FROM usage WHERE ending = 'interrupted' LIMIT 1")
    assert tuple(row or ()) == row_of(interrupted(opening(100)))
    assert (shipper.accepted, shipper.stored, shipper.interrupted, shipper.spooled) == (55, 55, 5, 0)
    assert list(tmp_path.iterdir()) == []
    assert await database.fetchval("SELECT count(*) FROM spool_position") == 0
    await assert_sums_match(database)


async def test_a_running_daemon_adopts_beside_its_own(database: Pool, tmp_path: Path) -> None:
    """At start dead directories are adopted, live ones of others are not, and their bytes count against the bound."""
    leave_dead(tmp_path, range(10), range(100, 102))
    alive = Spool(tmp_path, uuid.uuid4())
    alive.open(opening(500))
    own = Spool(tmp_path, uuid.uuid4())
    own.open(opening(600))
    own.settle(outcome(600))
    shipper = await ship(database, tmp_path, own)
    assert sorted(await endings(database)) == [*range(10), 100, 101, 600]
    assert directories(tmp_path) == [alive.directory.path]
    assert shipper.accepted == shipper.stored == 13
    assert own.size_bytes == len(encode_frame(opening(600)) + encode_frame(outcome(600)))
    alive.close()
    alive.directory.unlock()


async def test_what_dies_while_we_run_is_adopted_later(database: Pool, tmp_path: Path) -> None:
    """A directory whose process dies after our start does not wait for the next start."""
    own = Spool(tmp_path, uuid.uuid4())
    shipper = Shipper(lambda: database, tmp_path, own, adopt_every_s=0.1)
    shipper.start()
    leave_dead(tmp_path, range(3), range(7, 8))
    deadline = time.monotonic() + 10
    while shipper.interrupted < 1 and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert await shipper.drain(10)
    assert sorted(await endings(database)) == [0, 1, 2, 7]


STEPS = [
    *("adopted:1", "before_commit:1", "committed:1", "before_commit:2", "committed:2", "before_commit:3"),
    *("committed:3", "before_commit:4", "committed:4", "closed:1", "directory_removed:1", "position_removed:1"),
]
KILLED = """
    import asyncio, os, signal, sys
    from pathlib import Path
    from luntrex_proxy.store.database import open_pool
    from luntrex_proxy.store.shipper import Shipper

    async def main():
        counts = {}
        def on_step(step):
            counts[step] = counts.get(step, 0) + 1
            if f"{step}:{counts[step]}" == sys.argv[3]:
                os.kill(os.getpid(), signal.SIGKILL)
        pool = await open_pool(sys.argv[1])
        await Shipper(lambda: pool, Path(sys.argv[2]), None, on_step=on_step).drain(30)

    asyncio.run(main())
"""


@pytest.mark.parametrize("step", STEPS)
async def test_kill_at_any_step_of_recovery(database: Pool, database_dsn: str, tmp_path: Path, step: str) -> None:
    """Recovery killed with SIGKILL at a step and run again leaves exactly what one undisturbed run leaves."""
    root = tmp_path / "spool"
    leave_dead(root, range(500), range(1000, 1010), segment_bytes=30_000)
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), database_dsn, str(root), step], check=False)
    assert killed.returncode == -signal.SIGKILL
    await ship(database, root)
    assert await stored_numbers(database) == [*range(500), *range(1000, 1010)]
    assert list((await endings(database)).values()).count("interrupted") == 10
    assert directories(root) == []
    await assert_sums_match(database)
    await ship(database, root)
    assert await stored_numbers(database) == [*range(500), *range(1000, 1010)]


async def test_interrupted_rows_and_the_closing_are_one(database: Pool, database_dsn: str, tmp_path: Path) -> None:
    """Once interrupted rows are stored the directory is closed: what retention then removes does not come back."""
    root = tmp_path / "spool"
    leave_dead(root, range(5), range(1000, 1010), segment_bytes=100_000)
    command = [sys.executable, "-c", textwrap.dedent(KILLED), database_dsn, str(root), "committed:2"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert len(await endings(database)) == 15
    await database.execute("TRUNCATE usage, usage_rollup, usage_rollup_daily")
    await ship(database, root)
    assert await endings(database) == {}
    assert directories(root) == []


WRITER = """
    import sys, uuid
    from pathlib import Path
    from luntrex_proxy.store.spool import Spool
    from tests.store.records import opening, outcome

    spool = Spool(Path(sys.argv[1]), uuid.uuid4(), segment_bytes=50_000)
    for number in range(10_000_000):
        spool.open(opening(number))
        if number % 10:
            spool.settle(outcome(number))
            sys.stdout.write(f"{number}\\n")
            sys.stdout.flush()
"""


async def test_kill_of_a_writer_loses_nothing_it_told(database: Pool, tmp_path: Path) -> None:
    """SIGKILL mid-stream: each settle the process told of is stored once, each opening without one interrupted once."""
    told: set[int] = set()
    for round_number in range(2):
        root = tmp_path / str(round_number)
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(root)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            told = {int(writer.stdout.readline()) for _ in range(600 + 111 * round_number)}
            writer.send_signal(signal.SIGKILL)
            told |= {int(line) for line in writer.stdout if line.endswith("\n")}
        await database.execute("TRUNCATE usage, usage_rollup, usage_rollup_daily")
        await ship(database, root)
        found = await endings(database)
        complete = {number for number, ending in found.items() if ending == "complete"}
        assert told <= complete
        assert len(complete - told) <= 1  # settled, and killed before it could say so
        last = max(found)
        assert set(found) == set(range(last + 1))
        assert {number for number in found if number % 10 == 0} <= set(found) - complete
        assert len(set(found) - complete) <= last // 10 + 2
        await assert_sums_match(database)


async def test_a_long_request_over_many_deleted_segments(database: Pool, tmp_path: Path) -> None:
    """An opening whose own segment was shipped and deleted long ago is still recovered; settled ones are not."""
    spool = Spool(tmp_path, uuid.uuid4(), segment_bytes=2000)
    shipper = Shipper(lambda: database, tmp_path, spool)
    spool.open(opening(999))
    for number in range(60):
        spool.open(opening(number))
        spool.settle(outcome(number))
    assert not await shipper.drain(1.0)
    assert spool.directory.segments()[0] > 5
    await database.execute("TRUNCATE usage, usage_rollup, usage_rollup_daily")
    spool.close()
    spool.directory.unlock()
    await ship(database, tmp_path)
    assert await endings(database) == {999: "interrupted"}


async def test_a_torn_tail_costs_only_itself(database: Pool, tmp_path: Path) -> None:
    """Half a record at the end, as a power cut leaves it, is set aside and counted; all before it is stored."""
    path = leave_dead(tmp_path, range(3))
    last = sorted(path.glob("*.seg"))[-1]
    with last.open("ab") as segment:
        segment.write(encode_frame(outcome(9))[:-5])
    shipper = await ship(database, tmp_path)
    assert sorted(await endings(database)) == [0, 1, 2]
    assert (shipper.torn_tails, shipper.damaged_stretches) == (1, 0)


async def test_damage_in_the_middle_costs_one_record(database: Pool, tmp_path: Path) -> None:
    """Records before and behind it are stored, the unreadable stretch is kept byte for byte."""
    path = leave_dead(tmp_path, range(30))
    segments = sorted(path.glob("*.seg"))
    data = segments[1].read_bytes()
    frames = parse_frames(data).frames
    hit = next(frame for frame in frames[2:] if isinstance(frame.record, Outcome))
    damaged = data[hit.start : hit.start + 9] + bytes([data[hit.start + 9] ^ 4]) + data[hit.start + 10 : hit.end]
    segments[1].write_bytes(data[: hit.start] + damaged + data[hit.end :])
    shipper = await ship(database, tmp_path)
    assert shipper.damaged_stretches == 1
    (aside,) = (tmp_path / "quarantine").iterdir()
    assert aside.read_bytes() == damaged
    found = await endings(database)
    assert sorted(found) == list(range(30))
    assert isinstance(hit.record, Outcome)
    lost = {number for number, ending in found.items() if ending == "interrupted"}
    assert lost == {number for number in range(30) if outcome(number).request_id == hit.record.request_id}


async def test_an_opening_that_cannot_be_a_row_is_set_aside(database: Pool, tmp_path: Path) -> None:
    """A poisonous opening neither blocks the closing of its directory nor the others in it."""
    spool = Spool(tmp_path, uuid.uuid4())
    for number, model in ((1, "mock-model"), (2, "nul\x00"), (3, "mock-model")):
        spool.open(opening(number, model=model))
    spool.close()
    spool.directory.unlock()
    shipper = await ship(database, tmp_path)
    assert await endings(database) == {1: "interrupted", 3: "interrupted"}
    assert (shipper.accepted, shipper.stored, shipper.quarantined) == (3, 2, 1)
    (aside,) = (tmp_path / "quarantine").iterdir()
    assert aside.read_bytes() == encode_frame(opening(2, model="nul\x00"))


async def test_quarantined_records_can_be_tried_again(database: Pool, tmp_path: Path) -> None:
    """What was refused is stored once its reason is gone, once; what is refused again is back; damage stays."""
    path = leave_dead(tmp_path, range(3), range(7, 8))
    with sorted(path.glob("*.seg"))[-1].open("ab") as segment:
        segment.write(encode_frame(outcome(9))[:-5])
    bad = Spool(tmp_path, uuid.uuid4())
    bad.settle(outcome(20, model="nul\x00"))
    bad.settle(outcome(21, status=201))
    bad.open(opening(22, model="blocked"))
    bad.close()
    bad.directory.unlock()
    await database.execute("ALTER TABLE usage ADD CONSTRAINT not_yet CHECK (status <> 201 AND model <> 'blocked')")
    assert (await ship(database, tmp_path)).quarantined == 3
    assert sorted(await endings(database)) == [0, 1, 2, 7]
    assert retry_quarantined(tmp_path, 0) == (3, 1)
    assert (await ship(database, tmp_path)).quarantined == 3
    await database.execute("ALTER TABLE usage DROP CONSTRAINT not_yet")
    for retried in (3, 1):
        assert retry_quarantined(tmp_path, 0) == (retried, 1)
        shipper = await ship(database, tmp_path)
        assert (shipper.stored, shipper.quarantined) == (retried - 1, 1)
    found = await endings(database)
    assert (sorted(found), found[21], found[22]) == ([0, 1, 2, 7, 21, 22], "complete", "interrupted")
    assert len(list((tmp_path / "quarantine").iterdir())) == 2
    await assert_sums_match(database)


def test_a_directory_in_the_making_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process looks for dead directories at any one call of one that makes, fills and removes its own."""
    calls, moment, looking = 0, 0, False
    taken: list[SpoolDirectory] = []
    root = tmp_path / "spool"

    def watched(module: object, name: str) -> None:
        real = getattr(module, name)

        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal calls, looking
            calls += not looking
            if calls == moment and not looking:
                looking = True
                taken.extend(one.directory for one in adopt_dead(root, None)[0])
                looking = False
            return real(*arguments, **named)

        monkeypatch.setattr(module, name, call)

    for name in ("open", "fstat", "close", "write", "listdir"):
        watched(os, name)
    watched(fcntl, "flock")
    for name in ("mkdir", "unlink", "rmdir", "stat"):
        watched(Path, name)
    while calls >= moment:
        moment, calls = moment + 1, 0
        spool = Spool(root, uuid.uuid4(), segment_bytes=300)
        for number in range(2):
            spool.open(opening(number))
            spool.settle(outcome(number))
        assert outcome(1) in records_in(spool.directory.path)
        spool.close()
        spool.directory.remove()
        assert taken == []
        assert directories(root) == []
    assert moment > 30


async def test_a_closed_directory_is_only_removed(database: Pool, tmp_path: Path) -> None:
    """When the database says closed, nothing of a directory that came back is stored again."""
    path = leave_dead(tmp_path, range(3), range(5, 6))
    await database.execute(
        "INSERT INTO spool_position (boot_id, segment, byte_offset, closed) VALUES ($1, $2, $3, true)",
        uuid.UUID(path.name),
        *closing_place(path),
    )
    await ship(database, tmp_path)
    assert await endings(database) == {}
    assert directories(tmp_path) == []


async def test_a_database_brought_back_before_a_closed_directory_was_removed_gets_all_again(
    database: Pool, tmp_path: Path
) -> None:
    """Stored and closed, and then an older database is there: the directory is the only place that has it all."""
    leave_dead(tmp_path, range(10), range(20, 22))
    shipper = Shipper(lambda: database, tmp_path, None)
    async with asyncio.timeout(30):
        while not any(source.closed for source in shipper._sources):
            await shipper._round()
    await database.execute("TRUNCATE usage, usage_rollup, usage_rollup_daily, spool_position")
    for source in shipper._sources:
        source.stored = None  # as after a failure: the connections of the old server are gone
    assert await shipper.drain(30)
    assert await endings(database) == {**dict.fromkeys(range(10), "complete"), 20: "interrupted", 21: "interrupted"}
    await assert_sums_match(database)


async def test_status_names_live_and_dead(database: Pool, tmp_path: Path) -> None:
    """Each directory with its segments, bytes, unsettled openings and stored position; looking changes nothing."""
    dead = leave_dead(tmp_path, range(4), range(8, 10))
    alive = Spool(tmp_path, uuid.uuid4())
    alive.open(opening(50))
    for _ in range(2):
        status = await status_of(database, tmp_path)
        by_id = {each.boot_id: each for each in status.directories}
        first, second = by_id[uuid.UUID(dead.name)], by_id[alive.directory.boot_id]
        assert (first.live, first.unsettled, first.damaged, first.stored_segment) == (False, 2, False, None)
        assert (second.live, second.unsettled, second.segments, second.bytes) == (True, 1, 1, alive.size_bytes)
    await ship(database, tmp_path)
    assert [each.boot_id for each in (await status_of(database, tmp_path)).directories] == [alive.directory.boot_id]
    alive.close()
    alive.directory.unlock()


async def test_a_directory_that_cannot_be_opened_is_told(database: Pool, tmp_path: Path) -> None:
    """What may not be locked is counted, not passed over in silence, and does not stop the others."""
    path = leave_dead(tmp_path, range(3))
    leave_dead(tmp_path, range(5, 7))
    (path / "lock").unlink()
    (path / "lock").mkdir()
    shipper = Shipper(lambda: database, tmp_path, None)
    assert not await shipper.drain(1.0)
    assert shipper.unreadable_directories == 1
    assert sorted(await endings(database)) == [5, 6]


def test_positions_compare_in_reading_order(tmp_path: Path) -> None:
    """A later segment is later whatever the offset."""
    assert Position(1, 10**6) < Position(2, 0) < Position(2, 1)
    assert SpoolDirectory.adopt(tmp_path / str(uuid.uuid4())) is None


async def test_one_bad_directory_keeps_no_other_from_being_stored(database: Pool, tmp_path: Path) -> None:
    """A name that leads nowhere in one of three: the others are stored, the bad one is told and let go of."""
    paths = [leave_dead(tmp_path, range(10 * n, 10 * n + 10)) for n in range(3)]
    bad = sorted(paths)[1]
    (bad / "00000099.seg").symlink_to(tmp_path / "nowhere")
    for _ in range(2):
        shipper = Shipper(lambda: database, tmp_path, None, failures_max=10)
        assert not await shipper.drain(20), "not everything is stored"
        assert shipper.unreadable_directories == 1
    assert await database.fetchval("SELECT count(*) FROM usage") == 20
    assert directories(tmp_path) == [bad]
    again = SpoolDirectory.adopt(bad)
    assert again is not None, "nobody holds it"
    again.unlock()
    status = await status_of(database, tmp_path)
    assert [(each.boot_id, each.live, each.damaged) for each in status.directories] == [(again.boot_id, False, True)]
    (bad / "00000099.seg").unlink()
    (bad / "\u00b2.seg").write_text("no segment of ours")
    (bad / "1.seg").write_text("nor this")
    shipper = Shipper(lambda: database, tmp_path, None, failures_max=10)
    await shipper.drain(20)
    assert await database.fetchval("SELECT count(*) FROM usage") == 30


async def test_records_of_no_day_and_words_too_long_are_set_aside(database: Pool, tmp_path: Path) -> None:
    """A year before all requests and a word no index takes: quarantined, the others stored."""
    spool = Spool(tmp_path, uuid.uuid4())
    good = [outcome(number) for number in range(5)]
    # Random, because a word that repeats itself is stored in short.
    bad = [outcome(10, started_us=-62_000_000_000_000_000), outcome(11, model=os.urandom(4000).hex())]
    for one in [*good, *bad]:
        spool.settle(one)
    spool.close()
    spool.directory.unlock()
    shipper = await ship(database, tmp_path)
    assert (shipper.stored, shipper.quarantined, shipper.spooled) == (5, 2, 0)
    assert await stored_numbers(database) == list(range(5))
