"""Money that this process may spend of budgets: borrowed before it is spent, held while a request runs, then charged.

Budgets.wallet(account, key, member) -> Wallet; take(wallet, pico, at) -> Hold, or None: ask for more; Hold.settle

A request is let in only when what it may cost is borrowed already, so all processes together spend no more than they
were lent, which is no more than the budget has: beyond it goes only what requests under way cost more than was held for
them. Money is integer pico-dollars; times are unix microseconds of when a request came, as in its record. Who borrows:
the port `Lender`.

A budget (Purse) has a Lease for each window. The purses that count for a key are its Wallet, in whose Till some money
of all their leases is set aside: a request takes of the till alone. What is set aside is free still, for everybody who
looks: a lease that has not enough without it has it given back first. So that this walks few tills however many keys
have a budget of their own, a lease has TILLS_MAX of them at most; requests of other wallets take of the leases alone.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from luntrex_proxy.core.budgets import Budget

_REMEMBERED_MAX: Final = 4_096  # keys of one account
TILLS_MAX: Final = 64  # of one lease: all of them are looked at each second, and by requests once half of it is used
NEVER_US: Final = 2**63 - 1
NEVER_ASKED_S: Final = float("-inf")


class Lease:
    """What may be spent of one budget in one window, and what was."""

    __slots__ = (
        "_saying", "_told", "begins_us", "block", "ends_us", "granted", "idle", "owed", "seen", "straight", "taken",
        "tills",
    )  # fmt: skip

    def __init__(self, begins_us: int, ends_us: int) -> None:
        self.begins_us = begins_us
        self.ends_us = ends_us
        self.granted = 0
        self.taken = 0  # used, or set aside
        self.tills: set[Till] = set()  # in which something of it is set aside or held
        self.straight = 0  # held for requests under way, of no till
        self.owed = 0  # told with the question under way: what was used beyond what was lent
        self.block = 0  # what was free when more was lent last
        self.seen = 0  # what was used when it was looked at last
        self.idle = 0  # how often that was the same
        self._told: int | None = None  # what we have by the last answer; None: nobody may know
        self._saying = 0  # the same by the question under way

    @property
    def used(self) -> int:
        """What is charged or held."""
        return self.taken - sum(till.free for till in self.tills)

    @property
    def held(self) -> int:
        """Of that, for requests under way."""
        return self.straight + sum(till.held for till in self.tills)

    @property
    def is_told(self) -> bool:
        """Whether a question would say nothing new."""
        return self._told == max(self.granted, self.used)

    @property
    def free(self) -> int:
        """What can be held; negative when requests cost more than was held for them."""
        return self.granted - self.used

    @property
    def room(self) -> int:
        """What can be taken until half a block is left, without looking at what is set aside; it may be negative."""
        return self.granted - (self.block >> 1) - self.taken

    def gather(self) -> None:
        """Have back all that is set aside of it; nothing is taken of a till before somebody has looked here again."""
        for till in tuple(self.tills):
            till.empty()

    def tell(self) -> int:
        """What a question says that we have: what was lent, and what is used beyond that."""
        self.owed = max(0, self.used - self.granted)
        self._told, self._saying = None, self.granted + self.owed
        return self._saying

    def receive(self, more: int) -> None:
        """The answer: so much beyond what was told, which then is ours as well."""
        self._told = self._saying + more
        if more:
            self.gather()
            self.granted += self.owed + more
            self.block = max(0, self.free)
            self.idle = 0
        self.owed = 0

    def give_back(self) -> None:
        """Keep only what is used; the rest can be lent to others as soon as it is told."""
        self.gather()
        self.granted = min(self.granted, self.used)
        self.block = 0
        self._told = None


class Till:
    """Money that is set aside of some leases, the same of each, so that a request looks at one number."""

    __slots__ = ("begins_us", "ends_us", "free", "held", "leases")

    def __init__(self, leases: tuple[Lease, ...]) -> None:
        self.leases = leases
        self.free = 0  # taken of each lease, and not used
        self.held = 0  # for requests under way
        self.begins_us = self.ends_us = 0  # for requests of when it is; of no others are these the leases for sure

    def has_place(self) -> bool:
        """Whether something of each lease can be set aside or held in it."""
        return all(self in lease.tills or len(lease.tills) < TILLS_MAX for lease in self.leases)

    def fill(self, pico: int, more: int) -> None:
        """Take so much of each lease for a request, and set aside so much more."""
        for lease in self.leases:
            lease.taken += pico + more
            lease.tills.add(self)
        self.held += pico
        self.free += more
        if more:
            self.begins_us = max(lease.begins_us for lease in self.leases)
            self.ends_us = min(lease.ends_us for lease in self.leases)

    def empty(self) -> None:
        """Give back what is set aside, or charge what is lacking."""
        free, self.free = self.free, 0
        self.ends_us = 0
        for lease in self.leases:
            lease.taken -= free
            if not self.held:
                lease.tills.discard(self)

    def overdraw(self) -> None:
        """More is used than was set aside: what is left of the leases nobody takes before somebody has looked."""
        self.empty()
        for lease in self.leases:
            lease.gather()


class Want(NamedTuple):
    """What requests wait for: the most modest of them, all together, and when the last of them came."""

    least: int
    together: int
    at_us: int


class Purse:
    """One budget in this process: its window now, and those before that are not over for every request."""

    __slots__ = ("budget", "known_s", "lease", "left", "older", "want")

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.lease: Lease | None = None
        self.older: list[Lease] = []
        self.left = 0  # what could be lent when it was asked for last, by
        self.known_s = NEVER_ASKED_S  # this time (monotonic)
        self.want: Want | None = None  # of requests that wait

    def lease_at(self, at_us: int) -> Lease | None:
        """The window of a moment."""
        lease = self.lease
        if lease is not None and lease.begins_us <= at_us < lease.ends_us:
            return lease
        return next((each for each in self.older if each.begins_us <= at_us < each.ends_us), None)

    def lacks(self, pico: int, at_us: int) -> bool:
        """Whether so much can not be held now."""
        lease = self.lease_at(at_us)
        return lease is None or lease.free < pico

    def is_spent(self, pico: int, at_us: int) -> bool:
        """Whether so much could not be lent either, by the last answer."""
        lease = self.lease_at(at_us)
        if lease is None or self.known_s == NEVER_ASKED_S:
            return False
        return lease is not self.lease or pico - lease.free > self.left

    def wish(self, pico: int, at_us: int) -> None:
        """A request waits for so much."""
        want = self.want
        if want is None:
            self.want = Want(pico, pico, at_us)
        else:
            self.want = Want(min(want.least, pico), want.together + pico, at_us)

    def open(self, begins_us: int, ends_us: int) -> Lease:
        """The lease of a window that there is now."""
        self._look_again()
        lease = self.of(begins_us)
        if lease is None:
            lease = Lease(begins_us, ends_us)
        lease.ends_us = ends_us
        if self.lease is None or self.lease.begins_us <= begins_us:
            if self.lease is not None and self.lease is not lease:
                self.older.append(self.lease)
            self.older = [each for each in self.older if each is not lease]
            self.lease = lease
        elif lease not in self.older:
            self.older.append(lease)
        return lease

    def of(self, begins_us: int) -> Lease | None:
        """The lease of the window that begins then."""
        return next((each for each in self.leases() if each.begins_us == begins_us), None)

    def leases(self) -> list[Lease]:
        """All there are."""
        return self.older if self.lease is None else [*self.older, self.lease]

    def forget(self, lease: Lease) -> None:
        """It is over and told."""
        self._look_again()
        self.older = [each for each in self.older if each is not lease]
        if self.lease is lease:
            self.lease = None

    def _look_again(self) -> None:
        """Another lease may be that of a moment from now on."""
        for lease in self.leases():
            lease.gather()

    def follow(self, budget: Budget) -> None:
        """Another amount, or windows that begin at other times: nothing more is spent before somebody has asked."""
        self.budget = budget
        self.ask_anew()

    def ask_anew(self) -> None:
        """Spend nothing more before somebody has asked."""
        for lease in self.leases():
            lease.give_back()
        if self.lease is not None:
            self.older.append(self.lease)
            self.lease = None
        self.known_s = NEVER_ASKED_S


class Wallet:
    """The budgets that count for a request, and of which till it is taken."""

    __slots__ = ("purses", "till")

    def __init__(self, purses: tuple[Purse, ...]) -> None:
        self.purses = purses
        self.till = Till(())

    def leases_at(self, at_us: int) -> tuple[Lease, ...]:
        """The windows of a moment, of those that have one."""
        return tuple(lease for purse in self.purses if (lease := purse.lease_at(at_us)) is not None)

    def till_of(self, leases: tuple[Lease, ...]) -> Till:
        """Its till, empty; another one, if what is taken from now on is taken of other leases."""
        self.till.empty()
        if self.till.leases != leases:
            self.till = Till(leases)
        return self.till


_EMPTY: Final = Wallet(())


class Hold(msgspec.Struct, eq=False, gc=False):
    """What is held for one request; it is charged or given back by `settle`, once."""

    till: Till | None
    pico: int

    def settle(self, cost_pico: int) -> None:
        """The request is over and has cost so much."""
        till = self.till
        if till is None:
            return
        self.till = None
        pico = self.pico
        till.held -= pico
        till.free = free = till.free + pico - cost_pico
        if free < 0:
            till.overdraw()


class StraightHold(Hold, eq=False, gc=False):
    """The same, held of the till's leases and not in the till, which had no place there."""

    def settle(self, cost_pico: int) -> None:
        """The request is over and has cost so much."""
        till = self.till
        if till is None:
            return
        self.till = None
        pico = self.pico
        for lease in till.leases:
            lease.straight -= pico
            lease.taken += cost_pico - pico
        if cost_pico > pico:
            till.overdraw()


