"""Legal clocks as pure arithmetic: when something must be done, and how near that is.

Deadline.after_hours(name, begins, 72)    hours count as they pass, also at night and on holidays
Deadline.after_days(name, begins, 45)
Deadline.after_months(name, begins, 1)    the same day of a later month, or its last day where there is none
deadline.stage(now)                       running, half (50 % gone), late (80 % gone), over
nearest(deadlines)                        the first due of each name
"""

import calendar
import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self


class Stage(enum.StrEnum):
    """How near a deadline is; in the order in which they come."""

    RUNNING = "running"
    HALF = "half"
    LATE = "late"
    OVER = "over"


STAGES: Final = tuple(Stage)
_HALF, _LATE = 0.5, 0.8


@dataclass(frozen=True, slots=True)
class Deadline:
    """One clock. `name` is a fixed word."""

    name: str
    begins: datetime
    due: datetime

    @classmethod
    def after_hours(cls, name: str, begins: datetime, hours: int) -> Self:
        """So many hours later."""
        return cls(name, begins, begins + timedelta(hours=hours))

    @classmethod
    def after_days(cls, name: str, begins: datetime, days: int) -> Self:
        """So many days of 24 hours later."""
        return cls(name, begins, begins + timedelta(days=days))

    @classmethod
    def after_months(cls, name: str, begins: datetime, months: int) -> Self:
        """The same day so many months later."""
        return cls(name, begins, months_later(begins, months))

    def left(self, now: datetime) -> timedelta:
        """Time left; negative once it is over."""
        return self.due - now

    def stage(self, now: datetime) -> Stage:
        """How near it is at `now`."""
        if now >= self.due:
            return Stage.OVER
        gone = (now - self.begins) / (self.due - self.begins)
        return Stage.LATE if gone >= _LATE else Stage.HALF if gone >= _HALF else Stage.RUNNING


def nearest(deadlines: Iterable[Deadline]) -> dict[str, datetime]:
    """When the first one of each name is due."""
    found: dict[str, datetime] = {}
    for each in deadlines:
        found[each.name] = min(each.due, found.get(each.name, each.due))
    return found


def months_later(begins: datetime, months: int) -> datetime:
    """The same day and time so many months later; the month's last day where it has no such day."""
    years, month = divmod(begins.month - 1 + months, 12)
    year = begins.year + years
    return begins.replace(year=year, month=month + 1, day=min(begins.day, calendar.monthrange(year, month + 1)[1]))
