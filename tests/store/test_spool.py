"""The spool: frames that survive any cut, appends that survive a full disk, segments that stand alone."""

import os
import shutil
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.core.ledger import LedgerFullError
from luntrex_proxy.core.outcome import Opening, Outcome, Record
from luntrex_proxy.store import quarantine as quarantine_module
from luntrex_proxy.store import spool as spool_module
from luntrex_proxy.store.frames import HEADER, Frame, Problem, encode_frame, parse_frames
from luntrex_proxy.store.quarantine import set_aside
from luntrex_proxy.store.segments import Chunk, Position, SpoolDirectory, read_chunk
from luntrex_proxy.store.spool import Spool
from tests.store.records import opening, outcome, records_in

RECORDS: list[Record] = [opening(1), outcome(1), opening(2), outcome(2, model="other"), opening(3)]
DATA = b"".join(encode_frame(record) for record in RECORDS)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path / "spool", uuid.uuid4())
    yield made
    made.close()
    made.directory.unlock()


def test_records_come_back_as_they_were() -> None:
    """Parsing all bytes gives the records and the frame borders."""
    frames, consumed, problem = parse_frames(DATA)
    assert [frame.record for frame in frames] == RECORDS
    assert (consumed, problem) == (len(DATA), Problem.NONE)
    assert all(encode_frame(RECORDS[i]) == DATA[frame.start : frame.end] for i, frame in enumerate(frames))


@given(st.lists(st.integers(1, len(DATA)), max_size=12))
def test_any_cut_gives_the_same_records(cuts: list[int]) -> None:
    """Fed in pieces, byte by byte included, the same records come out; what is torn waits for the rest."""
    for borders in (sorted({*cuts, len(DATA)}), range(1, len(DATA) + 1) if not cuts else [len(DATA)]):
        found: list[Record | None] = []
        rest, start = b"", 0
        for border in borders:
            rest += DATA[start:border]
            start = border
            frames, consumed, problem = parse_frames(rest)
            assert problem is (Problem.TORN if consumed < len(rest) else Problem.NONE)
            found += [frame.record for frame in frames]
            rest = rest[consumed:]
        assert found == RECORDS


@given(st.integers(0, len(DATA) - 1), st.integers(0, 7))
def test_a_flipped_bit_never_makes_another_record(place: int, bit: int) -> None:
    """Records before the damage are exact, the damage is reported, nothing after it is invented."""
    damaged = bytearray(DATA)
    damaged[place] ^= 1 << bit
    frames, consumed, problem = parse_frames(bytes(damaged))
    assert [frame.record for frame in frames] == RECORDS[: len(frames)]
    assert consumed <= place
    assert problem is not Problem.NONE


@given(st.binary(max_size=300))
def test_garbage_is_reported(garbage: bytes) -> None:
    """Random bytes neither raise nor pass for whole frames."""
    _, consumed, problem = parse_frames(garbage)
    assert consumed == len(garbage) or problem is not Problem.NONE


def test_a_sound_frame_of_another_kind_is_passed_over_alone() -> None:
    """A payload with a right checksum that is no record of ours costs only itself."""
    import zlib

    alien = HEADER.pack(3, zlib.crc32(b"\xc1ab")) + b"\xc1ab"
    frames, _, problem = parse_frames(alien + encode_frame(RECORDS[0]))
    assert [frame.record for frame in frames] == [None, RECORDS[0]]
    assert problem is Problem.NONE


def test_zeros_at_the_end_are_damage() -> None:
    """A block of zeros, as file systems leave after a power cut, is no record."""
    assert parse_frames(DATA + bytes(64)).problem is Problem.CORRUPT


def every(chunk: Chunk) -> list[Frame]:
    """The frames of a chunk in their order."""
    return sorted(chunk.openings + chunk.settles, key=lambda frame: frame.start)


def test_a_growing_file_is_read_once(tmp_path: Path) -> None:
    """Reading again and again while a file grows byte by byte gives each record once, in order."""
    path = tmp_path / "00000001.seg"
    found: list[Record | None] = []
    at = Position(0, 0)
    with path.open("wb", buffering=0) as segment:
        for index in range(len(DATA)):
            segment.write(DATA[index : index + 1])
            chunk = read_chunk(tmp_path, at, 2)
            found += [frame.record for frame in every(chunk)]
            at = chunk.after
    assert found == RECORDS


