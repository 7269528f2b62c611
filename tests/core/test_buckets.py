"""Buckets against a plain model in exact fractions, and the bound they promise, over any order of events and clocks."""

import copy
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from luntrex_proxy.core import buckets
from luntrex_proxy.core.buckets import FRESH_NS, AheadError, Bucket, Group, LimitedError, Limits, Room, take
from luntrex_proxy.core.limits import AMOUNT_MAX, WHATS

MINUTE = 60 * 10**9
REQUESTS, TOKENS, STREAMS = WHATS["requests/minute"], WHATS["tokens/minute"], WHATS["streams"]
_JUMPS = st.sampled_from([0, 1, 10**6, 10**9, 7 * 10**9, MINUTE, 3 * MINUTE, -1, -(10**9), -(10**15), 10**15])


def limited(limits: Limits, now_ns: int, tokens: int = 0, *, streamed: bool = False, model: str = "m") -> int:
    """How long a request has to wait; 0: it was let in, and is over at once."""
    try:
        room = take(asked(limits, model), tokens, streamed=streamed, now_ns=now_ns)
    except LimitedError as error:
        return error.wait_ns
    room.settle(tokens, now_ns)
    return 0


def asked(limits: Limits, model: str = "m") -> Group:
    """What counts for the key `k` of account 1."""
    return limits.applying(1, "k", model, 0)


def applying(limits: Limits, model: str) -> tuple[Bucket, ...]:
    """The buckets of that."""
    return asked(limits, model).buckets


def group(*buckets: Bucket) -> Group:
    """Those that count for a request."""
    return Group(buckets, buckets[0].news)


def test_nothing_is_limited_without_a_limit() -> None:
    """Nor by those of others, and not any more once a limit is taken away."""
    limits = Limits()
    limits.say(2, {"": {"requests/minute": 1}}, 0)
    limits.say("other", {"": {"requests/minute": 1}}, 0)
    assert applying(limits, "m") == ()
    limits.say("k", {"": {"requests/minute": 1}}, 0)
    assert len(applying(limits, "m")) == 1
    limits.say("k", {}, 0)
    assert applying(limits, "m") == ()
    assert set(limits.terms) == {2, "other"}


