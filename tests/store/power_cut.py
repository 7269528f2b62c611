"""A power cut, simulated: the spool writes on a recorded disk, of which only what was synced is sure to be there.

Every call the spool makes is recorded with its place in time. A cut takes a moment of that record and makes a disk that
the machine could come back with: each file as at its last good fdatasync, plus any prefix of what was done to it since,
plus any subset of the pages in that; names made or removed since the last good fsync of the directory there or not.

What must hold (the docstring of `store/spool.py`): a settle written before the last whole round of syncs began is
readable, except in a segment whose sync failed; so is the opening of each such request that is not settled, also when
the shipper deleted older segments; nothing is readable that was not written.
"""

import contextlib
import errno
import os
import random
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from luntrex_proxy.core.ledger import LedgerFullError
from luntrex_proxy.core.outcome import Opening, Outcome
from luntrex_proxy.store import spool as spool_module
from luntrex_proxy.store import syncer as syncer_module
from luntrex_proxy.store.frames import Problem, decode_record, encode_frame
from luntrex_proxy.store.segments import Position, next_sound, read_chunk
from luntrex_proxy.store.spool import Spool
from tests.store.records import opening, outcome

_PAGE = 512  # smaller than any real one, for more ways to tear


class Disk:
    """Does what is asked on the real disk and writes it down; now and then it refuses."""

    def __init__(self, dice: random.Random, faults: float) -> None:
        self.log: list[tuple[Any, ...]] = []
        self._dice = dice
        self._faults = faults
        self._lock = threading.Lock()
        self._names: dict[int, str] = {}

    def note(self, *event: Any) -> None:
        """Put something into the record."""
        with self._lock:
            self.log.append(event)

    def _fails(self) -> bool:
        return self._dice.random() < self._faults

    def open_private(self, path: Path, flags: int) -> int:
        """Make a segment."""
        fd = os.open(path, flags, 0o600)
        self._names[fd] = path.name
        self.note("create", path.name)
        return fd

    def write(self, fd: int, data: bytes) -> int:
        """Append, or a part of it, or nothing."""
        if self._fails():
            if self._dice.random() < 0.5:
                raise OSError(errno.ENOSPC, "no space")
            data = data[: self._dice.randrange(len(data))]
        with self._lock:
            self.log.append(("write", self._names[fd], data))
            return os.write(fd, data)

    def ftruncate(self, fd: int, length: int) -> None:
        """Cut a segment, or fail to."""
        if self._fails():
            raise OSError(errno.EIO, "input/output error")
        with self._lock:
            self.log.append(("truncate", self._names[fd], length))
            os.ftruncate(fd, length)

    def fdatasync(self, fd: int) -> None:
        """What was written before the call is on the disk when it returns."""
        self.note("sync", self._names[fd])
        if self._fails():
            self.note("sync failed", self._names[fd])
            raise OSError(errno.EIO, "input/output error")
        self.note("synced", self._names[fd])

    def sync_directory(self, _path: Path) -> None:
        """The same for names."""
        self.note("sync names")
        if self._fails():
            self.note("names failed")
            raise OSError(errno.EIO, "input/output error")
        self.note("names synced")

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """The spool works on this disk."""
        shim = SimpleNamespace(**{name: getattr(os, name) for name in dir(os) if not name.startswith("__")})
        shim.write, shim.ftruncate, shim.fdatasync = self.write, self.ftruncate, self.fdatasync
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(spool_module, "os", shim)
            patch.setattr(spool_module, "open_private", self.open_private)
            patch.setattr(syncer_module, "os", shim)
            patch.setattr(syncer_module, "sync_directory", self.sync_directory)
            patch.setattr(syncer_module, "_COMMIT_WINDOW_S", 0.0003)
            real: Callable[[Any], None] = syncer_module.Syncer._sync_all

            def round_of_syncs(syncer: Any) -> None:
                self.note("round")
                real(syncer)
                self.note("round over")

            patch.setattr(syncer_module.Syncer, "_sync_all", round_of_syncs)
            yield


