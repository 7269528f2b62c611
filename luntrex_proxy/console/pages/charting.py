"""From groups of usage to the rows of a chart and of the table beneath it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from luntrex_proxy.control import spans
from luntrex_proxy.control.usage import Group

_FORMS: Final = {"hour": "%d %b %H:%M", "day": "%a %d %b", "week": "week of %d %b", "month": "%b %Y"}
UNITS: Final = {"cost": "money"}


@dataclass(frozen=True, slots=True)
class Charted:
    """Names of the series, and for each step of time its unix seconds, its label and the series' values."""

    names: Sequence[str]
    rows: Sequence[tuple[int, str, Sequence[int]]]
    unit: str


def charted(
    groups: Sequence[Group], metric: str, since: datetime, until: datetime, step: str, zone: str, nobody: str = "none"
) -> Charted:
    """The chart of these groups, each step there whether something was used or not."""
    shown = [group for group in groups if not group.is_hidden]
    times = set(spans.steps(since, until, step, zone)).union(*(group.steps for group in shown))
    form = _form(step, [at.astimezone(spans.zone_of(zone)) for at in times])
    rows = []
    for at in sorted(times):
        values = [group.steps[at].of(metric) if at in group.steps else 0 for group in shown]
        rows.append((int(at.timestamp()), at.astimezone(spans.zone_of(zone)).strftime(form), values))
    return Charted([name_of(group, nobody) for group in shown], rows, UNITS.get(metric, "count"))


def _form(step: str, times: Sequence[datetime]) -> str:
    """How steps are written: with the year where there are two, with the zone where a day has an hour twice."""
    if step == "hour" and len({at.utcoffset() for at in times}) > 1:
        return f"{_FORMS[step]} %Z"
    if step in ("day", "week") and len({at.year for at in times}) > 1:
        return f"{_FORMS[step]} %Y"
    return _FORMS[step]


def name_of(group: Group, nobody: str) -> str:
    """How a group is called on pages."""
    return f"other ({group.members})" if group.place is None else group.name or nobody