def _hold(till: Till, pico: int, more: int) -> Hold:
    """Hold so much of each lease of the till and set aside so much more, if the till has a place there."""
    if till.has_place():
        till.fill(pico, more)
        return Hold(till, pico)
    for lease in till.leases:
        lease.straight += pico
        lease.taken += pico
    return StraightHold(till, pico)


class _Account:
    """The budgets in one account: its own, those of keys and of members."""

    __slots__ = ("_wallets", "_whose", "by_key", "purses")

    def __init__(self) -> None:
        self.purses: dict[int, Purse] = {}
        # By key id and member, and "" for all: with a budget for each key nobody looks through those of all others.
        self._whose: dict[str | bytes, tuple[Purse, ...]] = {}
        self._wallets: dict[tuple[Purse, ...], Wallet] = {}  # whose budgets are the same, have one together
        self.by_key: dict[str, Wallet] = {}  # of those in use, as far as it is remembered

    def of(self, key_id: str, person: bytes) -> Wallet:
        whose = self._whose
        found = whose.get("", ()) + whose.get(key_id, ()) + (whose.get(person, ()) if person else ())
        if len(self.by_key) >= _REMEMBERED_MAX:
            self._forget()
        wallet = self.by_key[key_id] = self._wallets.setdefault(found, Wallet(found))
        return wallet

    def _forget(self) -> None:
        self.by_key.clear()
        self._wallets.clear()

    def say(self, budget_id: int, budget: Budget | None) -> None:
        self._forget()
        purse = self.purses.get(budget_id)
        if purse is not None:
            for each in purse.budget.whose:
                left = tuple(other for other in self._whose[each] if other is not purse)
                if left:
                    self._whose[each] = left
                else:
                    del self._whose[each]
        if budget is None:
            self.purses.pop(budget_id, None)
            return
        if purse is None:
            purse = self.purses[budget_id] = Purse(budget)
        else:
            purse.follow(budget)
        for each in budget.whose:
            self._whose[each] = (*self._whose.get(each, ()), purse)


