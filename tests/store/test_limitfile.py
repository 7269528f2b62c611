"""What is used of limits over restarts: it goes on, time fills it up, and damage or a full disk stops nobody."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from luntrex_proxy.core.buckets import Bucket, Limits, take
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.limitfile import LimitFile

TERMS = {"": {"requests/day": 10, "tokens/day": 1_000, "streams": 2}}


def limits(terms: dict[str, dict[str, int]] = TERMS) -> Limits:
    """Of key `k`."""
    made = Limits()
    made.say("k", terms, time.perf_counter_ns())
    return made


def of_key(made: Limits) -> tuple[Bucket, ...]:
    """The key's buckets."""
    return made.applying(1, "k", "m", time.perf_counter_ns())


def left(made: Limits) -> list[int]:
    """What is left of each."""
    return [bucket.remaining(time.perf_counter_ns()) for bucket in of_key(made)]


def use(made: Limits, tokens: int, *, over: bool = True) -> None:
    """One streamed request."""
    room = take(of_key(made), tokens, streamed=True, now_ns=time.perf_counter_ns())
    if over:
        room.settle(tokens, time.perf_counter_ns())


async def test_a_restart_goes_on(tmp_path: Path) -> None:
    """Requests and tokens stay used; streams ended with their process."""
    first = limits()
    file = LimitFile(tmp_path / "limits", first)
    assert file.go_on()
    use(first, 300)
    use(first, 200, over=False)
    await file.close()
    second = limits()
    again = LimitFile(tmp_path / "limits", second)
    assert again.go_on()
    assert left(second) == [8, 500, 2]
    await again.close()


async def test_a_killed_process_leaves_what_was_written_last(tmp_path: Path) -> None:
    """What was held counts as used until it is settled, which is written without another request."""
    first = limits()
    file = LimitFile(tmp_path, first)
    room = take(of_key(first), 400, streamed=True, now_ns=time.perf_counter_ns())
    await file.write()
    os.close(file._lock)  # as the kernel does for who is killed
    second = limits()
    assert LimitFile(tmp_path, second).go_on()
    assert left(second) == [9, 600, 2]
    room.settle(30, time.perf_counter_ns())
    await file.write()
    third = limits()
    again = LimitFile(tmp_path, third)
    again._path = file._path
    assert again.go_on()
    assert left(third) == [9, 970, 2]


async def test_nothing_is_written_while_nothing_happens(tmp_path: Path) -> None:
    """Time alone changes nothing that a reader could not reckon."""
    made = limits()
    file = LimitFile(tmp_path, made)
    use(made, 5)
    await file.write()
    (tmp_path / "0.json").unlink()
    await file.write()
    assert not (tmp_path / "0.json").exists()
    use(made, 5)
    await file.write()
    assert (tmp_path / "0.json").stat().st_mode & 0o077 == 0


async def test_time_fills_up_and_a_clock_that_went_back_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a day gives half of it back; before the beginning of time nothing is given."""
    first = limits()
    file = LimitFile(tmp_path, first)
    for _ in range(10):
        use(first, 100)
    await file.close()
    real = time.time
    for shift_s, expected in ((43_200, [5, 500, 2]), (-(10**8), [0, 0, 2]), (10**8, [10, 1_000, 2])):
        monkeypatch.setattr(time, "time", lambda shift_s=shift_s: real() + shift_s)
        later = limits()
        again = LimitFile(tmp_path, later)
        assert again.go_on()
        assert left(later) == expected
        os.close(again._lock)


async def test_limits_that_changed_meanwhile(tmp_path: Path) -> None:
    """Amounts used stay used of other amounts; what is no limit any more counts for nobody."""
    first = limits()
    file = LimitFile(tmp_path, first)
    use(first, 300)
    await file.close()
    other = limits({"": {"tokens/day": 2_000}})
    again = LimitFile(tmp_path, other)
    assert again.go_on()
    assert left(other) == [1_700]
    await again.close()
    none = Limits()
    assert LimitFile(tmp_path, none).go_on()
    assert none.in_use() == []


async def test_each_process_has_its_own(tmp_path: Path) -> None:
    """The second takes the next number; who starts when the first has ended goes on with the first's."""
    first, second, third = limits(), limits(), limits()
    files = [LimitFile(tmp_path, made) for made in (first, second)]
    use(first, 100)
    use(second, 200)
    for file in files:
        await file.write()
    await files[0].close()
    assert LimitFile(tmp_path, third).go_on()
    assert left(third) == [9, 900, 2]
    await files[1].close()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'[1,[["k","","x",1]]]', b"\xff", b'[1,[["k","",1,1,1]]]'])
async def test_damage_begins_anew(tmp_path: Path, content: bytes) -> None:
    """And says so."""
    (tmp_path / "0.json").write_bytes(content)
    made = limits()
    assert not LimitFile(tmp_path, made).go_on()
    assert left(made) == [10, 1_000, 2]


async def test_a_disk_that_is_full_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway goes on; once there is room it is written without another request."""
    made = limits()
    file = LimitFile(tmp_path, made)
    use(made, 5)

    def full(_path: Path, _to: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(Path, "replace", full)
        await file.write()
        assert file.failing
    await file.write()
    assert (file.failing, (tmp_path / "0.json").exists()) == (False, True)


async def test_no_place_is_one_sentence(tmp_path: Path) -> None:
    """Where no file can be made."""
    (tmp_path / "limits").write_text("")
    with pytest.raises(StoreError, match="cannot be kept in"):
        LimitFile(tmp_path / "limits", Limits())


async def test_a_cancelled_write_does_not_meet_the_last_one(tmp_path: Path) -> None:
    """At the end of a daemon the round under way is cancelled; what is written then is whole."""
    made = limits()
    file = LimitFile(tmp_path, made)
    use(made, 5)
    round_ = asyncio.ensure_future(file.write())
    while file._writing is None:
        await asyncio.sleep(0)
    round_.cancel()
    use(made, 5)
    await file.close()
    after = limits()
    assert LimitFile(tmp_path, after).go_on()
    assert left(after) == [8, 990, 2]
