"""What people can ask for by right, and how long an answer may take, by the law they ask under."""

import enum
from datetime import datetime
from typing import Final

from luntrex_proxy.core.deadlines import Deadline


class Right(enum.StrEnum):
    """What is asked for."""

    ACCESS = "access"
    EXPORT = "export"
    CORRECT = "correct"
    RESTRICT = "restrict"
    OBJECT = "object"
    ERASE = "erase"


class Law(enum.StrEnum):
    """Whose clock runs."""

    GDPR = "gdpr"
    CCPA = "ccpa"
    LGPD = "lgpd"


class State(enum.StrEnum):
    """What a request waits for, or how it ended."""

    UNCONFIRMED = "unconfirmed"  # came by form: the person has still to confirm it, by a link that was mailed
    OPEN = "open"  # somebody has to do something
    WAITING = "waiting"  # an erasure that can still be withdrawn
    HELD = "held"  # by a legal hold
    DONE = "done"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    LAPSED = "lapsed"  # never confirmed


class Answer(enum.StrEnum):
    """How a request was answered outside this program. Fixed words: they say nothing about the person."""

    ANSWERED = "answered"
    GIVEN = "given"
    CORRECTED = "corrected"
    RESTRICTED = "restricted"
    ERASED_BY_HAND = "erased_by_hand"
    NOTHING_KEPT = "nothing_kept"


class Refusal(enum.StrEnum):
    """Why a request is refused."""

    IDENTITY_NOT_PROVEN = "identity_not_proven"
    MANIFESTLY_UNFOUNDED = "manifestly_unfounded"
    EXCESSIVE = "excessive"
    KEPT_BY_LAW = "kept_by_law"
    RIGHTS_OF_OTHERS = "rights_of_others"


class Delay(enum.StrEnum):
    """Why an answer takes the longer time of the law."""

    COMPLEX = "complex"
    MANY_REQUESTS = "many_requests"


ENDED: Final = frozenset({State.DONE, State.REFUSED, State.WITHDRAWN, State.LAPSED})


def clock(law: Law, received_at: datetime, *, extended: bool = False) -> Deadline:
    """When an answer is due. GDPR art. 12(3): a month, and two more; CCPA: 45 days, and 45 more; LGPD art. 19: 15 days.

    It begins with the receipt, also when the identity has still to be proven: to count later would be to our favour.
    """
    if law is Law.GDPR:
        return Deadline.after_months("gdpr", received_at, 3 if extended else 1)
    if law is Law.CCPA:
        return Deadline.after_days("ccpa", received_at, 90 if extended else 45)
    return Deadline.after_days("lgpd", received_at, 15)


def can_be_extended(law: Law) -> bool:
    """Whether the law allows for more time, once, when the person is told."""
    return law is not Law.LGPD