class Budgets:
    """All hard budgets there are, in memory. An account without one is not in `accounts`."""

    def __init__(self) -> None:
        self.accounts: dict[int, _Account] = {}
        self.low: set[Purse] = set()  # those of which more than half of what was lent last is used
        self.unpriced = 0  # requests under a budget whose price nobody knows: they cost nothing
        self.unchecked = 0  # requests let in while nobody could say what is left

    def wallet(self, account_id: int, key_id: str, person: bytes) -> Wallet:
        """Those that count for a request of this key (of this member), together."""
        try:
            return self.accounts[account_id].by_key[key_id]
        except KeyError:
            account = self.accounts.get(account_id)
            return _EMPTY if account is None else account.of(key_id, person)

    def applying(self, account_id: int, key_id: str, person: bytes) -> tuple[Purse, ...]:
        """The same, one by one."""
        return self.wallet(account_id, key_id, person).purses

    def say(self, account_id: int, budget_id: int, budget: Budget | None) -> None:
        """What a budget is from now on; None: there is none."""
        account = self.accounts.get(account_id)
        if account is None:
            if budget is None:
                return
            account = self.accounts[account_id] = _Account()
        account.say(budget_id, budget)
        if not account.purses:
            del self.accounts[account_id]

    def has(self, purse: Purse) -> bool:
        """Whether it counts still: a budget that was taken away and set again has another one."""
        account = self.accounts.get(purse.budget.account_id)
        return account is not None and account.purses.get(purse.budget.budget_id) is purse

    def purses(self) -> Iterator[Purse]:
        """All there are."""
        for account in self.accounts.values():
            yield from account.purses.values()

    def take(self, wallet: Wallet, pico: int, at_us: int) -> Hold | None:
        """Hold what a request may cost of all these budgets, or of none: None, when one has not so much at hand."""
        till = wallet.till
        free = till.free - pico
        if free < 0 or not till.begins_us <= at_us < till.ends_us:
            return self._take_of_leases(wallet, pico, at_us)
        till.free = free
        till.held += pico
        return Hold(till, pico)

    def _take_of_leases(self, wallet: Wallet, pico: int, at_us: int) -> Hold | None:
        """The same, whichever leases it is and however little is left in them; and set something aside."""
        purses, leases = wallet.purses, wallet.leases_at(at_us)
        if len(leases) < len(purses):
            return None
        till = wallet.till_of(leases)
        if any(lease.room < pico for lease in leases):
            for lease in leases:
                lease.gather()
            if any(lease.free < pico for lease in leases):
                return None
            self.low.update(purse for purse, lease in zip(purses, leases, strict=True) if lease.room < pico)
        more = 0
        # Of an older one nobody says when it is no more the one of its moment.
        if all(lease is purse.lease for purse, lease in zip(purses, leases, strict=True)):
            # The more tills have something of a lease, the less is set aside, so that all get some.
            shares = ((lease.room - pico) // (2 + 2 * len(lease.tills)) for lease in leases)
            more = max(0, min(shares, default=0))
        return _hold(till, pico, more)

    def take_anyway(self, wallet: Wallet, pico: int, at_us: int) -> Hold:
        """The same while nobody can say what is left, of budgets that let requests in then."""
        self.unchecked += 1
        till = wallet.till_of(wallet.leases_at(at_us))
        hold = _hold(till, pico, 0)
        till.overdraw()
        return hold
