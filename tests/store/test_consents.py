"""What owners agreed to: kept with text and time, in force until withdrawn, known to every process within a second."""

import asyncio

import pytest

from luntrex_proxy.core.consents import PROVIDER_RETENTION_BIT, TEXTS, TRAINING_BIT, Purpose, routing_bits, text_of
from luntrex_proxy.store import apikeys, audit, consents, members
from luntrex_proxy.store.audit import Actor
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.keyring import KeyRing
from tests.people import make_person
from tests.postgres import LOOKUP

ACCOUNT = 1


async def test_nothing_holds_before_it_is_given(acme: Pool) -> None:
    """Every purpose is off; giving and withdrawing one leaves the others alone, and the history stays."""
    for purpose in Purpose:
        assert not await consents.in_force(acme, ACCOUNT, purpose)
    with audit.acting_as(Actor("console:ada")):
        given = await consents.give(acme, "acme", Purpose.TRAINING)
    assert (given.text_version, given.given_by, given.withdrawn_at) == (1, "console:ada", None)
    assert [p for p in Purpose if await consents.in_force(acme, ACCOUNT, p)] == [Purpose.TRAINING]
    assert await consents.give(acme, "acme", Purpose.TRAINING) == given, "twice is once"
    withdrawn = await consents.withdraw(acme, "acme", Purpose.TRAINING)
    assert withdrawn.withdrawn_at is not None
    assert not await consents.in_force(acme, ACCOUNT, Purpose.TRAINING)
    with pytest.raises(RefusedError, match="has given no consent to training"):
        await consents.withdraw(acme, "acme", Purpose.TRAINING)
    await consents.give(acme, "acme", Purpose.TRAINING)
    assert [one.withdrawn_at is None for one in await consents.history(acme, ACCOUNT)] == [True, False]
    acts = [entry.act for entry in await audit.newest(acme, 4)]
    assert acts == ["consent.given", "consent.withdrawn", "consent.given", "account.created"]


async def test_another_text_is_another_consent(acme: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was agreed to stays on record with the version of its words; the new words need a new yes."""
    await consents.give(acme, "acme", Purpose.BENCHMARKING)
    monkeypatch.setitem(TEXTS, Purpose.BENCHMARKING, (*TEXTS[Purpose.BENCHMARKING], "Other words."))
    again = await consents.give(acme, "acme", Purpose.BENCHMARKING)
    assert (again.text_version, text_of(Purpose.BENCHMARKING, 2)) == (2, "Other words.")
    versions = [(one.text_version, one.withdrawn_at is None) for one in await consents.history(acme, ACCOUNT)]
    assert versions == [(2, True), (1, False)]


async def test_the_key_ring_follows(acme: Pool) -> None:
    """Callers carry what routing asks for, from the first load and after each change; other purposes are no bits."""
    made = await apikeys.create(acme, LOOKUP, "acme", "first", bcrypt_cost=4)
    await consents.give(acme, "acme", Purpose.PROVIDER_RETENTION)
    ring = KeyRing(LOOKUP)
    await ring.load(acme)

    def bits() -> int:
        caller = ring.find(made.key.encode())
        assert caller is not None
        return caller.consents

    assert bits() == PROVIDER_RETENTION_BIT
    await consents.give(acme, "acme", Purpose.TRAINING)
    await consents.give(acme, "acme", Purpose.PRODUCT_MAIL)
    async with acme.acquire() as connection:
        await ring.catch_up(connection)
        assert bits() == TRAINING_BIT | PROVIDER_RETENTION_BIT
        await consents.withdraw(acme, "acme", Purpose.PROVIDER_RETENTION)
        await ring.catch_up(connection)
    assert bits() == TRAINING_BIT == routing_bits(["training", "product_mail"])


async def test_members_are_told_whether_others_see_their_requests(acme: Pool) -> None:
    """All of them of a yes and of a no; who comes meanwhile at once; nobody of another role or another purpose."""

    async def told() -> list[tuple[str, bool]]:
        rows = await acme.fetch(
            "WITH gone AS (DELETE FROM mail RETURNING *) SELECT email, (facts ->> 'shown')::bool, kind,"
            " facts ->> 'since' FROM gone JOIN person USING (person_id) ORDER BY 1"
        )
        assert all(row[2] == "member_requests" and len(row[3]) == len("2026-10-01 09:00") for row in rows)
        return [(row[0][0], row[1]) for row in rows]

    for name in ("ada", "bob"):
        await make_person(acme, f"{name}@example.org", acme="developer")
    new = await make_person(acme, "new@example.org")
    await members.put_person(acme, ACCOUNT, new, "viewer")
    await consents.give(acme, "acme", Purpose.TRAINING)
    assert await told() == []
    await consents.give(acme, "acme", Purpose.MEMBER_REQUESTS)
    assert await told() == [("a", True), ("b", True), ("n", True)]
    await members.put_person(acme, ACCOUNT, new, "billing")
    await consents.give(acme, "acme", Purpose.MEMBER_REQUESTS)
    assert await told() == []
    await members.put_person(acme, ACCOUNT, await make_person(acme, "carl@example.org"), "viewer")
    assert await told() == [("c", True)]
    await consents.withdraw(acme, "acme", Purpose.MEMBER_REQUESTS)
    assert [shown for _, shown in await told()] == [False] * 4


async def test_two_at_once_are_one(acme: Pool) -> None:
    """Only one consent of a purpose is ever in force."""
    given = await asyncio.gather(*(consents.give(acme, "acme", Purpose.TRAINING) for _ in range(4)))
    assert len({one.given_at for one in given}) == 1
    assert len(await consents.history(acme, ACCOUNT)) == 1


async def test_unknown_accounts_are_refused(database: Pool) -> None:
    """In a sentence, without repeating what no account can be called."""
    for name in ("nobody", "no body"):
        with pytest.raises(RefusedError, match="There is no account"):
            await consents.give(database, name, Purpose.TRAINING)
