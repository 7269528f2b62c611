"""What a file says accounts are to be, compared with what they are: the changes that lie between, in their order.

What the file does not name is left alone: other accounts, members and keys, and fields that are not given (UNSET).
Nothing is looked up or changed here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from msgspec import UNSET, UnsetType

from luntrex_proxy.core.budgets import PERIODS, BudgetTerms
from luntrex_proxy.core.labels import Allowed
from luntrex_proxy.core.limits import Terms
from luntrex_proxy.core.scope import Scope

Loc = tuple[str | int, ...]  # where it stands in the file
OWNER: Final = "owner"
KINDS: Final = Scope.__struct_fields__


@dataclass(frozen=True, slots=True)
class Key:
    """A key as the file wants it. `owner`: the address of the member whose own it is; None: the account's."""

    name: str
    owner: str | UnsetType | None = UNSET
    status: str | UnsetType = UNSET  # active, suspended or revoked
    not_before: datetime | None = None
    expires_at: datetime | None = None
    scope: Scope = field(default_factory=Scope)
    kinds: tuple[str, ...] = ()  # fields of `scope` that the file names
    times: tuple[str, ...] = ()  # which of the two it names
    labels: Mapping[str, str | None] = field(default_factory=dict)  # those it names; None: not carried
    limits: Terms | UnsetType = UNSET  # all of them
    budgets: Mapping[str, BudgetTerms] | UnsetType = UNSET  # likewise


@dataclass(frozen=True, slots=True)
class Account:
    """An account as the file wants it."""

    name: str
    status: str | UnsetType = UNSET
    policy: str | UnsetType | None = UNSET
    members: Mapping[str, str | None] = field(default_factory=dict)  # address -> role; None: no member
    keys: tuple[Key, ...] = ()
    labels: Mapping[str, Allowed] = field(default_factory=dict)  # those it declares
    limits: Terms | UnsetType = UNSET  # all of its own
    budgets: Mapping[str, BudgetTerms] | UnsetType = UNSET  # likewise
    time_zone: str | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class PresentKey:
    """A live key as it is."""

    key_id: str
    status: str
    owner: str | None
    not_before: datetime | None
    expires_at: datetime | None
    scope: Scope
    labels: Mapping[str, str] = field(default_factory=dict)
    limits: Terms = field(default_factory=dict)
    budgets: Mapping[str, BudgetTerms] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PresentAccount:
    """An account as it is. Keys that ended or were replaced are not in it."""

    status: str
    policy: str | None
    members: Mapping[str, str]
    keys: Mapping[str, PresentKey]
    labels: Mapping[str, Allowed] = field(default_factory=dict)
    limits: Terms = field(default_factory=dict)
    budgets: Mapping[str, BudgetTerms] = field(default_factory=dict)
    time_zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Present:
    """What the database has of what the file names."""

    accounts: Mapping[str, PresentAccount]
    people: frozenset[str]  # addresses of those who can be members


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to do. `act` is as in the audit log, `name` a member's address or the name of a key or label."""

    act: str
    account: str
    loc: Loc
    name: str = ""
    before: str | None = None
    after: str | None = None
    key: Key | None = None
    key_id: str = ""
    labels: Mapping[str, str | None] = field(default_factory=dict)  # of a key, that become others
    allowed: Allowed = None  # values of a label
    limits: Terms = field(default_factory=dict)  # all there are to be
    budgets: Mapping[str, BudgetTerms] = field(default_factory=dict)  # likewise


@dataclass(frozen=True, slots=True)
class Fault:
    """Something the file wants that cannot be."""

    loc: Loc
    sentence: str


NEW: Final = PresentAccount("active", None, {}, {})


def compare(wanted: tuple[Account, ...], present: Present, now: datetime) -> tuple[list[Change], list[Fault]]:
    """What has to be done, in the order in which it can be, and what cannot."""
    found = [
        each for index, account in enumerate(wanted) for each in _account(account, present, ("accounts", index), now)
    ]
    changes = [each for each in found if isinstance(each, Change)]
    return changes, [each for each in found if isinstance(each, Fault)]


def _account(account: Account, present: Present, loc: Loc, now: datetime) -> Iterator[Change | Fault]:
    """Made and resumed first, suspended last: a suspended account gets no keys."""
    name, there = account.name, present.accounts.get(account.name)
    if there is None:
        yield Change("account.created", name, loc)
        there = NEW
    if account.status == "active" and there.status != "active":
        yield Change("account.resumed", name, (*loc, "status"), "", there.status, "active")
    if not isinstance(account.policy, UnsetType) and account.policy != there.policy:
        yield Change("account.policy_set", name, (*loc, "policy"), "", there.policy, account.policy)
    yield from _labels(account, there, loc)
    if account.time_zone not in (UNSET, there.time_zone):
        yield Change("account.time_zone_set", name, (*loc, "time_zone"), "", there.time_zone, str(account.time_zone))
    yield from _allowed("account", name, account, there, loc)
    yield from _members(account, there, present.people, loc)
    members = {**there.members, **account.members}
    for index, key in enumerate(account.keys):
        yield from _key(name, key, there.keys.get(key.name), members, (*loc, "keys", index), now)
    if account.status == "suspended" and there.status != "suspended":
        yield Change("account.suspended", name, (*loc, "status"), "", there.status, "suspended")


