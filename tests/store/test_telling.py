"""Processes tell each other what they let in of limits: one amount for all, whatever dies, and each thing once."""

import asyncio
import contextlib
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from luntrex_proxy.core.buckets import AheadError, Bucket, Group, LimitedError, Limits, Room, take
from luntrex_proxy.core.limits import Terms
from luntrex_proxy.store import limits, rounds, telling
from luntrex_proxy.store.database import Connection, Pool, opened_pool
from luntrex_proxy.store.limiting import LimitBook
from luntrex_proxy.store.limitlevels import Told
from luntrex_proxy.store.telling import Telling
from tests.store.silent import proxied
from tests.upstreams.loop_thread import LoopThread


class Process:
    """One daemon's part."""

    def __init__(self, pool: Pool, made: Limits) -> None:
        self.limits = made
        self.telling = Telling(lambda: pool, uuid.uuid4(), made)
        self.telling.start()

    def group(self) -> Group:
        """What counts for a request of the account."""
        return self.limits.applying(1, "k", "m", time.perf_counter_ns())

    def buckets(self) -> Sequence[Bucket]:
        """Those of the account."""
        return self.group().buckets

    async def request(self, tokens: int = 0, *, streamed: bool = False) -> Room | None:
        """As the gateway asks; None: the limit is met."""
        while True:
            try:
                now_ns = time.perf_counter_ns()
                return take(self.group(), tokens, streamed=streamed, now_ns=now_ns, alone=False)
            except AheadError:
                assert await self.telling.tell(self.buckets())
            except LimitedError:
                return None

    async def left(self) -> list[int]:
        """What is left of each, once everything is told and heard."""
        await self.telling.next_answer()
        for bucket in self.buckets():
            bucket.heard_ns = 0
        assert await self.telling.tell(self.buckets())
        return [bucket.remaining(time.perf_counter_ns()) for bucket in self.buckets()]


@contextlib.asynccontextmanager
async def processes(pool: Pool, count: int, terms: Terms) -> AsyncIterator[list[Process]]:
    """So many that keep to the account's limits."""
    await limits.of_account(pool, "acme", "", terms[""])
    made = []
    for _ in range(count):
        book = LimitBook(pool)
        await book.refresh()
        made.append(Process(pool, book.limits))
    try:
        yield made
    finally:
        for each in made:
            await each.telling.stop()


async def test_all_together_let_in_the_amount(acme: Pool) -> None:
    """And at most a block of each beyond it, all of it at once; then nobody, and one that begins then nobody either."""
    async with processes(acme, 4, {"": {"requests/day": 64}}) as made:
        rooms = await asyncio.gather(*(made[number % 4].request() for number in range(400)))
        let_in = sum(room is not None for room in rooms)
        assert 64 <= let_in <= 64 + 4 * 4
        assert all([(await each.left()) == [0] for each in made])
    book = LimitBook(acme)
    await book.refresh()
    last = Process(acme, book.limits)
    assert await last.request() is None
    await last.telling.stop()


async def test_one_process_is_held_up_by_nothing_but_the_amount(acme: Pool) -> None:
    """Exactly so many, tokens as they were used."""
    async with processes(acme, 1, {"": {"requests/day": 100, "tokens/day": 10_000}}) as (one,):
        for _ in range(100):
            room = await one.request(500)
            assert room is not None
            room.settle(30, time.perf_counter_ns())
        assert await one.request(500) is None
        assert sorted(await one.left()) == [0, 7_000]


async def test_estimates_are_told_and_taken_back(acme: Pool) -> None:
    """The other process knows what is under way, and what it was in the end."""
    async with processes(acme, 2, {"": {"tokens/day": 1_000}}) as (first, second):
        room = await first.request(600)
        assert room is not None
        assert [await first.left(), await second.left()] == [[400], [400]]
        assert await second.request(500) is None
        room.settle(100, time.perf_counter_ns())
        assert [await first.left(), await second.left()] == [[900], [900]]


