"""What a record says of a request's way besides the usual: who was left out and why, who refused, what was waited for.

    NAME=REASON             an upstream that was not asked, or only after the others
    NAME@START+TOOK=CODE    one that was asked in vain
    NAME@START              the one that was asked last; how that ended the record itself says
    .STATION@START+TOOK     a wait that is not the upstream's: for the key's proof, the body, a connection
    .more=NUMBER            how many entries found no place

Names of the configuration, fixed words and microseconds since the head arrived; entries are joined by `;`. Nearly all
requests have none.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

LONGEST: Final = 480  # characters: the spool keeps room for the record before a request is sent
WORTH_TELLING_US: Final = 1_000  # a shorter wait is not noted
# Why an upstream is asked after the others, or not at all: attributes of policies, refusal codes, standings.
SENTENCES: Final = {
    "region": "the policy excludes its region",
    "retention": "the policy excludes how long it keeps requests",
    "training": "the policy excludes that it may train on requests",
    "subprocessor_unlisted": "the register of sub-processors does not vouch for it",
    "subprocessor_objected": "the account objected to it",
    "price_unknown": "its price for the model is not known",
    "ejected": "asked after the others: too many of its answers were errors",
    "paused": "asked after the others: it said Retry-After for this model",
    "probe_fails": "asked after the others: its probe fails",
    "breaker_open": "not asked: it failed several times in a row",
    "maintenance": "not asked: it is in maintenance",
}
_WAITS: Final = {
    "key": "the proof of the key",
    "body": "the client's body",
    "limits": "other processes to know what was let in here",
    "budget": "money of a budget to be lent to this process",
    "connect": "a connection to the upstream",
}
_STEP: Final = re.compile(r"(\.?[A-Za-z0-9][A-Za-z0-9._-]*)(?:@(\d{1,15})(?:\+(\d{1,15}))?)?(?:=([a-z0-9_]{1,40}))?")


@dataclass(frozen=True, slots=True)
class Step:
    """One entry, read. `name` is an upstream's, or a station's after a dot."""

    name: str
    start_us: int | None
    took_us: int | None
    code: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a request's time, or an upstream that was not asked. Times: microseconds since the head arrived."""

    station: str
    upstream: str
    start_us: int | None
    took_us: int | None
    code: str
    says: str


def left_out(upstream: str, reason: str) -> str:
    """The entry of an upstream that was not asked, or only after the others."""
    return f"{upstream}={reason}"


def asked(upstream: str, start_us: int, end_us: int, code: str) -> str:
    """The entry of an upstream that was asked in vain."""
    return f"{upstream}@{start_us}+{end_us - start_us}={code}"


def asked_last(upstream: str, start_us: int) -> str:
    """The entry of the one whose answer the client got."""
    return f"{upstream}@{start_us}"


def waited(station: str, start_us: int, end_us: int) -> str:
    """The entry of a wait at one of our stations."""
    return f".{station}@{start_us}+{end_us - start_us}"


def join(entries: Sequence[str]) -> str:
    """All entries as a record has them."""
    text = ";".join(entries)
    kept = len(entries)
    while len(text) > LONGEST:
        kept -= 1
        text = ";".join((*entries[:kept], f".more={len(entries) - kept}"))
    return text


def read(trail: str) -> list[Step]:
    """The entries of a record; what a later release writes otherwise is left out."""
    found = []
    for entry in filter(None, trail.split(";")):
        step = _STEP.fullmatch(entry)
        if step is not None:
            start, took = (None if text is None else int(text) for text in (step[2], step[3]))
            found.append(Step(step[1], start, took, step[4] or ""))
    return found


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a record says of time and end."""

    upstream: str
    code: str
    attempts: int
    duration_us: int
    first_byte_us: int
    overhead_us: int
    trail: str


def timeline(record: Recorded) -> list[Passage]:
    """Where the time of a request went, in its order; before that, who was not asked and why."""
    steps = read(record.trail)
    passed = [_not_asked(step) for step in steps if step.start_us is None]
    timed = [_timed(step, record) for step in steps if step.start_us is not None]
    sent_us = record.overhead_us if record.attempts else record.duration_us
    sent_us = min([sent_us, *(each.start_us or sent_us for each in timed if each.upstream)])
    waited_us = sum(each.took_us or 0 for each in timed if not each.upstream and (each.start_us or 0) < sent_us)
    ours = Passage("gateway", "", 0, max(0, sent_us - waited_us), "", "our own work until an upstream was asked")
    return [*passed, ours, *timed, *_rest(record, timed)]


def _not_asked(step: Step) -> Passage:
    if step.name == ".more":
        return Passage("route", "", None, None, "more", f"{step.code} more entries had no room")
    return Passage("route", step.name, None, None, step.code, SENTENCES.get(step.code, step.code))


def _timed(step: Step, record: Recorded) -> Passage:
    if step.name.startswith("."):
        station = step.name[1:]
        return Passage(station, "", step.start_us, step.took_us, "", f"waited for {_WAITS.get(station, station)}")
    if step.code:
        return Passage("forward", step.name, step.start_us, step.took_us, step.code, "asked in vain")
    return _answer(step.name, step.start_us or record.overhead_us, record)


def _answer(upstream: str, start_us: int, record: Recorded) -> Passage:
    end_us = record.first_byte_us or record.duration_us
    return Passage("forward", upstream, start_us, max(0, end_us - start_us), record.code, "until the client had a byte")


def _rest(record: Recorded, timed: Sequence[Passage]) -> Iterator[Passage]:
    if record.attempts and not any(each.upstream for each in timed):
        yield _answer(record.upstream, record.overhead_us, record)
    if record.first_byte_us:
        took_us = max(0, record.duration_us - record.first_byte_us)
        yield Passage("relay", record.upstream, record.first_byte_us, took_us, record.code, "the rest of the answer")
