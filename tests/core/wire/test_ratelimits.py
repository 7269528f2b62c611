"""Headers of limits: durations as Go writes and reads them, times as RFC 3339, and which limit of several is told."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.core.buckets import Bucket
from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.limits import WHATS
from luntrex_proxy.core.wire.ratelimits import go_duration, rate_limit_headers, rfc3339

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


@given(st.integers(0, 10**20))
def test_durations_are_read_back(duration_ns: int) -> None:
    """The units added up are the duration, at most a millisecond more."""
    text, total = go_duration(duration_ns), 0.0
    if text.endswith("ms"):
        total = int(text[:-2]) / 1e3
    else:
        for unit, seconds in (("h", 3600), ("m", 60), ("s", 1)):
            number, found, rest = text.partition(unit)
            total, text = (total + float(number) * seconds, rest) if found else (total, text)
        assert text == ""
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
