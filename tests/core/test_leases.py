"""Money is conserved: over several processes, lost answers, deaths and windows nobody spends more than there is."""

from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from luntrex_proxy.core import leases
from luntrex_proxy.core.budgets import Budget
from luntrex_proxy.core.leases import NEVER_US, TILLS_MAX, Budgets, Hold, Lease, Purse, Wallet

DAY_US = 1_000
AMOUNT = 1_000


def budget(budget_id: int = 1, **more: Any) -> Budget:
    """A hard budget of account 7."""
    fields: dict[str, Any] = {"key_ids": frozenset(), "person": b"", "period": "day", "amount_pico": AMOUNT}
    return Budget(budget_id, 7, **{**fields, "is_open": False, **more})


def purse_of(budgets: Budgets) -> Purse:
    """The one there is."""
    (purse,) = budgets.applying(7, "k", b"")
    return purse


def wallet_of(budgets: Budgets, key_id: str = "k") -> Wallet:
    """What requests of a key are taken of."""
    return budgets.wallet(7, key_id, b"")


def lent(purse: Purse, granted: int, begins_us: int = 0, ends_us: int = NEVER_US) -> Lease:
    """A window with so much at hand."""
    lease = purse.open(begins_us, ends_us)
    lease.granted = lease.block = granted
    return lease


def test_who_counts_is_found_by_account_key_and_member() -> None:
    """And as soon as a budget is another one, by that; an account without any is not there."""
    budgets = Budgets()
    budgets.say(7, 1, budget(1))
    budgets.say(7, 2, budget(2, key_ids=frozenset({"k", "k2"})))
    budgets.say(7, 3, budget(3, person=b"p"))
    ids = lambda key, person: [purse.budget.budget_id for purse in budgets.applying(7, key, person)]  # noqa: E731
    assert [ids("k", b""), ids("k2", b""), ids("x", b"p"), ids("y", b"")] == [[1, 2], [1, 2], [1, 3], [1]]
    assert budgets.applying(8, "k", b"") == ()
    budgets.say(7, 1, None)
    assert [ids("k", b""), ids("y", b"")] == [[2], []]
    for budget_id in (2, 3, 3, 9):
        budgets.say(7, budget_id, None)
    assert budgets.accounts == {}
    for number in range(10_000):
        budgets.say(7, 1, budget(1))
        assert ids(str(number), b"") == [1]
    for number in range(10_000):
        assert ids(str(number), b"") == [1]
    assert len(budgets.accounts[7].by_key) < 5_000, "as many as are in use, not all that ever were"


def test_nothing_is_held_of_any_when_one_lacks() -> None:
    """All budgets that count, or none."""
    budgets = Budgets()
    for budget_id in (1, 2):
        budgets.say(7, budget_id, budget(budget_id))
    wallet = wallet_of(budgets)
    purses = wallet.purses
    assert budgets.take(wallet, 1, 0) is None, "nothing is lent yet"
    first, second = lent(purses[0], 100), lent(purses[1], 10)
    assert budgets.take(wallet, 11, 0) is None
    assert (first.used, second.used) == (0, 0)
    hold = budgets.take(wallet, 10, 0)
    assert hold is not None
    assert (first.held, second.free) == (10, 0)
    for _ in range(2):
        hold.settle(3)
    assert [(each.held, each.used) for each in (first, second)] == [(0, 3), (0, 3)]


def test_what_is_dearer_than_held_is_charged() -> None:
    """And nobody spends what is not there any more."""
    budgets = Budgets()
    budgets.say(7, 1, budget())
    purse, wallet = purse_of(budgets), wallet_of(budgets)
    lease = lent(purse, 10)
    for cost in (5, 9):
        hold = budgets.take(wallet, 5, 0)
        assert hold is not None
        hold.settle(cost)
    assert (lease.used, lease.free) == (14, -4)
    assert budgets.take(wallet, 0, 0) is None, "more is gone than there was"