def test_open_and_settle_are_in_the_file_on_return(spool: Spool) -> None:
    """Both records can be read by another process as soon as the calls return; counters follow."""
    spool.open(opening(1))
    assert (spool.unsettled, spool.accepted) == (1, 0)
    spool.settle(outcome(1))
    assert records_in(spool.directory.path) == [opening(1), outcome(1)]
    assert (spool.unsettled, spool.accepted, spool.waiting) == (0, 1, 0)
    assert spool.end == Position(1, spool.size_bytes)


def test_directory_and_files_are_private(spool: Spool) -> None:
    """Only the service user reads the spool."""
    spool.open(opening(1))
    path = spool.directory.path
    assert path.stat().st_mode & 0o777 == 0o700
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {entry.stat().st_mode & 0o777 for entry in path.iterdir()} == {0o600}


def test_unknown_callers_are_not_in_the_ledger(spool: Spool) -> None:
    """An outcome without account leaves no trace on disk, so a flood of wrong keys fills nothing."""
    spool.settle(outcome(1, account_id=0))
    assert (spool.accepted, spool.size_bytes) == (0, 0)


def test_a_refused_request_needs_no_opening(spool: Spool) -> None:
    """A settle without opening is a record like others."""
    spool.settle(outcome(1, status=429, code="rate_limited"))
    assert spool.accepted == 1
    assert len(records_in(spool.directory.path)) == 1


def test_segments_rotate_and_each_carries_what_is_open(tmp_path: Path) -> None:
    """A new segment begins with the openings that still wait, so older segments are not needed to find them."""
    spool = Spool(tmp_path, uuid.uuid4(), segment_bytes=600)
    spool.open(opening(1))
    for number in range(2, 12):
        spool.open(opening(number))
        spool.settle(outcome(number))
    numbers = spool.directory.segments()
    assert len(numbers) > 2
    last = spool.directory.segment_path(numbers[-1]).read_bytes()
    records = [frame.record for frame in parse_frames(last).frames]
    waiting = {record.request_id for record in records if isinstance(record, Opening)}
    waiting -= {record.request_id for record in records if isinstance(record, Outcome)}
    assert waiting == {opening(1).request_id}
    deadline = time.monotonic() + 5
    while spool.deletable_below < numbers[-1]:
        assert time.monotonic() < deadline  # as soon as the copies are synced
        time.sleep(0.005)
    spool.close()
    spool.directory.unlock()


def test_a_full_spool_refuses_openings_and_still_takes_their_settles(tmp_path: Path) -> None:
    """At the bound new requests are refused; whatever was opened can be settled within it."""
    spool = Spool(tmp_path, uuid.uuid4(), max_bytes=20_000)
    opened = []
    try:
        for number in range(10_000):
            spool.open(opening(number))
            opened.append(number)
    except LedgerFullError:
        pass
    assert 0 < len(opened) < 10_000
    for number in range(100):
        spool.settle(outcome(20_000 + number, status=503, code="ledger_full"))
    assert spool.unrecorded > 90
    for number in opened:
        spool.settle(outcome(number))
    assert spool.size_bytes <= 20_000
    assert (spool.accepted, spool.unsettled) == (len(opened) + 100 - spool.unrecorded, 0)
    spool.hold(-spool.size_bytes)
    spool.open(opening(20_000))
    spool.close()
    spool.directory.unlock()


