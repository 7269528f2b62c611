"""Counts of refused keys: exact whatever fails, bounded whatever comes, naming keys there are and no address."""

import asyncio

import pytest

from luntrex_proxy.store import accounts, apikeys, attempts
from luntrex_proxy.store.attempts import OTHERS, PLACES_MAX, AttemptBook, list_page, raise_alerts
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import StoreError
from tests.postgres import LOOKUP

NET, CODE = "203.0.113.0/24", "invalid_api_key"


class Clock:
    """Stands for time.time."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock(1_800_000_000.0)
    monkeypatch.setattr(attempts.time, "time", made)
    return made


def note(book: AttemptBook, times: int, network: str = NET, claimed: str = "") -> None:
    for _ in range(times):
        book.note(network, CODE, claimed)


async def total(pool: Pool) -> int:
    found: int = await pool.fetchval("SELECT coalesce(sum(count), 0)::bigint FROM attempt")
    return found


async def a_key(pool: Pool, account: str) -> str:
    await accounts.create(pool, account)
    return (await apikeys.create(pool, LOOKUP, account, "k", bcrypt_cost=4)).info.key_id


async def test_counts_name_keys_there_are_and_nobody_else(database: Pool, clock: Clock) -> None:
    """A key of ours by its id and account, also a revoked one; an invented id is nobody's; accounts see their own."""
    key_id, other = await a_key(database, "acme"), await a_key(database, "umbrella")
    await apikeys.revoke(database, key_id)
    book = AttemptBook()
    note(book, 3, claimed=key_id)
    note(book, 2, claimed=other)
    note(book, 4, claimed="AAAAAAAAAAAA")
    note(book, 1)
    assert await book.write(database)
    assert not await book.write(database)
    rows = {(one.key_id, one.account): one.count for one in await list_page(database, None, None, 10)}
    assert rows == {(key_id, "acme"): 3, (other, "umbrella"): 2, (None, None): 5}
    acme = await accounts.find(database, "acme")
    assert acme is not None
    assert [one.count for one in await list_page(database, acme.account_id, None, 10)] == [3]
    assert "AAAAAAAAAAAA" not in str(await database.fetch("SELECT * FROM attempt"))


async def test_a_count_is_exact_however_often_it_is_written(
    database: Pool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written twice, written though the answer was lost, counted during a write, over minutes, by two processes."""
    book, twin = AttemptBook(), AttemptBook()
    note(book, 5)
    await book.write(database)
    note(book, 2)

    class LostError(OSError):
        pass

    async def lost(query: str, *arguments: object) -> None:
        await execute(query, *arguments)
        note(book, 1)
        raise LostError

    execute = database.execute
    with monkeypatch.context() as patch:
        patch.setattr(type(database), "execute", lambda _self, query, *more: lost(query, *more))
        with pytest.raises(StoreError):
            await book.write(database)
    assert await book.write(database)
    assert await total(database) == 8
    clock.now += 60
    note(book, 4)
    note(twin, 10)
    await asyncio.gather(book.write(database), twin.write(database))
    assert await total(database) == 22
    clock.now -= 3_600
    note(book, 1)
    await book.write(database)
    assert await total(database) == 23
    assert len(await list_page(database, None, None, 10)) == 2


async def test_a_flood_is_bounded_and_exact(database: Pool, clock: Clock) -> None:
    """From 5,000 networks with an invented key each: few rows, all counted; an hour without the database as well."""
    book = AttemptBook()
    for n in range(5_000):
        book.note(f"net{n}", CODE, f"{n:012}")
    for _ in range(60):
        clock.now += 60
        note(book, 7, network="late")
    assert len(book._counts) <= PLACES_MAX + 1
    await book.write(database)
    assert await total(database) == 5_420
    assert await database.fetchval("SELECT count(*) FROM attempt") <= PLACES_MAX + 1
    assert await database.fetchval("SELECT sum(count) FROM attempt WHERE network = $1", OTHERS) == 4_420
    clock.now += 60
    note(book, 1)
    await book.write(database)
    assert len(book._counts) == 1


async def test_alerts_are_raised_once_an_hour_by_one_of_several(
    database: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the limits in the window, per key and per network; the same again after an hour only."""
    key_id = await a_key(database, "acme")
    book = AttemptBook()
    note(book, 20, claimed=key_id)
    note(book, 180)

    async def look() -> list[tuple[str, str, int]]:
        async with database.acquire() as connection, connection.transaction():
            found = await raise_alerts(connection, 20, 200, 600, 3_600)
        return [(one.kind, one.subject, one.count) for one in found]

    await book.write(database)
    assert await look() == []
    note(book, 1, claimed=key_id)
    await book.write(database)
    both = await asyncio.gather(look(), look())
    assert sorted(both[0] + both[1]) == [("key", key_id, 21), ("network", NET, 201)]
    note(book, 500, claimed=key_id)
    await book.write(database)
    assert await look() == []
    await database.execute("UPDATE alert SET last_at = last_at - interval '1 hour' WHERE kind = 'key'")
    assert await look() == [("key", key_id, 521)]
    await database.execute("UPDATE attempt SET at = at - interval '11 minutes'")
    await database.execute("UPDATE alert SET last_at = last_at - interval '2 hours'")
    assert await look() == []
    async with database.acquire() as connection, connection.transaction():
        assert await raise_alerts(connection, None, None, 86_400, 1) == []
