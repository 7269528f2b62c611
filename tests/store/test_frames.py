"""Damage to a segment, at every byte of it: what is sound is read, before and behind; what is not is reported."""

import uuid
from pathlib import Path

import pytest

from luntrex_proxy.core.outcome import Record
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.frames import (
    HEADER,
    Problem,
    encode_frame,
    encode_record,
    find_frame,
    frame_bytes,
    parse_frames,
)
from luntrex_proxy.store.segments import directories
from tests.store.power_cut import read_back
from tests.store.records import assert_sums_match, opening, outcome, ship, stored_numbers

RECORDS: list[Record] = [opening(1), outcome(1), opening(2), outcome(2, model='a","b'), opening(3), outcome(3)]
FRAMES = [encode_frame(record) for record in RECORDS]
DATA = b"".join(FRAMES)
ENDS = [sum(map(len, FRAMES[: index + 1])) for index in range(len(FRAMES))]


def kept(path: Path, data: bytes) -> tuple[list[Record], int]:
    """What is read of a segment with these bytes, sorted, and how many stretches are unreadable."""
    (path / "00000001.seg").write_bytes(data)
    found, damaged = read_back(path)
    return sorted(found, key=RECORDS.index), damaged


def test_both_ways_to_a_frame_make_the_same_one() -> None:
    """The quick one of the loop writes over its last record: longer, shorter, with a trail or without."""
    records = [*RECORDS, outcome(4, trail="ejected:a"), opening(5), outcome(6, model="m" * 2000), outcome(7, model="")]
    for record in (*records, *reversed(records)):
        frame = encode_frame(record)
        assert frame == frame_bytes(encode_record(record))
        assert [each.record for each in parse_frames(frame).frames] == [record]


@pytest.mark.parametrize("flipped", [0x01, 0x80, 0xFF], ids=hex)
def test_a_flipped_byte_costs_one_record(tmp_path: Path, flipped: int) -> None:
    """Wherever it is, also in a length or checksum: all other records are read, the one is reported."""
    for place in range(len(DATA)):
        hit = next(index for index, end in enumerate(ENDS) if place < end)
        data = DATA[:place] + bytes([DATA[place] ^ flipped]) + DATA[place + 1 :]
        assert kept(tmp_path, data) == (RECORDS[:hit] + RECORDS[hit + 1 :], 1), place


def test_a_cut_costs_what_is_behind_it(tmp_path: Path) -> None:
    """Cut anywhere: every whole record is read; a rest is reported."""
    for length in range(len(DATA)):
        whole = sum(end <= length for end in ENDS)
        torn = length not in (0, *ENDS)
        assert kept(tmp_path, DATA[:length]) == (RECORDS[:whole], int(torn)), length


HOLES = [b"", b"\x00", bytes(600), b"\xff" * 600, b'["open",' * 9, DATA[:5], FRAMES[2][:-1], FRAMES[2][1:]]


@pytest.mark.parametrize("hole", HOLES, ids=range(len(HOLES)))
def test_reading_goes_on_behind_anything(tmp_path: Path, hole: bytes) -> None:
    """Whatever stands in the place of a record, the sound ones around it are read."""
    data = b"".join(FRAMES[:2]) + hole + b"".join(FRAMES[3:])
    assert kept(tmp_path, data) == (RECORDS[:2] + RECORDS[3:], int(hole != b""))


def test_a_frame_is_found_by_its_checksum_alone() -> None:
    """What looks like the beginning of a record is none while its checksum is wrong."""
    fake = HEADER.pack(20, 1) + b'["settle",0123456789'
    assert find_frame(fake + FRAMES[0], 0) == len(fake)
    assert find_frame(fake, 0) == -1
    assert find_frame(b"", 0) == -1
    assert parse_frames(fake).problem is Problem.CORRUPT


@pytest.mark.parametrize("place", range(0, len(DATA), 97))
async def test_a_damaged_directory_is_stored_but_for_one(database: Pool, tmp_path: Path, place: int) -> None:
    """The same through the shipper: the record that was hit is in quarantine, its opening becomes interrupted."""
    path = tmp_path / str(uuid.uuid4())
    path.mkdir()
    (path / "00000001.seg").write_bytes(DATA[:place] + bytes([DATA[place] ^ 4]) + DATA[place + 1 :])
    shipper = await ship(database, tmp_path)
    hit = next(index for index, end in enumerate(ENDS) if place < end)
    assert await stored_numbers(database) == [1, 2, 3]
    assert shipper.interrupted == hit % 2
    assert shipper.damaged_stretches + shipper.torn_tails == 1
    assert shipper.accepted == shipper.stored == 3
    (aside,) = (tmp_path / "quarantine").iterdir()
    assert aside.stat().st_size == len(FRAMES[hit])
    assert directories(tmp_path) == []
    await assert_sums_match(database)
