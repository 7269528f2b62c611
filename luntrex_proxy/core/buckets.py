"""Buckets that keep limits: each holds as much as its limit allows, and fills up again evenly within its period.

Limits.applying(account, key, model, now) -> buckets; take(buckets, ...) -> Room, or LimitedError; Room.settle(tokens)

So in a span of time t no more than amount * (1 + t / period) is let in: never more than the amount at once, and twice
the amount in a whole period at most. Tokens are taken as an estimate that is held, without filling up, until the truth
is known; only the truth is charged. What is let in beyond the bound is what estimates were too low by. All is integers;
time is nanoseconds of any clock.

Several processes fill one bucket: each has it here as it knew it last, and tells what it lets in. None begins before it
has heard of the bucket once, or is ahead of what is told by more than a block, a sixteenth of the amount, or by one
request that is larger (AheadError: tell first). So all together let in no more than
amount * (1 + t / period) + processes * block.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import msgspec

from luntrex_proxy.core.limits import WHATS, Terms, What

_REMEMBERED_MAX: Final = 100_000  # of account, key and model
_BLOCKS: Final = 16  # of an amount
_NS_PER_MS: Final = 10**6
_SUBJECTS_MAX: Final = 100_000  # accounts and keys whose buckets are held, beyond those with something to tell
_LOOKED_AT: Final = 4  # for one to forget, each time another one comes


class Bucket:
    """One limit's state. `level` is what was used and did not fill up again, in units times `period_ns`."""

    __slots__ = (
        "amount", "amount_ms", "at_ns", "block", "half_block", "heard_ns", "held", "ident", "is_known", "is_open",
        "level", "model", "news", "others", "period_ns", "unit", "untold", "what", "whose",
    )  # fmt: skip

    def __init__(
        self,
        what: What,
        whose: str,
        amount: int,
        now_ns: int,
        ident: int | str = "",
        model: str = "",
        news: "set[Bucket] | None" = None,
    ) -> None:
        self.ident = ident  # account id or key id
        self.model = model
        self.is_open = True  # whether requests are let in while nobody can say what others have let in
        self.news: set[Bucket] = set() if news is None else news  # those that have something to tell
        self.untold = 0  # units taken, or given back, that the other processes cannot know of
        self.others = 0  # streams of other processes, as far as is known
        self.is_known = False  # whether something was heard of what others let in, or a process before this one
        self.heard_ns = 0  # when that was last
        self.what = what
        self.whose = whose  # of what this is a limit, in fixed words
        self.unit = what.unit
        self.period_ns = what.period_ns
        self._allow(amount)
        self.held = 0  # units taken whose truth is not known yet; more than the amount, when an estimate was larger
        self.level = 0
        self.at_ns = now_ns  # of `level`

    def fill(self, now_ns: int) -> int:
        """Have it filled up to now; the level then."""
        elapsed_ns = now_ns - self.at_ns
        self.at_ns = now_ns
        level = self.level
        if level and elapsed_ns > 0:  # a clock that goes back fills nothing up, and takes nothing away
            level -= elapsed_ns * self.amount
            self.level = level = level if level > 0 else 0
        return level

    def wait_ns(self, units: int, now_ns: int) -> int:
        """How long until so many units fit, if nothing else happens; 0: they do. As many as the amount always will."""
        amount = self.amount
        taken = self.held + self.others + (units if units < amount else amount)
        excess = self.fill(now_ns) + (taken - amount) * self.period_ns
        return -(-excess // amount) if excess > 0 else 0

    def remaining(self, now_ns: int) -> int:
        """How many units fit."""
        left = self.amount - self.held - self.others - -(-self.fill(now_ns) // self.period_ns)
        return left if left > 0 else 0

    def reset_ns(self, now_ns: int) -> int:
        """How long until it is full again, if nothing else happens and what is held turns out to be used."""
        return -(-(self.fill(now_ns) + min(self.held, self.amount) * self.period_ns) // self.amount)

    def change(self, amount: int, now_ns: int) -> None:
        """Another amount; what was used stays used."""
        self.fill(now_ns)
        self._allow(amount)

    def _allow(self, amount: int) -> None:
        self.amount = amount
        self.amount_ms = amount * _NS_PER_MS  # of what is missing, as much as fills up in a ms
        self.block = max(1, amount // _BLOCKS)
        self.half_block = (self.block + 1) // 2

    def hear(self, told: int, level_units: float, others: int, now_ns: int) -> None:
        """So much of what was untold is known now; how full it is for all of them, and how many streams others have."""
        self.untold -= told
        self.others = others
        self.heard_ns, self.is_known = now_ns, True
        if self.unit != "streams":
            self.fill(now_ns)
            known = int(level_units * self.period_ns)
            # What is held here was told as used.
            level = known + (self.untold - self.held) * self.period_ns
            self.level = level if level > 0 else 0


class LimitedError(Exception):
    """A limit is used up. `wait_ns`: until it is not."""

    def __init__(self, bucket: Bucket, wait_ns: int) -> None:
        super().__init__()
        self.bucket = bucket
        self.wait_ns = wait_ns


class AheadError(Exception):
    """So much was let in that others do not know of that it has to be told first."""


class Room(msgspec.Struct, eq=False):
    """What one request took; it is given back or charged by `settle`, once.

    For its answer: of the limits on requests, and of those on tokens, the one of which the least is left, and how much.
    """

    buckets: Sequence[Bucket]
    held: int  # tokens
    streamed: bool
    is_much_untold: bool  # half a block: others should hear of it soon
    requests: Bucket | None
    requests_left: int
    tokens: Bucket | None
    tokens_left: int

    def settle(self, tokens: int, now_ns: int) -> None:
        """The request is over and has used so many tokens."""
        buckets, self.buckets = self.buckets, ()
        held, streamed = self.held, self.streamed
        for bucket in buckets:
            unit = bucket.unit
            if unit == "requests":
                continue
            if unit == "tokens":
                level = bucket.level
                if level:  # as in `fill`: a call would cost as much as all of this
                    filled = (now_ns - bucket.at_ns) * bucket.amount
                    if filled > 0:
                        level = level - filled if filled < level else 0
                bucket.at_ns = now_ns
                bucket.level = level + tokens * bucket.period_ns
                bucket.held -= held
                units = tokens - held
            elif streamed:
                bucket.held -= 1
                units = -1
            else:
                continue
            before = bucket.untold
            if not before:
                bucket.news.add(bucket)
            bucket.untold = before + units


class _Subject:
    """The buckets of one account or one key: those of every model together, and those of models by name."""

    __slots__ = ("_buckets", "_ident", "_news", "_whose")

    def __init__(self, ident: int | str, news: set[Bucket]) -> None:
        self._ident = ident
        self._news = news
        self._whose = "the account" if isinstance(ident, int) else "the key"
        self._buckets: dict[tuple[str, str], Bucket] = {}  # by model, "" for all, and word

    @property
    def is_told(self) -> bool:
        """Whether nothing of it is under way or untold."""
        return not any(bucket.held or bucket.untold or bucket in self._news for bucket in self._buckets.values())

    def of(self, model: str) -> tuple[Bucket, ...]:
        """All that count for a request of this model."""
        return tuple(bucket for (name, _), bucket in self._buckets.items() if _covers(name, model))

    def follow(self, terms: Terms, now_ns: int, is_open: bool) -> None:
        """Have the limits that are said now; of those that were there before, what was used stays used."""
        before, self._buckets = self._buckets, {}
        for model, amounts in terms.items():
            whose = f"{self._whose} for this model" if model else self._whose
            for word, amount in amounts.items():
                bucket = before.get((model, word))
                if bucket is None:
                    bucket = Bucket(WHATS[word], whose, amount, now_ns, self._ident, model, self._news)
                bucket.change(amount, now_ns)
                bucket.is_open = is_open
                self._buckets[model, word] = bucket


class Limits:
    """All limits there are, in memory. Buckets are made for those who ask, and of many who did forgotten again."""

    def __init__(self) -> None:
        self.terms: dict[int | str, Terms] = {}  # by account id or key id; whose is not here is not limited
        self.closed: set[int | str] = set()  # whose requests are refused while nobody can say what others let in
        self.news: set[Bucket] = set()  # buckets with something to tell to other processes
        self._subjects: OrderedDict[int | str, _Subject] = OrderedDict()
        # What counts for whom, until a limit is changed or a bucket forgotten: else two would be used for one limit.
        self._applying: dict[tuple[int, str, str], tuple[Bucket, ...]] = {}

    def applying(self, account_id: int, key_id: str, model: str, now_ns: int) -> tuple[Bucket, ...]:
        """Those that count for a request."""
        asked = account_id, key_id, model
        found = self._applying.get(asked)
        if found is None:
            found = ()
            for ident in (account_id, key_id):
                if ident in self.terms:
                    found += self._subject(ident, now_ns).of(model)
            if len(self._applying) >= _REMEMBERED_MAX:
                self._applying.clear()
            self._applying[asked] = found
        return found

    def say(self, ident: int | str, terms: Terms, now_ns: int, *, is_open: bool = True) -> None:
        """What the limits of an account or a key are from now on; none at all: {}.

        `is_open`: whether requests are let in while nobody can say what other processes have let in.
        """
        self._applying.clear()
        self.closed.discard(ident)
        if not terms:
            self.terms.pop(ident, None)
            self._subjects.pop(ident, None)
            return
        self.terms[ident] = terms
        if not is_open:
            self.closed.add(ident)
        if ident in self._subjects:
            self._subjects[ident].follow(terms, now_ns, is_open)

    def _subject(self, ident: int | str, now_ns: int) -> _Subject:
        subject = self._subjects.get(ident)
        if subject is None:
            if len(self._subjects) >= _SUBJECTS_MAX:
                self._forget_one()
            subject = self._subjects[ident] = _Subject(ident, self.news)
            subject.follow(self.terms[ident], now_ns, ident not in self.closed)
        return subject

    def _forget_one(self) -> None:
        """Of those that all others know everything of: who comes again hears first what is used."""
        self._applying.clear()
        for _ in range(_LOOKED_AT):
            ident, subject = self._subjects.popitem(last=False)
            if subject.is_told:
                return
            self._subjects[ident] = subject


def take(  # noqa: C901, PLR0912 -- one loop for each request: a call in it costs as much as a bucket
    buckets: Sequence[Bucket], tokens: int, *, streamed: bool, now_ns: int, alone: bool = True
) -> Room:
    """Take a request from all these buckets, or from none: LimitedError of the one that takes longest to fill up.

    No estimate makes a request impossible: one larger than a limit passes alone, and what follows waits longer. Not
    `alone`: AheadError, when others have to know of what was let in before.
    """
    # One pass without calls: it takes at once, and gives back in the rare case that a later one has not enough.
    requests = spent = None
    requests_left = tokens_left = 0
    is_much_untold = is_ahead = False
    for bucket in buckets:
        unit = bucket.unit
        amount, level = bucket.amount, bucket.level
        if unit == "requests":
            units, left = 1, amount - 1
        elif unit == "tokens":
            units, left = tokens, amount - bucket.held - tokens
        elif streamed:
            units, left = 1, amount - bucket.held - bucket.others - 1
        else:
            continue
        if level:
            filled = (now_ns - bucket.at_ns) * amount
            if filled > 0:  # as in `fill`
                bucket.level = level = level - filled if filled < level else 0
            if level:
                left += -level // bucket.period_ns
        bucket.at_ns = now_ns
        if left < 0 and units and left + units < amount:
            _give_back(buckets, bucket, tokens, streamed)
            raise _limited(buckets, tokens, streamed, now_ns)
        if unit == "requests":
            bucket.level = level + bucket.period_ns
            if requests is None or left < requests_left:
                requests, requests_left = bucket, left
        else:
            bucket.held += units
            if unit == "tokens" and (spent is None or left < tokens_left):
                spent, tokens_left = bucket, left if left > 0 else 0
        before = bucket.untold
        if units:
            bucket.untold = untold = before + units
            if not before:
                bucket.news.add(bucket)
            if untold >= bucket.half_block or not bucket.is_known:
                is_much_untold = True
                is_ahead = is_ahead or not bucket.is_known or (before > 0 and untold > bucket.block)
    if is_ahead and not alone:
        _give_back(buckets, None, tokens, streamed)
        raise AheadError
    return Room(buckets, tokens, streamed, is_much_untold, requests, requests_left, spent, tokens_left)


def _give_back(buckets: Sequence[Bucket], end: Bucket | None, tokens: int, streamed: bool) -> None:
    """Nothing was taken of the buckets before one, or of all."""
    for bucket in buckets:
        if bucket is end:
            break
        unit = bucket.unit
        units = 1 if unit == "requests" else tokens if unit == "tokens" else int(streamed)
        bucket.untold -= units
        if unit == "requests":
            bucket.level -= bucket.period_ns
        else:
            bucket.held -= units


def _limited(buckets: Sequence[Bucket], tokens: int, streamed: bool, now_ns: int) -> LimitedError:
    """With the one that takes longest."""
    units = {"requests": 1, "tokens": tokens, "streams": int(streamed)}
    return max(
        (LimitedError(bucket, bucket.wait_ns(units[bucket.unit], now_ns)) for bucket in buckets if units[bucket.unit]),
        key=lambda each: each.wait_ns,
    )


def _covers(name: str, model: str) -> bool:
    return not name or (model.startswith(name[:-1]) if name.endswith("*") else model == name)
