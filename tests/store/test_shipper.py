"""The shipper: what settles reach the tables once, whatever the database, the files or a record do."""

import asyncio
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from luntrex_proxy.core.outcome import Ending
from luntrex_proxy.store.database import Pool, close_pool, open_pool
from luntrex_proxy.store.failures import Failure
from luntrex_proxy.store.segments import Position, directories
from luntrex_proxy.store.shipper import Shipper
from luntrex_proxy.store.spool import Spool
from luntrex_proxy.store.usage_rows import load_position, move_position
from tests.store.records import COLUMNS, assert_sums_match, opening, outcome, row_of, ship, stored_numbers


def put(spool: Spool, *numbers: int) -> None:
    """Open and settle requests."""
    for number in numbers:
        spool.open(opening(number))
        spool.settle(outcome(number))


async def until(condition: Callable[[], bool], wait_s: float = 15.0) -> None:
    """Wait for a condition; fails when it does not come."""
    async with asyncio.timeout(wait_s):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
async def spool(root: Path) -> AsyncIterator[Spool]:
    made = Spool(root, uuid.uuid4(), segment_bytes=2000)
    yield made
    made.close()
    made.directory.unlock()


async def test_rows_are_the_outcomes(database: Pool, root: Path, spool: Spool) -> None:
    """Every field of an outcome arrives in its column; the missing day partition is made."""
    sent = [outcome(1), outcome(2, ending=Ending.CLIENT_GONE, status=0, upstream="", model="other")]
    for each in sent:
        spool.settle(each)
    shipper = await ship(database, root, spool)
    rows = await database.fetch(f"SELECT {', '.join(COLUMNS)} FROM usage ORDER BY request_id")
    assert [tuple(row) for row in rows] == [row_of(each) for each in sent]
    assert (shipper.accepted, shipper.stored, shipper.spooled, shipper.quarantined) == (2, 2, 0, 0)
    await assert_sums_match(database)


async def test_names_arrive_as_they_are(database: Pool, root: Path, spool: Spool) -> None:
    """Names of models and upstreams may hold what CSV and JSON give a meaning to."""
    names = [
        "a,b",
        'say "hi"',
        "back\\slash",
        "c:\\users\\new",
        "[x]",
        '"',
        "\\",
        '\\"',
        "null",
        "\\N",
        "",
        "{}",
        "é",
        "']\\n[",
        "a:b/c@d",
    ]
    for number, name in enumerate(names):
        spool.open(opening(number, model=name, upstream=name))
        spool.settle(outcome(number, model=name, upstream=name))
    await ship(database, root, spool)
    rows = await database.fetch("SELECT model, upstream FROM usage ORDER BY request_id")
    assert [tuple(row) for row in rows] == [(name, name) for name in names]


async def test_draining_leaves_nothing_behind(database: Pool, root: Path, spool: Spool) -> None:
    """When all is shipped and settled, neither a directory nor a position remains."""
    put(spool, *range(30))
    await ship(database, root, spool)
    assert directories(root) == []
    assert await database.fetchval("SELECT count(*) FROM spool_position") == 0
    assert await stored_numbers(database) == list(range(30))


async def test_a_trickle_is_stored_in_few_transactions(database: Pool, root: Path) -> None:
    """Each costs the relay's loop as much however little is in it: what comes meanwhile waits for the next one."""
    spool = Spool(root, uuid.uuid4())
    steps: list[str] = []
    shipper = Shipper(lambda: database, root, spool, on_step=steps.append)
    shipper.start()
    began_s = time.monotonic()
    for number in range(200):
        put(spool, number)
        await asyncio.sleep(0.005)
    await until(lambda: shipper.stored == 200)
    polls = (time.monotonic() - began_s) / 0.5  # a busy machine takes longer over the same trickle
    assert steps.count("committed") <= polls + 5
    assert await shipper.drain(10)


