"""Months in UTC, as bills have them: read from words, and the days between which one lies."""

import re
from datetime import date
from typing import Final

_FORM: Final = re.compile(r"([0-9]{4})-([0-9]{2})")
_FIRST_YEAR, _LAST_YEAR = 2025, 2199  # no request came before, and no bill is made after


class BadMonthError(Exception):
    """One sentence that says what is wrong with a month."""


def read_month(text: str) -> date:
    """The first day of a month such as `2026-10`. Raises BadMonthError."""
    match = _FORM.fullmatch(text)
    if match is not None and 1 <= int(match[2]) <= 12 and _FIRST_YEAR <= int(match[1]) <= _LAST_YEAR:
        return date(int(match[1]), int(match[2]), 1)
    raise BadMonthError(f"A month is written as 2026-10, from {_FIRST_YEAR} on.")


def month_of(day: date) -> date:
    """The first day of the month in which a day lies."""
    return day.replace(day=1)


def next_month(month: date) -> date:
    """The first day of the month after."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def in_words(month: date) -> str:
    """As it is written."""
    return f"{month:%Y-%m}"