def record_a_run(root: Path, dice: random.Random, steps: int, faults: float) -> list[tuple[Any, ...]]:
    """Requests that open and settle, and a shipper that deletes what it may; what the disk was asked for."""
    disk = Disk(dice, faults)
    with disk.in_use():
        soon: list[Callable[[], None]] = []
        spool = Spool(root, uuid.uuid4(), segment_bytes=dice.choice((600, 1500, 4000)), soon=soon.append)
        running: list[int] = []
        together = dice.choice((0.0, 0.8, 1.0))  # so many are written with others

        def has_begun(number: int) -> None:
            disk.note("opened", opening(number))
            running.append(number)

        def was_refused(number: int) -> None:
            disk.note("refused", opening(number))

        def has_ended(number: int) -> None:
            disk.note("settled" if not spool.waiting else "waits", outcome(number))

        for number in range(steps):
            if dice.random() < 0.55 or not running:
                with contextlib.suppress(LedgerFullError):
                    if dice.random() < together:
                        disk.note("given", opening(number))
                        spool.open(opening(number), partial(has_begun, number), partial(was_refused, number))
                    else:
                        spool.open(opening(number))
                        has_begun(number)
            else:
                done = running.pop(dice.randrange(len(running)))
                then = partial(has_ended, done)
                if dice.random() < together:
                    disk.note("given", outcome(done))
                    spool.settle(outcome(done), then)
                else:
                    spool.settle(outcome(done))
                    then()
            while soon and dice.random() < 0.3:
                soon.pop(0)()
            if dice.random() < 0.1:
                threading.Event().wait(0.001)  # the syncer comes to work
            if dice.random() < 0.1:
                below = spool.deletable_below
                for segment in spool.directory.segments():
                    if segment < below:
                        disk.note("delete", f"{segment:08d}.seg")
                        spool.directory.delete_segment(segment)
        log = list(disk.log)
        spool.close()
        spool.directory.remove()
    return log


@dataclass
class _File:
    """A file on the recorded disk."""

    synced: bytes = b""
    undone: list[tuple[Any, ...]] = field(default_factory=list)  # since then
    at_sync: int = 0  # how many of these a running sync covers
    failed: bool = False  # a sync failed: what was not synced by then may be gone for ever
    named: bool = False  # the name is on the disk
    named_at_sync: bool = False
    deleted: bool = False


def _apply(data: bytes, changes: list[tuple[Any, ...]]) -> bytes:
    for change, value in changes:
        data = data[:value] if change == "truncate" else data + value
    return data


def cut(log: list[tuple[Any, ...]], moment: int, dice: random.Random, into: Path) -> dict[str, _File]:
    """Make in `into` a disk as it may come back after a cut at this moment."""
    files: dict[str, _File] = {}
    for kind, *rest in log[:moment]:
        file = files.get(rest[0], _File()) if rest and isinstance(rest[0], str) else _File()
        match kind:
            case "create":
                files[rest[0]] = _File()
            case "write" | "truncate":
                file.undone.append((kind, rest[1]))
            case "sync":
                file.at_sync = len(file.undone)
            case "synced":
                file.synced = _apply(file.synced, file.undone[: file.at_sync])
                del file.undone[: file.at_sync]
            case "sync failed":
                file.failed = True
            case "sync names":
                for each in files.values():
                    each.named_at_sync = True
            case "names synced":
                for each in files.values():
                    each.named |= each.named_at_sync
            case "delete":
                file.deleted = True
    for name, file in files.items():
        if (file.named and not file.deleted) or dice.random() < 0.5:
            (into / name).write_bytes(_torn(file, dice))
    return files


