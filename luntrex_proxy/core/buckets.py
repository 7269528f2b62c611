"""Buckets that keep limits: each holds as much as its limit allows, and fills up again evenly within its period.

Limits.applying(account, key, model, now) -> buckets; take(buckets, ...) -> Room, or LimitedError; Room.settle(tokens)

So in a span of time t no more than amount * (1 + t / period) is let in: never more than the amount at once, and twice
the amount in a whole period at most. Tokens are taken as an estimate that is held, without filling up, until the truth
is known; only the truth is charged. What is let in beyond the bound is what estimates were too low by. All is integers;
time is nanoseconds of any clock.
"""

from typing import Final

import msgspec

from luntrex_proxy.core.limits import WHATS, Terms, What

_REMEMBERED_MAX: Final = 256  # models by name, of one account or key
_REMEMBERED_NS: Final = 30 * 86_400 * 10**9  # of a bucket that was overdrawn far beyond its limit


class Used(msgspec.Struct, frozen=True, array_like=True):
    """What is left of a bucket's use when its process ends."""

    ident: int | str  # account id or key id
    model: str
    word: str
    amount: int
    full_in_ns: int  # how long it takes to fill up, what was held counted as used


class Bucket:
    """One limit's state. `level` is what was used and did not fill up again, in units times `period_ns`."""

    __slots__ = ("_at_ns", "amount", "held", "level", "period_ns", "unit", "what", "whose")

    def __init__(self, what: What, whose: str, amount: int, now_ns: int) -> None:
        self.what = what
        self.whose = whose  # of what this is a limit, in fixed words
        self.unit = what.unit
        self.period_ns = what.period_ns
        self.amount = amount
        self.held = 0  # units taken whose truth is not known yet; more than the amount, when an estimate was larger
        self.level = 0
        self._at_ns = now_ns

    def fill(self, now_ns: int) -> int:
        """Have it filled up to now; the level then."""
        elapsed_ns = now_ns - self._at_ns
        self._at_ns = now_ns
        level = self.level
        if level and elapsed_ns > 0:  # a clock that goes back fills nothing up, and takes nothing away
            level -= elapsed_ns * self.amount
            self.level = level = level if level > 0 else 0
        return level

    def wait_ns(self, units: int, now_ns: int) -> int:
        """How long until so many units fit, if nothing else happens; 0: they do. As many as the amount always will."""
        amount = self.amount
        excess = self.fill(now_ns) + (self.held + (units if units < amount else amount) - amount) * self.period_ns
        return -(-excess // amount) if excess > 0 else 0

    def remaining(self, now_ns: int) -> int:
        """How many units fit."""
        left = self.amount - self.held - -(-self.fill(now_ns) // self.period_ns)
        return left if left > 0 else 0

    def reset_ns(self, now_ns: int) -> int:
        """How long until it is full again, if nothing else happens and what is held turns out to be used."""
        return -(-(self.fill(now_ns) + min(self.held, self.amount) * self.period_ns) // self.amount)

    def change(self, amount: int, now_ns: int) -> None:
        """Another amount; what was used stays used."""
        self.fill(now_ns)
        self.amount = amount


class LimitedError(Exception):
    """A limit is used up. `wait_ns`: until it is not."""

    def __init__(self, bucket: Bucket, wait_ns: int) -> None:
        super().__init__()
        self.bucket = bucket
        self.wait_ns = wait_ns


class Room:
    """What one request took; it is given back or charged by `settle`, once."""

    __slots__ = ("_held", "_streamed", "_tokens")

    def __init__(self, held: list[Bucket], tokens: int, *, streamed: bool) -> None:
        self._held = held
        self._tokens = tokens
        self._streamed = streamed

    def settle(self, tokens: int | None, now_ns: int) -> None:
        """The request is over and has used so many tokens (None: nobody knows, so what was held counts)."""
        held, self._held = self._held, []
        for bucket in held:
            if bucket.unit == "streams":
                bucket.held -= 1
            else:
                bucket.held -= self._tokens
                used = min(self._tokens, bucket.amount) if tokens is None else tokens
                bucket.level = bucket.fill(now_ns) + used * bucket.period_ns


class _Subject:
    """The buckets of one account or one key: those of every model together, and those of models by name."""

    __slots__ = ("_buckets", "_by_model", "_whose")

    def __init__(self, whose: str) -> None:
        self._whose = whose
        self._buckets: dict[tuple[str, str], Bucket] = {}  # by model, "" for all, and word
        self._by_model: dict[str, tuple[Bucket, ...]] = {}

    def of(self, model: str) -> tuple[Bucket, ...]:
        """All that count for a request of this model."""
        found = self._by_model.get(model)
        if found is None:
            found = tuple(bucket for (name, _), bucket in self._buckets.items() if _covers(name, model))
            if len(self._by_model) >= _REMEMBERED_MAX:
                self._by_model.clear()
            self._by_model[model] = found
        return found

    def used(self, ident: int | str, now_ns: int) -> list[Used]:
        return [
            Used(ident, model, word, bucket.amount, min(full_in_ns, _REMEMBERED_NS))
            for (model, word), bucket in self._buckets.items()
            if bucket.unit != "streams" and (full_in_ns := bucket.reset_ns(now_ns))
        ]

    @property
    def holds(self) -> bool:
        return any(bucket.held for bucket in self._buckets.values())

    def charge(self, model: str, word: str, level: int, now_ns: int) -> None:
        bucket = self._buckets.get((model, word))
        if bucket is not None and bucket.unit != "streams":
            bucket.level = bucket.fill(now_ns) + level

    def follow(self, terms: Terms, now_ns: int) -> None:
        """Have the limits that are said now; of those that were there before, what was used stays used."""
        before, self._buckets = self._buckets, {}
        for model, amounts in terms.items():
            whose = f"{self._whose} for this model" if model else self._whose
            for word, amount in amounts.items():
                bucket = before.get((model, word)) or Bucket(WHATS[word], whose, amount, now_ns)
                bucket.change(amount, now_ns)
                self._buckets[model, word] = bucket
        self._by_model.clear()


class Limits:
    """All limits there are, in memory. Buckets are made for those who ask, so a million limited keys are no burden."""

    def __init__(self) -> None:
        self.terms: dict[int | str, Terms] = {}  # by account id or key id; whose is not here is not limited
        self.asked = 0  # how often; as long as it stays the same, time alone changes what is used
        self._subjects: dict[int | str, _Subject] = {}

    def applying(self, account_id: int, key_id: str, model: str, now_ns: int) -> tuple[Bucket, ...]:
        """Those that count for a request."""
        self.asked += 1
        buckets: tuple[Bucket, ...] = ()
        if account_id in self.terms:
            buckets = self._subject(account_id, now_ns).of(model)
        if key_id in self.terms:
            buckets += self._subject(key_id, now_ns).of(model)
        return buckets

    def say(self, ident: int | str, terms: Terms, now_ns: int) -> None:
        """What the limits of an account or a key are from now on; none at all: {}."""
        if not terms:
            self.terms.pop(ident, None)
            self._subjects.pop(ident, None)
            return
        self.terms[ident] = terms
        if ident in self._subjects:
            self._subjects[ident].follow(terms, now_ns)

    def in_use(self) -> list[int | str]:
        """Whose buckets there are."""
        return list(self._subjects)

    def used(self, ident: int | str, now_ns: int) -> list[Used]:
        """Of each bucket that is not full, what another process needs to go on with it."""
        subject = self._subjects.get(ident)
        return [] if subject is None else subject.used(ident, now_ns)

    def holds(self, ident: int | str) -> bool:
        """Whether requests are under way whose tokens are not known yet."""
        subject = self._subjects.get(ident)
        return subject is not None and subject.holds

    def go_on(self, used: Used, elapsed_ns: int, now_ns: int) -> None:
        """Count what a process before this one let in, of limits that there are still."""
        left_ns = used.full_in_ns - max(0, elapsed_ns)
        if used.ident in self.terms and left_ns > 0:
            self._subject(used.ident, now_ns).charge(used.model, used.word, left_ns * used.amount, now_ns)

    def _subject(self, ident: int | str, now_ns: int) -> _Subject:
        subject = self._subjects.get(ident)
        if subject is None:
            subject = self._subjects[ident] = _Subject("the account" if isinstance(ident, int) else "the key")
            subject.follow(self.terms[ident], now_ns)
        return subject


def take(buckets: tuple[Bucket, ...], tokens: int, *, streamed: bool, now_ns: int) -> Room:
    """Take a request from all these buckets, or from none: LimitedError of the one that takes longest to fill up.

    No estimate makes a request impossible: one larger than a limit passes alone, and what follows waits longer.
    """
    longest, longest_ns = None, 0
    for bucket in buckets:
        unit = bucket.unit
        units = 1 if unit == "requests" else tokens if unit == "tokens" else streamed
        if units:
            wait_ns = bucket.wait_ns(units, now_ns)
            if wait_ns > longest_ns:
                longest, longest_ns = bucket, wait_ns
    if longest is not None:
        raise LimitedError(longest, longest_ns)
    held = []
    for bucket in buckets:
        unit = bucket.unit
        if unit == "requests":
            bucket.level += bucket.period_ns
        elif unit == "tokens" or streamed:
            bucket.held += tokens if unit == "tokens" else 1
            held.append(bucket)
    return Room(held, tokens, streamed=streamed)


def _covers(name: str, model: str) -> bool:
    return not name or (model.startswith(name[:-1]) if name.endswith("*") else model == name)
