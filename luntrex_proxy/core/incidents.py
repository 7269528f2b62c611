"""Incidents as rules: the clocks that begin with knowing of one, and the notices that its facts make. Nothing is
invented: what nobody has stated stands in the draft as a gap to fill.

    clocks(aware_at)      24 hours of our own, 72 hours of GDPR article 33
    to_authority(facts)   Markdown after article 33(3)
    to_people(facts)      Markdown after article 34(2), in plain words
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from luntrex_proxy.core.deadlines import Deadline, Stage


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
class Facts:
    """What is known, for the notices. Empty: nobody has stated it yet."""

    incident_id: int
    title: str
    aware_at: datetime.datetime
    nature: str
    consequences: str
    measures: str
    contact: str
    drill: bool
    reaches: Sequence[Reach] = ()
    accounts: int = 0
    people: int = 0
    records: int = 0
    categories: Mapping[str, str] = field(default_factory=dict)  # of data: table -> purpose
    wider: Sequence[str] = ()  # why more may be counted than was reached


def clocks(aware_at: datetime.datetime) -> tuple[Deadline, Deadline]:
    """Until when we decide ourselves, and until when the authority is told."""
    return Deadline.after_hours("decision", aware_at, 24), Deadline.after_hours("authority", aware_at, 72)


def to_authority(facts: Facts, now: datetime.datetime) -> str:
    """The notification of a supervisory authority."""
    due = clocks(facts.aware_at)[1]
    lines = [
        f"# {_drill(facts)}Notification of a personal data breach (GDPR article 33)",
        "",
        f"Incident {facts.incident_id}: {facts.title}",
        f"Became aware: {_at(facts.aware_at)}. Due: {_at(due.due)}. Drawn up: {_at(now)}.",
        "",
        "## (a) Nature of the breach",
        facts.nature or _gap("what happened"),
        "",
        *[f"- {reach}" for reach in facts.reaches],
        f"- Approximate number of data subjects: {facts.people}, in {facts.accounts} accounts",
        f"- Approximate number of records: {facts.records}",
        *[f"- Counted wider than what was reached: {why}" for why in facts.wider],
        "",
        "Categories of data:",
        *([f"- {table}: {purpose}" for table, purpose in facts.categories.items()] or [_gap("the categories of data")]),
        "",
        "What was said to a model and what it answered is stored nowhere in this program and is not among the records.",
        "",
        "## (b) Contact point",
        facts.contact or _gap("name and address of the contact point"),
        "",
        "## (c) Likely consequences",
        facts.consequences or _gap("the likely consequences"),
        "",
        "## (d) Measures taken or proposed",
        facts.measures or _gap("the measures"),
    ]
    if due.stage(now) is Stage.OVER:
        lines += ["", "## Reasons for the delay", _gap("why it was not notified within 72 hours")]
    return "\n".join(lines) + "\n"


def to_people(facts: Facts) -> str:
    """The notice to those whose data it is."""
    lines = [
        f"# {_drill(facts)}About your data: {facts.title}",
        "",
        f"On {_at(facts.aware_at)} we learnt of an incident in which data of yours may have been reached.",
        "",
        "## What happened",
        facts.nature or _gap("what happened"),
        "",
        "## What it may mean for you",
        facts.consequences or _gap("the likely consequences"),
        "",
        "## What we have done, and what you can do",
        facts.measures or _gap("the measures"),
        "",
        "## Whom to ask",
        facts.contact or _gap("name and address of the contact point"),
    ]
    return "\n".join(lines) + "\n"


def gaps(facts: Facts) -> list[str]:
    """What has to be stated before people are told."""
    named = {"nature": facts.nature, "consequences": facts.consequences, "measures": facts.measures}
    return [name for name, said in (*named.items(), ("contact", facts.contact)) if not said]


def _gap(what: str) -> str:
    return f"[TO BE STATED: {what}]"


def _drill(facts: Facts) -> str:
    return "EXERCISE: " if facts.drill else ""


def _at(time: datetime.datetime) -> str:
    return f"{time.astimezone(datetime.UTC):%Y-%m-%d %H:%M} UTC"