def test_a_settle_the_disk_refuses_waits_and_is_written_later(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC at settle loses nothing: the record waits, new requests are refused, then it is written once."""
    spool.open(opening(1))
    spool.open(opening(2))
    spool.settle(outcome(2))

    def refuse(fd: int, data: bytes) -> int:
        raise OSError(28, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(spool_module.os, "write", refuse)
        spool.settle(outcome(1))
        for _ in range(5):
            with pytest.raises(LedgerFullError):
                spool.open(opening(3))
        spool.settle(outcome(9, code="ledger_full"))
    assert (spool.accepted, spool.waiting, spool.unrecorded, spool.unsettled) == (2, 1, 1, 1)
    assert len(spool.directory.segments()) == 2  # one try in a new segment, no row of empty ones
    spool.open(opening(3))
    assert (spool.accepted, spool.waiting, spool.unsettled) == (2, 0, 1)
    found = records_in(spool.directory.path)
    assert [record for record in found if isinstance(record, Outcome)] == [outcome(2), outcome(1)]
    # The new segment stands alone: the opening was carried over before its settle.
    assert found[3:] == [opening(1), outcome(1), opening(3)]


def test_half_a_write_leaves_no_half_record(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short write is taken back and the record goes to a new segment, whole."""
    spool.open(opening(1))
    real, calls = os.write, []

    def short(fd: int, data: bytes) -> int:
        calls.append(1)
        return real(fd, data[:20] if len(calls) == 1 else data)

    monkeypatch.setattr(spool_module.os, "write", short)
    spool.settle(outcome(1))
    assert records_in(spool.directory.path) == [opening(1), opening(1), outcome(1)]
    assert spool.waiting == 0


def test_a_torn_write_that_cannot_be_taken_back_is_passed(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where even truncation fails, the next segment has the record and the reader gets past the torn end."""
    spool.open(opening(1))
    real, calls = os.write, []

    def short(fd: int, data: bytes) -> int:
        calls.append(1)
        return real(fd, data[:20] if len(calls) == 1 else data)

    def refuse(fd: int, length: int) -> None:
        raise OSError(5, "input/output error")

    monkeypatch.setattr(spool_module.os, "write", short)
    monkeypatch.setattr(spool_module.os, "ftruncate", refuse)
    spool.settle(outcome(1))
    path = spool.directory.path
    chunk = read_chunk(path, Position(0, 0), 100)
    torn = read_chunk(path, chunk.after, 100)
    assert (torn.problem, torn.at_end) == (Problem.TORN, False)
    assert [frame.record for frame in every(read_chunk(path, Position(2, 0), 100))] == [opening(1), outcome(1)]


def test_bytes_are_synced_within_the_window_and_once_for_many(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many records share one fdatasync; nothing to write, nothing synced."""
    synced: list[int] = []
    real = os.fdatasync
    monkeypatch.setattr(spool_module.os, "fdatasync", lambda fd: (synced.append(fd), real(fd))[1])
    for number in range(200):
        spool.open(opening(number))
    deadline = time.monotonic() + 5
    while not synced and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert 1 <= len(synced) <= 3


def test_a_failed_sync_is_never_repeated_on_the_same_file(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed fdatasync the segment gets no more bytes and no second try; records go on in a new one."""
    synced: list[int] = []

    def fail_once(fd: int) -> None:
        synced.append(fd)
        if len(synced) == 1:
            raise OSError(5, "input/output error")

    monkeypatch.setattr(spool_module.os, "fdatasync", fail_once)
    spool.open(opening(1))
    deadline = time.monotonic() + 5
    while not spool.fsync_errors and time.monotonic() < deadline:
        time.sleep(0.01)
    spool.settle(outcome(1))
    assert spool.end.segment == 2
    spool.close()
    assert spool.fsync_errors == 1
    assert synced.count(synced[0]) == 1
    assert records_in(spool.directory.path) == [opening(1), opening(1), outcome(1)]


def test_file_size_limit_in_a_real_process(tmp_path: Path) -> None:
    """With RLIMIT_FSIZE the kernel itself cuts writes short: every record is there, whole, once."""
    script = """
        import resource, sys, uuid
        from pathlib import Path
        from luntrex_proxy.store.spool import Spool
        from tests.store.records import opening, outcome
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        spool = Spool(Path(sys.argv[1]), uuid.UUID(int=5))
        for number in range(100):
            spool.open(opening(number))
            spool.settle(outcome(number))
        assert (spool.accepted, spool.waiting) == (100, 0), spool.accepted
        spool.close()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], check=True)
    settled = [record for record in records_in(tmp_path / str(uuid.UUID(int=5))) if isinstance(record, Outcome)]
    assert settled == [outcome(number) for number in range(100)]


def test_a_full_file_system_in_a_real_process(tmp_path: Path) -> None:
    """On a tmpfs of 64 KiB the kernel says ENOSPC in the midst of frames: none is lost, none is there twice."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine allows no mount namespaces")
    script = """
        import shutil, sys, uuid
        from pathlib import Path
        from luntrex_proxy.core.ledger import LedgerFullError
        from luntrex_proxy.store.spool import Spool
        from tests.store.records import opening, outcome, records_in
        place = Path(sys.argv[1])
        (place / "ballast").write_bytes(bytes(8192))
        spool = Spool(place / "spool", uuid.UUID(int=6))
        opened = []
        try:
            for number in range(1000):
                spool.open(opening(number))
                opened.append(number)
        except LedgerFullError:
            pass
        assert 100 < len(opened) < 1000, len(opened)
        assert not spool.takes_requests
        for number in opened:
            spool.settle(outcome(number))
        assert spool.accepted == len(opened) and spool.waiting > 0
        (place / "ballast").unlink()
        spool.write_waiting()  # some find room, some do not
        assert spool.accepted == len(opened)
        before = len(opened) - spool.waiting
        shutil.copytree(spool.directory.path, sys.argv[2], ignore=shutil.ignore_patterns("lock"))
        settled = [record for record in records_in(Path(sys.argv[2])) if record.__class__.__name__ == "Outcome"]
        assert len(settled) == len({record.request_id for record in settled}) == before
    """
    mount = f'mount -t tmpfs -o size=64k tmpfs {tmp_path} && exec {sys.executable} -c "$0" {tmp_path} /dev/shm/$$'
    place = Path("/dev/shm") / f"lx-{os.getpid()}"
    mount = mount.replace("/dev/shm/$$", str(place))
    try:
        subprocess.run([*unshare, "sh", "-c", mount, textwrap.dedent(script)], check=True, timeout=60)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def test_closing_syncs_and_takes_nothing_more(tmp_path: Path) -> None:
    """After close a new request is refused and a refusal is not recorded."""
    spool = Spool(tmp_path, uuid.uuid4())
    spool.open(opening(1))
    spool.settle(outcome(1))
    spool.close()
    spool.close()
    with pytest.raises(LedgerFullError):
        spool.open(opening(2))
    spool.settle(outcome(3))
    assert (spool.accepted, spool.unrecorded) == (1, 1)
    spool.directory.unlock()


def test_a_directory_has_one_holder(tmp_path: Path) -> None:
    """Nobody adopts a live directory; a dead one is adopted once; its records are not overwritten by a reused id."""
    boot_id = uuid.uuid4()
    spool = Spool(tmp_path, boot_id)
    spool.open(opening(1))
    assert SpoolDirectory.adopt(spool.directory.path) is None
    with pytest.raises(BlockingIOError):
        SpoolDirectory.create(tmp_path, boot_id)
    spool.close()
    spool.directory.unlock()
    with pytest.raises(FileExistsError):
        Spool(tmp_path, boot_id)
    adopted = SpoolDirectory.adopt(spool.directory.path)
    assert adopted is not None
    assert SpoolDirectory.adopt(spool.directory.path) is None
    adopted.remove()
    assert list(tmp_path.iterdir()) == []
    assert SpoolDirectory.adopt(spool.directory.path) is None


def test_a_removal_cut_short_is_finished(tmp_path: Path) -> None:
    """An empty directory without lock, as a killed removal leaves it, goes away; one with records is adopted."""
    empty, full = tmp_path / str(uuid.uuid4()), tmp_path / str(uuid.uuid4())
    empty.mkdir()
    full.mkdir()
    (full / "00000001.seg").write_bytes(DATA)
    assert SpoolDirectory.adopt(empty) is None
    assert not empty.exists()
    adopted = SpoolDirectory.adopt(full)
    assert adopted is not None
    assert adopted.segments() == [1]
    adopted.unlock()


def test_setting_aside_twice_makes_one_copy(spool: Spool) -> None:
    """The quarantine holds the exact bytes, privately, once."""
    spool.open(opening(1))
    spool.settle(outcome(1))
    for _ in range(2):
        set_aside(spool.directory, Position(1, len(encode_frame(opening(1)))), None)
    (copy,) = (spool.directory.path.parent / quarantine_module.QUARANTINE).iterdir()
    assert copy.read_bytes() == encode_frame(outcome(1))
    assert copy.stat().st_mode & 0o777 == 0o600
