"""The register of sub-processors as rules: which entry covers a host, whether it counts, and what a change means.

    in_force(versions, now)           the version of one entry that holds at `now`
    Register(entries).look_up(host)   -> Listing: complete, incomplete, overdue, retired, shipped or unlisted
    checked(changes, today)           what somebody says of an entry, or BadEntryError
    needs_notice(old, new)            whether accounts are told 30 days ahead

An entry is complete when every field says something and its next review lies ahead, at most 12 months off. What is
not complete gets nothing. Known providers come with the package (`shipped`): dated, but without an agreement, which
only the operator can have; they serve where nobody asked for more (security.policy is not strict).
"""

import datetime
import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from luntrex_proxy.core.policy import BadPolicyError, Traits, read_policy

NOTICE: Final = datetime.timedelta(days=30)
REVIEW_DAYS_MAX: Final = 366
SUBPROCESSOR: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")  # the name of an entry
_HOST: Final = re.compile(r"[.]?[a-z0-9:][a-z0-9.:_-]{0,252}")
WARN_BEFORE: Final = datetime.timedelta(days=30)  # a review is due
_FIELDS: Final = {  # attribute -> what people call it
    "purpose": "purpose", "region": "region", "kept": "retention", "training": "training", "agreement": "agreement",
    "agreed_on": "date of the agreement", "commitments": "commitments", "evidence": "evidence",
    "next_review": "next review",
}  # fmt: skip


class State(enum.StrEnum):
    """What the register says of a host."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    OVERDUE = "overdue"
    CONTRADICTED = "contradicted"  # by the upstream's own settings
    RETIRED = "retired"
    PENDING = "pending"  # announced; accounts were told less than 30 days ago
    SHIPPED = "shipped"  # known to the package, not entered by the operator
    UNLISTED = "unlisted"


_NOTHING: Final = ("", "unknown", None)
_TOLERATED: Final = frozenset({State.SHIPPED, State.UNLISTED})


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of one sub-processor's entry. Empty: nobody has said it yet."""

    name: str
    entry_version: int
    hosts: tuple[str, ...]  # a leading dot stands for any name below
    purpose: str
    region: str
    kept: str  # none, or KIND:DAYS in the words of policies
    training: str
    agreement: str
    agreed_on: datetime.date | None
    commitments: str
    evidence: str
    next_review: datetime.date | None
    retired: bool
    announced_at: datetime.datetime
    effective_at: datetime.datetime

    def missing(self) -> tuple[str, ...]:
        """What nobody has said yet."""
        return tuple(said for name, said in _FIELDS.items() if getattr(self, name) in _NOTHING)

    def says(self, traits: Traits) -> bool:
        """Whether it says of the sub-processor what these settings of an upstream say."""
        try:
            said = read_policy(f"retention={self.kept}; training={self.training}")
        except BadPolicyError:
            return False
        days = said.kept_days if traits.kept_days else 0
        return (self.region, said.kept, days, said.trains) == (traits.region or "", *_scales(traits))


def _scales(traits: Traits) -> tuple[int, int, int]:
    return traits.kept, traits.kept_days, traits.trains


@dataclass(frozen=True, slots=True)
class Shipped:
    """A provider that the package knows."""

    name: str
    hosts: tuple[str, ...]
    read: datetime.date  # the day of the evidence


def covers(hosts: Iterable[str], host: str) -> bool:
    """Whether a host is one of these; a leading dot stands for any name below."""
    return any(host.endswith(name) if name.startswith(".") else host == name for name in hosts)


