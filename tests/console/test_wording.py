"""How numbers, money and times read; and where days and steps of time begin, when clocks are changed as well."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest

from luntrex_proxy.console.application import PAGES, SAID
from luntrex_proxy.console.pages import data, keys, notices, own, wording
from luntrex_proxy.control import spans


@pytest.mark.parametrize(
    ("pico", "words"),
    [
        (0, "$0.00"), (1, "<$0.000001"), (499_999, "<$0.000001"), (500_000, "$0.000001"), (42_000_000, "$0.000042"),
        (99_999_000_000, "$0.099999"), (100_000_000_000, "$0.10"), (999_999_999_999, "$1.00"), (1_005 * 10**9, "$1.01"),
        (1_234_567 * 10**12, "$1,234,567.00"), (-250 * 10**9, "-$0.25"), (50_000_000_000, "$0.05"),
    ],
)  # fmt: skip
def test_money(pico: int, words: str) -> None:
    """Cents, and of less as much as is not nothing."""
    assert wording.money(pico) == words


def test_other_words() -> None:
    """Units stand with the numbers."""
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    assert [wording.compact(n) for n in (0, 999_999, 1_500_000, 2 * 10**9)] == ["0", "999,999", "1.5 M", "2.0 bn"]
    assert [wording.milliseconds(n) for n in (None, 0.4, 250, 1_500)] == ["n/a", "0 ms", "250 ms", "1.50 s"]
    assert [wording.percent(*n) for n in ((1, 0), (0, 5), (1, 200), (1, 3))] == ["n/a", "0.0 %", "0.50 %", "33.3 %"]
    passed = (timedelta(seconds=5), timedelta(minutes=1), timedelta(hours=30), timedelta(days=-1))
    assert [wording.ago(now - each, now) for each in passed] == ["just now", "1 minute ago", "1 day ago", "just now"]
    for left, words in (
        (72, "due in 72 hours"),
        (96, "due in 4 days"),
        (-30, "overdue by 30 hours"),
        (0.5, "due in 30 minutes"),
    ):
        assert wording.due(now + timedelta(hours=left), now) == words
    assert (
        wording.moment(now, "Asia/Kolkata") == '<time datetime="2026-11-30T12:00:00+00:00">2026-11-30 17:30 IST</time>'
    )
    assert "12:00 UTC" in wording.moment(now, "No/Where")


def test_days_where_clocks_change() -> None:
    """Each day begins where the one before ends, whether it has 23, 24 or 25 hours."""
    for first, hours in ((date(2026, 3, 28), 71), (date(2026, 10, 24), 73)):
        begin = spans.begin_of(first, "Europe/Berlin")
        until = spans.begin_of(first + timedelta(days=3), "Europe/Berlin")
        assert until - begin == timedelta(hours=hours)
        assert len(spans.steps(begin, until, "day", "Europe/Berlin")) == 3
        assert len(spans.steps(begin, until, "hour", "Europe/Berlin")) == hours
    months = spans.steps(datetime(2026, 1, 31, tzinfo=UTC), datetime(2027, 2, 1, tzinfo=UTC), "month", "UTC")
    assert [each.month for each in months] == [*range(1, 13), 1]
    weeks = spans.steps(datetime(2026, 11, 25, tzinfo=UTC), datetime(2026, 12, 9, tzinfo=UTC), "week", "UTC")
    assert all(each.weekday() == 0 for each in weeks)
    assert all(b - a == timedelta(days=7) for a, b in pairwise(weeks))


def test_pages_are_found() -> None:
    """Every module's routes, each at an address of its own; no word of what is said after a form means two things."""
    assert {route.path for module in (own, data, keys) for route in module.ROUTES} < {route.path for route in PAGES}
    paths = [route.path for route in PAGES]
    assert len(paths) == len(set(paths))
    for module in (own, data, notices, keys):
        assert module.DONE.items() <= SAID.items()