async def test_an_open_request_keeps_the_directory(database: Pool, root: Path, spool: Spool) -> None:
    """A drain that meets its deadline ships what is settled and leaves the rest for recovery."""
    put(spool, *range(20))
    spool.open(opening(99))
    shipper = Shipper(lambda: database, root, spool)
    assert not await shipper.drain(1.0)
    assert await stored_numbers(database) == list(range(20))
    assert directories(root) == [spool.directory.path]


async def test_live_records_arrive_and_segments_go(database: Pool, root: Path, spool: Spool) -> None:
    """While requests run, settles are stored within moments, counters add up, shipped segments are deleted."""
    shipper = Shipper(lambda: database, root, spool)
    shipper.start()
    spool.open(opening(9999))  # a long stream, open all the while
    for start in range(0, 200, 20):
        put(spool, *range(start, start + 20))
        assert shipper.accepted == shipper.stored + shipper.spooled + shipper.quarantined
        await until(lambda start=start: shipper.stored == start + 20)
    await until(lambda: len(spool.directory.segments()) <= 2 and spool.size_bytes == spool.directory.size())
    assert spool.end.segment > 10
    spool.settle(outcome(9999))
    assert await shipper.drain(10)
    assert await stored_numbers(database) == [*range(200), 9999]
    await assert_sums_match(database)


async def test_the_same_spool_twice_counts_once(database: Pool, root: Path, spool: Spool) -> None:
    """With the position wiped, every record comes again: rows stay single and sums unchanged."""
    spool.open(opening(999))
    put(spool, *range(50))
    for _ in range(2):
        shipper = Shipper(lambda: database, root, spool)
        assert not await shipper.drain(0.6)
        assert shipper.stored > 0
        await database.execute("DELETE FROM spool_position")
    assert await stored_numbers(database) == list(range(50))
    await assert_sums_match(database)


async def test_dropped_rows_stay_dropped(database: Pool, root: Path, spool: Spool) -> None:
    """When retention or erasure removed rows, a replay of their records does not bring them back."""
    spool.open(opening(999))
    put(spool, *range(3))
    assert not await Shipper(lambda: database, root, spool).drain(0.6)
    await database.execute("DELETE FROM usage")
    await database.execute("DELETE FROM usage_rollup")
    await database.execute("DELETE FROM usage_rollup_daily")
    put(spool, 500)
    spool.settle(outcome(999))
    await ship(database, root, spool)
    assert await stored_numbers(database) == [500, 999]
    await assert_sums_match(database)


async def test_a_position_wiped_while_running_is_read_again(database: Pool, root: Path, spool: Spool) -> None:
    """A database that forgets the position (brought back from a backup) is served again from what is on disk."""
    shipper = Shipper(lambda: database, root, spool)
    shipper.start()
    put(spool, 1, 2, 3)
    await until(lambda: shipper.stored == 3)
    await database.execute("TRUNCATE usage, usage_rollup, usage_rollup_daily, spool_position")
    put(spool, 4)
    await until(lambda: shipper.stored == 4)
    assert await stored_numbers(database) == [1, 2, 3, 4]
    assert await shipper.drain(10)


async def test_two_processes_share_a_state_directory(database: Pool, root: Path, spool: Spool) -> None:
    """Each ships its own directory; a live one of another process is never touched."""
    other = Spool(root, uuid.uuid4())
    put(other, *range(100, 110))
    put(spool, *range(10))
    before = {path.name: path.read_bytes() for path in other.directory.path.glob("*.seg")}
    await ship(database, root, spool)
    assert await stored_numbers(database) == list(range(10))
    assert {path.name: path.read_bytes() for path in other.directory.path.glob("*.seg")} == before
    await ship(database, root, other)
    assert await stored_numbers(database) == [*range(10), *range(100, 110)]
    await assert_sums_match(database)


POISON = [
    outcome(7, model="a\x00b"),
    outcome(7, model="a\nb"),
    outcome(7, request_id="not-a-uuid"),
    outcome(7, status=70_000),
    outcome(7, cost_pico=2**63 - 1 + 2**62),
    outcome(7, started_us=2**62),
    outcome(7, events=-(2**40)),
]


