"""The retry law's pure parts: budget, verdicts, Retry-After, an SDK's own retries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.core.health import Verdict
from luntrex_proxy.core.retrying import NOT_RUN, WINDOW_S, Retries, client_retries, retry_after_s, verdict_on

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


def test_only_whole_refusals_may_be_sent_again() -> None:
    """500, 502 and 504 may come after the work was done."""
    assert set(NOT_RUN) == {401, 402, 403, 407, 429, 503, 529}


@pytest.mark.parametrize("status", [400, 402, 403, 404, 405, 409, 413, 415, 422, 429, 451])
def test_refusals_that_are_the_clients_own(status: int) -> None:
    """No client can make an upstream look ill."""
    assert verdict_on(status) is Verdict.ALIVE


@pytest.mark.parametrize("status", [401, 407, 500, 501, 502, 503, 504, 529])
def test_failures_of_the_upstream_or_of_ours(status: int) -> None:
    """Server errors, and our own key being wrong."""
    assert verdict_on(status) is Verdict.BAD


def test_answers() -> None:
    """What is no error is good."""
    assert verdict_on(200) is Verdict.GOOD


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=300),
    st.integers(1, 100),
    st.integers(1, 20),
)
def test_the_budget_holds_in_every_window(events: list[tuple[bool, float]], percent: int, floor: int) -> None:
    """From the first retry on, no ten seconds have more of them than the floor and the share of their requests."""
    retries, now = Retries(3, percent, floor), 0.0
    window_until, requests, taken = 0.0, 0, 0
    for wants, pause_s in events:
        now += pause_s
        retries.requests += 1
        requests += 1
        if not wants:
            continue
        if now >= window_until:
            window_until, requests, taken = now + WINDOW_S, 0, 0
        if retries.take(now):
            taken += 1
        assert taken <= floor + requests * percent // 100
        assert taken or floor == 0


def test_the_floor_works_without_traffic_and_comes_back() -> None:
    """Ten retries at once, the eleventh not, ten more in the next window."""
    retries = Retries(3, 20, 10)
    assert [retries.take(5.0) for _ in range(11)] == [True] * 10 + [False]
    assert not retries.take(5.0 + WINDOW_S - 0.1)
    assert retries.take(5.0 + WINDOW_S)


def test_the_share_grows_with_the_traffic() -> None:
    """A fifth of the requests of the window."""
    retries = Retries(3, 20, 1)
    assert retries.take(0)
    retries.requests += 50
    assert [retries.take(1) for _ in range(11)] == [True] * 10 + [False]


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({b"retry-after": b"7"}, 7),
        ({b"retry-after": b"1.5"}, 1.5),
        ({b"retry-after-ms": b"250", b"retry-after": b"7"}, 0.25),
        ({b"retry-after-ms": b"junk", b"retry-after": b"7"}, 7),
        ({b"retry-after": b"Tue, 14 Nov 2023 22:13:50 GMT"}, 30),
        ({b"retry-after": b"Tue, 14 Nov 2023 22:13:50"}, 30),
        ({b"retry-after": b"Tue, 14 Nov 2023 22:13:00 GMT"}, 0),
        ({b"retry-after": b"-5"}, 0),
        ({b"retry-after": b"nan"}, 0),
        ({b"retry-after": b"inf"}, 0),
        ({b"retry-after": b"1e999"}, 0),
        ({b"retry-after": b"\xff\xfe"}, 0),
        ({b"retry-after": b"soon"}, 0),
        ({b"retry-after": b"Tue, 99 Nov 99999999999999 22:13:50 GMT"}, 0),
        ({b"retry-after": b""}, 0),
        ({}, 0),
    ],
)
def test_retry_after(headers: dict[bytes, bytes], wait_s: float) -> None:
    """Milliseconds, seconds or a date; nonsense is no wish."""
    assert retry_after_s(headers, NOW) == pytest.approx(wait_s)


@given(st.binary(max_size=40))
def test_retry_after_survives_anything(value: bytes) -> None:
    """What an upstream sends is a finite number of seconds or nothing."""
    assert 0 <= retry_after_s({b"retry-after": value, b"retry-after-ms": value}, NOW) < 1e300


@pytest.mark.parametrize(
    ("value", "retries"), [(None, False), (b"0", False), (b" 0 ", False), (b"", False), (b"1", True), (b"junk", True)]
)
def test_an_sdks_own_retry_is_noticed(value: bytes | None, retries: bool) -> None:
    """Anything but 0 means that somebody else is retrying."""
    assert client_retries({} if value is None else {b"x-stainless-retry-count": value}) is retries
