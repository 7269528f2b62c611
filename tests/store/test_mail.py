"""The mail queue: one sender at a time, sent twice at most, given up after a day."""

import asyncio
import uuid
from datetime import timedelta

from luntrex_proxy.store import mail
from luntrex_proxy.store.database import Pool
from tests.people import make_person


async def queue(pool: Pool, to: uuid.UUID | str = "x@example.org", kind: str = "reset") -> uuid.UUID:
    async with pool.acquire() as connection, connection.transaction():
        return await mail.enqueue(connection, kind, to, {"account": "acme"})


async def test_a_letter_belongs_to_its_transaction(database: Pool) -> None:
    """What is rolled back is told to nobody."""
    try:
        async with database.acquire() as connection, connection.transaction():
            await mail.enqueue(connection, "reset", "x@example.org")
            raise KeyError
    except KeyError:
        pass
    assert await mail.claim(database) is None


async def test_each_letter_goes_to_one_sender(database: Pool) -> None:
    """However many claim at once; nothing of it is lost."""
    person = await make_person(database)
    wanted = {await queue(database, person if n % 2 else f"{n}@example.org") for n in range(10)}
    claimed = [one for one in await asyncio.gather(*(mail.claim(database) for _ in range(14))) if one is not None]
    assert {one.mail_id for one in claimed} == wanted
    assert len(claimed) == 10
    assert {one.person_id for one in claimed} == {person, None}
    assert claimed[0].facts == {"account": "acme"}


async def test_a_sent_letter_is_done_and_forgets_its_address(database: Pool) -> None:
    """It is never claimed again."""
    mail_id = await queue(database)
    assert await mail.claim(database)
    await mail.close(database, mail_id, "sent")
    await database.execute("UPDATE mail SET due_at = now()")
    assert await mail.claim(database) is None
    assert tuple(await database.fetchrow("SELECT outcome, address FROM mail")) == ("sent", None)


async def test_a_postponed_letter_is_due_again_later(database: Pool) -> None:
    """Any number of times within a day: nobody has got it."""
    mail_id = await queue(database)
    for tries in (1, 2, 3):
        claimed = await mail.claim(database)
        assert claimed is not None
        assert claimed.tries == tries
        await mail.postpone(database, mail_id, timedelta(hours=1), "unreachable")
        assert await mail.claim(database) is None
        assert await mail.give_up_old(database) == 0
        await database.execute("UPDATE mail SET due_at = now()")
    await database.execute("UPDATE mail SET queued_at = now() - interval '25 hours'")
    assert await mail.give_up_old(database) == 1
    assert tuple(await database.fetchrow("SELECT outcome, address FROM mail")) == ("given_up", None)


async def test_a_sender_that_dies_makes_two_letters_at_most(database: Pool) -> None:
    """Killed after sending and before noting it, twice: it is not tried a third time."""
    await queue(database)
    for _ in range(2):
        assert await mail.claim(database)  # and is never heard of again
        assert await mail.claim(database) is None
        await database.execute("UPDATE mail SET due_at = now()")
    assert await mail.claim(database) is None
    assert await mail.give_up_old(database) == 1
    assert await database.fetchval("SELECT outcome FROM mail") == "unknown"


async def test_mail_to_an_erased_person_is_gone(database: Pool) -> None:
    """The queue does not outlive whom it is for."""
    person = await make_person(database)
    await queue(database, person)
    await database.execute("DELETE FROM person")
    assert await mail.claim(database) is None