@pytest.mark.parametrize("poison", POISON, ids=["nul", "newline", "uuid", "smallint", "bigint", "date", "integer"])
async def test_a_refused_record_is_set_aside_alone(database: Pool, root: Path, spool: Spool, poison: object) -> None:
    """One record that cannot be a row is quarantined byte for byte; all around it are stored, once."""
    put(spool, *range(5))
    spool.settle(poison)  # type: ignore[arg-type]  # parametrize hides the type
    put(spool, *range(10, 15))
    shipper = await ship(database, root, spool)
    assert await stored_numbers(database) == [*range(5), *range(10, 15)]
    assert (shipper.accepted, shipper.stored, shipper.quarantined, shipper.spooled) == (11, 10, 1, 0)
    assert len(list((root / "quarantine").iterdir())) == 1
    await assert_sums_match(database)


async def test_damage_in_the_present_segment(database: Pool, root: Path, spool: Spool) -> None:
    """A flipped bit costs the record it hit, which is kept aside and counted; all around it are stored."""
    put(spool, 1, 2)
    spool.open(opening(3))
    at = spool.end.offset
    spool.settle(outcome(3))
    end = spool.end.offset
    put(spool, 5)
    path = spool.directory.segment_path(spool.end.segment)
    data = bytearray(path.read_bytes())
    data[at + 12] ^= 1
    path.write_bytes(data)
    shipper = Shipper(lambda: database, root, spool)
    shipper.start()
    await until(lambda: shipper.damaged_stretches == 1)
    put(spool, 4)
    await until(lambda: shipper.stored == 4)
    await until(lambda: shipper.quarantined == 1)
    assert spool.end.segment == 2  # nothing was appended behind the damage
    assert await shipper.drain(10)
    assert await stored_numbers(database) == [1, 2, 4, 5]
    assert (shipper.accepted, shipper.stored, shipper.quarantined, shipper.spooled) == (5, 4, 1, 0)
    (aside,) = (root / "quarantine").iterdir()
    assert aside.read_bytes() == bytes(data[at:end])
    await assert_sums_match(database)


async def test_a_database_that_is_away_loses_nothing(database: Pool, root: Path, spool: Spool) -> None:
    """Without a pool the shipper waits, says why in one word, and stores all when the database is back."""
    pools: list[Pool | None] = [None]
    shipper = Shipper(lambda: pools[0], root, spool)
    shipper.start()
    put(spool, *range(10))
    await until(lambda: sum(shipper.failures.values()) >= 2)
    assert shipper.last_error_code is Failure.UNREACHABLE
    assert (shipper.stored, shipper.spooled) == (0, 10)
    pools[0] = database
    await until(lambda: shipper.stored == 10)
    assert shipper.last_error_code is Failure.NONE
    assert await shipper.drain(10)
    assert await stored_numbers(database) == list(range(10))


async def test_a_read_only_database_is_waited_for(database: Pool, database_dsn: str, root: Path, spool: Spool) -> None:
    """A demoted primary accepts connections and refuses writes; the backlog drains when it is writable again."""
    name = database_dsn.partition("@/")[2].partition("?")[0]
    await database.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    pool = await open_pool(database_dsn)
    try:
        shipper = Shipper(lambda: pool, root, spool)
        shipper.start()
        put(spool, 1, 2)
        await until(lambda: shipper.last_error_code is Failure.READ_ONLY)
        await database.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
        await until(lambda: shipper.stored == 2)
        assert await shipper.drain(10)
    finally:
        await close_pool(pool)
    assert await stored_numbers(database) == [1, 2]


