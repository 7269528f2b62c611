"""Buckets that keep limits: each holds as much as its limit allows, and fills up again evenly within its period.

    Limits.applying(account, key, model) -> buckets; take(buckets, ...) -> Room, or LimitedError; Room.settle(tokens)

So in a span of time t no more than amount * (1 + t / period) is let in: never more than the amount at once, and twice
the amount in a whole period at most. Tokens are taken as an estimate that is held, without filling up, until the truth
is known; only the truth is charged. What is let in beyond the bound is what estimates were too low by. All is integers;
time is nanoseconds of any clock.
"""

from typing import Final

from luntrex_proxy.core.limits import WHATS, What

_REMEMBERED_MAX: Final = 256  # models by name, of one account or key


class Bucket:
    """One limit's state. `_level` is what was used and did not fill up again, in units times `period_ns`."""

    __slots__ = ("_at_ns", "_level", "amount", "held", "what", "whose")

    def __init__(self, what: What, whose: str, amount: int, now_ns: int) -> None:
        self.what = what
        self.whose = whose  # of what this is a limit, in fixed words
        self.amount = amount
        self.held = 0  # units taken whose truth is not known yet
        self._level = 0
        self._at_ns = now_ns

    def _level_at(self, now_ns: int) -> int:
        elapsed_ns = now_ns - self._at_ns
        self._at_ns = now_ns
        if elapsed_ns > 0:  # a clock that goes back fills nothing up, and takes nothing away
            level = self._level - elapsed_ns * self.amount
            self._level = level if level > 0 else 0
        return self._level

    def wait_ns(self, units: int, now_ns: int) -> int:
        """How long until so many units fit, if nothing else happens; 0: they do. As many as the amount always will."""
        units = min(units, self.amount)
        excess = self._level_at(now_ns) + (self.held + units - self.amount) * self.what.period_ns
        return -(-excess // self.amount) if excess > 0 else 0

    def charge(self, units: int, now_ns: int) -> None:
        """Count units as used, whether they fit or not."""
        self._level = self._level_at(now_ns) + units * self.what.period_ns

    def remaining(self, now_ns: int) -> int:
        """How many units fit."""
        return max(0, self.amount - self.held - -(-self._level_at(now_ns) // self.what.period_ns))

    def reset_ns(self, now_ns: int) -> int:
        """How long until it is full again, if nothing else happens and what is held turns out to be used."""
        return -(-(self._level_at(now_ns) + self.held * self.what.period_ns) // self.amount)

    def change(self, amount: int, now_ns: int) -> None:
        """Another amount; what was used stays used."""
        self._level_at(now_ns)
        self.amount = amount


class LimitedError(Exception):
    """A limit is used up. `wait_ns`: until it is not."""

    def __init__(self, bucket: Bucket, wait_ns: int) -> None:
        super().__init__()
        self.bucket = bucket
        self.wait_ns = wait_ns


class Room:
    """What one request took; it is given back or charged by `settle`, once."""

    __slots__ = ("_held", "buckets")

    def __init__(self, buckets: tuple[Bucket, ...], held: list[tuple[Bucket, int]]) -> None:
        self.buckets = buckets
        self._held = held

    def settle(self, tokens: int | None, now_ns: int) -> None:
        """The request is over and has used so many tokens (None: nobody knows, so what was held counts)."""
        held, self._held = self._held, []
        for bucket, units in held:
            bucket.held -= units
            if bucket.what.unit == "tokens":
                bucket.charge(units if tokens is None else tokens, now_ns)


class Subject:
    """The limits of one account or one key: those of everything, and those of models by name."""

    __slots__ = ("_by_model", "buckets")

    def __init__(self) -> None:
        self.buckets: dict[tuple[str | None, str], Bucket] = {}  # (model or beginning and *, word)
        self._by_model: dict[str, tuple[Bucket, ...]] = {}

    def of(self, model: str) -> tuple[Bucket, ...]:
        """All that count for a request of this model."""
        found = self._by_model.get(model)
        if found is None:
            found = tuple(b for (name, _), b in self.buckets.items() if name is None or _matches(name, model))
            if len(self._by_model) >= _REMEMBERED_MAX:
                self._by_model.clear()
            self._by_model[model] = found
        return found

    def put(self, model: str | None, word: str, amount: int | None, whose: str, now_ns: int) -> None:
        """Set a limit, change it or (None) take it away."""
        bucket = self.buckets.get((model, word))
        if amount is None:
            self.buckets.pop((model, word), None)
        elif bucket is None:
            self.buckets[model, word] = Bucket(WHATS[word], whose, amount, now_ns)
        else:
            bucket.change(amount, now_ns)
        self._by_model.clear()


class Limits:
    """All limits there are, in memory."""

    def __init__(self) -> None:
        self._subjects: dict[int | str, Subject] = {}  # by account id or key id

    def applying(self, account_id: int, key_id: str, model: str) -> tuple[Bucket, ...]:
        """Those that count for a request; nearly always there are none."""
        account, key = self._subjects.get(account_id), self._subjects.get(key_id)
        if account is None:
            return () if key is None else key.of(model)
        return account.of(model) if key is None else account.of(model) + key.of(model)

    def put(
        self, account_id: int, key_id: str | None, model: str | None, word: str, amount: int | None, now_ns: int
    ) -> None:
        """Set, change or (amount None) take away a limit of an account (no key id) or of a key."""
        ident = account_id if key_id is None else key_id
        subject = self._subjects.get(ident) or Subject()
        whose = f"the {'account' if key_id is None else 'key'}{'' if model is None else ' for this model'}"
        subject.put(model, word, amount, whose, now_ns)
        if subject.buckets:
            self._subjects[ident] = subject
        else:
            self._subjects.pop(ident, None)


def take(buckets: tuple[Bucket, ...], tokens: int, *, streamed: bool, now_ns: int) -> Room:
    """Take a request from all these buckets, or from none: LimitedError of the one that takes longest to fill up."""
    asked = [(bucket, _units(bucket, tokens, streamed)) for bucket in buckets]
    longest, wait_ns = None, 0
    for bucket, units in asked:
        if units and (bucket_wait_ns := bucket.wait_ns(units, now_ns)) > wait_ns:
            longest, wait_ns = bucket, bucket_wait_ns
    if longest is not None:
        raise LimitedError(longest, wait_ns)
    held = []
    for bucket, units in asked:
        if bucket.what.unit == "requests":
            bucket.charge(units, now_ns)
        elif units:
            bucket.held += units
            held.append((bucket, units))
    return Room(buckets, held)


def _units(bucket: Bucket, tokens: int, streamed: bool) -> int:
    if bucket.what.unit == "tokens":
        # No estimate makes a request impossible: one larger than the limit passes alone, and what follows waits longer.
        return min(tokens, bucket.amount)
    return 1 if bucket.what.unit == "requests" else int(streamed)


def _matches(name: str, model: str) -> bool:
    return model.startswith(name[:-1]) if name.endswith("*") else model == name
