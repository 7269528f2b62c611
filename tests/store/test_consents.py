"""What owners agreed to: kept with text and time, in force until withdrawn, known to every process within a second."""

import asyncio

import pytest

from luntrex_proxy.core.consents import PROVIDER_RETENTION_BIT, TEXTS, TRAINING_BIT, Purpose, routing_bits, text_of
from luntrex_proxy.store import apikeys, audit, consents
from luntrex_proxy.store.audit import Actor
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.keyring import KeyRing
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
