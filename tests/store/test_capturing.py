"""Debug captures in their tables: bounds that no restart, clock or second process stretches; ciphertext, for a day."""

import asyncio
import uuid

import msgspec
import pytest

from luntrex_proxy.core.capture import Captured
from luntrex_proxy.core.consents import Purpose
from luntrex_proxy.store import accounts, apikeys, capturing, consents, debugcapture
from luntrex_proxy.store.capturing import CaptureBook
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.sealedbox import make_pair, seal, unseal
from tests.people import make_person
from tests.postgres import LOOKUP

PRIVATE, PUBLIC = make_pair()
WORDS = "canary-77c1d0"


def test_only_the_private_key_opens() -> None:
    """Another key, another context, any flipped byte: refused."""
    sealed = seal(PUBLIC, WORDS.encode(), b"c")
    assert unseal(PRIVATE, sealed, b"c") == WORDS.encode()
    assert WORDS.encode() not in sealed
    assert sealed != seal(PUBLIC, WORDS.encode(), b"c")
    for private, data, context in (
        (make_pair()[0], sealed, b"c"),
        (PRIVATE, sealed, b"d"),
        *((PRIVATE, sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], b"c") for at in range(len(sealed))),
        *((PRIVATE, sealed[:at], b"c") for at in range(0, len(sealed), 7)),
    ):
        with pytest.raises(RefusedError):
            unseal(private, data, context)
    with pytest.raises(RefusedError, match="not a public key"):
        seal(bytes(32), b"x", b"")


class Clock:
    """Stands for time.monotonic."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(capturing.time, "monotonic", made)
    return made


class Acme:
    """An account with a member's key and a service key."""

    def __init__(self, pool: Pool, account_id: int, person: uuid.UUID, own: str, service: str) -> None:
        self.pool, self.account_id, self.person, self.own, self.service = pool, account_id, person, own, service

    async def start(self, key_id: str = "", requests: int = 100, minutes: int = 60) -> uuid.UUID:
        made = await debugcapture.start(
            self.pool, self.account_id, key_id or self.own, self.person, PUBLIC, requests, minutes
        )
        return made.capture_id

    async def book(self) -> CaptureBook:
        """That of a process that starts now."""
        made = CaptureBook(self.pool)
        await made.refresh()
        return made


@pytest.fixture
async def acme(database: Pool) -> Acme:
    account_id = (await accounts.create(database, "acme")).account_id
    person = await make_person(database, "a@b.example", acme="developer")
    own = await apikeys.create(database, LOOKUP, "acme", "own", person_id=str(person), bcrypt_cost=4)
    service = await apikeys.create(database, LOOKUP, "acme", "service", bcrypt_cost=4)
    return Acme(database, account_id, person, own.info.key_id, service.info.key_id)


def capture_all(book: CaptureBook, key_id: str) -> int:
    """Send requests until none is captured any more; how many were."""
    count = 0
    while (sink := book.admit(key_id)) is not None:
        sink(Captured("r", 1, "chat.completions", WORDS.encode(), len(WORDS)))
        count += 1
    return count


async def drain(book: CaptureBook, key_id: str) -> int:
    """As long as anything is captured, with refreshes between."""
    total = 0
    while count := capture_all(book, key_id):
        total += count
        await book.write()
        await book.refresh()
    return total


async def test_what_is_captured_is_ciphertext_for_its_owner(acme: Acme) -> None:
    """Stored encrypted, opened by the private key with the capture's id; no table has a word of it."""
    capture_id = await acme.start()
    book = await acme.book()
    assert book.admit(acme.service) is None
    assert await drain(book, acme.own) == 100
    capture = await debugcapture.find(acme.pool, acme.account_id, capture_id)
    assert capture is not None
    assert (capture.records, capture.requests_left, capture.live) == (100, 0, True)
    first = (await debugcapture.records(acme.pool, capture, 0, 1))[0]
    plain = msgspec.json.decode(unseal(PRIVATE, first.sealed, capture_id.bytes))
    assert plain["route"] == "chat.completions"
    dump = str(await acme.pool.fetch("SELECT * FROM debug_capture_record")) + str(
        await acme.pool.fetch("SELECT * FROM debug_capture")
    )
    assert WORDS not in dump
    acts = [row[0] for row in await acme.pool.fetch("SELECT act FROM audit_entry WHERE act LIKE 'debug%' ORDER BY 1")]
    assert acts == ["debug_capture.read", "debug_capture.started"]


