"""What an account has of its own in routing: the models it may use, and its own targets for some of them.

read_target("3*openai/gpt-4o")      the words of the command line
check(routes)                       BadRoutesError: they contradict each other, or are too many
AccountCatalogue(shared, own)       resolves names as `Catalogue` does, for one account
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

import msgspec

from luntrex_proxy.core.apikeys import mentions_key
from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.catalogue import WEIGHT_MAX, WILDCARD, Catalogue, Entry, Resolution, Target
from luntrex_proxy.core.scope import MODEL, covers

MODELS_MAX: Final = 64
TARGETS_MAX: Final = 16
_NOBODY: Final = Resolution(None, (), None)
_TARGET: Final = re.compile(r"(?:(\d{1,9})\*)?([A-Za-z0-9][A-Za-z0-9._-]{0,62})(?:/([\x21-\x7e]{1,200}))?")


class BadRoutesError(Exception):
    """One sentence that says what cannot be so."""


class OwnTarget(msgspec.Struct, frozen=True):
    """An upstream that serves a model for the account."""

    upstream: str
    model: str  # its name there; `*` stands for what the wildcard of the model matched
    weight: int = 1


class AccountRoutes(msgspec.Struct, frozen=True):
    """All of one account."""

    models: tuple[str, ...] | None = None  # names, or beginnings that end in `*`; None: all there are
    targets: Mapping[str, tuple[OwnTarget, ...]] = {}  # by the model's name, or its beginning and `*`

    @property
    def is_nothing(self) -> bool:
        """Whether the account has nothing of its own."""
        return self.models is None and not self.targets

    def allows(self, model: str) -> bool:
        """Whether the account may use a model, by the name the client used."""
        return self.models is None or covers(self.models, model)

    def upstreams(self) -> set[str]:
        """The names of all upstreams that are targets here."""
        return {target.upstream for targets in self.targets.values() for target in targets}


def read_target(model: str, words: str) -> OwnTarget:
    """A target written as `[WEIGHT*]UPSTREAM[/MODEL]`; without a name there it is the same one. BadRoutesError."""
    found = _TARGET.fullmatch(words)
    if found is None:
        raise BadRoutesError(f"{words!r} is no target; write [WEIGHT*]UPSTREAM[/MODEL], as in 3*openai/gpt-4o.")
    there = found[3] or (WILDCARD if model.endswith(WILDCARD) else model)
    return OwnTarget(found[2], there, 1 if found[1] is None else int(found[1]))


def check(routes: AccountRoutes) -> None:
    """Raise BadRoutesError when these cannot be an account's."""
    if routes.models is not None and not 1 <= len(routes.models) <= MODELS_MAX:
        raise BadRoutesError(f"An account can be limited to 1 to {MODELS_MAX} models.")
    if len(routes.targets) > MODELS_MAX:
        raise BadRoutesError(f"An account can have targets of its own for {MODELS_MAX} models at most.")
    for name in (*(routes.models or ()), *routes.targets):
        if MODEL.fullmatch(name) is None:
            raise BadRoutesError(f"{name!r} is no model name; give one as clients write it, or a beginning and `*`.")
    for name, targets in routes.targets.items():
        _check_targets(name, targets)
        if routes.models is not None and not covers(routes.models, name):
            raise BadRoutesError(f"The account may not use {name}, so it needs no targets for it; allow it as well.")


def _check_targets(name: str, targets: tuple[OwnTarget, ...]) -> None:
    if not 1 <= len(targets) <= TARGETS_MAX:
        raise BadRoutesError(f"A model has 1 to {TARGETS_MAX} targets.")
    if len({(target.upstream, target.model) for target in targets}) < len(targets):
        raise BadRoutesError(f"A target of {name} is named twice; give each once, with its weight.")
    if not any(target.weight for target in targets) or not all(0 <= t.weight <= WEIGHT_MAX for t in targets):
        raise BadRoutesError(f"Weights are whole numbers from 0 to {WEIGHT_MAX}, and one at least is above 0.")
    for target in targets:
        if mentions_key(target.model):
            raise BadRoutesError(f"A target of {name} has an API key in it; revoke that, and name the model there.")
        if target.model.count(WILDCARD) > (1 if name.endswith(WILDCARD) else 0):
            raise BadRoutesError(f"A `*` in a target of {name} has nothing that it could stand for.")


class AccountCatalogue:
    """What names mean to one account: its own targets first, the configuration's for all else it may use."""

    def __init__(self, shared: Catalogue, routes: AccountRoutes, dialects: Mapping[str, Dialect]) -> None:
        """`dialects`: of the upstreams there are; others are left out, as if they were down."""
        self._shared = shared
        self._routes = routes
        known = {name: tuple(_known(targets, dialects)) for name, targets in routes.targets.items()}
        own = Catalogue(Entry(name, targets, shared.rates(name)) for name, targets in known.items() if targets)
        # A model of the configuration keeps its name and price where only a beginning of it has targets here.
        self._own = Catalogue((*own.entries, *own.expanded(entry for entry in shared.entries if not entry.is_wildcard)))
        self._lost = [name for name, targets in known.items() if not targets]

    def resolve(self, name: str, dialect: Dialect) -> Resolution | None:
        """What `name` means to a caller of `dialect`; None when it means nothing, or may not be used."""
        if not self._routes.allows(name):
            return None
        found = self._own.resolve(name, dialect)
        if found is not None and found.name is None:
            return replace(found, rates=self._shared.rates(name))
        if found is None and covers(self._lost, name):
            return _NOBODY  # not the configuration's targets: the account was to be served by others
        return found or self._shared.resolve(name, dialect)

    def list_models(self, dialect: Dialect) -> tuple[str, ...]:
        """The exact names a caller of `dialect` can use."""
        names = (*self._shared.list_models(dialect), *self._own.list_models(dialect), *(self._routes.models or ()))
        return tuple(
            name
            for name in dict.fromkeys(names)
            if not name.endswith(WILDCARD) and self.resolve(name, dialect) is not None
        )


def _known(targets: Iterable[OwnTarget], dialects: Mapping[str, Dialect]) -> Iterable[Target]:
    for target in targets:
        if target.upstream in dialects:
            yield Target(target.upstream, dialects[target.upstream], target.model, target.weight)
