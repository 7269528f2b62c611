"""Legal clocks: when they end, and when they warn."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.core.deadlines import STAGES, Deadline, Stage, months_later

BEGIN = datetime(2026, 11, 29, 10, 30, tzinfo=UTC)


def test_hours_and_days_count_as_they_pass() -> None:
    """The authority has to hear within 72 hours, whatever the day of the week."""
    assert Deadline.after_hours("authority", BEGIN, 72).due == datetime(2026, 12, 2, 10, 30, tzinfo=UTC)
    assert Deadline.after_days("ccpa", BEGIN, 45).due == datetime(2027, 1, 13, 10, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("begin", "months", "end"),
    [
        ((2026, 1, 31), 1, (2026, 2, 28)),
        ((2028, 1, 31), 1, (2028, 2, 29)),
        ((2026, 11, 30), 3, (2027, 2, 28)),
        ((2026, 12, 15), 1, (2027, 1, 15)),
        ((2026, 3, 31), 12, (2027, 3, 31)),
    ],
)
def test_months_end_on_the_same_day_or_the_last(
    begin: tuple[int, int, int], months: int, end: tuple[int, int, int]
) -> None:
    """As months are counted in law: a month from 31 January ends with February."""
    assert months_later(datetime(*begin, tzinfo=UTC), months) == datetime(*end, tzinfo=UTC)


def test_stages_come_at_half_at_four_fifths_and_at_the_end() -> None:
    """To the microsecond."""
    clock = Deadline.after_hours("internal", BEGIN, 10)
    blink = timedelta(microseconds=1)
    for hours, before, then in ((5, Stage.RUNNING, Stage.HALF), (8, Stage.HALF, Stage.LATE), (10, Stage.LATE, "over")):
        moment = BEGIN + timedelta(hours=hours)
        assert (clock.stage(moment - blink), clock.stage(moment)) == (before, then)
    assert clock.left(BEGIN + timedelta(hours=11)) == timedelta(hours=-1)


@given(st.integers(1, 10_000), st.lists(st.integers(-100, 1_000_000), min_size=2))
def test_stages_never_go_back(hours: int, minutes: list[int]) -> None:
    """As time passes a clock only comes nearer; a clock set back to before its begin runs."""
    clock = Deadline.after_hours("x", BEGIN, hours)
    stages = [STAGES.index(clock.stage(BEGIN + timedelta(minutes=each))) for each in sorted(minutes)]
    assert stages == sorted(stages)