def _torn(file: _File, dice: random.Random) -> bytes:
    data = bytearray(_apply(file.synced, file.undone[: dice.randint(0, len(file.undone))]))
    sure = len(file.synced)
    if len(data) > sure and dice.random() < 0.7:
        del data[dice.randint(sure, len(data)) :]
    if dice.random() < 0.5:
        for start in range(sure, len(data), _PAGE):
            if dice.random() < 0.3:
                end = min(start + _PAGE, len(data))
                data[start:end] = bytes(end - start)
    return bytes(data)


def read_back(path: Path) -> tuple[list[Any], int]:
    """All that is readable after the cut, in the shipper's way, and how many stretches are not."""
    found: list[Any] = []
    at, damaged = Position(0, 0), 0
    while True:
        chunk = read_chunk(path, at, 1000)
        found += [decode_record(frame.payload) for frame in (*chunk.openings, *chunk.settles)]
        at = chunk.after
        if chunk.problem is not Problem.NONE:
            damaged += 1
            at = next_sound(path, at)
        elif chunk.at_end:
            return found, damaged


def check(log: list[tuple[Any, ...]], moment: int, files: dict[str, _File], path: Path) -> None:
    """Raises AssertionError when the cut broke a promise."""
    found, _ = read_back(path)
    past = log[:moment]
    ends = [at for at, event in enumerate(past) if event[0] == "round over"]
    begins = [at for at, event in enumerate(past) if event[0] == "round"]
    whole = [
        begin
        for begin, end in zip(begins, ends, strict=False)
        if not any(event[0] in ("names failed", "sync failed") for event in past[begin:end])
    ]
    begin = max(whole, default=0)
    written = [event[1] for event in past if event[0] in ("opened", "settled", "waits")]
    last = log[moment][1] if moment < len(log) and log[moment][0] in ("opened", "settled", "waits") else None
    assert all(record in written or record == last or _is_under_way(record, log, moment) for record in found)
    shipped = b"".join(_apply(file.synced, file.undone) for file in files.values() if file.deleted)
    failed = b"".join(_apply(file.synced, file.undone) for file in files.values() if file.failed)
    ended = {record.request_id for record in found if isinstance(record, Outcome)}
    for kind, record, *_ in (event for event in past[:begin] if event[0] in ("opened", "settled")):
        frame = encode_frame(record)
        if kind == "settled":
            assert record in found or frame in shipped or frame in failed, "a synced settle is gone"
        elif record.request_id not in ended and encode_frame(_outcome_of(record)) not in shipped + failed:
            assert record in found or frame in failed, "the opening of a request without a settle is gone"


def _outcome_of(record: Opening) -> Outcome:
    return outcome(uuid.UUID(record.request_id).int & 0xFFFFFFFF)


def _is_under_way(record: Opening | Outcome | None, log: list[tuple[Any, ...]], moment: int) -> bool:
    """Written, and not yet noted as opened or settled when the power went."""
    past = log[:moment]
    if ("given", record) in past and ("refused", record) not in past:
        return True
    following = (event[1] for event in log[moment:] if event[0] in ("opened", "settled", "waits"))
    return record is not None and record == next(following, None)


def run_trials(root: Path, trials: int, seed: int, show: Callable[[int], None] = lambda _done: None) -> dict[str, int]:
    """So many cuts, twenty of each recorded run; how many were made and how many found damage."""
    dice = random.Random(seed)
    counts = {"runs": 0, "cuts": 0, "with damage": 0, "records read": 0}
    while counts["cuts"] < trials:
        faults = dice.choice((0.0, 0.0, 0.03))
        log = record_a_run(root / "spool", dice, 150, faults)
        counts["runs"] += 1
        for _ in range(20):
            into = root / f"cut-{counts['cuts']}"
            into.mkdir()
            moment = dice.randint(0, len(log))
            files = cut(log, moment, dice, into)
            check(log, moment, files, into)
            found, damaged = read_back(into)
            counts["with damage"] += damaged > 0
            counts["records read"] += len(found)
            for path in into.iterdir():
                path.unlink()
            into.rmdir()
            counts["cuts"] += 1
        show(counts["cuts"])
    return counts