@pytest.mark.parametrize("requests", [1, 3, 100])
async def test_several_processes_and_restarts_capture_no_more_together(acme: Acme, requests: int) -> None:
    """Three processes, one of them begun anew in the middle."""
    await acme.start(requests=requests)
    books = [await acme.book() for _ in range(2)]
    total = sum([capture_all(book, acme.own) for book in books])
    books[0] = await acme.book()
    for _ in range(60):
        for book in books:
            await book.write()
            await book.refresh()
            total += capture_all(book, acme.own)
    assert 1 <= total <= requests
    assert await acme.pool.fetchval("SELECT requests_left FROM debug_capture") == 0


async def test_clocks_and_restarts_do_not_stretch_it(acme: Acme, clock: Clock) -> None:
    """The database's clock put back a day: the process ends it, and what it has used up a restarted one has not."""
    await acme.start(minutes=10)
    book = await acme.book()
    clock.now += 400
    await book.refresh()
    await acme.pool.execute(
        "UPDATE debug_capture"
        " SET started_at = started_at + interval '1 day', expires_at = expires_at + interval '1 day'"
    )
    await book.refresh()
    clock.now += 199
    assert book.admit(acme.own) is not None
    clock.now += 2
    assert book.admit(acme.own) is None
    await acme.pool.execute("UPDATE debug_capture SET requests_left = 100")
    again = await acme.book()
    clock.now += 199
    assert again.admit(acme.own) is not None
    clock.now += 3
    assert again.admit(acme.own) is None
    await book.refresh()
    assert not (await acme.book()).admit(acme.own)


async def test_it_ends_when_its_reasons_end(acme: Acme) -> None:
    """Stopped, time over by either clock, key suspended or handed on, who started it gone or not to act."""
    for change in (
        "UPDATE debug_capture SET ended_at = now()",
        "UPDATE debug_capture SET started_at = now() - interval '1 hour', expires_at = now()",
        "UPDATE debug_capture SET seconds_left = 0",
        "UPDATE api_key SET status = 'suspended'",
        "UPDATE account SET status = 'suspended'",
        "UPDATE api_key SET person_id = NULL",
        "DELETE FROM membership",
        "UPDATE person SET status = 'suspended'",
        "UPDATE person SET status = 'restricted'",
    ):
        await acme.pool.execute("DELETE FROM debug_capture")
        await acme.start()
        book = await acme.book()
        assert book.admit(acme.own) is not None
        async with acme.pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(change)
            ended = CaptureBook(connection)  # type: ignore[arg-type]  # asked inside the transaction
            await ended.refresh()
            assert ended.admit(acme.own) is None, change
            await transaction.rollback()


async def test_a_service_key_needs_prior_consent(acme: Acme) -> None:
    """Refused without it, ended by its withdrawal; two captures of one key at once are refused."""
    with pytest.raises(RefusedError, match="only with the account's consent"):
        await acme.start(acme.service)
    await consents.give(acme.pool, "acme", Purpose.DEBUG_CAPTURE)
    await acme.start(acme.service)
    with pytest.raises(RefusedError, match="captured already"):
        await acme.start(acme.service)
    book = await acme.book()
    under_way = book.admit(acme.service)
    assert under_way is not None
    await consents.withdraw(acme.pool, "acme", Purpose.DEBUG_CAPTURE)
    await book.refresh()
    assert book.admit(acme.service) is None
    under_way(Captured("r", 1, "chat.completions", WORDS.encode(), len(WORDS)))
    await book.write()
    assert await acme.pool.fetchval("SELECT count(*) FROM debug_capture_record") == 0, "it went on after that"
    assert not book.active
    for requests, minutes in ((0, 1), (101, 1), (1, 0), (1, 61)):
        with pytest.raises(RefusedError, match="A capture has 1 to 100 requests in 1 to 60 minutes"):
            await acme.start(requests=requests, minutes=minutes)


