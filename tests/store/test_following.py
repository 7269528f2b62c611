"""The connection that tells of changes falls silent at any moment, or is slow: changes arrive in time all the same."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.policy import read_policy
from luntrex_proxy.store import accounts, apikeys, following
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.following import follow
from luntrex_proxy.store.keyring import KeyRing
from tests.postgres import LOOKUP
from tests.store.keys import find, make
from tests.store.silent import proxied
from tests.upstreams.loop_thread import LoopThread

PROMISED_S = 5.0


@contextlib.asynccontextmanager
async def followed(ring: KeyRing, dsn: str) -> AsyncIterator[None]:
    """The ring, following."""
    running = asyncio.create_task(follow(ring, dsn))
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until_known(ring: KeyRing, since: float) -> None:
    """Wait until the ring has asked after this moment and was answered."""
    async with asyncio.timeout(20):
        while ring.contact <= since:
            await asyncio.sleep(0.01)


def test_the_waits_add_up_to_less_than_is_promised() -> None:
    """With a second left for what takes no time on a well machine."""
    assert following._HEARTBEAT_S + following._ANSWER_WAIT_S + following._CONNECT_WAIT_S <= PROMISED_S - 1


@pytest.mark.parametrize("error", [ConnectionError, None])
async def test_an_end_that_the_driver_keeps_to_itself_is_an_end(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception] | None
) -> None:
    """A rollback that fails takes a cancellation's place, or it is lost: whoever waited for the end waited for ever."""

    async def keeps_it(*_: object) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if error is not None:
                raise error from None

    monkeypatch.setattr(following, "_follow_one_connection", keeps_it)
    running = asyncio.create_task(follow(KeyRing(LOOKUP), "postgresql://nowhere"))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running}, timeout=5)
    assert running.cancelled()


async def test_silence_after_any_answer(acme: Pool, database_dsn: str, servers: LoopThread) -> None:
    """After the first, the second ... of the answers to the questions that a change leads to: it is known in time."""

    async def one(answers: int) -> float:
        made = await make(acme, f"k{answers}")
        proxy, dsn = proxied(servers, database_dsn)
        ring = KeyRing(LOOKUP)
        await ring.load(acme)
        try:
            async with followed(ring, dsn):
                await until_known(ring, time.monotonic())
                proxy.forget_after(answers)
                await apikeys.revoke(acme, made.info.key_id)
                started_at = time.monotonic()
                while find(ring, made) is not None:
                    assert time.monotonic() - started_at < 2 * PROMISED_S, answers
                    await asyncio.sleep(0.01)
                return time.monotonic() - started_at
        finally:
            proxy.stop()

    took_s = await asyncio.gather(*(one(answers) for answers in range(1, 9)))
    assert max(took_s) < PROMISED_S, took_s
    assert max(took_s) > following._ANSWER_WAIT_S, "the connections were never silent"


async def test_a_policy_and_a_suspension_are_heard_without_the_listener(
    acme: Pool, database_dsn: str, servers: LoopThread
) -> None:
    """The connection hangs as they are made, for ever: what the account says is known in time on another one."""
    made = await make(acme)
    proxy, dsn = proxied(servers, database_dsn)
    ring = KeyRing(LOOKUP)
    await ring.load(acme)

    async def within_the_promise(change: Awaitable[object], is_known: Callable[[Caller | None], bool]) -> float:
        await until_known(ring, time.monotonic())
        assert proxy.forget() == 1
        await change
        began_s = time.monotonic()
        while not is_known(find(ring, made)):
            assert time.monotonic() - began_s < 2 * PROMISED_S
            await asyncio.sleep(0.01)
        return time.monotonic() - began_s

    try:
        async with followed(ring, dsn):
            policy = "region=eu; retention=none; training=never"
            took_s = await within_the_promise(
                accounts.set_policy(acme, "acme", policy),
                lambda caller: caller is not None and caller.policy == read_policy(policy),
            )
            assert took_s < PROMISED_S
            took_s = await within_the_promise(accounts.suspend(acme, "acme"), lambda caller: caller is None)
            assert took_s < PROMISED_S
    finally:
        proxy.stop()


async def test_a_database_that_is_slow_for_long_is_caught_up_with(
    acme: Pool, database_dsn: str, servers: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer takes longer than the ring waits for one at first: it waits longer, and knows; then as before."""
    monkeypatch.setattr(following, "_ANSWER_WAIT_S", 0.3)
    proxy, dsn = proxied(servers, database_dsn)
    ring = KeyRing(LOOKUP)
    await ring.load(acme)
    proxy.delay_s = 0.25  # in each direction
    try:
        async with followed(ring, dsn):
            await until_known(ring, time.monotonic())
    finally:
        proxy.stop()