def test_a_request_counts_where_it_began() -> None:
    """Also when its window is over; and what is low asks for more."""
    budgets = Budgets()
    budgets.say(7, 1, budget())
    purse, wallet = purse_of(budgets), wallet_of(budgets)
    old, new = lent(purse, 10, 0, DAY_US), lent(purse, 10, DAY_US, 2 * DAY_US)
    assert purse.lease is new
    assert budgets.take(wallet, 4, DAY_US - 1) is not None
    assert (old.used, new.used, purse.lacks(7, 5), purse.lacks(7, DAY_US)) == (4, 0, True, False)
    assert not budgets.low
    assert budgets.take(wallet, 6, DAY_US) is not None
    assert budgets.low == {purse}
    assert purse.open(0, DAY_US) is old
    assert purse.lease is new
    purse.forget(old)
    assert purse.lacks(0, 5)


def test_whose_lease_was_taken_of_last_is_forgotten_when_windows_change() -> None:
    """What is remembered of the request before never outlives a window, its end, or what was lent."""
    budgets = Budgets()
    budgets.say(7, 1, budget())
    purse, wallet = purse_of(budgets), wallet_of(budgets)
    old = lent(purse, 100, 0, 10)
    assert [budgets.take(wallet, 1, at_us) is not None for at_us in (5, 5, 9, 10)] == [True, True, True, False]
    new = lent(purse, 100, 5, 20)
    assert [budgets.take(wallet, 1, at_us) is not None for at_us in (5, 4, 4, 5, 19)] == [True] * 5
    assert (old.used, new.used) == (5, 3)
    purse.open(0, 3)
    assert budgets.take(wallet, 1, 4) is None, "its window is over sooner"
    purse.forget(new)
    assert budgets.take(wallet, 1, 6) is None
    last = lent(purse, 100, 5, 20)
    assert [budgets.take(wallet, 50, 6) is not None for _ in range(3)] == [True, True, False]
    last.tell()
    last.receive(7)
    assert [budgets.take(wallet, 7, 6) is not None for _ in range(2)] == [True, False]
    last.give_back()
    assert budgets.take(wallet, 1, 6) is None
    purse.ask_anew()
    assert budgets.take(wallet, 0, 6) is not None, "what it began with is there still, with nothing free"


def test_a_changed_budget_is_asked_for_anew() -> None:
    """Nothing that was lent before is spent; what runs is charged where it was held."""
    budgets = Budgets()
    budgets.say(7, 1, budget())
    purse, wallet = purse_of(budgets), wallet_of(budgets)
    lease = lent(purse, 100)
    hold = budgets.take(wallet, 30, 0)
    budgets.say(7, 1, budget(amount_pico=50))
    wallet = wallet_of(budgets)
    assert wallet.purses == (purse,)
    assert (purse.budget.amount_pico, purse.lacks(1, 0), lease.granted) == (50, True, 30)
    assert purse.open(0, NEVER_US) is lease
    assert hold is not None
    hold.settle(20)
    assert budgets.take(wallet, 10, 0) is not None
    anyway = budgets.take_anyway(wallet, 5, 0)
    assert (budgets.unchecked, lease.free) == (1, -5)
    anyway.settle(0)
    assert lease.free == 0


def two_keys() -> tuple[Budgets, Wallet, Wallet]:
    """Budget 1 is the account's; of two keys of it, each has one of its own as well."""
    budgets = Budgets()
    budgets.say(7, 1, budget(1))
    for budget_id, key_id in ((2, "k"), (3, "k2")):
        budgets.say(7, budget_id, budget(budget_id, key_ids=frozenset({key_id})))
    return budgets, wallet_of(budgets, "k"), wallet_of(budgets, "k2")


def test_what_is_set_aside_is_there_for_everybody() -> None:
    """Most requests look at no lease; but to who looks at one, only what is charged or held is used, to the last."""
    budgets, first, second = two_keys()
    shared = lent(first.purses[0], 1_000)
    for wallet in (first, second):
        lent(wallet.purses[1], 10_000)
    holds = [budgets.take(wallet, 100, 0) for wallet in (first, second)]
    assert all(wallet.till.free > 0 for wallet in (first, second))
    assert (shared.used, shared.held, shared.free) == (200, 200, 800)
    taken = shared.taken
    holds.append(budgets.take(first, 10, 0))
    assert (shared.taken, shared.used) == (taken, 210), "the till has had it"
    assert not budgets.low
    for pico, used in ((790, 1_000), (1, 1_000), (0, 1_000)):
        holds.append(budgets.take(second, pico, 0))
        assert (holds[-1] is not None, shared.used) == (pico != 1, used)
    assert first.purses[0] in budgets.low
    for hold in holds:
        if hold is not None:
            hold.settle(1)
    assert (shared.used, shared.held, [wallet.purses[1].leases()[0].used for wallet in (first, second)]) == (
        5,
        0,
        [2, 3],
    )


