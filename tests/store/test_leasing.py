"""Processes borrow of budgets: never more than there is, whatever gets lost, dies or falls silent; and give it back."""

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from luntrex_proxy.core.leases import Purse
from luntrex_proxy.store import budgets, leasing, rounds
from luntrex_proxy.store.budgeting import BudgetBook
from luntrex_proxy.store.budgets import Terms, Whose
from luntrex_proxy.store.database import Pool, opened_pool
from luntrex_proxy.store.leasing import Lessee
from luntrex_proxy.store.recovery import adopt_dead
from luntrex_proxy.store.spool import Spool
from tests.store.records import ship
from tests.store.silent import proxied
from tests.store.test_budgets import ACME, DOLLAR, MIB, make_key, now_us, write
from tests.upstreams.loop_thread import LoopThread


class Process:
    """One daemon's part: its budgets, its lessee and its spool."""

    def __init__(self, pool: Pool, root: Path, source: Pool | None = None) -> None:
        self.book = BudgetBook(pool)
        self.boot_id = uuid.uuid4()
        self.spool = Spool(root / "spool", self.boot_id, MIB, 64 * MIB)
        self.lessee = Lessee(lambda: source or pool, self.boot_id, self.book.budgets)
        self.lessee.start()

    def purses(self, key_id: str = "k") -> tuple[Purse, ...]:
        """What counts for a key."""
        return self.book.budgets.applying(1, key_id, b"")

    async def request(self, key_id: str, pico: int, cost: int, pause_s: float = 0.0) -> bool:
        """One request; whether it was let in."""
        at_us, wallet = now_us(), self.book.budgets.wallet(1, key_id, b"")
        hold = self.book.budgets.take(wallet, pico, at_us)
        if hold is None:
            await self.lessee.lend(wallet.purses, pico, at_us)
            hold = self.book.budgets.take(wallet, pico, at_us)
        if hold is None:
            return False
        if self.book.budgets.low:
            self.lessee.wake()
        await asyncio.sleep(pause_s)
        hold.settle(cost)
        write(self.spool, (key_id, cost), at_us=at_us)
        return True


@contextlib.asynccontextmanager
async def processes(pool: Pool, root: Path, count: int = 1) -> AsyncIterator[list[Process]]:
    """So many, that know all budgets."""
    made = [Process(pool, root) for _ in range(count)]
    for each in made:
        await each.book.refresh()
    try:
        yield made
    finally:
        for each in made:
            await each.lessee.stop()


