"""Buckets that keep limits: each holds as much as its limit allows, and fills up again evenly within its period.

Limits.applying(account, key, model, now) -> Group; take(group, ...) -> Room, or LimitedError; Room.settle(tokens)

So in a span of time t no more than amount * (1 + t / period) is let in: never more than the amount at once, and twice
the amount in a whole period at most. Tokens are taken as an estimate that is held, without filling up, until the truth
is known; only the truth is charged. What is let in beyond the bound is what estimates were too low by. All is integers;
time is nanoseconds of any clock that does not go back.

What is left is counted exactly from time to time; in between it is only counted down and up, which errs on the safe
side: nothing fills up, and what was charged begins to fill up FRESH_NS too late at most. Who would be refused by that
is counted exactly first.

Several processes fill one bucket: each has it here as it knew it last, and tells what it lets in. None begins before it
has heard of the bucket once, or is ahead of what is told by more than a block, a sixteenth of the amount, or by one
request that is larger (AheadError: tell first). So all together let in no more than
amount * (1 + t / period) + processes * block.
"""

from collections import OrderedDict
from operator import attrgetter
from typing import Any, Final

import msgspec

from luntrex_proxy.core.limits import WHATS, Terms, What

FRESH_NS: Final = 50_000_000  # for so long what is left is only counted down and up
_REMEMBERED_MAX: Final = 100_000  # of account, key and model
_BLOCKS: Final = 16  # of an amount
_SUBJECTS_MAX: Final = 100_000  # accounts and keys whose buckets are held, beyond those with something to tell
_LOOKED_AT: Final = 4  # for one to forget, each time another one comes
_ABOVE_ALL: Final = 2**63 - 1  # no bucket has so much room
_LONG_AGO_NS: Final = -(2**63)
_ROOM: Final = attrgetter("room")


