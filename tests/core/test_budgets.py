"""What budgets say: read, refused in a sentence, and said again in dollars."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.core.budgets import (
    AMOUNT_MAX_DOLLARS,
    PICO_PER_DOLLAR,
    BadBudgetError,
    Budget,
    check_together,
    dollars,
    read_alerts,
    read_budgets,
    read_dollars,
)


def test_words_become_pico_dollars() -> None:
    """Exactly; nothing of it goes through a float."""
    assert read_budgets(["day=2.50", "month=100", "total=$0.000001"]) == {
        "day": 2_500_000_000_000,
        "month": 100 * PICO_PER_DOLLAR,
        "total": 10**6,
    }
    assert read_dollars("1000000000") == AMOUNT_MAX_DOLLARS * PICO_PER_DOLLAR
    assert (read_alerts("100, 50,80%,50"), read_alerts("")) == ((50, 80, 100), ())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["week=5"], "'week=5' is no budget"),
        (["month"], "is no budget"),
        (["month=5", "month=6"], "month is given twice"),
        (["month=0"], "more than 0"),
        (["month=-5"], "An amount is in dollars"),
        (["month=1e3"], "An amount is in dollars"),
        (["month=nan"], "An amount is in dollars"),
        (["month=1.2345678"], "at most six digits"),
        (["month=1000000001"], "at most 1000000000 dollars"),
        (["month=9999999999999999"], "An amount is in dollars"),
        (["month=\u0661"], "An amount is in dollars"),
    ],
)
def test_what_is_no_budget_is_one_sentence(words: list[str], sentence: str) -> None:
    """Whatever it is."""
    with pytest.raises(BadBudgetError, match=sentence):
        read_budgets(words)


@pytest.mark.parametrize("text", ["0", "1001", "x", "50;80", "1,2,3,4,5,6,7,8,9", "-5", "5.5", ",", "²"])
def test_what_is_no_alert_is_one_sentence(text: str) -> None:
    """At most eight percentages."""
    with pytest.raises(BadBudgetError, match="percentages"):
        read_alerts(text)


def test_a_budget_that_can_never_be_reached_is_refused() -> None:
    """A day's beyond the month's, a month's beyond all there is."""
    check_together({"day": 5, "month": 5, "total": 9})
    with pytest.raises(
        BadBudgetError, match=r"day=10.00? can never be reached|day=10 can never be reached: month is 5;"
    ):
        check_together({"day": 10 * PICO_PER_DOLLAR, "month": 5 * PICO_PER_DOLLAR})
    with pytest.raises(BadBudgetError, match="total is 4"):
        check_together({"month": 5 * PICO_PER_DOLLAR, "total": 4 * PICO_PER_DOLLAR})


@given(st.integers(1, AMOUNT_MAX_DOLLARS * 10**6))
def test_what_is_said_is_read_again(micros: int) -> None:
    """To the micro-dollar."""
    assert read_dollars(dollars(micros * 10**6)) == micros * 10**6


def test_dollars_are_said_plainly() -> None:
    """Cents where there are some; less than a micro-dollar is nothing."""
    amounts = [0, 1, 10**6, 25 * 10**11, 3 * 10**12, -125 * 10**10]
    assert [dollars(pico) for pico in amounts] == ["0", "0", "0.000001", "2.50", "3", "-1.25"]


def test_whom_a_budget_covers() -> None:
    """All of an account, a key and what replaced it, or a member's own keys."""
    account = Budget(1, 7, frozenset(), b"", "month", 10**12, False)
    key = Budget(2, 7, frozenset({"a", "b"}), b"", "day", 25 * 10**11, False)
    member = Budget(3, 7, frozenset(), b"p" * 16, "total", 10**12, True)
    label = Budget(4, 7, frozenset(), b"", "total", 10**12, True, "project=search")
    assert [set(each.whose) for each in (account, key, member, label)] == [{""}, {"a", "b"}, {b"p" * 16}, set()]
    assert [each.words for each in (account, key, member)] == [
        "$1 per month of the account",
        "$2.50 per day of the key",
        "$1 in total of the member",
    ]
