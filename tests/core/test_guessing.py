"""How long guessing waits: some tries are free, then it doubles, up to a quarter of an hour, and a day forgets it."""

from luntrex_proxy.core.guessing import FORGOTTEN_AFTER_S, PAIR_FREE, WAIT_MAX_S, wait_s


def test_the_first_tries_are_free_and_waits_grow() -> None:
    """Nobody is locked out: the wait has an end."""
    assert [wait_s(n, PAIR_FREE, 0) for n in range(PAIR_FREE + 4)] == [0] * PAIR_FREE + [1, 2, 4, 8]
    assert wait_s(10**9, PAIR_FREE, 0) == WAIT_MAX_S
    assert wait_s(10**9, PAIR_FREE, WAIT_MAX_S) == 0
    assert wait_s(PAIR_FREE + 2, PAIR_FREE, 3) == 1
    assert wait_s(PAIR_FREE + 2, PAIR_FREE, -100) == 4  # a clock that went back makes nothing longer
    assert wait_s(10**9, PAIR_FREE, FORGOTTEN_AFTER_S + 1) == 0