def test_a_minutes_requests_at_once_and_then_evenly() -> None:
    """The amount is let in at once; the next one exactly when its share of the period has passed, not before."""
    limits = Limits()
    limits.say("k", {"": {"requests/minute": 7}}, 0)
    assert [limited(limits, 5) for _ in range(8)][:7] == [0] * 7
    wait_ns = limited(limits, 5)
    assert wait_ns == -(-MINUTE // 7)
    assert limited(limits, 5 + wait_ns - 1) == 1
    assert limited(limits, 5 + wait_ns) == 0
    assert limited(limits, 5 + wait_ns) > 0


def test_who_is_refused_by_one_limit_takes_from_no_other() -> None:
    """Account, key and model count together, and the one that takes longest says how long."""
    limits = Limits()
    limits.say(1, {"": {"requests/day": 10}}, 0)
    limits.say("k", {"": {"requests/minute": 10, "streams": 1}, "gpt-*": {"requests/hour": 1}}, 0)
    assert limited(limits, 0, model="gpt-4o") == 0
    for _ in range(20):
        with pytest.raises(LimitedError) as raised:
            take(asked(limits, "gpt-4o"), 0, streamed=True, now_ns=0)
    assert raised.value.bucket.what.word == "requests/hour"
    assert raised.value.bucket.whose == "the key for this model"
    assert raised.value.wait_ns == 60 * MINUTE
    assert {bucket.what.word: bucket.remaining(0) for bucket in applying(limits, "m")} == {
        "requests/day": 9,
        "requests/minute": 9,
        "streams": 1,
    }


def test_a_model_is_met_by_its_name_or_its_beginning() -> None:
    """Case and all; a changed limit is seen by models asked for before."""
    limits = Limits()
    named = {"gpt-*": {"streams": 1}, "m": {"streams": 1}}
    limits.say(1, named, 0)
    assert [len(applying(limits, model)) for model in ("gpt-4o", "m", "mm", "GPT-4o", "gpt")] == [1, 1, 0, 0, 0]
    limits.say(1, named | {"*": {"streams": 1}}, 0)
    assert [len(applying(limits, model)) for model in ("gpt-4o", "m", "mm")] == [2, 2, 1]
    for number in range(1_000):
        assert len(applying(limits, f"x{number}")) == 1


def test_what_is_held_does_not_fill_up_and_the_truth_is_charged() -> None:
    """An estimate holds its place for as long as the request runs; less or more was used in the end."""
    bucket = Bucket(TOKENS, "the key", 100, 0)
    room = take(group(bucket), 100, streamed=False, now_ns=0)
    assert bucket.wait_ns(1, 10 * MINUTE) > 0
    room.settle(40, 10 * MINUTE)
    assert bucket.remaining(10 * MINUTE) == 60
    room.settle(40, 10 * MINUTE)
    assert bucket.remaining(10 * MINUTE) == 60, "settled twice"
    take(group(bucket), 10, streamed=False, now_ns=10 * MINUTE).settle(1_060, 10 * MINUTE)
    assert bucket.remaining(10 * MINUTE) == 0
    assert bucket.wait_ns(1, 10 * MINUTE) == 10 * MINUTE + -(-MINUTE // 100)
    take(group(Bucket(TOKENS, "the key", 5, 0)), 10**9, streamed=False, now_ns=0)  # passes alone


def test_streams_are_counted_while_they_run() -> None:
    """Only streams, and no time passing makes room but their end."""
    bucket = Bucket(STREAMS, "the account", 2, 0)
    rooms = [take(group(bucket), 0, streamed=True, now_ns=0) for _ in range(2)]
    take(group(bucket), 0, streamed=False, now_ns=0)
    with pytest.raises(LimitedError):
        take(group(bucket), 0, streamed=True, now_ns=MINUTE)
    rooms[0].settle(0, MINUTE)
    take(group(bucket), 0, streamed=True, now_ns=MINUTE)
    assert bucket.remaining(MINUTE) == 0


def test_a_changed_amount_keeps_what_was_used() -> None:
    """Raised: there is more at once. Lowered: what is too much has to fill up first."""
    limits = Limits()
    limits.say(1, {"": {"requests/minute": 10}}, 0)
    (bucket,) = applying(limits, "m")
    for _ in range(10):
        assert limited(limits, 0) == 0
    limits.say(1, {"": {"requests/minute": 20, "streams": 1}}, 0)
    assert applying(limits, "m")[0] is bucket
    assert bucket.remaining(0) == 10
    limits.say(1, {"": {"requests/minute": 5}}, 0)
    assert bucket.remaining(0) == 0
    assert bucket.wait_ns(1, 0) == MINUTE + MINUTE // 5


@given(
    amount=st.integers(1, 50),
    steps=st.lists(st.tuples(st.integers(0, MINUTE), st.integers(1, 30)), max_size=60),
)
@settings(max_examples=200, deadline=None)
def test_the_promised_bound_holds_in_every_span(amount: int, steps: list[tuple[int, int]]) -> None:
    """Between any two moments at most amount * (1 + span / period) requests are let in; none waits in vain."""
    bucket, now_ns = Bucket(REQUESTS, "the key", amount, 0), 0
    let_in: list[int] = []
    for pause_ns, tries in steps:
        now_ns += pause_ns
        for _ in range(tries):
            wait_ns = refused_for(bucket, now_ns)
            if wait_ns:
                later = copy.copy(bucket)
                assert later.wait_ns(1, now_ns + wait_ns - 1) > 0
                assert later.wait_ns(1, now_ns + wait_ns) == 0
                break
            let_in.append(now_ns)
    for first, begin in enumerate(let_in):
        for last in range(first, len(let_in)):
            span = Fraction(let_in[last] - begin, MINUTE)
            assert last - first + 1 <= amount * (1 + span)


def refused_for(bucket: Bucket, now_ns: int) -> int:
    """How long one request has to wait; 0: it was let in."""
    try:
        take(group(bucket), 0, streamed=False, now_ns=now_ns)
    except LimitedError as error:
        return error.wait_ns
    return 0


@dataclass
class Plain:
    """A bucket in exact fractions of units."""

    amount: int
    period_ns: int
    at_ns: int = 0
    used: Fraction = Fraction(0)
    held: list[int] = field(default_factory=list)

    def fill(self, now_ns: int) -> None:
        """Time passes; a clock that went back is gone by from there."""
        self.used = max(Fraction(0), self.used - Fraction(max(0, now_ns - self.at_ns) * self.amount, self.period_ns))
        self.at_ns = now_ns


class Machine(RuleBasedStateMachine):
    """Any order of requests, ends, changes and clock jumps."""

    @initialize(amounts=st.tuples(*[st.one_of(st.integers(1, 9), st.integers(1, AMOUNT_MAX))] * 3))
    def begin(self, amounts: tuple[int, int, int]) -> None:
        """Three limits of one key."""
        self.now_ns = 0
        self.limits = Limits()
        self.plain = {w: Plain(a, WHATS[w].period_ns) for w, a in zip(self.words, amounts, strict=True)}
        self.say()
        self.running: list[tuple[Room, int, bool]] = []

    def say(self) -> None:
        """Have the limits as the plain model has them."""
        self.limits.say("k", {"": {word: each.amount for word, each in self.plain.items()}}, self.now_ns)

    words = ("requests/minute", "tokens/hour", "streams")

    @rule(by_ns=_JUMPS)
    def pass_time(self, by_ns: int) -> None:
        """Also backwards."""
        self.now_ns += by_ns
        for each in self.plain.values():
            each.fill(self.now_ns)
        for bucket in applying(self.limits, "m"):
            bucket.remaining(self.now_ns)

    @rule(tokens=st.one_of(st.integers(0, 20), st.integers(0, 2 * AMOUNT_MAX)), streamed=st.booleans())
    def request(self, tokens: int, streamed: bool) -> None:
        """Let in exactly when everything fits."""
        requests, spent, streams = (self.plain[word] for word in self.words)
        units = min(tokens, spent.amount)  # no estimate makes a request impossible
        fits = requests.used + 1 <= requests.amount
        fits = fits and (not units or spent.used + sum(spent.held) + units <= spent.amount)
        fits = fits and (not streamed or len(streams.held) + 1 <= streams.amount)
        asks = asked(self.limits)
        if not fits:
            with pytest.raises(LimitedError):
                take(asks, tokens, streamed=streamed, now_ns=self.now_ns)
            return
        room = take(asks, tokens, streamed=streamed, now_ns=self.now_ns)
        requests.used += 1
        spent.held.append(tokens)
        streams.held += [1] * streamed
        self.running.append((room, tokens, streamed))

    @rule(data=st.data(), tokens=st.one_of(st.integers(0, 20), st.integers(0, AMOUNT_MAX)))
    def end(self, data: st.DataObject, tokens: int) -> None:
        """The truth is charged, and settling twice changes nothing."""
        if not self.running:
            return
        room, held, streamed = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        for _ in range(2):
            room.settle(tokens, self.now_ns)
        spent = self.plain["tokens/hour"]
        spent.held.remove(held)
        spent.used += tokens
        if streamed:
            self.plain["streams"].held.pop()

    @rule(word=st.sampled_from(words), amount=st.integers(1, AMOUNT_MAX))
    def change(self, word: str, amount: int) -> None:
        """What was used stays used."""
        self.plain[word].amount = amount
        self.say()

    @invariant()
    def says_the_same(self) -> None:
        """Remaining units and what is held, and nothing is negative."""
        for bucket in applying(self.limits, "m"):
            plain = self.plain[bucket.what.word]
            left = plain.amount - sum(plain.held) - -(-plain.used.numerator // plain.used.denominator)
            assert bucket.remaining(self.now_ns) == max(0, left)
            assert bucket.held == sum(plain.held)
            assert bucket.reset_ns() >= 0


@dataclass
class Told(Plain):
    """The same of several processes: what of it the others know."""

    others: int = 0
    taken: int = 0
    told: int = 0
    is_known: bool = False
    asked: int | None = None  # what a question under way tells

    @property
    def untold(self) -> int:
        """What the others cannot know of."""
        return self.taken - self.told

    @property
    def block(self) -> int:
        """So much may be untold."""
        return max(1, self.amount // 16)

    @property
    def left(self) -> Fraction:
        """What fits."""
        return self.amount - sum(self.held) - self.others - self.used

    @property
    def late(self) -> Fraction:
        """What may have filled up that is not counted yet."""
        return Fraction(FRESH_NS * self.amount, self.period_ns)


class Sharing(RuleBasedStateMachine):
    """Two keys of one account, and other processes: what is only counted down and up stands for the exact state.

    Nobody is let in without room, and nobody refused with it, but for what filled up in FRESH_NS.
    """

    words = ("requests/minute", "tokens/minute", "streams")

    @initialize(
        amounts=st.lists(
            st.one_of(st.integers(1, 99), st.integers(1_000, 99_999), st.integers(1, AMOUNT_MAX)),
            min_size=9,
            max_size=9,
        )
    )
    def begin(self, amounts: list[int]) -> None:
        """Three limits of each of the three."""
        self.now_ns = 0
        self.limits = Limits()
        self.plain: dict[tuple[int | str, str], Told] = {}
        self.running: list[tuple[Room, str, int, bool]] = []
        for ident in (1, "j", "k"):
            for word in self.words:
                self.plain[ident, word] = Told(amounts.pop(), WHATS[word].period_ns)
            self.say(ident)
        self.all = {(each.ident, each.what.word): each for key in "jk" for each in self.asks(key).buckets}
        for where in self.all:
            self.hear(where, 0, 0)

    def say(self, ident: int | str) -> None:
        """Have the limits as the plain model has them."""
        amounts = {word: self.plain[ident, word].amount for word in self.words}
        self.limits.say(ident, {"": amounts}, self.now_ns)

    def asks(self, key: str) -> Group:
        """What counts for a request of this key."""
        return self.limits.applying(1, key, "m", self.now_ns)

    def hear(self, where: tuple[int | str, str], level: int, others: int) -> None:
        """An answer to what was asked before, or nothing was."""
        plain, bucket = self.plain[where], self.all[where]
        told, plain.asked = plain.asked or 0, None
        others = others if where[1] == "streams" else 0
        bucket.hear(told, float(level), others, self.now_ns)
        plain.told += told
        plain.others, plain.is_known = others, True
        if where[1] != "streams":
            plain.used = Fraction(max(0, level + plain.untold - sum(plain.held)))

    @rule(by_ns=st.one_of(st.integers(0, 2 * FRESH_NS), st.sampled_from([0, 1, FRESH_NS, 10**9, MINUTE])))
    def pass_time(self, by_ns: int) -> None:
        """Nobody looks at it."""
        self.now_ns += by_ns
        for each in self.plain.values():
            each.fill(self.now_ns)

    @rule(
        key=st.sampled_from("jk"),
        tokens=st.one_of(st.integers(0, 20), st.integers(0, AMOUNT_MAX // 4)),
        streamed=st.booleans(),
        count=st.integers(1, 5),
    )
    def request(self, key: str, tokens: int, streamed: bool, count: int) -> None:
        """Some at once."""
        for _ in range(count):
            self.request_one(key, tokens, streamed)

    def request_one(self, key: str, tokens: int, streamed: bool) -> None:
        """Let in, refused or ahead, as it has to be."""
        units = dict(zip(self.words, (1, tokens, int(streamed)), strict=True))
        wanted = {(ident, word): n for ident in (1, key) for word, n in units.items() if n}
        plain = [(self.plain[where], n) for where, n in wanted.items()]
        try:
            room = take(self.asks(key), tokens, streamed, self.now_ns, False)
        except LimitedError:
            assert any(each.left - each.late < min(n, each.amount) for each, n in plain)
            return
        except AheadError:
            assert any(0 < each.untold > each.block - n for each, n in plain)
            return
        finally:
            assert all(
                self.all[where].untold == self.plain[where].untold for where in self.plain if where not in wanted
            )
        assert all(each.left >= min(n, each.amount) for each, n in plain)
        assert not any(0 < each.untold > each.block - n for each, n in plain)
        for (_, word), (each, n) in zip(wanted, plain, strict=True):
            each.taken += n
            if word == "requests/minute":
                each.used += n
            else:
                each.held.append(n)
        assert room.is_much_untold == any(each.untold >= (each.block + 1) // 2 for each, _ in plain)
        self.running.append((room, key, tokens, streamed))

    @rule(data=st.data(), tokens=st.one_of(st.integers(0, 20), st.integers(0, AMOUNT_MAX // 4)))
    def end(self, data: st.DataObject, tokens: int) -> None:
        """The truth is charged, and told."""
        if not self.running:
            return
        room, key, held, streamed = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        room.settle(tokens, self.now_ns)
        for ident in (1, key):
            spent, streams = self.plain[ident, "tokens/minute"], self.plain[ident, "streams"]
            spent.held.remove(held) if held else None
            spent.used += tokens
            spent.taken += tokens - held
            if streamed:
                streams.held.pop()
                streams.taken -= 1

    @rule(ident=st.sampled_from([1, "j", "k"]), word=st.sampled_from(words))
    def tell(self, ident: int | str, word: str) -> None:
        """A question begins; what comes until its answer is for the next one."""
        plain, bucket = self.plain[ident, word], self.all[ident, word]
        if plain.asked is None:
            plain.asked = bucket.untold

    @rule(
        ident=st.sampled_from([1, "j", "k"]),
        word=st.sampled_from(words),
        level=st.integers(0, 100),
        others=st.integers(0, 2),
    )
    def answer(self, ident: int | str, word: str, level: int, others: int) -> None:
        """Others have let in more, or less."""
        self.hear((ident, word), level, others)

    @rule(ident=st.sampled_from([1, "j", "k"]), word=st.sampled_from(words), amount=st.integers(1, AMOUNT_MAX))
    def change(self, ident: int | str, word: str, amount: int) -> None:
        """What was used stays used."""
        self.plain[ident, word].amount = amount
        self.say(ident)

    @invariant()
    def stands_for_the_exact_state(self) -> None:
        """Without counting it: what is left is no more than there is, nor less by more than what filled up lately."""
        for where, bucket in self.all.items():
            plain = self.plain[where]
            assert bucket.untold == plain.untold
            assert bucket in self.limits.news or not bucket.untold
            if where[1] != "requests/minute":
                assert bucket.held == sum(plain.held)
            assert bucket.room <= plain.left
            remaining = copy.copy(bucket).remaining(self.now_ns)
            assert max(0, floor(plain.left - plain.late)) <= remaining <= max(0, floor(plain.left))


Sharing.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestSharing: Any = Sharing.TestCase


def heard(amounts: dict[str, int]) -> Group:
    """What counts for a request of an account and a key with these limits, once others were heard of."""
    limits = Limits()
    for ident in (1, "k"):
        limits.say(ident, {"": amounts}, 0)
    asks = asked(limits)
    for bucket in asks.buckets:
        bucket.hear(0, 0.0, 0, 0)
    return asks


def test_of_many_requests_few_look_at_the_exact_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one, and then none in FRESH_NS: what they take adds up to the exact state, whoever asks for it when."""
    amounts = {"requests/minute": 60_000, "tokens/hour": 10**6, "streams": 500}
    asks, exact = heard(amounts), heard(amounts)
    counted, count = [], Bucket.count

    def count_and_say(bucket: Bucket, now_ns: int) -> None:
        counted.append((bucket, now_ns))
        count(bucket, now_ns)

    monkeypatch.setattr(Bucket, "count", count_and_say)
    for number in range(120):
        now_ns = number * FRESH_NS // 100
        for each in (asks, exact):
            take(each, 150, True, now_ns, False).settle(50, now_ns)
        for bucket, other in zip(asks.buckets, exact.buckets, strict=True):
            assert bucket.untold == other.untold
            count(other, now_ns)
            filled = bucket.amount * FRESH_NS // bucket.period_ns + 1
            counted_now = copy.copy(bucket)
            count(counted_now, now_ns)
            assert bucket.room <= counted_now.room <= bucket.room + filled
            assert counted_now.room <= other.room <= counted_now.room + filled
    ours = [now_ns for bucket, now_ns in counted if bucket in asks.buckets]
    assert set(ours) == {0, FRESH_NS}
    assert len(ours) <= 3 * len(asks.buckets)


def test_what_a_long_request_has_used_fills_up_from_its_end_on() -> None:
    """Not from when it began, and not from when somebody looks; each of several from its own."""
    asks = heard({"tokens/minute": 6_000})
    rooms = [take(asks, 500, False, 0) for _ in range(3)]
    left = []
    for second, room in enumerate(rooms, start=1):
        room.settle(150, second * 10**9)
        left.append(copy.copy(asks.buckets[0]).remaining(second * 10**9))
    late = 5  # that fill up in FRESH_NS
    assert left == [5_000 - 150, 5_500 - 200 - late, 6_000 - 250 - late]
    assert copy.copy(asks.buckets[0]).remaining(4 * 10**9) == 6_000 - 150 - late


def test_keys_that_share_a_limit_look_at_it_for_each_other() -> None:
    """But none relies for longer than FRESH_NS on what was seen when another one came."""
    limits, ms = Limits(), 10**6
    limits.say(1, {"": {"requests/minute": 60_000}}, 0)
    first, second = (limits.applying(1, key, "m", 0) for key in "jk")
    (bucket,) = first.buckets
    bucket.hear(0, 0.0, 0, 0)
    take(first, 0, False, 0, False)
    take(second, 0, False, 20 * ms, False)
    assert bucket.at_ns == 0
    for _ in range(10):
        take(second, 0, False, 60 * ms, False)
    assert 60_000 - 10 <= copy.copy(bucket).remaining(65 * ms) <= 60_000 - 5


def test_who_fits_by_the_exact_state_is_let_in() -> None:
    """Also when what is counted down says that nothing is left: it filled up meanwhile."""
    asks = heard({"requests/minute": 60_000})
    for _ in range(60_000):
        take(asks, 0, False, 0)
    for ms in range(100):
        now_ns = ms * 10**6
        if ms:
            take(asks, 0, False, now_ns)
        with pytest.raises(LimitedError):
            take(asks, 0, False, now_ns)


def shared(amount: int, count: int) -> tuple[list[Bucket], Bucket]:
    """One bucket as so many processes have it, and as it is."""
    buckets = [Bucket(REQUESTS, "the key", amount, 0) for _ in range(count)]
    for bucket in buckets:
        bucket.hear(0, 0.0, 0, 0)
    return buckets, Bucket(REQUESTS, "the key", amount, 0)


@given(
    amount=st.integers(1, 60),
    count=st.integers(1, 4),
    steps=st.lists(
        st.tuples(st.integers(0, MINUTE), st.integers(0, 3), st.integers(0, 20), st.booleans()), max_size=60
    ),
)
@settings(max_examples=200, deadline=None)
def test_together_they_are_ahead_by_a_block_each(
    amount: int, count: int, steps: list[tuple[int, int, int, bool]]
) -> None:
    """In every span at most amount * (1 + span / period) and a block of each process, whenever what is told."""
    buckets, table = shared(amount, count)
    now_ns, let_in = 0, []
    for pause_ns, which, tries, tells in steps:
        now_ns += pause_ns
        bucket = buckets[which % count]
        for _ in range(tries):
            try:
                take(group(bucket), 0, streamed=False, now_ns=now_ns, alone=False)
            except (LimitedError, AheadError):
                break
            let_in.append(now_ns)
        if tells:  # as the table does it
            table.count(now_ns)
            table.level += bucket.untold * MINUTE
            bucket.hear(bucket.untold, table.level / MINUTE, 0, now_ns)
    for first, begin in enumerate(let_in):
        for last in range(first, len(let_in)):
            span = Fraction(let_in[last] - begin, MINUTE)
            assert last - first + 1 <= amount * (1 + span) + count * max(1, amount // 16)


def test_nobody_begins_before_it_has_heard() -> None:
    """Of what a process before it let in; a request larger than a block passes when nothing else is untold."""
    bucket = Bucket(TOKENS, "the key", 1_600, 0)
    for _ in range(2):
        with pytest.raises(AheadError):
            take(group(bucket), 1, streamed=False, now_ns=0, alone=False)
    take(group(bucket), 1, streamed=False, now_ns=0).settle(0, 0)
    bucket.hear(bucket.untold, 1_000.0, 0, 0)
    assert bucket.remaining(0) == 600
    room = take(group(bucket), 500, streamed=False, now_ns=0, alone=False)
    assert (bucket.untold, bucket in bucket.news) == (500, True)
    with pytest.raises(AheadError):
        take(group(bucket), 1, streamed=False, now_ns=0, alone=False)
    with pytest.raises(LimitedError):
        take(group(bucket), 200, streamed=False, now_ns=0, alone=False)
    room.settle(20, 0)
    assert (bucket.untold, bucket.held, bucket.remaining(0)) == (20, 0, 580)
    bucket.hear(20, 1_020.0, 0, 0)
    assert (bucket.untold, bucket.remaining(0)) == (0, 580)


def test_what_is_held_was_told_as_used() -> None:
    """It counts once, here and there."""
    bucket = Bucket(TOKENS, "the key", 100, 0)
    bucket.hear(0, 0.0, 0, 0)
    room = take(group(bucket), 60, streamed=False, now_ns=0, alone=False)
    bucket.hear(60, 70.0, 0, 0)
    assert (bucket.held, bucket.remaining(0)) == (60, 30)
    room.settle(10, 0)
    assert (bucket.untold, bucket.remaining(0)) == (-50, 80)


def test_what_is_given_back_is_told() -> None:
    """Also when all that was taken is told already."""
    asks = heard({"tokens/minute": 6_000, "streams": 99})
    room = take(asks, 100, True, 0)
    for bucket in asks.buckets:
        bucket.hear(bucket.untold, 0.0, 0, 0)
    assert not asks.news
    room.settle(40, 0)
    assert asks.news == set(asks.buckets)
    assert sorted(bucket.untold for bucket in asks.buckets) == [-60, -60, -1, -1]


def test_streams_of_others_count() -> None:
    """As far as is known of them."""
    bucket = Bucket(STREAMS, "the account", 3, 0)
    bucket.hear(0, 0.0, 2, 0)
    room = take(group(bucket), 0, streamed=True, now_ns=0, alone=False)
    with pytest.raises(LimitedError):
        take(group(bucket), 0, streamed=True, now_ns=MINUTE)
    room.settle(0, MINUTE)
    assert (bucket.untold, bucket.remaining(MINUTE)) == (0, 1)


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestMachine: Any = Machine.TestCase


def test_of_very_many_only_those_with_something_to_tell_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million limited keys in use fill no memory; whose tokens are held or untold is not among the forgotten."""
    monkeypatch.setattr(buckets, "_SUBJECTS_MAX", 10)
    limits = Limits()
    for number in range(100):
        limits.say(number, {"": {"tokens/day": 100}}, 0)
    (held,) = limits.applying(7, "", "m", 0).buckets
    room = take(group(held), 60, streamed=False, now_ns=0)
    for number in range(100):
        limits.applying(number, "", "m", 0)
    assert limits.applying(7, "", "m", 0).buckets == (held,)
    assert len(limits._subjects) == 10
    room.settle(60, 0)
    held.hear(60, 60.0, 0, 0)
    limits.news.clear()
    for number in range(100):
        limits.applying(number, "", "m", 0)
    (anew,) = limits.applying(7, "", "m", 0).buckets
    assert (anew is held, anew.is_known) == (False, False)
