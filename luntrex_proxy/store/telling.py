"""Tells the other processes what this one lets in of limits, and hears of theirs: the gateway's `Teller` port.

What is let in is told twice a second, sooner when it is half a block; requests that are ahead of that wait for
the next answer. While the database is away everything stays untold, and each limit says itself whether that matters.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final
from uuid import UUID

from luntrex_proxy.core.buckets import Bucket, Limits
from luntrex_proxy.store import limitlevels as table
from luntrex_proxy.store.database import Connection, Pool
from luntrex_proxy.store.limitlevels import Told
from luntrex_proxy.store.rounds import ANSWER_S, Rounds
from luntrex_proxy.store.silence import Silence

_EVERY_S: Final = 0.5
_FRESH_NS: Final = 250_000_000  # what was heard so lately needs no question
_STREAMS_EVERY_S: Final = 1.0  # much less than the table believes us
_LAST_WORD_S: Final = 1.0
_BATCH: Final = 500
_NS_PER_S: Final = 10**9


class Telling(Rounds):
    """Keeps `limits` in step with those of other processes."""

    def __init__(self, pool_source: Callable[[], Pool | None], boot_id: UUID, limits: Limits) -> None:
        super().__init__(pool_source, _EVERY_S)
        self._boot_id = boot_id
        self._limits = limits
        self._asked: set[Bucket] = set()  # requests wait to hear of these
        self._running: set[Bucket] = set()  # of streams
        self._streams_at_s = 0.0  # when all of them were told last, monotonic

    async def tell(self, buckets: Iterable[Bucket]) -> bool:
        """Have these told and heard of; False: the database is away. TimeoutError: no answer in 2 s."""
        now_ns = time.perf_counter_ns()
        asked = [
            bucket
            for bucket in buckets
            if bucket.untold > 0 or not bucket.is_known or now_ns - bucket.heard_ns > _FRESH_NS
        ]
        self._asked.update(asked)
        return not asked or await self.next_answer()

    async def stop(self) -> None:
        """When no request is under way any more: the last word."""
        await super().stop()
        with contextlib.suppress(Exception):  # what is not told then is at most a block
            async with asyncio.timeout(_LAST_WORD_S):
                await self.ask()

    async def ask(self) -> None:
        """Everything there is to tell."""
        asked, self._asked = list(self._asked), set()
        news = self._limits.news
        is_nothing = not (asked or news)
        for start in range(0, len(asked), _BATCH):
            await self._tell_all(asked[start : start + _BATCH])
        untold = list(news)  # some at a time: after an outage there can be very many
        for start in range(0, len(untold), _BATCH):
            await self._tell_all(untold[start : start + _BATCH])
        if time.monotonic() - self._streams_at_s >= _STREAMS_EVERY_S:
            self._streams_at_s = time.monotonic()
            running = list(self._running)
            for start in range(0, len(running), _BATCH):
                await self._tell_all(running[start : start + _BATCH])
            self._running = {bucket for bucket in self._running if bucket.held or bucket.untold}
        if self.away and is_nothing:
            await self._tell_all([])

    async def _tell_all(self, buckets: Sequence[Bucket]) -> None:
        levels = _newest(bucket for bucket in buckets if bucket.unit != "streams")
        streams = _newest(bucket for bucket in buckets if bucket.unit == "streams")
        self._running.update(streams)
        async with self.pool().acquire(timeout=ANSWER_S) as connection:
            if levels or not streams:
                await self.ask_past_deadlocks(partial(self._tell, connection, levels))
            if streams:
                await self.ask_past_deadlocks(partial(self._tell_streams, connection, streams))

    async def _tell(self, connection: Connection, levels: Sequence[Bucket]) -> None:
        # What is untold now is on its way; what comes meanwhile is for the next question.
        told = [_told(bucket, bucket.untold) for bucket in levels]
        with Silence(connection, ANSWER_S):
            full = await table.tell(connection, told)
        now_ns = time.perf_counter_ns()
        for number, bucket in enumerate(levels):
            bucket.hear(told[number].units, full.get(number, 0.0), 0, now_ns)

    async def _tell_streams(self, connection: Connection, streams: Sequence[Bucket]) -> None:
        running = [_told(bucket, bucket.held) for bucket in streams]
        ended = [bucket.untold for bucket in streams]
        with Silence(connection, ANSWER_S):
            others = await table.tell_streams(connection, self._boot_id, running)
        now_ns = time.perf_counter_ns()
        for number, bucket in enumerate(streams):
            bucket.hear(ended[number], 0.0, others.get(number, 0), now_ns)


def _newest(buckets: Iterable[Bucket]) -> list[Bucket]:
    """One of each limit: those of limits that were taken away meanwhile may be there with those that came instead."""
    return list({(bucket.ident, bucket.model, bucket.what.word): bucket for bucket in buckets}.values())


def _told(bucket: Bucket, units: int) -> Told:
    return Told(bucket.ident, bucket.model, bucket.what.word, units, bucket.amount * _NS_PER_S / bucket.period_ns)