async def held(pool: Pool) -> tuple[int, int]:
    """What the one budget has spent and lent."""
    (info,) = await budgets.list_all(pool)
    return info.spent_pico, info.held_pico


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is looked at for a second."""
    monkeypatch.setattr(leasing, "_TICK_S", 0.02)
    monkeypatch.setattr(leasing, "_IDLE_TICKS", 5)
    monkeypatch.setattr(rounds, "_AGAIN_S", 0.02)


async def test_four_processes_spend_what_there_is_and_no_more(acme: Pool, tmp_path: Path) -> None:
    """Exactly, when requests cost what was held for them: the last one that fits is let in, wherever it comes."""
    key_id = await make_key(acme)
    await budgets.change(acme, ACME, {"month": 300 * DOLLAR}, Terms())
    rng = random.Random(1)
    async with processes(acme, tmp_path, 4) as made:
        wanted = [rng.choice(made).request(key_id, DOLLAR, DOLLAR, rng.random() / 50) for _ in range(500)]
        first = sum(await asyncio.gather(*wanted))
        assert 300 - 4 * 300 // 16 <= first <= 300
        for each in made:  # what one has at hand and does not use is given to who lacks
            each.lessee._looked_s = 0.0
        deadline = time.monotonic() + 10
        while first < 300 and time.monotonic() < deadline:
            first += sum(await asyncio.gather(*(each.request(key_id, DOLLAR, DOLLAR) for each in made)))
            await asyncio.sleep(0.05)
        assert first == 300
        assert sum(await held(acme)) == 300 * DOLLAR
        for each in made:
            await each.lessee.stop()
            await ship(acme, tmp_path / "spool", each.spool)
    assert await held(acme) == (300 * DOLLAR, 0)
    assert await acme.fetchval("SELECT sum(cost_pico) FROM usage") == 300 * DOLLAR


async def test_what_is_beyond_is_what_was_under_way(acme: Pool, tmp_path: Path) -> None:
    """Requests that cost ten times as much as was held: beyond the amount goes only what ran together cost too much."""
    key_id = await make_key(acme)
    await budgets.change(acme, ACME, {"month": 100}, Terms())
    async with processes(acme, tmp_path, 4) as made:
        limits = [asyncio.Semaphore(3) for _ in made]

        async def request(number: int) -> bool:
            async with limits[number % 4]:
                return await made[number % 4].request(key_id, 1, 10, 0.002)

        let_in = sum(await asyncio.gather(*(request(number) for number in range(400))))
        assert 100 <= let_in * 10 <= 100 + 4 * 3 * 9
        for each in made:
            await each.lessee.stop()
            await ship(acme, tmp_path / "spool", each.spool)
    assert await held(acme) == (let_in * 10, 0)


async def test_a_dead_process_counts_until_its_spool_is_stored(acme: Pool, tmp_path: Path) -> None:
    """What it had borrowed is spent for all until then; then only what its requests cost is."""
    key_id = await make_key(acme)
    await budgets.change(acme, ACME, {"month": 160}, Terms())
    async with processes(acme, tmp_path, 2) as (dying, living):
        assert await dying.request(key_id, 100, 30)
        await dying.lessee.stop()
        dying.spool.close()
        dying.spool.directory.unlock()
        assert await held(acme) == (0, 100)
        assert not await living.request(key_id, 61, 61)
        adopted, _ = adopt_dead(tmp_path / "spool", living.boot_id)
        for each in adopted:
            each.directory.unlock()
        assert [each.directory.boot_id for each in adopted] == [dying.boot_id]
        await ship(acme, tmp_path / "spool")
        assert (await held(acme))[0] == 30
        living.purses()[0].known_s = 0.0
        assert await living.request(key_id, 130, 130)


async def test_what_takes_budgets_away_locks_as_all_do(acme: Pool, tmp_path: Path) -> None:
    """Windows first: else it and who borrows wait for each other. What these begin again then is no hindrance."""
    key_id = await make_key(acme)
    await budgets.change(acme, ACME, {"day": 100}, Terms())
    async with processes(acme, tmp_path) as (one,):
        assert await one.request(key_id, 1, 1)
        async with acme.acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM budget_window FOR UPDATE")
            taken = asyncio.create_task(budgets.change(acme, ACME, {}, Terms(), cleared=["day"]))
            while not await acme.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                await asyncio.sleep(0.01)
            await connection.execute("SELECT FROM budget_lease FOR UPDATE NOWAIT")
        assert not await taken
        await one.lessee.stop()
    await acme.execute("INSERT INTO budget_window (budget_id, account_id, begins_at) "
                       "SELECT budget_id, account_id, date_trunc('day', now(), 'UTC') FROM budget")  # fmt: skip
    await ship(acme, tmp_path / "spool", one.spool)
    await budgets.change(acme, ACME, {"day": 100}, Terms())
    assert await held(acme) == (1, 0)


async def test_what_is_not_stored_is_not_lent_again_when_the_clock_is_put_back(
    acme: Pool, tmp_path: Path, quick: None
) -> None:
    """Windows before the newest one count until they are long over: requests of them may come still."""
    key_id = await make_key(acme)
    await budgets.change(acme, ACME, {"day": 100}, Terms())
    async with processes(acme, tmp_path) as (one,):
        purses, today_us = one.purses(key_id), now_us()
        await one.lessee.lend(purses, 1, today_us + 86_400_000_000)
        for _ in range(10):
            assert await one.request(key_id, 10, 10)
        for _ in range(3):
            assert await one.lessee.next_answer()
            assert not await one.request(key_id, 10, 10)


async def test_who_begins_to_count_anew_is_seen_by_others(acme: Pool, tmp_path: Path) -> None:
    """A budget that was soft for a while: what was stored before hides nothing of what is lent then."""
    key_id = await make_key(acme)
    await budgets.change(acme, ACME, {"day": 100}, Terms())
    async with processes(acme, tmp_path, 2) as (one, other):
        assert await one.request(key_id, 50, 50)
        await acme.execute("UPDATE budget_lease SET shipped_pico = 50")
        await acme.execute("UPDATE budget_window SET spent_pico = 50")
        for is_hard in (False, True):
            await budgets.change(acme, ACME, {"day": 100}, Terms(is_hard=is_hard))
            for each in (one, other):
                await each.book.refresh()
        assert await one.request(key_id, 50, 50)
        assert not await other.request(key_id, 50, 50)
        assert await held(acme) == (50, 50)


async def test_nothing_is_lent_of_what_was_taken_away_meanwhile(acme: Pool) -> None:
    """Who waited for the window and began it again hears nothing of that budget, and all of the others."""
    await budgets.change(acme, ACME, {"day": 100, "total": 100}, Terms())
    async with acme.acquire() as connection, connection.transaction():
        windows = await leasing.table.open_windows(connection, [(1, now_us()), (2, now_us())])
        await connection.execute("UPDATE budget SET amount_pico = NULL WHERE period = 'day'")
        asked = [leasing.Asked(budget_id, begins_us, 0, 1, 1) for budget_id, begins_us, _ in windows]
        lent = await leasing.table.lend(connection, uuid.uuid4(), 1, asked)
        periods = await connection.fetch("SELECT period FROM budget WHERE budget_id = $1", lent[0].budget_id)
    assert (len(asked), [row["period"] for row in periods]) == (2, ["total"])


async def test_a_deadlock_takes_no_budget_away(acme: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it met: nothing was done, so it is asked again, at once."""
    key_id = await make_key(acme)
    await budgets.change(acme, ACME, {"day": 100}, Terms())
    lend, met = leasing.table.lend, [True]

    async def lend_at_second(*arguments: Any) -> Any:
        if met:
            met.pop()
            raise asyncpg.DeadlockDetectedError
        return await lend(*arguments)

    monkeypatch.setattr(leasing.table, "lend", lend_at_second)
    async with processes(acme, tmp_path) as (one,):
        assert await one.request(key_id, 1, 1)
        assert not met


