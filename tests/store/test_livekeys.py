"""Live keys in memory: what comes out is what went in, ends are known by the quarter of a second, no call is long."""

import itertools
from collections.abc import Iterator

import hypothesis.strategies as st
import pytest
from hypothesis import given
from msgspec.structs import replace

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.scope import Scope
from luntrex_proxy.store import livekeys
from luntrex_proxy.store.livekeys import LiveKeys
from luntrex_proxy.store.packedkeys import FIELDS, PackedKey

HOUR_S = 3600
CALLERS = st.builds(
    Caller,
    st.integers(0, 2**63 - 1),
    st.from_regex(r"[0-9A-Za-z]{12}", fullmatch=True),
    st.just(0.0) | st.floats(0, 253402300799),
    st.just(0.0) | st.floats(1, 253402300799),
    st.none(),
    st.sampled_from([None, Scope(models=("m",))]),
)


def packed(caller: Caller, person: bytes = b"") -> PackedKey:
    fields = FIELDS.pack(caller.account_id, caller.not_before, caller.expires_at, caller.key_id.encode())
    return PackedKey(fields + person, caller.scope)


def caller(number: int, expires_at: float = 0.0) -> Caller:
    return Caller(number, f"{number:012}", expires_at=expires_at)


def key(number: int, expires_at: float = 0.0) -> PackedKey:
    return packed(caller(number, expires_at))


def hashed(number: int) -> bytes:
    return number.to_bytes(32)


def dropped(keys: LiveKeys, now: float, at_most: int = 100) -> set[str]:
    """All that ended until now."""
    gone: set[str] = set()
    while keys.is_behind(now):
        some = keys.drop_ended(now, at_most)
        assert len(some) <= at_most
        gone |= some
    return gone


@given(CALLERS, st.sampled_from([b"", b"p" * 16]))
def test_every_field_is_kept(given_caller: Caller, person: bytes) -> None:
    """Also when the packed form is looked at again, and when a key is changed or dropped."""
    keys = LiveKeys(0.0)
    keys.put(hashed(1), key(1))
    assert keys.get(hashed(1)) == caller(1)
    keys.put(hashed(1), packed(given_caller, person))
    assert keys.get(hashed(1)) == replace(given_caller, person=person)
    assert keys.get(hashed(1)) is keys.get(hashed(1)), "a key in use is made a caller once"
    assert [key_id for ids in keys.ids() for key_id in ids] == [given_caller.key_id]
    keys.drop(hashed(1))
    assert keys.get(hashed(1)) is None
    assert len(keys) == 0


def test_callers_at_hand_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many keys are in use."""
    monkeypatch.setattr(livekeys, "_AT_HAND_MAX", 10)
    keys = LiveKeys(0.0)
    for number in range(100):
        keys.put(hashed(number), key(number))
    for number in range(100):
        assert keys.get(hashed(number)) == caller(number)
        assert len(keys.at_hand) <= 10


@given(
    st.lists(st.integers(1, 4 * 4 * HOUR_S), min_size=1, max_size=60),
    st.lists(st.integers(0, 4 * HOUR_S), min_size=1, max_size=20),
    st.integers(1, 10),
)
def test_keys_are_dropped_when_their_end_has_come(quarters: list[int], times: list[int], at_most: int) -> None:
    """Never before it, always within the quarter of a second after it, whatever comes when, a few at a time."""
    ends = [quarter / 4 - 0.1 for quarter in quarters]
    keys, there = LiveKeys(0.0), {}
    for number, end in enumerate(ends):
        keys.put(hashed(number), key(number, end))
        there[f"{number:012}"] = end
    for now in sorted(times):
        gone = dropped(keys, now, at_most)
        assert gone == {key_id for key_id, end in there.items() if end <= now - now % 0.25}
        for key_id in gone:
            del there[key_id]
        late = key(1000 + now, now + 0.2)  # sooner than the hours that were looked at
        keys.put(hashed(1000 + now), late)
        there[late.key_id] = late.ends_at
        assert len(keys) == len(there)


def test_an_end_that_is_another_one_now_is_not_the_old_one() -> None:
    """Put off, taken away or brought forward: the last word counts."""
    keys = LiveKeys(0.0)
    for number in range(3):
        keys.put(hashed(number), key(number, 10.0))
    keys.put(hashed(0), key(0, 2.0 * HOUR_S))
    keys.put(hashed(1), key(1))
    keys.put(hashed(2), key(2, 5.0))
    assert dropped(keys, 6.0) == {"000000000002"}
    assert dropped(keys, 20.0) == set()
    assert dropped(keys, 2.0 * HOUR_S) == {"000000000000"}
    assert keys.get(hashed(1)) == caller(1)


def test_no_step_is_large() -> None:
    """Looking through all keys and forgetting them comes in small pieces, the ends of one moment too."""
    keys = LiveKeys(0.0)
    count = 60_000
    for number in range(count):
        keys.put(hashed(number), key(number, 7.0))
    dropped(keys, 6.0)
    pieces = [len(ids) for ids in keys.ids()]
    assert sum(pieces) == count
    assert max(pieces) < 2 * count / 256

    def left(steps: Iterator[None]) -> Iterator[int]:
        for _ in steps:
            yield len(keys) + len(keys._soon)

    assert len(keys._soon) == count
    sizes = [2 * count, *left(keys.emptied())]
    assert sizes[-1] == 0
    assert max(before - after for before, after in itertools.pairwise(sizes)) <= 10_000