class Bucket:
    """One limit's state, exact as of `at_ns`, and in `room` and `charged` what happened since.

    `level` is what was used and did not fill up again, in units times `period_ns`. `room` is how many units fit, at
    least; what would leave less than `floor` needs a look at the exact state.
    """

    __slots__ = (
        "_counted", "_held", "_untold", "amount", "at_ns", "block", "charged", "floor", "half_block", "heard_ns",
        "ident", "is_known", "is_open", "level", "model", "news", "others", "period_ns", "room", "since_ns", "unit",
        "what", "whose",
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
        self.others = 0  # streams of other processes, as far as is known
        self.is_known = False  # whether something was heard of what others let in, or a process before this one
        self.heard_ns = 0  # when that was last
        self.what = what
        self.whose = whose  # of what this is a limit, in fixed words
        self.unit = what.unit
        self.period_ns = what.period_ns
        self.level = 0
        self.at_ns = now_ns
        self.charged = 0  # tokens, since `at_ns`: all of it within FRESH_NS
        self.since_ns = now_ns  # after this
        self._held = self._untold = 0  # at `at_ns`
        self.room = self._counted = amount  # now, and at `at_ns`
        self.floor = _ABOVE_ALL
        self._allow(amount)

    @property
    def held(self) -> int:
        """Units taken whose truth is not known yet, or (requests) that were not counted yet.

        More than the amount, when an estimate was larger.
        """
        return self._held + self._counted - self.room - self.charged

    @property
    def untold(self) -> int:
        """Units taken, or given back, that the other processes cannot know of."""
        return self._untold + self._counted - self.room

    def count(self, now_ns: int) -> None:
        """Have the exact state as of now."""
        amount, level = self.amount, self.level
        taken = self._counted - self.room
        self._untold = untold = self._untold + taken
        if self.unit == "requests":
            charged, left = taken, amount
        else:
            charged, self.charged = self.charged, 0
            self._held = held = self._held + taken - charged
            left = amount - held - self.others
        if level or charged:
            filled = (now_ns - self.at_ns) * amount
            if filled > 0:  # a clock that goes back fills nothing up, and takes nothing away
                level -= filled
            # As if all was charged at the end of FRESH_NS, or now: it never fills up too soon.
            late_ns = now_ns - self.since_ns - FRESH_NS
            least = -late_ns * amount if late_ns > 0 else 0
            level = (level if level > least else least) + charged * self.period_ns
            if level < 0:  # noqa: PLR1730 -- a call costs as much as two of these lines
                level = 0
            self.level = level
            left += -level // self.period_ns
        self.at_ns = self.since_ns = now_ns
        self.room = self._counted = left
        # Where to look again: nothing is left, others should hear of it, or it is not on the way to them.
        if self.is_known and self in self.news:
            floor = left + untold - self.half_block + 1
            self.floor = floor if floor > 0 else 0
        else:
            self.floor = _ABOVE_ALL

    def wait_ns(self, units: int, now_ns: int) -> int:
        """How long until so many units fit, if nothing else happens; 0: they do. As many as the amount always will."""
        self.count(now_ns)
        amount = self.amount
        taken = self._held + self.others + min(units, amount)
        excess = self.level + (taken - amount) * self.period_ns
        return -(-excess // amount) if excess > 0 else 0

    def remaining(self, now_ns: int) -> int:
        """How many units fit."""
        self.count(now_ns)
        return max(0, self.room)

    def reset_ns(self) -> int:
        """How long after `at_ns` it is full again, if nothing else happens and what is held turns out to be used."""
        charged_or_held = min(self._held + self._counted - self.room, self.charged + self.amount)
        return -(-(self.level + charged_or_held * self.period_ns) // self.amount)

    def change(self, amount: int, now_ns: int) -> None:
        """Another amount; what was used stays used."""
        self.count(now_ns)
        self._allow(amount)
        self.count(now_ns)

    def _allow(self, amount: int) -> None:
        self.amount = amount
        self.block = max(1, amount // _BLOCKS)
        self.half_block = (self.block + 1) // 2

    def hear(self, told: int, level_units: float, others: int, now_ns: int) -> None:
        """So much of what was untold is known now; how full it is for all of them, and how many streams others have."""
        self.count(now_ns)
        self._untold -= told
        self.others = others
        self.heard_ns, self.is_known = now_ns, True
        if self.unit != "streams":
            known = int(level_units * self.period_ns)
            # What is held here was told as used.
            self.level = max(0, known + (self._untold - self._held) * self.period_ns)
        if not self._untold:
            self.news.discard(self)
        self.count(now_ns)


class Group:
    """Buckets that count for the same requests, by how much of each a request takes."""

    __slots__ = (
        "buckets", "by_one", "by_one_streamed", "by_tokens", "fresh_ns", "news", "requests", "said",
        "streams", "tokens",
    )  # fmt: skip

    def __init__(self, buckets: tuple[Bucket, ...], news: set[Bucket]) -> None:
        self.buckets = buckets
        self.news = news
        self.by_tokens = tuple(bucket for bucket in buckets if bucket.unit == "tokens")
        self.streams = tuple(bucket for bucket in buckets if bucket.unit == "streams")
        self.by_one = tuple(bucket for bucket in buckets if bucket.unit == "requests")
        self.by_one_streamed = self.by_one + self.streams
        self.fresh_ns = _LONG_AGO_NS  # from then on all has to be counted
        # Those of which the least was left when all was counted, and what was said of them since (wire/ratelimits.py).
        self.requests: Bucket | None = None
        self.tokens: Bucket | None = None
        self.said: Any = None

    def count(self, by_one: tuple[Bucket, ...], now_ns: int) -> None:
        """Before a request takes one of these, and tokens: have the state of all as it was lately, exactly."""
        buckets, oldest_ns = by_one + self.by_tokens, now_ns
        self.news.update(buckets)
        for bucket in buckets:
            if 0 <= now_ns - bucket.at_ns < FRESH_NS // 2:
                oldest_ns = min(oldest_ns, bucket.at_ns)
            else:
                bucket.count(now_ns)
        self.fresh_ns = oldest_ns + FRESH_NS
        self.requests = min(self.by_one, key=_ROOM, default=None)
        self.tokens = min(self.by_tokens, key=_ROOM, default=None)
        self.said = None


class LimitedError(Exception):
    """A limit is used up. `wait_ns`: until it is not."""

    def __init__(self, bucket: Bucket, wait_ns: int) -> None:
        super().__init__()
        self.bucket = bucket
        self.wait_ns = wait_ns


class AheadError(Exception):
    """So much was let in that others do not know of that it has to be told first."""


class Room(msgspec.Struct, eq=False, gc=False):
    """What one request took; it is given back or charged by `settle`, once."""

    group: Group | None
    held: int  # tokens
    streamed: bool
    is_much_untold: bool = False  # half a block: others should hear of it soon

    def settle(self, tokens: int, now_ns: int) -> None:
        """The request is over and has used so many tokens."""
        group, self.group = self.group, None
        if group is None:
            return
        if now_ns >= group.fresh_ns:
            for bucket in group.by_tokens:
                if now_ns - bucket.since_ns < FRESH_NS:
                    continue
                if bucket.charged:
                    bucket.count(now_ns)
                bucket.since_ns = now_ns
        given_back, by_tokens = self.held - tokens, group.by_tokens
        for bucket in by_tokens:
            bucket.room += given_back
            bucket.charged += tokens
        group.news.update(by_tokens)
        if self.streamed:
            for bucket in group.streams:
                bucket.room += 1
            group.news.update(group.streams)


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
        self._applying: dict[tuple[int, str, str], Group] = {}

    def applying(self, account_id: int, key_id: str, model: str, now_ns: int) -> Group:
        """Those that count for a request."""
        try:
            return self._applying[account_id, key_id, model]
        except KeyError:
            return self._find(account_id, key_id, model, now_ns)

    def _find(self, account_id: int, key_id: str, model: str, now_ns: int) -> Group:
        buckets: tuple[Bucket, ...] = ()
        for ident in (account_id, key_id):
            if ident in self.terms:
                buckets += self._subject(ident, now_ns).of(model)
        if len(self._applying) >= _REMEMBERED_MAX:
            self._applying.clear()
        group = self._applying[account_id, key_id, model] = Group(buckets, self.news)
        return group

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


def take(group: Group, tokens: int, streamed: bool, now_ns: int, alone: bool = True) -> Room:
    """Take a request from all buckets of a group, or from none: LimitedError of the one that takes longest to fill up.

    No estimate makes a request impossible: one larger than a limit passes alone, and what follows waits longer. Not
    `alone`: AheadError, when others have to know of what was let in before.
    """
    by_one = group.by_one_streamed if streamed else group.by_one
    if now_ns >= group.fresh_ns:
        group.count(by_one, now_ns)
    # One pass without calls: it takes at once, and gives back in the rare case that one has to be looked at.
    for bucket in by_one:
        left = bucket.room - 1
        if left < bucket.floor:
            break
        bucket.room = left
    else:
        for bucket in group.by_tokens:
            left = bucket.room - tokens
            if left < bucket.floor:
                break
            bucket.room = left
        else:
            return Room(group, tokens, streamed)
    wanted = [(each, 1) for each in by_one]
    if tokens:
        wanted += [(each, tokens) for each in group.by_tokens]
    for each, units in wanted:
        if each is bucket:
            break
        each.room += units
    return _take_exactly(Room(group, tokens, streamed), wanted, now_ns, alone)


def _take_exactly(room: Room, wanted: list[tuple[Bucket, int]], now_ns: int, alone: bool) -> Room:
    """The same by the exact state as of now."""
    is_ahead = False
    for bucket, units in wanted:
        bucket.news.add(bucket)
        bucket.count(now_ns)
        if bucket.room < units and bucket.room < bucket.amount:
            raise _limited(wanted, now_ns)
        untold = bucket.untold
        if untold + units >= bucket.half_block or not bucket.is_known:
            room.is_much_untold = True
            is_ahead = is_ahead or not bucket.is_known or (untold > 0 and untold + units > bucket.block)
    if is_ahead and not alone:
        raise AheadError
    for bucket, units in wanted:
        bucket.room -= units
    return room


def _limited(wanted: list[tuple[Bucket, int]], now_ns: int) -> LimitedError:
    """With the one that takes longest."""
    errors = (LimitedError(bucket, bucket.wait_ns(units, now_ns)) for bucket, units in wanted)
    return max(errors, key=attrgetter("wait_ns"))


def _covers(name: str, model: str) -> bool:
    return not name or (model.startswith(name[:-1]) if name.endswith("*") else model == name)
