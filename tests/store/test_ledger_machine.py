"""Spool, shipper and Postgres through any sequence of good and bad events: each settled request is stored once."""

import asyncio
import shutil
import uuid
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from luntrex_proxy.core.ledger import LedgerFullError
from luntrex_proxy.store import spool as spool_module
from luntrex_proxy.store import syncer as syncer_module
from luntrex_proxy.store.database import Pool, close_pool, open_pool
from luntrex_proxy.store.segments import directories
from luntrex_proxy.store.shipper import Shipper
from luntrex_proxy.store.spool import Spool
from tests.store.records import assert_sums_match, opening, outcome

T = TypeVar("T")
_TABLES = ("usage", "usage_rollup", "usage_rollup_daily", "spool_position")


def refuse(_fd: int, _data: bytes) -> int:
    """A disk without room."""
    raise OSError(28, "no space")


class LedgerMachine(RuleBasedStateMachine):
    """One live process after the other on one state directory; the model is what became of each request."""

    place = Path()
    runner: asyncio.Runner
    pool: Pool

    def __init__(self) -> None:
        super().__init__()
        self.root = self.place / uuid.uuid4().hex
        self.disk_full = pytest.MonkeyPatch()
        self.wait(self.pool.execute(f"TRUNCATE {', '.join(_TABLES)}"))
        self.number = 0
        self.running: set[int] = set()
        self.settled: set[int] = set()
        self.died: set[int] = set()  # opened by a process that died before the settle
        self.died_opening: set[int] = set()  # nobody was told of their opening: it may be there
        self.died_ending: set[int] = set()  # nobody was told of their settle: that or their opening is there
        self.dropped: set[int] = set()  # by retention: may never come back
        self.hit = 0  # records that bit rot may have cost
        self.backup: list[list[tuple[Any, ...]]] | None = None
        self.rots = False
        self.begin_process()

    @initialize(rots=st.sampled_from([False, False, False, True]))
    def choose(self, rots: bool) -> None:
        """In most runs the disk is sound, so that nothing at all may be missing."""
        self.rots = rots

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run on the machine's loop."""
        return self.runner.run(coroutine)

    def begin_process(self) -> None:
        """A new process: its spool and its shipper."""
        self.soon: list[Callable[[], None]] = []
        self.opening: set[int] = set()  # wait for the end of the turn, or for a record that comes alone before it
        self.ending: set[int] = set()  # their settle does
        self.spool = Spool(self.root, uuid.uuid4(), segment_bytes=900, soon=self.soon.append)
        self.shipper = Shipper(lambda: self.pool, self.root, self.spool, adopt_every_s=0)

    @rule()
    def open(self) -> None:
        """A request comes."""
        self.number += 1
        try:
            self.spool.open(opening(self.number))
            self.running.add(self.number)
        except LedgerFullError:
            assert self.spool.waiting or self.spool.write_errors

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """A request ends."""
        number = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(number)
        self.spool.settle(outcome(number))
        self.settled.add(number)

    @rule()
    def fill_the_disk(self) -> None:
        """From now on no byte is taken."""
        self.disk_full.setattr(spool_module.os, "write", refuse)

    @rule()
    def free_the_disk(self) -> None:
        """Room again."""
        self.disk_full.undo()

    @precondition(lambda self: self.running)
    @rule(count=st.integers(2, 12))
    def work(self, count: int) -> None:
        """Some requests come and end while others run on."""
        for _ in range(count):
            self.number += 1
            try:
                self.spool.open(opening(self.number))
            except LedgerFullError:
                return
            self.spool.settle(outcome(self.number))
            self.settled.add(self.number)

    @rule(count=st.integers(0, 8), ends=st.integers(0, 8))
    def begin_turn(self, count: int, ends: int) -> None:
        """Some come and others end, to be written together."""
        for number in sorted(self.running)[:ends]:
            self.running.discard(number)
            self.ending.add(number)
            self.spool.settle(outcome(number), partial(self.has_ended, number))
        for _ in range(count):
            self.number += 1
            has_come, has_not = partial(self.has_come, self.number), partial(self.opening.remove, self.number)
            try:
                self.spool.open(opening(self.number), has_come, has_not)
            except LedgerFullError:
                return
            self.opening.add(self.number)

    @rule()
    def end_turn(self) -> None:
        """They are."""
        while self.soon:
            self.soon.pop(0)()
        assert not self.opening
        assert not self.ending

    def has_come(self, number: int) -> None:
        """The ledger says of an opening that it is there."""
        self.opening.remove(number)
        self.running.add(number)

    def has_ended(self, number: int) -> None:
        """The ledger says of a settle that it is there, or kept in memory."""
        self.ending.remove(number)
        self.settled.add(number)

    @rule()
    def rotate(self) -> None:
        """The next record begins a segment."""
        self.spool.start_segment()

    @rule(rounds=st.integers(1, 6))
    def ship(self, rounds: int) -> None:
        """Some steps of the shipper: adopt, store, delete, close, remove."""

        async def steps() -> None:
            for _ in range(rounds):
                await self.shipper._round()

        self.wait(steps())

    @rule()
    def die(self) -> None:
        """SIGKILL: what was only in memory is gone, the lock with it; another process begins."""
        if self.spool.waiting:
            return  # such a settle is lost with the process: design section 6, the disk refused it
        for source in self.shipper._sources:
            source.directory.unlock()
        self.spool._syncer.stop()
        self.spool.directory.unlock()
        self.died |= self.running
        self.died_opening |= self.opening
        self.died_ending |= self.ending
        self.running.clear()
        self.disk_full.undo()
        self.begin_process()

    @rule()
    def back_up(self) -> None:
        """Keep the tables as they are now."""
        self.backup = [
            [tuple(row) for row in self.wait(self.pool.fetch(f"SELECT * FROM {table}"))] for table in _TABLES
        ]
        segments = set(self.spool.directory.segments()) or {self.spool.end.segment + 1}  # those after it go later
        self.kept = self.spool.directory.boot_id, segments, set(directories(self.root))

    @precondition(lambda self: self.backup is not None and not self.dropped)
    @rule()
    def restore(self) -> None:
        """Bring an older database back, while the spool still has all that came after it."""
        boot_id, segments, dead = self.kept
        if self.spool.directory.boot_id != boot_id or not segments <= set(self.spool.directory.segments()):
            return
        if not dead <= set(directories(self.root)):
            return
        assert self.backup is not None

        async def bring_back(backup: list[list[tuple[Any, ...]]]) -> None:
            async with self.pool.acquire() as connection, connection.transaction():
                await connection.execute(f"TRUNCATE {', '.join(_TABLES)}")
                for table, rows in zip(_TABLES, backup, strict=True):
                    await connection.copy_records_to_table(table, records=rows)

        self.wait(bring_back(self.backup))
        for source in self.shipper._sources:
            source.stored = None  # as after a failure: the connections of the old server are gone

    @rule()
    def retain(self) -> None:
        """Retention drops all that is stored; it must stay away."""
        rows = self.wait(self.pool.fetch("DELETE FROM usage RETURNING request_id"))
        self.wait(self.pool.execute("TRUNCATE usage_rollup, usage_rollup_daily"))
        self.dropped |= {row[0].int & 0xFFFFFFFF for row in rows}
        self.backup = None

    @precondition(lambda self: self.rots and not self.hit)
    @rule(which=st.integers(0, 99), place=st.integers(0, 9999), bit=st.integers(0, 7))
    def rot(self, which: int, place: int, bit: int) -> None:
        """A bit of a spool file goes bad."""
        paths = sorted(path for path in self.root.rglob("*-*/*.seg") if path.stat().st_size)
        if not paths:
            return
        path = paths[which % len(paths)]
        content = bytearray(path.read_bytes())
        content[place % len(content)] ^= 1 << bit
        path.write_bytes(content)
        self.hit = 1

    @invariant()
    def counters_add_up(self) -> None:
        """The identity, and no negative part."""
        shipper = self.shipper
        assert (
            shipper.accepted == shipper.stored + shipper.spooled + shipper.quarantined + shipper.expired + shipper.lost
        )
        assert shipper.spooled >= 0
        assert shipper.lost == shipper.expired == 0

    def teardown(self) -> None:
        """Every request ends, everything is shipped: the tables are what the model says."""
        try:
            self.disk_full.undo()
            self.end_turn()
            for number in sorted(self.running):
                self.spool.settle(outcome(number))
            self.settled |= self.running
            assert self.wait(self.shipper.drain(30))
            self.counters_add_up()
            assert self.shipper.spooled == 0
            rows = self.wait(self.pool.fetch("SELECT request_id, ending FROM usage"))
            found = {row[0].int & 0xFFFFFFFF: row[1] for row in rows}
            assert len(found) == len(rows)
            self.wait(assert_sums_match(self.pool))
            complete = {number for number, ending in found.items() if ending == "complete"}
            interrupted = set(found) - complete
            assert complete <= self.settled | self.died_ending
            assert len(set(found) & self.dropped) <= self.hit
            missing = (self.settled - complete) | (self.died - interrupted) | (self.died_ending - set(found))
            assert len(missing - self.dropped) <= self.hit
            may_be_cut = self.died | self.died_opening | self.died_ending
            assert interrupted <= may_be_cut | (self.settled if self.hit else set())
        finally:
            self.spool.close()
            self.spool.directory.unlock()
            shutil.rmtree(self.root, ignore_errors=True)


def test_any_sequence_of_events(database_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Openings, settles, full disks, deaths, adoptions, bit rot, restores and retention in any order."""
    monkeypatch.setattr(syncer_module, "_COMMIT_WINDOW_S", 0.0)
    with asyncio.Runner() as runner:
        pool = runner.run(open_pool(database_dsn, max_size=2))
        try:
            run_state_machine_as_test(
                type("Machine", (LedgerMachine,), {"runner": runner, "pool": pool, "place": tmp_path}),
                settings=settings(
                    max_examples=30, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
                ),
            )
        finally:
            runner.run(close_pool(pool))
