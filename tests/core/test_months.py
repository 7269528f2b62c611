"""Months from words, and the one after."""

from datetime import date

import pytest

from luntrex_proxy.core.months import BadMonthError, in_words, month_of, next_month, read_month


def test_months() -> None:
    """The first day stands for the month; December is followed by January."""
    assert read_month("2026-10") == date(2026, 10, 1)
    assert in_words(date(2026, 10, 1)) == "2026-10"
    assert month_of(date(2026, 10, 31)) == date(2026, 10, 1)
    assert [next_month(date(2026, month, 1)) for month in (1, 11, 12)] == [
        date(2026, 2, 1),
        date(2026, 12, 1),
        date(2027, 1, 1),
    ]


@pytest.mark.parametrize(
    "text", ["", "2026", "2026-00", "2026-13", "2026-1", "26-10", "2024-12", "2200-01", "2026-10-01"]
)
def test_what_is_no_month(text: str) -> None:
    """One sentence, which repeats nothing."""
    with pytest.raises(BadMonthError, match="A month is written as 2026-10, from 2025 on"):
        read_month(text)
