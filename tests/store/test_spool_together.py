"""Records of one turn of the loop: one write, and nobody is told before it, whatever the disk makes of it."""

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from luntrex_proxy.core.ledger import LedgerFullError
from luntrex_proxy.core.outcome import Opening
from luntrex_proxy.store import spool as spool_module
from luntrex_proxy.store.segments import Position, read_chunk
from luntrex_proxy.store.spool import Spool
from tests.store.records import opening, outcome


class Turn:
    """A spool in a loop whose turns the test ends."""

    def __init__(self, root: Path, segment_bytes: int = 16 << 20, max_bytes: int = 64 << 20) -> None:
        self.soon: list[Callable[[], None]] = []
        self.spool = Spool(root, uuid.uuid4(), segment_bytes, max_bytes, self.soon.append)
        self.said: list[str] = []

    def open(self, number: int) -> None:
        self.spool.open(
            opening(number), lambda: self.said.append(f"opened {number}"), lambda: self.said.append(f"refused {number}")
        )

    def settle(self, number: int) -> None:
        self.spool.settle(outcome(number), lambda: self.said.append(f"settled {number}"))

    def end(self) -> None:
        while self.soon:
            self.soon.pop(0)()

    def written(self) -> list[str]:
        """What is in the files, in their order, the copies of openings at the start of a segment included."""
        found, at, path = [], Position(1, 0), self.spool.directory.path
        while True:
            chunk = read_chunk(path, at, 1000)
            # Each kind in its order: a request's opening always precedes its settle.
            for frame in (*chunk.openings, *chunk.settles):
                record = frame.record
                assert record is not None
                kind = "open" if isinstance(record, Opening) else "settle"
                found.append(f"{kind} {uuid.UUID(record.request_id).int & 0xFFFFFFFF}")
            if chunk.at_end:
                return found
            at = chunk.after


class Disk:
    """How many bytes a write may take; each write that was tried."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.writes: list[int] = []
        self.takes: list[int | None] = []  # of the next writes; None: an error. Afterwards all of them
        self._write = os.write
        monkeypatch.setattr(spool_module.os, "write", self.write)

    def write(self, fd: int, data: bytes) -> int:
        self.writes.append(len(data))
        takes = self.takes.pop(0) if self.takes else len(data)
        if takes is None:
            raise OSError(28, "no space")
        return self._write(fd, data[:takes])


@pytest.fixture
def turn(tmp_path: Path) -> Iterator[Turn]:
    made = Turn(tmp_path / "spool")
    made.spool.settle(outcome(999))  # a segment is there
    yield made
    made.spool.close()
    made.spool.directory.unlock()


def test_one_write_and_then_everybody_is_told(turn: Turn, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which they came; each of them finds its record in the file."""
    disk = Disk(monkeypatch)
    for number in range(5):
        turn.open(number)
    assert (disk.writes, turn.said, turn.written()) == ([], [], ["settle 999"])
    turn.end()
    assert len(disk.writes) == 1
    assert turn.said == [f"opened {number}" for number in range(5)]
    turn.open(5)
    for number in (3, 0):
        turn.settle(number)
    turn.spool.settle(outcome(998), lambda: turn.said.append(str(turn.written())))  # of no opening: at once, with all
    assert len(disk.writes) == 3
    assert turn.said[5] == str([*(f"open {n}" for n in range(6)), *(f"settle {n}" for n in (999, 3, 0, 998))])
    assert len(turn.said) == 6, "the others are not told on its stack"
    turn.end()
    assert turn.said[6:] == ["opened 5", "settled 3", "settled 0"]
    assert (len(disk.writes), turn.spool.unsettled, turn.spool.accepted) == (3, 4, 4)


