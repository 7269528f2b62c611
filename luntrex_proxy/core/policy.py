"""What upstreams do with what they are sent (`Traits`), and what a request lets them do (`Policy`).

    Policy.narrowed(other)    the intersection: it admits what both admit, nothing else
    Policy.admits(traits)     fails closed: what is unknown is the worst there is
    narrow_by_header          `x-luntrex-policy: region=eu,ch; retention=none; training=never`

Retention and training are scales from least to most, so a policy is a bound on each. Regions are exact words of the
operator's own: no prefix means a place (AWS's eu-west-2 is not in the EU).
"""

import enum
import re
from typing import Final

import msgspec

UNLIMITED_DAYS: Final = 2**53
ATTRIBUTES: Final = ("region", "retention", "training")  # in the order in which a refusal looks for one to name
REGION: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class RetentionKind(enum.StrEnum):
    """What is kept of requests and answers, from least to most."""

    NONE = "none"
    ABUSE_MONITORING = "abuse_monitoring"
    APPLICATION_STATE = "application_state"
    UNKNOWN = "unknown"


class Training(enum.StrEnum):
    """Whether models are trained on what is sent, from least to most."""

    NEVER = "never"
    UNLESS_OPTED_OUT = "unless_opted_out"
    YES = "yes"
    UNKNOWN = "unknown"


_KEPT: Final = {kind: rank for rank, kind in enumerate(RetentionKind)}
_TRAINS: Final = {training: rank for rank, training in enumerate(Training)}
_KINDS: Final = tuple(RetentionKind)
_TRAININGS: Final = tuple(Training)
_WORST: Final = 3
_APPLICATION_STATE: Final = _KEPT[RetentionKind.APPLICATION_STATE]


class BadPolicyError(Exception):
    """The header is not a policy; carries nothing of it."""


class Traits(msgspec.Struct, frozen=True, gc=False):
    """What one upstream does. As built without arguments: nothing is known of it."""

    region: str | None = None
    kept: int = _WORST  # rank of a RetentionKind: plain numbers, because each request compares them
    kept_days: int = 0
    trains: int = _WORST  # rank of a Training

    @classmethod
    def of(cls, region: str | None, kind: RetentionKind, days: int | None, training: Training) -> "Traits":
        """From the words of the configuration."""
        return cls(region, _KEPT[kind], days or 0, _TRAINS[training])

    @property
    def words(self) -> tuple[str, str, str]:
        """Region, retention and training in the words of the configuration."""
        kept = f"{_KINDS[self.kept]}:{self.kept_days}" if self.kept_days else _KINDS[self.kept].value
        return self.region or "unknown", kept, _TRAININGS[self.trains].value