def _labels(account: Account, there: PresentAccount, loc: Loc) -> Iterator[Change]:
    for index, (label, allowed) in enumerate(account.labels.items()):
        if label not in there.labels or there.labels[label] != allowed:
            before = _values(there.labels[label]) if label in there.labels else None
            yield Change(
                "label.declared",
                account.name,
                (*loc, "labels", index),
                label,
                before,
                _values(allowed),
                allowed=allowed,
            )


def _members(account: Account, there: PresentAccount, people: frozenset[str], loc: Loc) -> Iterator[Change | Fault]:
    """New owners first, so that an old one can go."""
    for index, (email, role) in sorted(
        enumerate(account.members.items()), key=lambda each: (each[1][1] != OWNER, each[1][1] is None)
    ):
        place, before = (*loc, "members", index), there.members.get(email)
        if before == role:
            continue
        if email not in people:
            yield Fault((*place, "email"), "is nobody's here; make the person with `luntrex-proxy people create`")
        else:
            act = "member.removed" if role is None else "member.set"
            yield Change(act, account.name, (*place, "role"), email, before, role)


def _key(
    account: str, key: Key, there: PresentKey | None, members: Mapping[str, str | None], loc: Loc, now: datetime
) -> Iterator[Change | Fault]:
    if there is None:
        if key.status == "revoked" or (key.expires_at is not None and key.expires_at <= now):
            return  # it ended, as it should
        if isinstance(key.owner, str) and members.get(key.owner) is None:
            yield Fault((*loc, "owner"), "is no member of the account")
            return
        yield Change("key.created", account, loc, key.name, None, "active", key)
        yield from _labelled(account, key, {}, "", loc)
        yield from _allowed("key", account, key, None, loc)
        if key.status == "suspended":
            yield Change("key.suspended", account, (*loc, "status"), key.name, "active", "suspended", key)
        return
    if key.status == "revoked":
        yield Change("key.revoked", account, (*loc, "status"), key.name, there.status, "revoked", key, there.key_id)
        return
    if key.owner not in (UNSET, there.owner):
        yield Fault((*loc, "owner"), "is another now, and stays; make a key of another name")
    for which in key.times:
        if getattr(key, which) != getattr(there, which):
            yield Fault((*loc, which), "is another now, and stays; make a key of another name")
    kinds = tuple(kind for kind in key.kinds if _meant(key.scope, kind) != _meant(there.scope, kind))
    if kinds:
        yield Change(
            "key.limited",
            account,
            loc,
            key.name,
            _words(there.scope, kinds),
            _words(key.scope, kinds),
            key,
            there.key_id,
        )
    yield from _labelled(account, key, there.labels, there.key_id, loc)
    yield from _allowed("key", account, key, there, loc)
    if not isinstance(key.status, UnsetType) and key.status != there.status:
        act = "key.resumed" if key.status == "active" else "key.suspended"
        yield Change(act, account, (*loc, "status"), key.name, there.status, key.status, key, there.key_id)


def _labelled(account: str, key: Key, there: Mapping[str, str], key_id: str, loc: Loc) -> Iterator[Change]:
    labels = {label: value for label, value in key.labels.items() if there.get(label) != value}
    if labels:
        before = _carried({label: there.get(label) for label in labels})
        yield Change("key.labelled", account, (*loc, "labels"), key.name, before, _carried(labels), key, key_id, labels)


def _allowed(
    what: str, account: str, wanted: Account | Key, there: PresentAccount | PresentKey | None, loc: Loc
) -> Iterator[Change]:
    """Limits and budgets, each all of them."""
    name, key_id = ("", "") if isinstance(wanted, Account) else (wanted.name, "")
    if isinstance(there, PresentKey):
        key_id = there.key_id
    limits, budgets = ({}, {}) if there is None else (there.limits, there.budgets)
    if not isinstance(wanted.limits, UnsetType) and wanted.limits != limits:
        before, after = _limits_words(limits), _limits_words(wanted.limits)
        yield Change(
            f"{what}.limits_set", account, (*loc, "limits"), name, before, after, key_id=key_id, limits=wanted.limits
        )
    if not isinstance(wanted.budgets, UnsetType) and wanted.budgets != budgets:
        before, after = _budgets_words(budgets), _budgets_words(wanted.budgets)
        yield Change(
            f"{what}.budgets_set", account, (*loc, "budgets"), name, before, after, key_id=key_id,
            budgets=wanted.budgets,
        )  # fmt: skip


def _limits_words(terms: Terms) -> str:
    return "; ".join(
        f"{f'{model}: ' if model else ''}{', '.join(f'{word}={amount}' for word, amount in sorted(amounts.items()))}"
        for model, amounts in sorted(terms.items())
    )


def _budgets_words(budgets: Mapping[str, BudgetTerms]) -> str:
    return "; ".join(f"{period}: {budgets[period].words}" for period in PERIODS if period in budgets)


def _meant(scope: Scope, kind: str) -> frozenset[object] | None:
    """A limit without the order of its words."""
    words = getattr(scope, kind)
    return None if words is None else frozenset(words)


def _values(allowed: Allowed) -> str:
    return "any" if allowed is None else ", ".join(sorted(allowed))


def _carried(labels: Mapping[str, str | None]) -> str:
    return "; ".join(f"{label}: {labels[label] or 'none'}" for label in sorted(labels))


def _words(scope: Scope, kinds: tuple[str, ...]) -> str:
    said = []
    for kind in kinds:
        words = getattr(scope, kind)
        said.append(f"{kind}: {'any' if words is None else ', '.join(sorted(map(str, words)))}")
    return "; ".join(said)