@dataclass(frozen=True, slots=True)
class Closed:
    """The upstreams, by name, that get nothing: `everyone`'s, and those of accounts that objected."""

    everyone: frozenset[str] = frozenset()
    objections: Mapping[int, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Listing:
    """What the register says of one host, and why."""

    state: State
    name: str = ""  # of the entry
    why: str = ""

    def is_usable(self, *, strict: bool) -> bool:
        """Whether anything may be sent there."""
        return self.state is State.COMPLETE or (not strict and self.state in _TOLERATED)


class BadEntryError(Exception):
    """A field of an entry cannot be so; the text says what it must be."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.field = field


def checked(changes: Mapping[str, Any], today: datetime.date) -> dict[str, Any]:
    """What somebody says of an entry, in the form in which it is kept. BadEntryError."""
    found: dict[str, Any] = {
        name: value.strip() if isinstance(value, str) else value for name, value in changes.items()
    }
    if "region" in found:
        found["region"] = found["region"].lower()
    if "hosts" in found:
        found["hosts"] = tuple(sorted({host.strip().lower() for host in found["hosts"]}))
        if not found["hosts"] or not all(map(_is_host, found["hosts"])):
            raise BadEntryError("hosts", "is a host name or an address, without scheme, port or path")
    if "next_review" in found and not today < found["next_review"] <= today + datetime.timedelta(REVIEW_DAYS_MAX):
        raise BadEntryError("next_review", "is a day ahead, at most 12 months from now")
    if "agreed_on" in found and found["agreed_on"] > today:
        raise BadEntryError("agreed_on", "cannot lie ahead")
    try:
        read_policy(f"retention={found.get('kept', 'none')}; training=never")
    except BadPolicyError:
        raise BadEntryError("kept", "is none, or a kind and days: abuse_monitoring:30") from None
    return found


def _is_host(host: str) -> bool:
    return _HOST.fullmatch(host) is not None and host.count(":") != 1


def in_force(versions: Sequence[Entry], now: datetime.datetime) -> Entry | None:
    """The newest of an entry's versions that holds by now; None: none does yet."""
    return max((e for e in versions if e.effective_at <= now), key=lambda e: e.entry_version, default=None)


class Register:
    """All versions of all entries, and what the package knows."""

    def __init__(self, entries: Iterable[Entry] = (), shipped: Sequence[Shipped] = ()) -> None:
        self._versions: dict[str, list[Entry]] = {}
        for entry in entries:
            self._versions.setdefault(entry.name, []).append(entry)
        self._shipped = shipped

    def current(self, now: datetime.datetime) -> list[Entry]:
        """The version of each entry that holds, also of retired ones."""
        found = (in_force(versions, now) for versions in self._versions.values())
        return sorted((entry for entry in found if entry is not None), key=lambda entry: entry.name)

    def pending(self, now: datetime.datetime) -> list[Entry]:
        """Versions that were announced and do not hold yet."""
        return [e for versions in self._versions.values() for e in versions if e.effective_at > now]

    def seen_by(self, host: str, now: datetime.datetime) -> set[str]:
        """The names of all entries that this host is of, to whichever of them somebody objects."""
        return {entry.name for entry in self.current(now) if not entry.retired and covers(entry.hosts, host)}

    def look_up(self, host: str, now: datetime.datetime, traits: Traits | None = None) -> Listing:
        """What it says of this host; `traits` are what the settings say of an upstream there."""
        covering = [entry for entry in self.current(now) if covers(entry.hosts, host)]
        # Whoever took over a host from one that was retired is the one that counts.
        entry = next((entry for entry in covering if not entry.retired), None)
        if entry is not None:
            return _listing(entry, now, traits)
        if covering:
            return Listing(State.RETIRED, covering[0].name, "it was retired")
        announced = next((entry for entry in self.pending(now) if covers(entry.hosts, host)), None)
        if announced is not None:
            day = announced.effective_at.date()
            return Listing(State.PENDING, announced.name, f"accounts were told, and it may be used from {day} on")
        for known in self._shipped:
            if covers(known.hosts, host):
                return _shipped(known, now)
        return Listing(State.UNLISTED, why="nobody has entered it")


def _listing(entry: Entry, now: datetime.datetime, traits: Traits | None) -> Listing:
    missing = entry.missing()
    if missing:
        return Listing(State.INCOMPLETE, entry.name, f"nothing is said about {', '.join(missing)}")
    if entry.next_review is not None and entry.next_review <= now.date():
        return Listing(State.OVERDUE, entry.name, f"its review was due on {entry.next_review}")
    if traits is not None and not entry.says(traits):
        why = "its region, retention or training differ from what the upstream's settings say"
        return Listing(State.CONTRADICTED, entry.name, why)
    return Listing(State.COMPLETE, entry.name)


def _shipped(known: Shipped, now: datetime.datetime) -> Listing:
    if (now.date() - known.read).days > REVIEW_DAYS_MAX:
        return Listing(
            State.UNLISTED, known.name, f"what the package says of it was read on {known.read}, too long ago"
        )
    return Listing(State.SHIPPED, known.name, f"the package knows it (read on {known.read}), the agreement is missing")


def is_due_soon(entry: Entry, now: datetime.datetime) -> bool:
    """Whether a complete entry's review comes up."""
    return entry.next_review is not None and not entry.retired and entry.next_review <= (now + WARN_BEFORE).date()


def needs_notice(old: Entry | None, new: Entry) -> bool:
    """Whether a version lets the sub-processor do more than the one before: then accounts are told ahead."""
    if new.retired:
        return False
    if old is None or old.retired:
        return True
    same_place = new.region == old.region and new.purpose == old.purpose and set(new.hosts) <= set(old.hosts)
    return not (same_place and _is_within(new, old))


def _is_within(new: Entry, old: Entry) -> bool:
    if (new.kept, new.training) == (old.kept, old.training):
        return True
    try:
        was, becomes = (read_policy(f"retention={e.kept}; training={e.training}") for e in (old, new))
    except BadPolicyError:
        return False  # one of them is not said yet
    return becomes.is_within(was)
