"""Spans of time in an account's own zone: where its days begin, and the steps of a picture."""

import functools
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

_LOCAL_DAYS_MAX: Final = 2  # longer ones would have to be added up from hours
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)


@functools.cache
def zone_of(name: str) -> tzinfo:
    """A time zone by its name; UTC where this machine has no such zone."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return UTC


def zone_for(zone: str, days: int) -> str:
    """Where the days of usage begin: over long spans in UTC, of which there are sums by the day."""
    return zone if days <= _LOCAL_DAYS_MAX else "UTC"


def day_of(at: datetime, zone: str) -> date:
    """The day that a moment belongs to."""
    return at.astimezone(zone_of(zone)).date()


def begin_of(day: date, zone: str) -> datetime:
    """The moment at which a day begins, in UTC."""
    return datetime.combine(day, time(), zone_of(zone)).astimezone(UTC)


def steps(since: datetime, until: datetime, step: str, zone: str) -> list[datetime]:
    """When each hour, day, week or month begins that has a part between two moments."""
    if step == "hour":
        first = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        return [first + _HOUR * n for n in range((until - first + _HOUR - timedelta(microseconds=1)) // _HOUR)]
    day, found = day_of(since, zone), []
    if step == "week":
        day -= timedelta(days=day.weekday())
    if step == "month":
        day = day.replace(day=1)
    while begin_of(day, zone) < until:
        found.append(begin_of(day, zone))
        if step == "month":
            day = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
        else:
            day += _DAY * 7 if step == "week" else _DAY
    return found
