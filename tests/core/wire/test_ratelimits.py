"""Headers of limits: durations as Go writes and reads them, times as RFC 3339, and which limit of several is told."""

import copy
import datetime
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.core.buckets import FRESH_NS, Bucket, Group, LimitedError, take
from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.limits import WHATS
from luntrex_proxy.core.wire.ratelimits import go_duration, rate_limit_headers, rfc3339, room_headers

S = 10**9


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "0s"), (1, "1ms"), (12_000_000, "12ms"), (999_999_999, "1s"), (1_200_000_000, "1.2s"), (59 * S, "59s"),
        (60 * S, "1m0s"), (360 * S, "6m0s"), (3600 * S, "1h0m0s"), (86_399 * S + 1_000_000, "23h59m59.001s"),
        (100 * 86_400 * S, "2400h0m0s"),
    ],
)  # fmt: skip
def test_durations(duration_ns: int, text: str) -> None:
    """To the millisecond, rounded up: who waits as long has waited long enough."""
    assert go_duration(duration_ns) == text


def seconds_of(text: str) -> float:
    """A duration as Go reads it."""
    if text.endswith("ms"):
        return int(text[:-2]) / 1e3
    total = 0.0
    for unit, seconds in (("h", 3600), ("m", 60), ("s", 1)):
        number, found, rest = text.partition(unit)
        total, text = (total + float(number) * seconds, rest) if found else (total, text)
    assert text == ""
    return total


@given(st.integers(0, 10**20))
def test_durations_are_read_back(duration_ns: int) -> None:
    """The units added up are the duration, at most a millisecond more."""
    total = seconds_of(go_duration(duration_ns))
    assert -1e-3 * (total + 1) < total - duration_ns / 1e9 < 1e-3 * (total + 1)


def test_times() -> None:
    """The next whole second in UTC; what lies beyond all times is the last one."""
    assert rfc3339(1_700_000_000.0) == "2023-11-14T22:13:20Z"
    assert rfc3339(1_700_000_000.001) == "2023-11-14T22:13:21Z"
    assert rfc3339(1e30) == "9999-12-31T23:59:59Z"
    assert datetime.datetime.fromisoformat(rfc3339(0.0)).timestamp() == 0


def test_the_limit_of_which_the_least_is_left_is_told() -> None:
    """Or the one that was met, wherever it stands; streams have no header."""
    wide, narrow = (Bucket(WHATS[word], "the key", n, 0) for word, n in (("requests/day", 50), ("requests/minute", 5)))
    streams = Bucket(WHATS["streams"], "the key", 1, 0)
    for order in ((wide, narrow, streams), (narrow, streams, wide)):
        assert b"x-ratelimit-limit-requests: 5\r\n" in rate_limit_headers(Dialect.OPENAI, order, 0, 0.0)
        told = rate_limit_headers(Dialect.ANTHROPIC, order, 0, 0.0, wide)
        assert told == (
            b"anthropic-ratelimit-requests-limit: 50\r\nanthropic-ratelimit-requests-remaining: 50\r\n"
            b"anthropic-ratelimit-requests-reset: 1970-01-01T00:00:00Z\r\n"
        )
    assert rate_limit_headers(Dialect.OPENAI, (streams,), 0, 0.0) == b""


def group(**amounts: int) -> Group:
    """Limits per minute of a key, of which others were heard."""
    buckets = tuple(Bucket(WHATS[f"{unit}/minute"], "the key", amount, 0) for unit, amount in amounts.items())
    for bucket in buckets:
        bucket.hear(0, 0.0, 0, 0)
    return Group(buckets, buckets[0].news)


def exact(asks: Group, dialect: Dialect, now_ns: int, now_s: float) -> bytes:
    """What is told of the exact state, which stays as it is."""
    return rate_limit_headers(dialect, [copy.copy(bucket) for bucket in asks.buckets], now_ns, now_s)


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("amounts", [{"requests": 7}, {"tokens": 500}, {"tokens": 10**6, "requests": 3_000}])
def test_who_is_let_in_is_told_the_exact_state(dialect: Dialect, amounts: dict[str, int]) -> None:
    """Once it was counted; of an estimate larger than the limit that nothing is left."""
    asks = group(**amounts)
    for now_ns in (0, S, 2 * S):
        room = take(asks, 77, False, now_ns)
        lines = room_headers(dialect, asks, 1e9 + now_ns / S).split(b"\r\n")
        assert set(lines) == set(exact(asks, dialect, now_ns, 1e9 + now_ns / S).split(b"\r\n"))
        room.settle(5, now_ns)
    if "tokens" in amounts:
        take(asks, 10**7, False, 1_000 * S)
        for _ in range(2):
            assert re.search(rb"remaining(-tokens)?: 0\r\n", room_headers(dialect, asks, 0.0))


def test_without_a_limit_that_has_headers_there_are_none() -> None:
    """Streams are counted, and not told of."""
    streams = Bucket(WHATS["streams"], "the key", 5, 0)
    asks = Group((streams,), streams.news)
    take(asks, 77, True, 0)
    assert room_headers(Dialect.OPENAI, asks, 0.0) == b""


def test_the_dialects_do_not_take_each_others_words() -> None:
    """A key may be used with both, within a moment."""
    asks = group(requests=60_000, tokens=10**6)
    for dialect in [*Dialect, *Dialect]:
        take(asks, 10, False, 0, False)
        told = room_headers(dialect, asks, 1e9)
        assert told.startswith(b"x-ratelimit" if dialect is Dialect.OPENAI else b"anthropic-ratelimit")
        assert sorted(told.split(b"\r\n")) == sorted(exact(asks, dialect, 0, 1e9).split(b"\r\n"))


@given(
    requests=st.integers(1_000, 10**9),
    tokens=st.integers(10_000, 10**12),
    steps=st.lists(
        st.tuples(st.integers(0, FRESH_NS // 4), st.integers(1, 30), st.integers(0, 5_000), st.booleans()), max_size=30
    ),
)
def test_what_is_told_between_two_counts_is_true(
    requests: int, tokens: int, steps: list[tuple[int, int, int, bool]]
) -> None:
    """What is left falls with each request; when it is full again is not told FRESH_NS too early."""
    asks, now_ns = group(requests=requests, tokens=tokens), 0
    for pause_ns, count, held, is_short in steps:
        now_ns += pause_ns
        for _ in range(count):
            try:
                room = take(asks, held, False, now_ns)
            except LimitedError:
                break
            told = dict(line.split(b": ") for line in room_headers(Dialect.OPENAI, asks, 0.0).split(b"\r\n")[:-1])
            for bucket in asks.buckets:
                unit = bucket.unit.encode()
                assert int(told[b"x-ratelimit-remaining-" + unit]) == max(0, bucket.room)
                full_s = (bucket.at_ns + bucket.reset_ns() - now_ns) / S
                assert seconds_of(told[b"x-ratelimit-reset-" + unit].decode()) >= full_s - FRESH_NS / S - 1e-3
            if is_short:
                room.settle(held // 2, now_ns)