def test_a_half_that_is_used_is_low_whoever_has_set_it_aside() -> None:
    """Not what is set aside counts, but what is used of it: not sooner, and not later."""
    budgets, first, second = two_keys()
    shared = lent(first.purses[0], 1_000)
    for wallet in (first, second):
        lent(wallet.purses[1], 10_000)
    for number in range(50):
        assert not budgets.low, number
        assert budgets.take((first, second)[number % 2], 10, 0) is not None
    assert (shared.used, budgets.low) == (500, set())
    assert budgets.take(first, 1, 0) is not None
    assert budgets.low == {first.purses[0]}


def test_what_one_key_costs_beyond_what_was_held_others_do_not_find() -> None:
    """Nor does anybody, of what was set aside before, when more was let in while nobody could say what is left."""
    budgets, first, second = two_keys()
    shared = lent(first.purses[0], 1_000)
    for wallet in (first, second):
        lent(wallet.purses[1], 10_000)
    hold, other = budgets.take(first, 100, 0), budgets.take(second, 100, 0)
    assert hold is not None
    assert other is not None
    assert second.till.free > 10
    hold.settle(950)
    assert (shared.used, shared.free) == (1_050, -50)
    assert budgets.take(second, 1, 0) is None
    other.settle(20)
    assert shared.free == 30
    assert budgets.take(second, 31, 0) is None
    assert budgets.take(second, 30, 0) is not None
    shared.tell()
    shared.receive(1_000)
    assert budgets.take(second, 100, 0) is not None
    assert second.till.free > 10
    anyway = budgets.take_anyway(first, 5_000, 0)
    assert budgets.take(second, 1, 0) is None
    anyway.settle(0)
    assert budgets.take(second, 1, 0) is not None


def test_what_is_given_back_is_not_set_aside() -> None:
    """Others have it as soon as it is told."""
    budgets, first, second = two_keys()
    shared = lent(first.purses[0], 1_000)
    for wallet in (first, second):
        lent(wallet.purses[1], 10_000)
        assert budgets.take(wallet, 10, 0) is not None
        assert wallet.till.free > 1
    shared.give_back()
    assert (shared.granted, shared.used) == (20, 20)
    assert [budgets.take(wallet, 1, 0) for wallet in (first, second)] == [None, None]


def test_half_of_what_was_lent_last_is_used_also_when_it_was_set_aside_before() -> None:
    """What is back since then makes half of what is free come sooner."""
    budgets, first, _ = two_keys()
    shared = lent(first.purses[0], 1_000)
    lent(first.purses[1], 10_000)
    dear = budgets.take(first, 900, 0)
    shared.tell()
    shared.receive(1_000)
    budgets.low.clear()
    assert budgets.take(first, 100, 0) is not None
    assert dear is not None
    dear.settle(0)
    assert (shared.used, first.till.free > 1_000) == (100, True)
    shared.tell()
    shared.receive(1)
    assert budgets.take(first, 951, 0) is not None
    assert (shared.used, budgets.low) == (1_051, set())
    assert budgets.take(first, 1, 0) is not None
    assert budgets.low == {first.purses[0]}


def test_what_costs_more_than_nothing_is_charged() -> None:
    """Of a request for which nothing was held, also when its till has been looked at meanwhile."""
    budgets = Budgets()
    budgets.say(7, 1, budget())
    lease = lent(purse_of(budgets), 100)
    hold = budgets.take(wallet_of(budgets), 0, 0)
    assert hold is not None
    lease.gather()
    hold.settle(7)
    assert (lease.used, lease.held) == (7, 0)