async def test_streams_of_all_count_while_they_run(acme: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """And those of a dead process no longer than it would have told of them."""
    monkeypatch.setattr(telling, "_STREAMS_EVERY_S", 0.0)
    async with processes(acme, 2, {"": {"streams": 3}}) as (first, second):
        rooms = [await first.request(streamed=True) for _ in range(3)]
        assert None not in rooms
        assert [await first.left(), await second.left()] == [[0], [0]]
        assert await second.request(streamed=True) is None
        assert rooms[0] is not None
        rooms[0].settle(0, time.perf_counter_ns())
        assert [await first.left(), await second.left()] == [[1], [1]]
        monkeypatch.setattr(telling, "_STREAMS_EVERY_S", 1e9)
        for aside in ("-31", "+31"):
            await acme.execute(f"UPDATE limit_streams SET last_at = now() + interval '{aside} seconds'")
            assert await second.left() == [3]


async def test_what_comes_while_others_are_told_is_told_next(acme: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was not in the question, and nothing else need come for it to be in the next one."""
    async with processes(acme, 1, {"": {"requests/day": 100}}) as (one,):
        assert await one.request() is not None
        tell, late = telling.table.tell, [True]

        async def tell_late(*arguments: Any) -> Any:
            told = await tell(*arguments)
            if late:
                late.pop()
                take(one.group(), 0, streamed=False, now_ns=time.perf_counter_ns())
            return told

        monkeypatch.setattr(telling.table, "tell", tell_late)
        for _ in range(2):
            assert await one.telling.next_answer()
        assert not late
        assert [bucket.untold for bucket in one.buckets()] == [0]


async def test_what_is_taken_while_others_are_told_is_told_once(acme: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever begins and ends between question and answer: all that was told adds up to what was used."""
    told, tell = Counter[str](), telling.table.tell

    async def tell_and_count(connection: Connection, asked: Sequence[Told]) -> dict[int, float]:
        answer = await tell(connection, asked)
        for each in asked:
            told[each.word] += each.units
        await asyncio.sleep(0.001)
        return answer

    monkeypatch.setattr(telling.table, "tell", tell_and_count)
    terms = {"requests/day": 10**5, "tokens/day": 10**7, "streams": 10**4}
    async with processes(acme, 2, {"": terms}) as made:
        used = 0
        for turn in range(60):
            rooms = [await made[number % 2].request(1_000, streamed=number % 3 == 0) for number in range(20)]
            made[turn % 2].telling.wake()
            await asyncio.sleep(0.002 * (turn % 4))
            for number, room in enumerate(rooms):
                assert room is not None
                room.settle(number * turn, time.perf_counter_ns())
                used += number * turn
                await asyncio.sleep(0)
        for each in made:
            await each.left()
        assert told == {"requests/day": 60 * 20, "tokens/day": used}
        assert all(not bucket.untold and not bucket.held for each in made for bucket in each.buckets())
        assert await acme.fetchval("SELECT sum(count) FROM limit_streams") == 0


async def test_a_level_fills_up_as_time_passes(acme: Pool) -> None:
    """By the clock of the database; one that went back fills nothing."""
    async with processes(acme, 1, {"": {"requests/day": 100}}) as (one,):
        for _ in range(50):
            assert await one.request() is not None
        assert await one.left() == [50]
        await acme.execute("UPDATE limit_level SET last_at = last_at - interval '6 hours'")
        assert await one.left() == [75]
        await acme.execute("UPDATE limit_level SET last_at = last_at + interval '9 days'")
        assert await one.left() == [75]


async def test_a_clock_that_was_put_back_holds_nobody_up(acme: Pool) -> None:
    """What was told by a clock that is ahead fills up from now on, not from then."""
    async with processes(acme, 1, {"": {"requests/minute": 60}}) as (one,):
        for _ in range(30):
            assert await one.request() is not None
        (left,) = await one.left()
        await acme.execute("UPDATE limit_level SET last_at = last_at + interval '1 hour'")
        deadline = time.monotonic() + 20
        while await one.left() < [left + 2]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        await acme.execute("UPDATE limit_level SET last_at = now() + interval '1 hour'")
        await one.left()
        assert await acme.fetchval("SELECT max(last_at) < now() + interval '1 minute' FROM limit_level")


async def test_limits_taken_away_and_set_again(acme: Pool) -> None:
    """What was used of them is no hindrance, and what two buckets of one limit have to tell breaks nothing."""
    async with processes(acme, 1, {"": {"requests/day": 5, "streams": 9}}) as (one,):
        assert await one.request(streamed=True) is not None
        terms = one.limits.terms[1]
        one.limits.say(1, {}, 0)
        one.limits.say(1, terms, 0)
        assert await one.request(streamed=True) is not None
        assert await one.telling.next_answer()
        await limits.of_account(acme, "acme", "", {}, cleared=None)
        await acme.execute("DELETE FROM usage_limit")
        assert await one.request(streamed=True) is not None
        assert await one.telling.next_answer()


async def test_while_the_database_is_away_nobody_waits(
    acme: Pool, database_dsn: str, servers: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything stays untold until it is back, and is told then."""
    monkeypatch.setattr(telling, "ANSWER_S", 0.3)
    monkeypatch.setattr(rounds, "_AGAIN_S", 0.05)
    await limits.of_account(acme, "acme", "", {"requests/day": 100})
    book = LimitBook(acme)
    await book.refresh()
    proxy, dsn = proxied(servers, database_dsn)
    async with opened_pool(dsn, max_size=2) as pool:
        one = Process(pool, book.limits)
        assert await one.request() is not None
        proxy.refuse()
        proxy.cut()
        for _ in range(50):
            take(one.group(), 0, streamed=False, now_ns=time.perf_counter_ns())
        while not one.telling.away:
            await asyncio.sleep(0.01)
        assert not await one.telling.tell(one.buckets())
        proxy.listen_again()
        while one.telling.away:
            await asyncio.sleep(0.01)
        assert await one.left() == [49]
        await one.telling.stop()
    proxy.stop()