def take(book: CaptureBook, key_id: str, characters: int) -> None:
    """One request of so many characters."""
    sink = book.admit(key_id)
    assert sink is not None
    sink(Captured("r", 1, "chat.completions", b"x" * characters, characters))


async def sizes(acme: Acme, capture_id: uuid.UUID) -> list[int]:
    """Of the requests that are stored."""
    rows = await acme.pool.fetch("SELECT sealed FROM debug_capture_record")
    return sorted(msgspec.json.decode(unseal(PRIVATE, row[0], capture_id.bytes))["request_bytes"] for row in rows)


@pytest.mark.parametrize("later", [False, True])
async def test_one_that_cannot_be_stored_costs_no_other(acme: Acme, later: bool) -> None:
    """The database refuses one of three: both others are there, it is tried again, and lost only in the end."""
    capture_id = await acme.start()
    book = await acme.book()
    await acme.pool.execute(
        "ALTER TABLE debug_capture_record ADD CONSTRAINT small CHECK (octet_length(sealed) < 3000) NOT VALID"
    )
    for characters in (10, 5_000, 11):
        take(book, acme.own, characters)
    for _ in range(3):
        await book.write()
        await book.refresh()
    assert (await sizes(acme, capture_id), book.lost, book.active) == ([10, 11], 0, True)
    if later:
        await acme.pool.execute("ALTER TABLE debug_capture_record DROP CONSTRAINT small")
    for _ in range(10):
        await book.write()
    assert await sizes(acme, capture_id) == [10, 11, *([5_000] if later else [])]
    assert book.lost == (not later)
    await debugcapture.stop(acme.pool, acme.account_id, capture_id)
    await book.refresh()
    assert not book.active


async def test_a_process_that_ends_stores_what_it_has_or_says_so(acme: Acme) -> None:
    """In bounded time; two writers at once store nothing twice."""
    capture_id = await acme.start()
    book = await acme.book()
    take(book, acme.own, 10)
    _, left = await asyncio.gather(book.write(), book.finish(5.0))
    assert (await sizes(acme, capture_id), left) == ([10], 0)
    take(book, acme.own, 11)
    async with acme.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE debug_capture_record IN ACCESS EXCLUSIVE MODE")
        assert await book.finish(0.1) == 1
    assert await sizes(acme, capture_id) == [10]


async def test_ciphertext_is_gone_after_a_day(acme: Acme) -> None:
    """Not given out from then on, and deleted; a clock that is put back keeps nothing longer."""
    capture_id = await acme.start()
    book = await acme.book()
    capture_all(book, acme.own)
    await book.write()
    await acme.pool.execute("UPDATE debug_capture_record SET at = at - interval '24 hours'")
    capture = await debugcapture.find(acme.pool, acme.account_id, capture_id)
    assert capture is not None
    assert await debugcapture.records(acme.pool, capture, 0, 10) == []
    await debugcapture.delete_old(acme.pool)
    assert await acme.pool.fetchval("SELECT count(*) FROM debug_capture_record") == 0
    capture_all(book, acme.own)
    await book.write()
    await debugcapture.delete_old(acme.pool)
    assert await acme.pool.fetchval("SELECT count(*) FROM debug_capture_record") > 0
    await acme.pool.execute("UPDATE debug_capture_record SET at = at + interval '10 hours'")
    await debugcapture.delete_old(acme.pool)
    assert await acme.pool.fetchval("SELECT count(*) FROM debug_capture_record") == 0
