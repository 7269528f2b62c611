"""Borrows money of budgets for this process: the gateway's `Lender` port, in batches.

    a request lacks    it waits for the next answer, 2 s at most; who asks meanwhile shares the one after
    half is used       more is asked for ahead, and nobody waits
    each second        what is not used for ten minutes, or lacks elsewhere, is given back; what is over is told

While the database does not answer nobody waits: requests are decided by what is at hand, then by what the budget says
of such times.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Final, NamedTuple
from uuid import UUID

from luntrex_proxy.core.leases import NEVER_ASKED_S, NEVER_US, Budgets, Purse, Want
from luntrex_proxy.store import leases as table
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.leases import Asked, Lent
from luntrex_proxy.store.rounds import ANSWER_S, Rounds
from luntrex_proxy.store.silence import Silence

_FRESH_S: Final = 1.0  # as long as this, what was left is believed without asking again
_TICK_S: Final = 1.0
_IDLE_TICKS: Final = 600  # unused for so long, it is given back; sooner, who comes after a pause would have to wait
_TELL_TICKS: Final = 30  # what was told is told again, in case that a database has lost it
_LATE_US: Final = 3_600_000_000  # so long after its end a request of a window may come, and be stored
_BATCH: Final = 500  # budgets in one question
_ANYTHING: Final = Want(1, 1, 0)  # ahead of need, as much as it gives


class Lessee(Rounds):
    """Keeps the leases of `budgets`."""

    def __init__(self, pool_source: Callable[[], Pool | None], boot_id: UUID, budgets: Budgets) -> None:
        super().__init__(pool_source, _TICK_S)
        self._boot_id = boot_id
        self._budgets = budgets
        self._sequence = 0
        self._lacking: set[Purse] = set()  # requests wait for these
        self._in_use: dict[Purse, None] = {}  # of which something is borrowed, those looked at longest ago first
        self._looked_s = 0.0  # when those in use were looked at last, monotonic
        self._looks = 0  # how often

    async def lend(self, purses: Iterable[Purse], pico: int, at_us: int) -> bool:
        """Have so much of each at hand, if it can be; False: the database is away. TimeoutError: no answer in 2 s."""
        now_s = time.monotonic()
        lacking = [purse for purse in purses if purse.lacks(pico, at_us)]
        asked = [purse for purse in lacking if not _is_known(purse, pico, at_us, now_s)]
        for purse in asked:
            purse.wish(pico, at_us)
        self._lacking.update(asked)
        return not asked or await self.next_answer()

    async def ask(self) -> None:
        """For those that lack, ahead for those that are low, and each second what to say of all in use."""
        lacking, self._lacking = self._lacking, set()
        low, self._budgets.low = self._budgets.low, set()
        questions = [_Question(purse, purse.want.at_us, purse.want) for purse in lacking if purse.want is not None]
        for purse in lacking:
            purse.want = None  # what is wished from now on is for the next question
        ahead = [(purse, purse.lease) for purse in low - lacking]
        questions += [_Question(purse, lease.begins_us, _ANYTHING) for purse, lease in ahead if lease is not None]
        # Before more is lent: who waits for that would find given back what it just got.
        if time.monotonic() - self._looked_s >= _TICK_S:
            self._looked_s = time.monotonic()
            questions += await self._to_look_at()
        questions = [each for each in questions if self._budgets.has(each.purse)]
        for start in range(0, len(questions), _BATCH):
            await self.ask_past_deadlocks(partial(self._ask, questions[start : start + _BATCH]))
        if self.away and not questions:
            await self._ask([])  # nobody wants anything, but everybody wants to know

    async def _to_look_at(self) -> list["_Question"]:
        """Of those in use, some at a time, what there is to say; what is unused for long is not theirs any more."""
        self._looks += 1
        tells_all = self.away or not self._looks % _TELL_TICKS
        found: list[_Question] = []
        told: list[_Question] = []
        for purse in list(islice(self._in_use, _BATCH)):
            del self._in_use[purse]
            if not self._budgets.has(purse):
                continue
            self._in_use[purse] = None
            for lease in purse.leases():
                lease.idle = lease.idle + 1 if lease.seen == lease.used and not lease.held else 0
                lease.seen = lease.used
                if lease.idle >= _IDLE_TICKS or lease is not purse.lease:
                    lease.give_back()
                question = _Question(purse, lease.begins_us, None)
                (told if lease.is_told and not tells_all else found).append(question)
        if told:
            short = await self._short(each.purse for each in told)
            found += [each for each in told if each.purse.budget.budget_id in short]
        return found

    async def _short(self, purses: Iterable[Purse]) -> set[int]:
        """Of which budgets somebody lacks something."""
        async with self.pool().acquire(timeout=ANSWER_S) as connection:
            with Silence(connection, ANSWER_S):
                return await table.short(connection, [purse.budget.budget_id for purse in purses])

    async def _ask(self, questions: Sequence["_Question"]) -> None:
        purses = {each.purse.budget.budget_id: each.purse for each in questions}
        moments = [(each.purse.budget.budget_id, each.at_us) for each in questions]
        async with self.pool().acquire(timeout=ANSWER_S) as connection:
            with Silence(connection, ANSWER_S) as silence:
                async with connection.transaction():
                    silence.broken()
                    windows = await table.open_windows(connection, moments)
                    silence.broken()
                    asked = _asked(questions, [(purses[each], begin, end) for each, begin, end in windows])
                    self._sequence += 1
                    lent = await table.lend(connection, self._boot_id, self._sequence, asked) if asked else []
                    silence.broken()
        now_s, there = time.monotonic(), {budget_id for budget_id, _, _ in windows}
        for budget_id in purses.keys() - there:
            purses[budget_id].left, purses[budget_id].known_s = 0, now_s  # it is not there any more
        for each in lent:
            self._note(purses[each.budget_id], each, now_s)

    def _note(self, purse: Purse, lent: Lent, now_s: float) -> None:
        lease = purse.of(lent.begins_us)
        if lease is None:
            return
        lease.receive(lent.more)
        if not lent.more and lent.is_short and lease.free > 0:
            lease.give_back()
            self._in_use[purse] = None
            # Who lacks it now waits for the next question, with which it is told, at once.
            purse.known_s = NEVER_ASKED_S
            self._looked_s = 0.0
            self._woken.set()
            return
        if lease is purse.lease:
            purse.left, purse.known_s = lent.left, now_s
        elif (
            not lease.held
            and lease.free <= 0
            and (lease.ends_us == NEVER_US or lease.ends_us + _LATE_US < time.time_ns() // 1000)
        ):
            purse.forget(lease)  # not before: what was used and is not stored would be lent once more
        if any(each.free > 0 or each.held for each in purse.leases()):
            self._in_use[purse] = None
        else:
            self._in_use.pop(purse, None)


class _Question(NamedTuple):
    """What is said, and perhaps wanted, of the window of a moment."""

    purse: Purse
    at_us: int
    want: Want | None


def _is_known(purse: Purse, pico: int, at_us: int, now_s: float) -> bool:
    """Whether asking would bring nothing: a moment ago there was not so much left."""
    lease = purse.lease_at(at_us)
    if lease is None or lease is not purse.lease or now_s - purse.known_s > _FRESH_S:
        return False
    return pico - lease.free > purse.left


def _asked(questions: Sequence[_Question], windows: Iterable[tuple[Purse, int, int]]) -> list[Asked]:
    wants: dict[Purse, list[_Question]] = {}
    for each in questions:
        if each.want is not None:
            wants.setdefault(each.purse, []).append(each)
    found = []
    for purse, begins_us, ends_us in windows:
        lease = purse.open(begins_us, ends_us)
        has, least, wanted = lease.tell(), 0, 0
        for at_us, want in ((each.at_us, each.want) for each in wants.get(purse, ())):
            if want is not None and begins_us <= at_us < ends_us:
                room = 0 if want is _ANYTHING else has - lease.used
                least, wanted = max(1, want.least - room), max(1, want.together - room)
        found.append(Asked(purse.budget.budget_id, begins_us, has, least, wanted))
    return found
