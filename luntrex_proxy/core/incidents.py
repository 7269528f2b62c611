"""Incidents as rules: the clocks that begin with knowing of one, and the notices that its facts make. Nothing is
invented: what nobody has stated stands in the draft as a gap to fill.

    clocks(aware_at)           24 hours of our own, 72 hours of GDPR article 33
    to_authority(incident...)  Markdown after article 33(3)
    to_people(incident...)     Markdown after article 34(2), in plain words
"""

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from luntrex_proxy.core.deadlines import Deadline, Stage

TITLE_CHARACTERS_MAX: Final = 200
OBJECT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/-]{0,127}")  # id of a key, name of an upstream or table
TEXT_CHARACTERS_MAX: Final = 4_000  # of each thing that is stated


@dataclass(frozen=True, slots=True)
class Reach:
    """One thing that an incident reached, and when."""

    kind: str  # key, upstream or table
    object: str
    begins_at: datetime.datetime
    ends_at: datetime.datetime

    def __str__(self) -> str:
        return f"{self.kind} {self.object} from {_at(self.begins_at)} to {_at(self.ends_at)}"


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident as it stands in the register. Empty texts: nobody has stated it yet."""

    incident_id: int
    title: str
    nature: str
    consequences: str
    measures: str
    aware_at: datetime.datetime
    opened_at: datetime.datetime
    authority_notified_at: datetime.datetime | None
    closed_at: datetime.datetime | None
    conclusion: str | None
    drill: bool

    def stage(self, now: datetime.datetime) -> Stage | None:
        """How near the end of the 72 hours is; None: the authority was told, or the incident is closed."""
        if self.authority_notified_at is not None or self.closed_at is not None:
            return None
        return clocks(self.aware_at)[1].stage(now)


@dataclass(frozen=True, slots=True)
class Counted:
    """Whom it reached, in numbers."""

    accounts: int = 0
    people: int = 0
    records: int = 0
    categories: Mapping[str, str] = field(default_factory=dict)  # of data: table -> purpose
    wider: Sequence[str] = ()  # why more may be counted than was reached


def clocks(aware_at: datetime.datetime) -> tuple[Deadline, Deadline]:
    """Until when we decide ourselves, and until when the authority is told."""
    return Deadline.after_hours("decision", aware_at, 24), Deadline.after_hours("authority", aware_at, 72)


def to_authority(
    incident: Incident, reaches: Sequence[Reach], counted: Counted, contact: str, now: datetime.datetime
) -> str:
    """The notification of a supervisory authority. `contact`: whom to ask, "" where nobody has said it."""
    due = clocks(incident.aware_at)[1]
    lines = [
        f"# {_drill(incident)}Notification of a personal data breach (GDPR article 33)",
        "",
        f"Incident {incident.incident_id}: {incident.title}",
        f"Became aware: {_at(incident.aware_at)}. Due: {_at(due.due)}. Drawn up: {_at(now)}.",
        "",
        "## (a) Nature of the breach",
        incident.nature or _gap("what happened"),
        "",
        *[f"- {reach}" for reach in reaches],
        f"- Approximate number of data subjects: {counted.people}, in {counted.accounts} accounts",
        f"- Approximate number of records: {counted.records}",
        *[f"- Counted wider than what was reached: {why}" for why in counted.wider],
        "",
        "Categories of data:",
        *([f"- {table}: {why}" for table, why in counted.categories.items()] or [_gap("the categories of data")]),
        "",
        "What was said to a model and what it answered is stored nowhere in this program and is not among the records.",
        "",
        "## (b) Contact point",
        contact or _gap("name and address of the contact point"),
        "",
        "## (c) Likely consequences",
        incident.consequences or _gap("the likely consequences"),
        "",
        "## (d) Measures taken or proposed",
        incident.measures or _gap("the measures"),
    ]
    if due.stage(now) is Stage.OVER:
        lines += ["", "## Reasons for the delay", _gap("why it was not notified within 72 hours")]
    return "\n".join(lines) + "\n"


def to_people(incident: Incident, contact: str) -> str:
    """The notice to those whose data it is."""
    lines = [f"# {_drill(incident)}About your data: {incident.title}", "", opening(incident)]
    for heading, words in told(incident, contact):
        lines += ["", f"## {heading}", words]
    return "\n".join(lines) + "\n"


def opening(incident: Incident) -> str:
    """The first sentence to people."""
    return f"On {_at(incident.aware_at)} we learnt of an incident in which data of yours may have been reached."


def told(incident: Incident, contact: str) -> list[tuple[str, str]]:
    """What people are told, under which heading."""
    return [
        ("What happened", incident.nature or _gap("what happened")),
        ("What it may mean for you", incident.consequences or _gap("the likely consequences")),
        ("What we have done, and what you can do", incident.measures or _gap("the measures")),
        ("Whom to ask", contact or _gap("name and address of the contact point")),
    ]


def gaps(incident: Incident, contact: str) -> list[str]:
    """What has to be stated before people are told."""
    named = {"nature": incident.nature, "consequences": incident.consequences, "measures": incident.measures}
    return [name for name, said in {**named, "contact": contact}.items() if not said]


def _gap(what: str) -> str:
    return f"[TO BE STATED: {what}]"


def _drill(incident: Incident) -> str:
    return "EXERCISE: " if incident.drill else ""


def _at(time: datetime.datetime) -> str:
    return f"{time.astimezone(datetime.UTC):%Y-%m-%d %H:%M} UTC"
