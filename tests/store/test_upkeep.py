"""What is written about keys beside the requests: last uses in batches, new hashes at once, nobody waits."""

import asyncio
from datetime import UTC, datetime, timedelta

from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.upkeep import KeyUpkeep
from tests.store.keys import catch_up, loaded, make
from tests.store.records import outcome

T0_US = 1_760_000_000_000_000


async def used_at(pool: Pool, key_id: str) -> datetime | None:
    at: datetime | None = await pool.fetchval("SELECT last_used_at FROM api_key WHERE key_id = $1", key_id)
    return at


async def test_last_uses_are_one_write_for_many_requests(acme: Pool) -> None:
    """A thousand requests of two keys are one statement; later times win, earlier ones change nothing."""
    first, second = await make(acme, "first"), await make(acme, "second")
    ring = await loaded(acme)
    upkeep = KeyUpkeep(ring, acme)
    for n in range(1000):
        upkeep.take([outcome(n, key_id=(first, second)[n % 2].info.key_id, started_us=T0_US + n)])
    upkeep.take([outcome(0, account_id=0, key_id="", started_us=T0_US)])
    assert await used_at(acme, first.info.key_id) is None
    statements: list[str] = []

    class Counted:
        """The pool, and what was executed on it."""

        async def execute(self, statement: str, *arguments: object) -> None:
            statements.append(statement)
            await acme.execute(statement, *arguments)

    upkeep._pool = Counted()  # type: ignore[assignment]  # it is used for nothing else here
    await upkeep.write_last_used()
    assert len(statements) == 1
    upkeep._pool = acme
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert await used_at(acme, first.info.key_id) == epoch + timedelta(microseconds=T0_US + 998)
    assert await used_at(acme, second.info.key_id) == epoch + timedelta(microseconds=T0_US + 999)
    upkeep.take([outcome(5, key_id=first.info.key_id, started_us=T0_US)])
    await upkeep.write_last_used()
    await upkeep.write_last_used()
    assert await used_at(acme, first.info.key_id) == epoch + timedelta(microseconds=T0_US + 998)


async def test_nobody_waits_for_a_row_that_is_being_changed(acme: Pool) -> None:
    """A key that another transaction has locked is passed over, the others are written."""
    locked, free = await make(acme, "locked"), await make(acme, "free")
    upkeep = KeyUpkeep(await loaded(acme), acme)
    for made in (locked, free):
        upkeep.take([outcome(1, key_id=made.info.key_id, started_us=T0_US)])
    async with acme.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM api_key WHERE key_id = $1 FOR UPDATE", locked.info.key_id)
        await asyncio.wait_for(upkeep.write_last_used(), 5)
    assert await used_at(acme, locked.info.key_id) is None
    assert await used_at(acme, free.info.key_id) is not None


async def test_a_last_use_is_no_change_of_a_key(acme: Pool) -> None:
    """No version, so no process reads the key again for it."""
    made = await make(acme)
    ring = await loaded(acme)
    version = await acme.fetchval("SELECT version FROM change_version")
    upkeep = KeyUpkeep(ring, acme)
    upkeep.take([outcome(1, key_id=made.info.key_id, started_us=T0_US)])
    await upkeep.write_last_used()
    await catch_up(ring, acme)
    assert await acme.fetchval("SELECT version FROM change_version") == version


async def test_what_cannot_be_written_waits(acme: Pool) -> None:
    """A failed write is tried again with what came meanwhile."""
    made, other = await make(acme), await make(acme, "other")
    upkeep = KeyUpkeep(await loaded(acme), acme)
    upkeep.take([outcome(1, key_id=made.info.key_id, started_us=T0_US)])
    await acme.execute("ALTER TABLE api_key RENAME TO gone")
    try:
        await upkeep.finish(1)
        upkeep.take([outcome(2, key_id=other.info.key_id, started_us=T0_US)])
    finally:
        await acme.execute("ALTER TABLE gone RENAME TO api_key")
    await upkeep.finish(5)
    assert await used_at(acme, made.info.key_id) is not None
    assert await used_at(acme, other.info.key_id) is not None
