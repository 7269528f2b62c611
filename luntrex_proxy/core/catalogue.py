"""Which upstreams can serve a model name, and in what order to ask them.

    Catalogue(entries).resolve(name, dialect) -> Resolution -> choose_order(targets, random01, costs)

An exact name wins over wildcards, a longer wildcard prefix over a shorter one. The most specific entry decides
alone: when none of its targets speaks the caller's dialect the model does not exist for that caller, and no
broader wildcard is asked. Health, policies and retries belong to other files.
"""

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.pricing import Rates

WILDCARD = "*"
WEIGHT_MAX = 10**9


class Choice(enum.StrEnum):
    """How the first of a model's targets is chosen."""

    WEIGHTED = "weighted"  # at random, by weight
    LEAST_BUSY = "least_busy"  # the fewest requests under way, relative to the weight
    LATENCY = "latency"  # the shortest wait for a first byte, times the requests under way, relative to the weight


class Weighted(Protocol):
    """Something to choose from. Weight 0: only when the others have failed."""

    @property
    def weight(self) -> int:
        """Its share, relative to the others."""


W = TypeVar("W", bound=Weighted)


@dataclass(frozen=True, slots=True)
class Target:
    """One upstream of an entry. `*` in `model` stands for what the entry's wildcard matched."""

    upstream: str
    dialect: Dialect
    model: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the configuration: an exact name, or a prefix that ends in `*`."""

    name: str
    targets: tuple[Target, ...]
    rates: Rates | None = None
    choice: Choice = Choice.WEIGHTED

    @property
    def is_wildcard(self) -> bool:
        """Whether it is a beginning of names."""
        return self.name.endswith(WILDCARD)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An upstream that can be asked. `model` None: the name the client sent is right and its bytes can stay."""

    upstream: str
    model: str | None
    weight: int


@dataclass(frozen=True, slots=True, eq=False)
class Resolution:
    """What a model name means. `name` None: a wildcard matched, so the price book says what to record.

    An exact name has the same Resolution for ever, so that others can remember by it what they made of it.
    """

    name: str | None
    candidates: tuple[Candidate, ...]
    rates: Rates | None  # the configuration's own price, if it has one
    choice: Choice = Choice.WEIGHTED


class Names(Protocol):
    """What model names mean to somebody."""

    def resolve(self, name: str, dialect: Dialect) -> Resolution | None:
        """What `name` means to a caller of `dialect`; None when it means nothing."""

    def list_models(self, dialect: Dialect) -> tuple[str, ...]:
        """The exact names a caller of `dialect` can use."""


class Catalogue:
    """All models of the configuration; frozen after construction."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._exact: dict[str, Entry] = {}
        self._prefixes: list[tuple[str, Entry]] = []
        self.entries = tuple(entries)
        for entry in self.entries:
            if entry.is_wildcard:
                self._prefixes.append((entry.name.removesuffix(WILDCARD), entry))
            else:
                self._exact[entry.name] = entry
        self._prefixes.sort(key=lambda item: len(item[0]), reverse=True)
        self._resolved = {
            (name, dialect): _resolution(name, entry, name, "", dialect)
            for name, entry in self._exact.items()
            for dialect in Dialect
        }

    def resolve(self, name: str, dialect: Dialect) -> Resolution | None:
        """What `name` means to a caller of `dialect`; None when it means nothing."""
        if name in self._exact:
            return self._resolved[name, dialect]
        found = self._wildcard(name)
        return None if found is None else _resolution(None, found[0], name, found[1], dialect)

    def _wildcard(self, name: str) -> tuple[Entry, str] | None:
        """The one that covers a name, and what it matched."""
        for prefix, entry in self._prefixes:
            if name.startswith(prefix) and len(name) > len(prefix):
                return entry, name[len(prefix) :]
        return None

    def expanded(self, others: Iterable[Entry]) -> Iterator[Entry]:
        """Exact entries of others that only a wildcard covers here: with their prices, and targets of here."""
        for other in others:
            found = None if other.name in self._exact else self._wildcard(other.name)
            if found is not None:
                targets = (replace(each, model=each.model.replace(WILDCARD, found[1])) for each in found[0].targets)
                yield Entry(other.name, tuple(targets), other.rates)

    def rates(self, name: str) -> Rates | None:
        """The configuration's own price of a name, if it has one."""
        found = (self.resolve(name, dialect) for dialect in Dialect)
        return next((resolution.rates for resolution in found if resolution is not None), None)

    def list_models(self, dialect: Dialect) -> tuple[str, ...]:
        """The exact names a caller of `dialect` can use, in the configuration's order."""
        return tuple(name for name in self._exact if self._resolved[name, dialect] is not None)


def _resolution(recorded: str | None, entry: Entry, asked: str, matched: str, dialect: Dialect) -> Resolution | None:
    candidates = []
    for target in entry.targets:
        if target.dialect is dialect:
            model = target.model.replace(WILDCARD, matched)
            candidates.append(Candidate(target.upstream, None if model == asked else model, target.weight))
    return Resolution(recorded, tuple(candidates), entry.rates, entry.choice) if candidates else None


def shares(targets: Sequence[Weighted]) -> list[float]:
    """How often `choose_order` without costs has each of them first, of 1."""
    whole = sum(target.weight for target in targets)
    if not whole:
        return [float(not at) for at in range(len(targets))]
    return [target.weight / whole for target in targets]


def choose_order(targets: Sequence[W], random01: float, costs: Sequence[float] | None = None) -> tuple[W, ...]:
    """All targets, drawn by weight without replacement from one number in [0, 1).

    Those of weight 0 come last, in their order. With `costs` (one per target) the cheapest for its weight comes first,
    and the draw only decides between equals.
    """
    left = [at for at, target in enumerate(targets) if target.weight]
    spare = [at for at, target in enumerate(targets) if not target.weight] if len(left) < len(targets) else []
    order: list[int] = []
    while len(left) > 1:
        point = random01 * sum(targets[at].weight for at in left)
        index = 0
        while index < len(left) - 1 and point >= targets[left[index]].weight:
            point -= targets[left[index]].weight
            index += 1
        # Where the point fell inside the chosen share is again uniform: it draws the next one.
        random01 = point / targets[left[index]].weight
        order.append(left.pop(index))
    order += left
    if costs is not None:
        order.sort(key=lambda at: costs[at] / targets[at].weight)
    order += spare
    return tuple(targets[at] for at in order)