def test_keys_with_the_same_budgets_have_one_till() -> None:
    """Nothing is set aside for each of an account's keys; and it is no more theirs once another budget counts."""
    budgets = Budgets()
    budgets.say(7, 1, budget(1))
    first, second = wallet_of(budgets, "k"), wallet_of(budgets, "k2")
    assert first is second
    lent(first.purses[0], 1_000)
    assert budgets.take(first, 1, 0) is not None
    budgets.say(7, 2, budget(2, key_ids=frozenset({"k2"})))
    assert wallet_of(budgets, "k").purses == first.purses
    assert budgets.take(wallet_of(budgets, "k2"), 1, 0) is None, "nothing is lent of its own yet"


def many_keys(count: int, granted: int) -> tuple[Budgets, Lease, list[Wallet]]:
    """As many keys, each with a budget of its own of which there is enough; and what is lent of the account's."""
    budgets = Budgets()
    budgets.say(7, 0, budget(0))
    for number in range(1, count + 1):
        budgets.say(7, number, budget(number, key_ids=frozenset({str(number)})))
    wallets = [wallet_of(budgets, str(number)) for number in range(1, count + 1)]
    for wallet in wallets:
        lent(wallet.purses[1], 10**9)
    return budgets, lent(wallets[0].purses[0], granted), wallets