async def test_killed_connections_change_nothing(database: Pool, root: Path, spool: Spool) -> None:
    """Connections cut at random instants while records come: each is stored once, sums are exact."""
    shipper = Shipper(lambda: database, root, spool)
    shipper.start()
    chance = random.Random(2)
    direct = await database.acquire()
    own = direct.get_server_pid()
    sent = 0
    # Some kills meet a batch; on a quick machine few do, so it goes on until one has.
    while sent < 1000 or (not sum(shipper.failures.values()) and sent < 20_000):
        put(spool, *range(sent, sent + 40))
        sent += 40
        await asyncio.sleep(chance.random() * 0.03)
        await direct.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> $1",
            own,
        )
    await database.release(direct)
    await until(lambda: shipper.stored == sent, 30)
    assert await shipper.drain(20)
    assert sum(shipper.failures.values()) > 0
    assert await stored_numbers(database) == list(range(sent))
    await assert_sums_match(database)


async def test_a_commit_whose_answer_is_lost_counts_once(database: Pool, root: Path, spool: Spool) -> None:
    """The transaction commits, the shipper never hears of it, and rows are then dropped: nothing comes back."""
    state = {"commits": 0}

    def fail_once(step: str) -> None:
        if step == "committed":
            state["commits"] += 1
            if state["commits"] == 1:
                raise ConnectionResetError

    shipper = Shipper(lambda: database, root, spool, on_step=fail_once)
    put(spool, 1, 2, 3)
    shipper.start()
    await until(lambda: sum(shipper.failures.values()) == 1)
    await database.execute("TRUNCATE usage, usage_rollup, usage_rollup_daily")
    await until(lambda: shipper.stored == 3)
    put(spool, 4)
    assert await shipper.drain(10)
    assert await stored_numbers(database) == [4]
    assert (shipper.accepted, shipper.stored) == (4, 4)


async def test_a_hung_server_is_given_up_after_a_bounded_time(database: Pool, root: Path, spool: Spool) -> None:
    """A transaction that waits for ever is dropped at the attempt's limit, and the drain meets its deadline."""
    put(spool, 1)
    async with database.acquire() as blocker, blocker.transaction():
        await blocker.execute("LOCK TABLE usage IN ACCESS EXCLUSIVE MODE")
        shipper = Shipper(lambda: database, root, spool, attempt_s=0.5)
        shipper.start()
        await until(lambda: sum(shipper.failures.values()) >= 1)
        started = asyncio.get_running_loop().time()
        assert not await shipper.drain(0.3)
        assert asyncio.get_running_loop().time() - started < 2
    await ship(database, root, spool)
    assert await stored_numbers(database) == [1]


async def test_a_commit_waits_for_the_disk(database: Pool, root: Path, spool: Spool) -> None:
    """A database that is set to commit without waiting does wait for these: the spool deletes what was committed."""
    put(spool, 1)
    await ship(database, root, spool)
    async with database.acquire() as connection:
        await connection.execute("SET synchronous_commit = off")
        async with connection.transaction():
            await load_position(connection, uuid.uuid4())
            boot_id = await connection.fetchval("SELECT boot_id FROM spool_position")
            assert await move_position(connection, boot_id, Position(0, 0), Position(1, 5), closed=False)
            assert await connection.fetchval("SHOW synchronous_commit") == "on"
        assert await connection.fetchval("SHOW synchronous_commit") == "off"
        await connection.execute("SET synchronous_commit = remote_apply")
        async with connection.transaction():
            assert await move_position(connection, boot_id, Position(1, 5), Position(1, 6), closed=False)
            assert await connection.fetchval("SHOW synchronous_commit") == "remote_apply"
        await connection.execute("RESET synchronous_commit")


async def test_many_refused_records_in_one_batch(database: Pool, root: Path) -> None:
    """One in 4,000, and every hundredth of them: exactly these are set aside, in an adopted directory too."""
    for name, bad in (("own", range(2000, 2001)), ("own", range(0, 4000, 100)), ("adopted", range(50, 4000, 500))):
        spool = Spool(root, uuid.uuid4())
        for number in range(4000):
            spool.settle(outcome(number, model="a\x00b" if number in bad else "m"))
        if name == "adopted":
            spool.close()
            spool.directory.unlock()
        shipper = await ship(database, root, spool if name == "own" else None)
        assert await stored_numbers(database) == [number for number in range(4000) if number not in bad]
        assert (shipper.accepted, shipper.stored, shipper.quarantined) == (4000, 4000 - len(bad), len(bad))
        assert len(list((root / "quarantine").iterdir())) == len(bad)
        await assert_sums_match(database)
        await database.execute("TRUNCATE usage, usage_rollup, usage_rollup_daily, spool_position")
        shutil.rmtree(root / "quarantine")


