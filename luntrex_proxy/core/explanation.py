"""What would happen to a request and why: the question, and the answer step by step. Filled in by the gateway."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.call import Route

ACTIVE = "active"  # the state of a key that works


@dataclass(frozen=True, slots=True)
class Question:
    """A request that might be sent."""

    caller: Caller
    model: str
    route: Route | None = None  # None: the first endpoint of a dialect that knows the model
    policy: str = ""  # as the header x-luntrex-policy
    address: str | None = None  # the client's; None: whoever may use the key
    key_state: str = ACTIVE
    budgets_used: Mapping[int, int] = field(default_factory=dict)  # by budget id: pico-dollars spent or lent
    # By (account id or key id, model, word of the limit): units that are used and did not fill up again.
    limits_used: Mapping[tuple[int | str, str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was looked at, in the order of the way."""

    station: str
    good: bool
    says: str


@dataclass(frozen=True, slots=True)
class TargetSeen:
    """One target of the model, the better ones first."""

    upstream: str
    model: str  # its name there
    weight: int
    share: float | None  # how often it is asked first, of 1; None: it depends on load or speed at that moment
    region: str
    retention: str
    training: str
    price: str  # in words
    reason: str  # why it is not asked, or only after others: a key of core/trail.py SENTENCES; "": nothing
    says: str  # the same in a sentence, with who it was that decided
    standing: str  # one of core/health.py STANDING_WORDS; "not known" without a running daemon's word
    asked: bool  # at all, be it after the others


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer. `code` is that of the refusal, "" when the request would be sent."""

    account_id: int
    key_id: str
    model: str
    endpoint: str
    code: str = ""
    status: int = 0
    sentence: str = ""
    named: str | None = None  # the field or attribute that the refusal names
    steps: tuple[Step, ...] = ()
    targets: tuple[TargetSeen, ...] = ()
