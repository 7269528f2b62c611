"""What is said when the database cannot be used: one sentence, and never a piece of the password."""

import asyncio
import os
import signal
import socket
import time

import pytest

from luntrex_proxy.store.database import Pool, check_major, close_pool, open_pool, opened_pool, store_errors
from luntrex_proxy.store.errors import StoreError, StoreUnavailableError
from luntrex_proxy.store.pools import Pools
from tests.postgres import dsn_of
from tests.spying import outside

PASSWORD = "hunter2secret"


async def refusal(dsn: str) -> str:
    """The sentence `open_pool` gives."""
    with pytest.raises(StoreError) as caught:
        await open_pool(dsn, wait_s=0.2)
    assert caught.value.__cause__ is None
    return str(caught.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:{}@127.0.0.1:1/db",
        "postgresql://u:{}/x@127.0.0.1:1/db",
        "postgresql://u:12{}#x@127.0.0.1:1/db",
        "postgresql://u:{}?x@127.0.0.1:1/db",
        "postgresql://{}/@127.0.0.1:1/db",
        "postgresql://u:x@y:{}@127.0.0.1:1/db",
        "postgresql://127.0.0.1:1/db?password={}",
        "postgres//u:{}@127.0.0.1:1/db",
        "{}",
    ],
)
async def test_password_is_never_quoted(dsn: str) -> None:
    """However the address is misspelt, no piece of the password is in the sentence."""
    sentence = await refusal(dsn.format(PASSWORD))
    assert "hunter2" not in sentence
    assert "12" + PASSWORD[:3] not in sentence
    assert set(outside.taken()) <= {f"lookup {PASSWORD}"}  # where it stands in the place of the host


async def test_unreachable() -> None:
    """Nobody listens: the sentence names the place."""
    sentence = await refusal(f"postgresql://u:{PASSWORD}@127.0.0.1:1/db")
    assert sentence == (
        "The database at 127.0.0.1:1 cannot be reached (ConnectionRefusedError); start it or correct database.url."
    )


async def test_missing_socket() -> None:
    """A Unix socket that is not there."""
    assert "behind its Unix socket cannot be reached" in await refusal("postgresql://u@/db?host=/nowhere")


async def test_not_an_address() -> None:
    """Something else in database.url."""
    assert "postgresql://user:password@host:5432/name" in await refusal("mysql://u@host/db")


async def test_unknown_database(postgres_dsn: str) -> None:
    """The server is there, the database is not."""
    assert "has no database of the configured name" in await refusal(dsn_of(postgres_dsn, "absent"))


async def test_unknown_user(postgres_dsn: str) -> None:
    """The server refuses the user."""
    assert "refused the user or the password" in await refusal(postgres_dsn.replace("luntrex@", "stranger@"))


@pytest.mark.parametrize(("number", "fine"), [(130_023, False), (140_000, True), (180_004, True), (190_001, False)])
def test_supported_majors(number: int, fine: bool) -> None:
    """14 to 18 are supported; others are refused with both ends named."""
    if fine:
        check_major(number, "The database at h:1")
    else:
        with pytest.raises(StoreError, match=rf"runs PostgreSQL {number // 10_000}, supported are 14 to 18"):
            check_major(number, "The database at h:1")


async def test_silent_server_is_given_up() -> None:
    """Something accepts connections and says nothing: the wait is bounded."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        started_at = time.monotonic()
        sentence = await refusal(f"postgresql://u:{PASSWORD}@127.0.0.1:{port}/db")
        assert time.monotonic() - started_at < 3
        assert f"127.0.0.1:{port} cannot be reached (TimeoutError)" in sentence


async def test_waits_for_a_starting_database(postgres_dsn: str) -> None:
    """A pool on a ready database comes at once and works."""
    pool = await open_pool(postgres_dsn)
    assert await pool.fetchval("SELECT 1") == 1
    assert await pool.fetchval("SHOW statement_timeout") == "15s"
    assert await pool.fetchval("SHOW lock_timeout") == "5s"
    assert await pool.fetchval("SHOW application_name") == "luntrex-proxy"
    await close_pool(pool)


async def test_driver_errors_become_sentences(database: Pool) -> None:
    """What the driver says about values stays inside; what is temporary can be told from what is not."""
    with pytest.raises(StoreError) as caught, store_errors("count"):
        await database.fetchval("SELECT 'canary'::int")
    assert "canary" not in str(caught.value)
    assert "SQLSTATE 22P02" in str(caught.value)
    assert not isinstance(caught.value, StoreUnavailableError)
    with pytest.raises(StoreUnavailableError, match="could not count"), store_errors("count"):
        await database.fetchval("SELECT pg_terminate_backend(pg_backend_pid())")


async def test_a_connection_that_hangs_is_let_go(postgres_dsn: str) -> None:
    """Whoever gives up on a statement is free soon, and the next one gets another connection."""
    pool = await open_pool(postgres_dsn, max_size=1)
    hung: int = await pool.fetchval("SELECT pg_backend_pid()")
    os.kill(hung, signal.SIGSTOP)
    try:
        async with asyncio.timeout(8):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await pool.fetchval("SELECT 1")
            assert await pool.fetchval("SELECT pg_backend_pid()") != hung
    finally:
        os.kill(hung, signal.SIGCONT)
        await close_pool(pool)


async def test_around_a_pooler_both_pools_are_renewed(database_dsn: str) -> None:
    """What silenced the connection that listens may have silenced all that go the same way."""
    async with opened_pool(database_dsn, max_size=1) as pool, opened_pool(database_dsn, max_size=1) as direct:
        pools = Pools(pool, direct, database_dsn)
        before = [await each.fetchval("SELECT pg_backend_pid()") for each in (pool, direct)]
        await pools.expire()
        after = [await each.fetchval("SELECT pg_backend_pid()") for each in (pool, direct)]
        assert not set(before) & set(after)