KILLED = """
    import asyncio, os, signal, sys, uuid
    from pathlib import Path
    from luntrex_proxy.store.database import open_pool
    from luntrex_proxy.store.shipper import Shipper
    from luntrex_proxy.store.spool import Spool
    from tests.store.records import opening, outcome

    async def main():
        counts = {}
        def on_step(step):
            counts[step] = counts.get(step, 0) + 1
            if f"{step}:{counts[step]}" == sys.argv[3]:
                os.kill(os.getpid(), signal.SIGKILL)
        pool = await open_pool(sys.argv[1])
        spool = Spool(Path(sys.argv[2]), uuid.uuid4(), segment_bytes=4000)
        shipper = Shipper(lambda: pool, Path(sys.argv[2]), spool, on_step=on_step)
        spool.open(opening(900))
        for number in range(100):
            spool.open(opening(number))
            spool.settle(outcome(number, model="a\\x00b" if number == 40 else "m"))
            if number % 10 == 9:
                await asyncio.sleep(0.03)
                await shipper._round()
        spool.settle(outcome(900))
        await shipper.drain(30)

    asyncio.run(main())
"""
STEPS = [
    *("before_commit:1", "committed:1", "before_commit:2", "committed:2", "parked:1", "before_commit:6", "committed:6"),
    *("segment_deleted:1", "segment_deleted:2", "segment_deleted:3", "closed:1", "directory_removed:1"),
    "position_removed:1",
]


@pytest.mark.parametrize("step", STEPS)
async def test_kill_at_any_step_of_shipping(database: Pool, database_dsn: str, tmp_path: Path, step: str) -> None:
    """A process killed with SIGKILL at a step of shipping its own spool: the next one leaves each record once."""
    root = tmp_path / "spool"
    command = [sys.executable, "-c", textwrap.dedent(KILLED), database_dsn, str(root), step]
    killed = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = await stored_numbers(database)
    await ship(database, root)
    written = await stored_numbers(database)
    last = max(number for number in (*written, 0) if number < 900)
    assert written == [number for number in range(last + 1) if number != 40] + [900]
    assert set(before) <= set(written)
    assert len(list((root / "quarantine").iterdir() if last >= 40 else ())) == int(last >= 40)
    assert directories(root) == []
    assert await database.fetchval("SELECT count(*) FROM spool_position") in (0, 1)
    await assert_sums_match(database)


async def test_rows_on_both_sides_of_midnight(database: Pool, root: Path, spool: Spool) -> None:
    """A batch over three days makes the partitions it needs."""
    day_us = int(timedelta(days=1) / timedelta(microseconds=1))
    for number in range(3):
        spool.settle(outcome(number, started_us=outcome(0).started_us + number * day_us))
    await ship(database, root, spool)
    assert await stored_numbers(database) == [0, 1, 2]
    days = await database.fetch("SELECT DISTINCT tableoid::regclass::text FROM usage")
    assert len(days) == 3


async def test_two_shippers_at_once_share_the_sums(database: Pool, database_dsn: str, root: Path, spool: Spool) -> None:
    """Two processes adding to the same hours at the same time neither deadlock nor lose."""
    other = Spool(root, uuid.uuid4(), segment_bytes=100_000)
    for number in range(2000):
        model = f"model-{number * 7919 % 50}"
        (spool if number % 2 else other).settle(outcome(number, model=model))
    await asyncio.gather(ship(database, root, spool), ship(database, root, other))
    assert await stored_numbers(database) == list(range(2000))
    await assert_sums_match(database)
