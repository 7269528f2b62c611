"""Writing to stderr never makes the caller wait, and bursts are limited and counted."""

import os

from luntrex_proxy.observe.writer import Burst, Writer


def test_a_reader_that_stops_reading_does_not_stop_us() -> None:
    """With a full pipe offers return at once, and are refused when the bound is reached."""
    read_end, write_end = os.pipe()
    writer = Writer(write_end, limit_bytes=1 << 20)
    chunk = b"x" * 65_535 + b"\n"
    taken = [writer.offer(chunk) for _ in range(100)]  # nobody reads yet: one that waited would wait for ever
    assert taken == [True] * 16 + [False] * 84
    received = 0
    while received < 16 * len(chunk):
        received += len(os.read(read_end, 1 << 20))
    writer.close(5)
    os.close(write_end)
    assert os.read(read_end, 10) == b""
    os.close(read_end)


def test_a_non_blocking_descriptor_loses_nothing() -> None:
    """Somebody who shares our stderr may have made it non-blocking; partial writes are completed."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    writer = Writer(write_end)
    data = bytes(range(256)) * 4096
    assert writer.offer(data)
    received = b""
    while len(received) < len(data):
        received += os.read(read_end, 1 << 20)
    assert received == data
    writer.close(5)
    os.close(read_end)
    os.close(write_end)


def test_a_reader_that_went_away_is_survived_and_close_ends_the_taking() -> None:
    """EPIPE ends the write, not the process; after close nothing is taken."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    writer = Writer(write_end)
    assert writer.offer(b"line\n")
    writer.close(5)
    assert not writer.offer(b"late\n")
    os.close(write_end)


def test_a_burst_is_cut_per_second_and_counted() -> None:
    """An older second does not open a new allowance; a clock that was set back does."""
    burst = Burst(per_second=2)
    assert [burst.admit(100) for _ in range(4)] == [True, True, False, False]
    assert not burst.admit(99)
    assert burst.admit(101)
    assert burst.held == 3
    assert burst.admit(5)