def test_a_disk_without_room_refuses_openings_and_keeps_settles(turn: Turn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost: a settle waits in memory, its client has its answer, and it is written with the next one."""
    turn.open(1)
    turn.end()
    disk = Disk(monkeypatch)
    disk.takes = [None] * 20
    turn.open(2)
    turn.settle(1)
    turn.open(3)
    turn.end()
    assert turn.said == ["opened 1", "refused 2", "settled 1", "refused 3"]
    assert (turn.spool.waiting, turn.spool.unsettled, turn.spool.accepted) == (1, 1, 2)
    assert not turn.spool.takes_requests
    disk.takes = []
    turn.open(4)
    turn.end()
    assert turn.said[4:] == ["opened 4"]
    assert sorted(set(turn.written())) == ["open 1", "open 4", "settle 1", "settle 999"]
    assert (turn.spool.waiting, turn.spool.unsettled) == (0, 1)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.75, 0.99])
def test_what_is_whole_of_a_short_write_stays(turn: Turn, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """The rest goes to a new segment, with the openings that wait; no settle is there twice."""
    for number in range(4):
        turn.open(number)
    turn.end()
    for number in range(4, 8):
        turn.open(number)
    for number in range(4):
        turn.settle(number)
    disk = Disk(monkeypatch)
    disk.takes = [int(share * sum(len(frame) for frame in turn.spool._frames))]
    turn.end()
    assert turn.said[4:] == [*(f"opened {n}" for n in range(4, 8)), *(f"settled {n}" for n in range(4))]
    written = turn.written()
    assert sorted(each for each in written if each.startswith("settle")) == [
        *(f"settle {number}" for number in range(4)), "settle 999"
    ]  # fmt: skip
    assert {each for each in written if each.startswith("open")} == {f"open {number}" for number in range(8)}
    assert turn.spool.directory.segments() == [1, 2]
    assert (turn.spool.unsettled, turn.spool.accepted) == (4, 5)
    copies = read_chunk(turn.spool.directory.path, Position(2, 0), 1000).openings
    assert {frame.record for frame in copies} >= {opening(number) for number in range(4, 8)}


def test_a_turn_at_the_end_of_a_segment(tmp_path: Path) -> None:
    """It goes to the next one, whose first write copies what waits: older segments may go, recovery needs none."""
    turn = Turn(tmp_path / "spool", segment_bytes=2000)
    for number in range(30):
        for each in range(3):
            turn.open(3 * number + each)
        if number:
            turn.settle(3 * number - 3)
            turn.settle(3 * number - 2)
        turn.end()
    last = turn.spool.directory.segments()[-1]
    assert last > 3
    there = read_chunk(turn.spool.directory.path, Position(last, 0), 1000)
    waiting = {opening(3 * number + 2) for number in range(30)} | {opening(87), opening(88)}
    assert {frame.record for frame in there.openings} >= waiting - {opening(89)}
    assert turn.spool.accepted == 58
    assert turn.spool.unsettled == len(waiting) == 32
    turn.spool.close()
    turn.spool.directory.unlock()


def test_who_breaks_keeps_nobody_waiting(turn: Turn) -> None:
    """A bug in what one does with the word is its own: the others are told all the same, in the same turn."""

    def break_down() -> None:
        raise ZeroDivisionError

    turn.open(1)
    turn.spool.open(opening(2), break_down, break_down)
    turn.open(3)
    turn.spool.settle(outcome(4))
    with pytest.raises(ZeroDivisionError):
        turn.end()
    turn.end()
    assert turn.said == ["opened 1", "opened 3"]
    assert (turn.spool.unsettled, turn.spool.accepted) == (3, 2)
    turn.spool.open(opening(5), break_down, break_down)
    turn.spool.close()
    with pytest.raises(ZeroDivisionError):
        turn.end()


def test_a_segment_that_begins_amid_a_turn_has_the_openings_of_its_settles(
    turn: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A settle that waits is written to a new segment, while another one is put off and the disk fills up again."""
    disk = Disk(monkeypatch)
    for number in (1, 2):
        turn.open(number)
    turn.end()
    disk.takes = [None, None]
    turn.spool.settle(outcome(1))
    assert turn.spool.waiting == 1
    turn.settle(2)
    assert turn.spool.write_waiting()
    disk.takes = [None] * 9
    turn.end()
    assert turn.said[2:] == ["settled 2"]
    last = turn.spool.directory.segments()[-1]
    there = read_chunk(turn.spool.directory.path, Position(last, 0), 1000)
    ids = {number: opening(number).request_id for number in (1, 2)}
    ended = {frame.record.request_id for frame in there.settles if frame.record is not None}
    began = {frame.record.request_id for frame in there.openings if frame.record is not None}
    assert ids[2] in ended or ids[2] in began


def test_what_is_put_off_counts_against_the_bound(tmp_path: Path) -> None:
    """As many openings find room in one turn as one by one."""
    together = Turn(tmp_path / "a", max_bytes=40_000)
    singly = Turn(tmp_path / "b", max_bytes=40_000)
    counts = []
    for turn, is_ended in ((together, False), (singly, True)):
        number = 0
        with contextlib.suppress(LedgerFullError):
            for number in range(1000):
                turn.open(number)
                if is_ended:
                    turn.end()
        counts.append(number)
        turn.end()
        assert len(turn.said) == number
        turn.spool.close()
        turn.spool.directory.unlock()
    assert 0 < counts[0] <= counts[1] < 999


def test_an_end_writes_what_is_put_off(tmp_path: Path) -> None:
    """A process that stops does not wait for the end of a turn."""
    turn = Turn(tmp_path / "spool")
    turn.open(1)
    turn.end()
    turn.settle(1)
    turn.spool.close()
    assert turn.said == ["opened 1", "settled 1"]
    assert turn.written() == ["open 1", "settle 1"]
    turn.end()
    turn.spool.directory.unlock()
