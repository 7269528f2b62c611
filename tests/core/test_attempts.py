"""How many wrong keys a network may send: the bound, the pause, and a table that cannot be made to grow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.core.attempts import BLOCK_S, NETWORKS_MAX, Attempts, network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.9", "203.0.113.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("127.0.0.1", "127.0.0.0/24"),
        ("", "local"),
        ("unreadable", "local"),
    ],
)
def test_a_network_is_all_that_is_named(address: str, network: str) -> None:
    """Never an address: /24 and /48."""
    assert network_of(address) == network


def test_twenty_a_minute_and_then_a_minutes_pause() -> None:
    """The 21st failure within a minute blocks for exactly 60 s; afterwards the account begins anew."""
    attempts = Attempts(20)
    for n in range(20):
        attempts.note("net", 100 + n / 100)
        assert attempts.wait_s("net", 100 + n / 100) == 0
    attempts.note("net", 101)
    assert attempts.wait_s("net", 101) == BLOCK_S
    assert attempts.wait_s("net", 160.5) == pytest.approx(0.5)
    assert attempts.wait_s("other", 101) == 0
    assert attempts.wait_s("net", 161) == 0
    attempts.note("net", 161)
    assert attempts.wait_s("net", 161) == 0


def test_twenty_a_minute_may_go_on_for_ever() -> None:
    """A network at the limit is never blocked, one above it is in the end."""
    steady, above = Attempts(20), Attempts(20)
    for n in range(1000):
        steady.note("net", n * 3.0)
        assert steady.wait_s("net", n * 3.0) == 0
    assert any(above.note("net", n * 2.8) or above.wait_s("net", n * 2.8) for n in range(1000))


def test_no_limit() -> None:
    """Without a limit nothing is counted."""
    attempts = Attempts(None)
    for _ in range(100):
        attempts.note("net", 1)
    assert (attempts.wait_s("net", 1), len(attempts)) == (0, 0)


def test_the_table_is_bounded() -> None:
    """A flood from everywhere is forgotten from its beginning; who was last is still known."""
    attempts = Attempts(1)
    for n in range(3 * NETWORKS_MAX):
        attempts.note(f"net{n}", 1)
        attempts.note(f"net{n}", 1)
    assert len(attempts) <= 2 * NETWORKS_MAX
    assert attempts.wait_s(f"net{3 * NETWORKS_MAX - 1}", 1) == BLOCK_S
    assert attempts.wait_s("net0", 1) == 0


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=60))
def test_a_clock_that_jumps_blocks_nobody_for_long(times: list[float]) -> None:
    """Whatever the clock does, a wait is never longer than the pause."""
    attempts = Attempts(2)
    for now in times:
        attempts.note("net", now)
        assert 0 <= attempts.wait_s("net", now) <= BLOCK_S


def test_what_is_forgiven_does_not_count_and_lifts_no_pause() -> None:
    """A key that turned out right is no failure; whoever was under way meanwhile cannot end a network's pause."""
    attempts = Attempts(2)
    for _ in range(10):
        attempts.note("net", 1)
        attempts.forgive("net")
    assert attempts.wait_s("net", 1) == 0
    for _ in range(3):
        attempts.note("net", 1)
    attempts.forgive("net")
    assert attempts.wait_s("net", 1) == BLOCK_S