@pytest.mark.parametrize("granted", [10**9, 600_000], ids=["plenty", "more than half is used"])
def test_few_tills_are_looked_at_however_many_keys_there_are(granted: int) -> None:
    """And nothing is lost by that: of each request what it holds is held, and then what it costs is used."""
    budgets, shared, wallets = many_keys(3_000, granted)
    running: list[tuple[Wallet, Hold, int]] = []
    charged = held = most = 0
    for number, wallet in enumerate(wallets * 2):
        hold = budgets.take(wallet, 100, 0)
        assert hold is not None
        running.append((wallet, hold, (0, 30, 100, 150)[number % 4]))
        held += 100
        if number % 3:
            _, hold, cost = running.pop(len(running) // 2)
            hold.settle(cost)
            hold.settle(cost)
            held, charged = held - 100, charged + cost
        most = max(most, len(shared.tills))
        assert (shared.held, shared.used, shared.free) == (held, charged + held, granted - charged - held)
    assert most == TILLS_MAX
    assert (sum(wallet.purses[1].leases()[0].used for wallet in wallets), shared.held > 100 * TILLS_MAX) == (
        shared.used,
        True,
    )
    for _, hold, cost in running:
        hold.settle(cost)
        charged += cost
    assert (shared.held, shared.used) == (0, charged)
    shared.gather()
    assert (shared.tills, shared.taken) == (set(), charged), "with nothing in it a till is not looked at any more"


@pytest.mark.parametrize("last", [0, 2_999], ids=["has a till", "has none"])
def test_each_of_many_keys_can_spend_the_last(last: int) -> None:
    """What is set aside for some is there for all, and nobody gets more than there is."""
    budgets, shared, wallets = many_keys(3_000, 100_000_000)
    assert all(budgets.take(wallet, 100, 0) for wallet in wallets)
    assert [wallets[number].till.free > 0 for number in (0, 2_999)] == [True, False]
    assert budgets.take(wallets[last], shared.free - 1, 0) is not None
    assert budgets.take(wallets[last], 2, 0) is None
    assert budgets.take(wallets[last], 1, 0) is not None
    assert (shared.free, [budgets.take(wallets[number], 1, 0) for number in (0, 2_999)]) == (0, [None, None])


def test_what_a_key_without_till_costs_beyond_what_was_held_others_do_not_find() -> None:
    """Nor what is let in for it while nobody can say what is left."""
    budgets, shared, wallets = many_keys(TILLS_MAX + 1, 1_000_000)
    first, last = wallets[0], wallets[-1]
    holds = [budgets.take(wallet, 100, 0) for wallet in wallets]
    assert [wallet.till.free > 1 for wallet in (first, last)] == [True, False]
    hold = holds[-1]
    assert hold is not None
    hold.settle(1_000_000)
    assert shared.free == -100 * TILLS_MAX
    assert budgets.take(first, 1, 0) is None
    shared.tell()
    shared.receive(1_000_000)
    assert budgets.take(first, 1, 0) is not None
    assert first.till.free > 1
    anyway = budgets.take_anyway(last, 1_000_000, 0)
    assert shared.held == 1_000_000 + 100 * TILLS_MAX + 1
    assert budgets.take(first, 1, 0) is None
    anyway.settle(0)
    assert budgets.take(first, 1, 0) is not None


@dataclass
class Row:
    """A lease in the table."""

    granted: int
    shipped: int = 0

    @property
    def counts(self) -> int:
        return max(self.granted - self.shipped, 0)


@dataclass
class Bank:
    """The tables, by the rules of store/leases.py and store/charging.py."""

    spent: dict[int, int] = field(default_factory=dict)  # by window
    rows: dict[tuple[int, int], Row] = field(default_factory=dict)  # by window and process

    def out(self, begins: int, but: int | None = None) -> int:
        """What processes have and have not told of."""
        return sum(row.counts for (each, who), row in self.rows.items() if each == begins and who != but)

    def counted(self, begins: int) -> int:
        """All that is not there any more."""
        return self.spent.get(begins, 0) + self.out(begins)

    def lend(self, begins: int, who: int, has: int, least: int, wanted: int, amount: int) -> int:
        """One question."""
        shipped = self.rows[begins, who].shipped if (begins, who) in self.rows else 0
        own = max(has - shipped, 0)
        available = amount - self.spent.get(begins, 0) - self.out(begins, who) - own
        more = min(max(wanted, available // 16), available) if 0 < least <= available else 0
        self.rows[begins, who] = Row(has + more, shipped)
        return more

    def ship(self, begins: int, who: int, cost: int) -> None:
        """One record is stored."""
        self.spent[begins] = self.spent.get(begins, 0) + cost
        if (begins, who) in self.rows:
            self.rows[begins, who].shipped += cost

    def end(self, who: int) -> None:
        """The last record of a process is stored."""
        for begins, each in [place for place in self.rows if place[1] == who]:
            del self.rows[begins, each]


@dataclass
class Process:
    """Memory, requests under way with their window, and records not stored yet."""

    number: int
    budgets: Budgets
    running: list[tuple[Hold, int]] = field(default_factory=list)
    charged: dict[int, int] = field(default_factory=dict)  # by window
    spool: list[tuple[int, int]] = field(default_factory=list)
    alive: bool = True


class Machine(RuleBasedStateMachine):
    """Any order of requests, questions and their loss, ends, shipping, deaths, recoveries and days."""

    @initialize(tills_max=st.sampled_from([TILLS_MAX, 1, 0]))
    def begin(self, tills_max: int) -> None:
        """Three processes; in some runs not each key's requests can have a till."""
        patch.object(leases, "TILLS_MAX", tills_max).start()
        self.bank = Bank()
        self.now_us = 0
        self.started = 0
        self.processes: list[Process] = []
        # By process and window: what requests that ran when it let its last one in cost beyond what was held for them.
        self.beyond: dict[tuple[int, int], int] = {}
        self.truth: dict[int, int] = {}  # what requests have cost
        for _ in range(3):
            self.start()

    @rule()
    def start(self) -> None:
        """At most six in all."""
        if self.started < 6:
            process = Process(self.started, Budgets())
            process.budgets.say(7, 1, budget())
            # Another key has one of its own as well, of which there is enough: both share what is lent of the first.
            process.budgets.say(7, 2, budget(2, key_ids=frozenset({"k2"})))
            lent(process.budgets.applying(7, "k2", b"")[1], 10**9)
            self.started += 1
            self.processes.append(process)

    def one(self, data: st.DataObject) -> Process | None:
        """One that lives."""
        living = [each for each in self.processes if each.alive]
        return data.draw(st.sampled_from(living)) if living else None

    @rule(data=st.data(), least=st.integers(0, 300), more=st.integers(0, 300), lost=st.sampled_from(["", "", "q", "a"]))
    def ask(self, data: st.DataObject, least: int, more: int, lost: str) -> None:
        """Any want; the question may get lost, or its answer."""
        process = self.one(data)
        if process is None or lost == "q":
            return
        begins = self.now_us // DAY_US * DAY_US
        lease = purse_of(process.budgets).open(begins, begins + DAY_US)
        wanted = least + more if least else 0
        given = self.bank.lend(begins, process.number, lease.tell(), least, wanted, AMOUNT)
        if lost != "a":
            lease.receive(given)

    @rule(data=st.data(), pico=st.one_of(st.integers(1, 9), st.integers(1, 200)), key_id=st.sampled_from(["k", "k2"]))
    def request(self, data: st.DataObject, pico: int, key_id: str) -> None:
        """Let in when it is at hand."""
        process = self.one(data)
        if process is not None:
            hold = process.budgets.take(wallet_of(process.budgets, key_id), pico, self.now_us)
            if hold is not None:
                begins = self.now_us // DAY_US * DAY_US
                process.running.append((hold, begins))
                self.beyond[process.number, begins] = 0

    @rule(data=st.data(), cost=st.one_of(st.integers(0, 100), st.integers(0, 1_000)))
    def finish(self, data: st.DataObject, cost: int) -> None:
        """It costs less than was held, or more."""
        process = self.one(data)
        if process is None or not process.running:
            return
        hold, begins = process.running.pop(data.draw(st.integers(0, len(process.running) - 1)))
        hold.settle(cost)
        hold.settle(cost)
        process.spool.append((begins, cost))
        process.charged[begins] = process.charged.get(begins, 0) + cost
        self.truth[begins] = self.truth.get(begins, 0) + cost
        self.beyond[process.number, begins] += max(0, cost - hold.pico)

    @rule(data=st.data(), count=st.integers(1, 5))
    def ship(self, data: st.DataObject, count: int) -> None:
        """Records of one process, also of a dead one, in their order."""
        process = data.draw(st.sampled_from(self.processes)) if self.processes else None
        if process is not None:
            for _ in range(min(count, len(process.spool))):
                begins, cost = process.spool.pop(0)
                self.bank.ship(begins, process.number, cost)

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        """Told with a later question."""
        process = self.one(data)
        if process is not None:
            for lease in purse_of(process.budgets).leases():
                lease.give_back()

    @rule(data=st.data(), part=st.integers(0, 4))
    def kill(self, data: st.DataObject, part: int) -> None:
        """Of what ran a part of what was held is known to have been used; what is in the spool stays."""
        process = self.one(data)
        if process is not None:
            process.alive = False
            for hold, begins in process.running:
                cost = hold.pico * part // 4
                process.spool.append((begins, cost))
                self.truth[begins] = self.truth.get(begins, 0) + cost
            process.running.clear()

    @rule(data=st.data())
    def recover(self, data: st.DataObject) -> None:
        """A dead process's spool is stored to its end, and only the truth stays."""
        dead = [each for each in self.processes if not each.alive]
        if dead:
            process = data.draw(st.sampled_from(dead))
            for begins, cost in process.spool:
                self.bank.ship(begins, process.number, cost)
            self.bank.end(process.number)
            self.processes.remove(process)

    @rule(by_us=st.sampled_from([1, DAY_US // 2, DAY_US]))
    def pass_time(self, by_us: int) -> None:
        """The next day has its own amount."""
        self.now_us += by_us

    def teardown(self) -> None:
        """As many as there are."""
        patch.stopall()

    @invariant()
    def nothing_beyond_the_amount(self) -> None:
        """Charged and held together: the amount, and what requests cost beyond what was held for them."""
        for begins in range(0, self.now_us + 1, DAY_US):
            held = sum(
                lease.held
                for process in self.processes
                if process.alive
                for lease in purse_of(process.budgets).leases()
                if lease.begins_us == begins
            )
            beyond = sum(late for (_, at), late in self.beyond.items() if at == begins)
            assert self.truth.get(begins, 0) + held <= AMOUNT + beyond
            assert self.bank.counted(begins) <= AMOUNT + beyond

    @invariant()
    def reserved_is_settled_and_released(self) -> None:
        """What a process has used is what was charged and what is held; what is stored and what is not is the truth."""
        for process in self.processes:
            purse = purse_of(process.budgets)
            for lease in purse.leases():
                running = sum(hold.pico for hold, begins in process.running if begins == lease.begins_us)
                if process.alive:
                    assert lease.held == running
                    assert lease.used == process.charged.get(lease.begins_us, 0) + running
                assert lease.used >= lease.held
        for begins in range(0, self.now_us + 1, DAY_US):
            spooled = sum(cost for each in self.processes for at, cost in each.spool if at == begins)
            assert self.bank.spent.get(begins, 0) + spooled == self.truth.get(begins, 0)


Machine.TestCase.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
TestMachine: Any = Machine.TestCase