async def test_what_is_not_used_is_given_back(acme: Pool, tmp_path: Path, quick: None) -> None:
    """After a while, or at once when another process lacks it."""
    key_id = await make_key(acme)
    await budgets.change(acme, ACME, {"month": 1_600}, Terms())
    async with processes(acme, tmp_path, 2) as (first, second):
        assert await first.request(key_id, 1, 1)
        assert (await held(acme))[1] in (1, 100)
        while await held(acme) != (0, 1):
            await asyncio.sleep(0.01)
        assert await first.request(key_id, 5, 5)
        assert not await second.request(key_id, 1_595, 1_595)
        second.purses()[0].known_s = 0.0
        while not await second.request(key_id, 1_594, 1_594):
            await asyncio.sleep(0.01)
            second.purses()[0].known_s = 0.0
        assert sum(await held(acme)) == 1_600


async def test_who_pauses_keeps_what_is_at_hand_and_writes_nothing(
    acme: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next request need not wait; and what is told already is not told each second again."""
    monkeypatch.setattr(leasing, "_TICK_S", 0.0)
    monkeypatch.setattr(leasing, "_TELL_TICKS", 10**9)
    key_id = await make_key(acme)
    await budgets.change(acme, ACME, {"month": 1_600}, Terms())
    async with processes(acme, tmp_path) as (one,):
        assert await one.request(key_id, 1, 1)
        for _ in range(2):
            assert await one.lessee.next_answer()
        said = await acme.fetchval("SELECT sequence FROM budget_lease")
        for _ in range(10):
            assert await one.lessee.next_answer()
        assert await acme.fetchval("SELECT sequence FROM budget_lease") == said
        assert not one.purses()[0].lacks(50, now_us())


async def test_a_question_for_which_nobody_waits_can_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is asked for; who waits is answered at once."""
    monkeypatch.setattr(rounds, "_APART_S", 1e9)

    class Counting(rounds.Rounds):
        asked = 0

        async def ask(self) -> None:
            self.asked += 1

    counting = Counting(lambda: None, 1e9)
    counting.start()
    assert await counting.next_answer()
    for _ in range(20):
        counting.wake()
        await asyncio.sleep(0)
    assert counting.asked == 1
    assert await counting.next_answer()
    assert counting.asked == 2
    await counting.stop()


async def test_more_is_borrowed_before_it_is_needed(acme: Pool, tmp_path: Path) -> None:
    """Who spends steadily waits for the first answer and for no other."""
    key_id = await make_key(acme)
    await budgets.change(acme, ACME, {"month": 10**9}, Terms())
    async with processes(acme, tmp_path) as (one,):
        assert await one.request(key_id, 1, 1)
        purse = one.purses()[0]
        waited = 0
        for _ in range(200):
            step = 10**9 // 16 // 8
            waited += purse.lacks(step, now_us())
            assert await one.request(key_id, step, 0, 0.005)
        assert waited <= 2


async def test_while_the_database_is_away_nobody_waits(
    acme: Pool, database_dsn: str, tmp_path: Path, servers: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But who finds out: for as long as an answer may take. Then all know, and also when it is back."""
    monkeypatch.setattr(leasing, "ANSWER_S", 0.3)
    monkeypatch.setattr(rounds, "_AGAIN_S", 0.05)
    key_id = await make_key(acme)
    await budgets.change(acme, ACME, {"month": 1_600}, Terms())
    proxy, dsn = proxied(servers, database_dsn)
    async with opened_pool(dsn, max_size=2) as pool:
        one = Process(acme, tmp_path, pool)
        await one.book.refresh()
        assert await one.request(key_id, 1, 1)
        proxy.refuse()
        proxy.forget()
        at_us = now_us()
        assert not await one.lessee.lend(one.purses(), 900, at_us)
        while not one.lessee.away:
            await asyncio.sleep(0.01)
        with pytest.raises(StopIteration) as ended:  # in its first step: it waited for nothing
            one.lessee.lend(one.purses(), 900, at_us).send(None)
        assert ended.value.value is False
        assert await one.request(key_id, 50, 50), "what is at hand can be spent"
        proxy.listen_again()
        while one.lessee.away:
            await asyncio.sleep(0.01)
        assert await one.request(key_id, 900, 900)
        await one.lessee.stop()
    proxy.stop()


async def test_a_budget_that_is_cleared_lends_nothing(acme: Pool, tmp_path: Path) -> None:
    """Whoever has not heard of it yet is told so at once."""
    key_id = await make_key(acme)
    await budgets.change(acme, Whose(1, key_id), {"month": 1_600}, Terms())
    async with processes(acme, tmp_path) as (one,):
        await budgets.change(acme, Whose(1, key_id), {}, Terms(), cleared=["month"])
        assert await one.lessee.lend(one.purses(key_id), 1, now_us())
        assert not await one.request(key_id, 1, 1)
        await one.book.refresh()
        assert await one.request(key_id, 1, 1)