class Policy(msgspec.Struct, frozen=True, gc=False):
    """The most that an upstream may do with a request. As built without arguments: anything."""

    regions: frozenset[str] | None = None  # None: any, unknown ones too
    kept: int = _WORST
    kept_days: int = UNLIMITED_DAYS
    trains: int = _WORST

    @classmethod
    def of(cls, regions: frozenset[str] | None, kind: RetentionKind, days: int | None, training: Training) -> "Policy":
        """From the words of the configuration. `unknown` sets no bound; `days` None: any number of them."""
        return cls(regions, _KEPT[kind], UNLIMITED_DAYS if days is None else days, _TRAINS[training])

    def admits(self, traits: Traits) -> bool:
        """Whether an upstream with these traits may have the request."""
        return (
            traits.kept <= self.kept
            and traits.trains <= self.trains
            and traits.kept_days <= self.kept_days
            and (self.regions is None or traits.region in self.regions)
        )

    def excluded_by(self, traits: Traits) -> tuple[str, ...]:
        """The attributes that lie outside; none when the upstream is admitted."""
        inside = (
            self.regions is None or traits.region in self.regions,
            traits.kept <= self.kept and traits.kept_days <= self.kept_days,
            traits.trains <= self.trains,
        )
        return tuple(name for name, ok in zip(ATTRIBUTES, inside, strict=True) if not ok)

    def is_within(self, other: "Policy") -> bool:
        """Whether nothing is admitted here that is not admitted there."""
        return (
            self.kept <= other.kept
            and (self.kept == _KEPT[RetentionKind.NONE] or self.kept_days <= other.kept_days)
            and self.trains <= other.trains
            and (other.regions is None or (self.regions is not None and self.regions <= other.regions))
        )

    def allows_state(self, days: int) -> bool:
        """Whether an upstream may keep a part of the request for its own features, for so many days."""
        return self.kept >= _APPLICATION_STATE and self.kept_days >= days

    def allows_strangers(self) -> bool:
        """Whether content may reach somebody of whom nothing is known."""
        return self.admits(_STRANGER)

    def without_consent(self, default: "Policy", *, training: bool, keeping: bool) -> "Policy":
        """This policy for an account whose owner has not agreed to everything (False): no training at all, whatever
        the configuration allows, and nothing kept beyond `default`.

        Where requests are processed is no matter of consent.
        """
        trains = self.trains if training else _TRAINS[Training.NEVER]
        kept, kept_days = self.kept, self.kept_days
        if not keeping and kept != _KEPT[RetentionKind.NONE]:
            kept, kept_days = min(kept, default.kept), min(kept_days, default.kept_days)
        if (trains, kept, kept_days) == (self.trains, self.kept, self.kept_days):
            return self
        return Policy(self.regions, kept, kept_days, trains)

    def relaxed(self, *, training: bool, keeping: bool) -> "Policy":
        """The widest that an account's own policy may be beside this default, with what its owner agreed to (True)."""
        kept, kept_days = (_WORST, UNLIMITED_DAYS) if keeping else (self.kept, self.kept_days)
        return Policy(self.regions, kept, kept_days, _WORST if training else self.trains)

    def narrowed(self, other: "Policy") -> "Policy":
        """The intersection of both."""
        regions = self.regions if other.regions is None else other.regions
        if self.regions is not None and other.regions is not None:
            regions = self.regions & other.regions
        return Policy(
            regions, min(self.kept, other.kept), min(self.kept_days, other.kept_days), min(self.trains, other.trains)
        )

    def words(self) -> str:
        """In the words of the header; what has no bound is left out, so "" admits anything."""
        items = [] if self.regions is None else [f"region={','.join(sorted(self.regions)) or 'none at all'}"]
        if self.kept < _WORST:
            days = f":{self.kept_days}" if self.kept and self.kept_days < UNLIMITED_DAYS else ""
            items.append(f"retention={_KINDS[self.kept]}{days}")
        if self.trains < _WORST:
            items.append(f"training={_TRAININGS[self.trains]}")
        return "; ".join(items)


_STRANGER: Final = Traits()
NO_TRAINING: Final = Policy.of(None, RetentionKind.ABUSE_MONITORING, 30, Training.NEVER)  # the default of accounts


def name_exclusion(policy: Policy, excluded: list[Traits]) -> str:
    """The attribute that keeps most of these upstreams out, so that its change helps most."""
    names = [name for traits in excluded for name in policy.excluded_by(traits)]
    return max(ATTRIBUTES, key=names.count)


NOTHING: Final = Policy(regions=frozenset())  # admits no upstream at all


def read_policy(text: str) -> Policy:
    """A whole policy in the words of the header. Raises BadPolicyError, also when retention or training is not said."""
    if "retention" not in text.lower() or "training" not in text.lower():
        raise BadPolicyError  # what is not said would be without a bound
    return narrow_by_header(Policy(), text.encode())


_ITEM = re.compile(r"[ \t]*([a-z]+)[ \t]*=[ \t]*([^;=]*?)[ \t]*")
_DAYS = re.compile(r"([a-z_]+)(?::([0-9]{1,5}))?")


def narrow_by_header(policy: Policy, header: bytes) -> Policy:
    """`policy` narrowed by what a request's header asks for; it can never widen. Raises BadPolicyError.

    Items stand between semicolons, each at most once: `region=WORD[,WORD...]`, `retention=KIND[:DAYS]`,
    `training=WORD`, in the words of the configuration.
    """
    items: dict[str, str] = {}
    for part in header.decode("latin-1").lower().split(";"):
        item = _ITEM.fullmatch(part)
        if item is None or item[1] in items or item[1] not in ATTRIBUTES:
            raise BadPolicyError
        items[item[1]] = item[2]
    regions = None
    if "region" in items:
        regions = frozenset(word.strip() for word in items["region"].split(","))
        if not all(REGION.fullmatch(word) for word in regions):
            raise BadPolicyError
    days = _DAYS.fullmatch(items.get("retention", "unknown"))
    try:
        kind = RetentionKind(days[1] if days else "")
        training = Training(items.get("training", "unknown"))
    except ValueError:
        raise BadPolicyError from None
    if days is not None and days[2] and kind in (RetentionKind.NONE, RetentionKind.UNKNOWN):
        raise BadPolicyError
    return policy.narrowed(Policy.of(regions, kind, int(days[2]) if days and days[2] else None, training))
