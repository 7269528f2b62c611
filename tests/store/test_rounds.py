"""Who waits for the database's next answer: it comes, it is away, or it is late; and what counts as silence."""

import asyncio
import time
from typing import cast

import pytest

from luntrex_proxy.store import rounds
from luntrex_proxy.store.database import Connection
from luntrex_proxy.store.rounds import Rounds
from luntrex_proxy.store.silence import Silence


class Questions(Rounds):
    """Each is answered when `answered` is set, and fails while `fails`."""

    def __init__(self) -> None:
        super().__init__(lambda: None, 60.0)
        self.answered = asyncio.Event()
        self.fails = False

    async def ask(self) -> None:
        """Nothing, of nobody."""
        await self.answered.wait()
        if self.fails:
            raise ConnectionError


async def test_late_is_not_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer, none in time, and none at all are three things: only the last lets in who is let in while away."""
    monkeypatch.setattr(rounds, "WAIT_S", 0.05)
    questions = Questions()
    questions.start()
    with pytest.raises(TimeoutError):
        await questions.next_answer()
    assert not questions.away
    questions.answered.set()
    assert await questions.next_answer()
    questions.fails = True
    assert not await questions.next_answer()
    assert questions.away
    await questions.stop()


async def test_an_end_that_the_driver_keeps_to_itself_is_an_end() -> None:
    """A rollback that fails takes a cancellation's place: whoever waited for the end waited for ever."""

    class Failing(Questions):
        async def ask(self) -> None:
            try:
                await super().ask()
            except asyncio.CancelledError:
                raise ConnectionError from None

    questions = Failing()
    questions.start()
    questions.wake()
    for _ in range(3):
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await questions.stop()


def test_an_answer_is_awaited_for_less_time_than_a_request_waits() -> None:
    """Else the first to find the database away would be refused as if they had come too many at once."""
    assert rounds.ANSWER_S < rounds.WAIT_S


class Owing:
    """Owes an answer; notes that it was given up."""

    given_up = False

    def terminate(self) -> None:
        """Closed without waiting."""
        self.given_up = True


async def test_a_process_that_is_late_does_not_take_itself_for_silence() -> None:
    """It could not read what was said long ago; a connection that says nothing is given up all the same."""
    connection = Owing()
    with Silence(cast("Connection", connection), 0.06) as silence:
        time.sleep(0.2)
        for _ in range(3):
            await asyncio.sleep(0)
        assert not connection.given_up
        silence.broken()
        while not connection.given_up:
            await asyncio.sleep(0.01)
