"""How long guessing waits: some tries are free, then it doubles, up to a quarter of an hour, and time forgives."""

from luntrex_proxy.core.guessing import NETWORK, PAIR, SUBJECT, WAIT_MAX_S, Allowance


def test_the_first_tries_are_free_and_waits_grow() -> None:
    """Nobody is locked out: the wait has an end."""
    assert [PAIR.wait_s(n, 0) for n in range(9)] == [0] * 5 + [1, 2, 4, 8]
    assert PAIR.wait_s(10**9, 0) == WAIT_MAX_S
    assert PAIR.wait_s(10**9, WAIT_MAX_S) == 0
    assert PAIR.wait_s(7, 3) == 1
    assert PAIR.wait_s(7, -5) == 4  # what is tried at once has a time a little ahead
    assert PAIR.wait_s(7, -100) == 0  # the clock went back; by it the wait would not even begin to end


def test_time_forgives_one_after_the_other() -> None:
    """What is forgiven does not come back with the next failure."""
    allowance = Allowance(free=3, forgiven_every_s=10)
    assert [allowance.left(5, age_s) for age_s in (0, 9.9, 10, 25, 50, 1e9)] == [5, 5, 4, 3, 0, 0]
    assert allowance.wait_s(8, 31) == 1
    assert allowance.wait_s(8, 60) == 0


def test_many_people_behind_one_address_do_not_wait_for_ever() -> None:
    """An office in which somebody mistypes every ten minutes, for weeks, and an address that is tried every hour."""
    for allowance, every_s in ((NETWORK, 600), (SUBJECT, 3_600)):
        failures = 0
        for _ in range(5_000):
            assert allowance.wait_s(failures, every_s) == 0
            failures = allowance.left(failures, every_s) + 1
        assert failures < 3
