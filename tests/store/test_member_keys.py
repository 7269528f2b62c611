"""Keys of members: no way leads around a person's suspension, restriction or leave, whoever takes it and when."""

import os
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from luntrex_proxy.core.rights import Law, Right, State
from luntrex_proxy.core.scope import ONLY_STORED
from luntrex_proxy.store import apikeys, members, people, rights, tombstones
from luntrex_proxy.store import keytransfer as transfer
from luntrex_proxy.store import migrate as schema
from luntrex_proxy.store.apikeys import NewKey
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.keyring import KeyRing
from luntrex_proxy.store.ownership import Subject
from luntrex_proxy.store.tombstones import Tombstone
from tests.people import make_person
from tests.postgres import LOOKUP
from tests.store.keys import catch_up, find, loaded

_NOW = datetime(2026, 11, 29, tzinfo=UTC)


async def make(pool: Pool, name: str = "own", person_id: object = None) -> NewKey:
    owner = None if person_id is None else str(person_id)
    return await apikeys.create(pool, LOOKUP, "acme", name, person_id=owner, bcrypt_cost=4)


async def test_a_key_of_who_is_suspended_is_not_resumed(acme: Pool) -> None:
    """Nobody, not an admin either, wakes it before the person is back."""
    person_id = await make_person(acme, acme="developer")
    made = await make(acme, person_id=person_id)
    await people.suspend(acme, person_id)
    with pytest.raises(RefusedError, match="people resume"):
        await apikeys.resume(acme, made.info.key_id)
    assert await acme.fetchval("SELECT status FROM api_key") == "suspended"
    await people.resume(acme, person_id)
    assert (await apikeys.resume(acme, made.info.key_id)).state == "active"


async def test_no_key_for_who_left_or_is_suspended_meanwhile(acme: Pool) -> None:
    """Between the look at who asks and the row lies bcrypt: time enough to be removed."""
    person_id = await make_person(acme, acme="developer")
    account_id = await acme.fetchval("SELECT account_id FROM account")
    await people.suspend(acme, person_id)
    with pytest.raises(RefusedError, match="suspended"):
        await make(acme, person_id=person_id)
    await people.resume(acme, person_id)
    await make(acme, person_id=person_id)
    await members.remove(acme, account_id, person_id)
    with pytest.raises(RefusedError, match="member"):
        await make(acme, "another", person_id)
    assert await acme.fetchval("SELECT count(*) FROM api_key WHERE status = 'active'") == 0


async def test_no_key_is_taken_over_for_who_is_suspended(acme: Pool) -> None:
    """A file of keys wakes none that the suspension has stopped."""
    person_id = await make_person(acme, acme="developer")
    await make(acme, person_id=person_id)
    lines = [line.encode() for line in (await transfer.export_lines(acme)).lines]
    await acme.execute("DELETE FROM api_key")
    await people.suspend(acme, person_id)
    with pytest.raises(RefusedError, match=r"Line 1: .*suspended"):
        await transfer.import_lines(acme, lines)
    await people.resume(acme, person_id)
    assert (await transfer.import_lines(acme, lines)).keys == 1


async def test_who_joins_or_leaves_decides_whether_the_accounts_keys_are_restricted(acme: Pool) -> None:
    """They are while all members are: running processes hear of it as they do of the restriction itself."""
    account_id = await acme.fetchval("SELECT account_id FROM account")
    ada = await make_person(acme, "ada@example.org", acme="owner")
    bob = await make_person(acme, "bob@example.org", acme="developer")
    key = (await make(acme)).key.encode()
    ring = KeyRing(LOOKUP)
    await ring.load(acme)

    async def is_restricted() -> bool:
        async with acme.acquire() as connection:
            await ring.catch_up(connection)
        caller = ring.find(key)
        assert caller is not None
        return caller.scope is not None and caller.scope.is_restricted

    async with acme.acquire() as connection, connection.transaction():
        await rights.set_restricted(connection, ada, restricted=True)
    assert not await is_restricted()
    await members.remove(acme, account_id, bob)
    assert await is_restricted()
    await members.put_person(acme, account_id, bob, "developer")
    assert not await is_restricted()


async def set_restricted(pool: Pool, person_id: uuid.UUID, *, restricted: bool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        assert await rights.set_restricted(connection, person_id, restricted=restricted)


async def facts(pool: Pool, ring: KeyRing, person_id: uuid.UUID, made: NewKey) -> tuple[str, bool]:
    """What the person's status is, and whether the account's own key is restricted."""
    await catch_up(ring, pool)
    caller = find(ring, made)
    assert caller is not None
    return await pool.fetchval("SELECT status FROM person WHERE person_id = $1", person_id), caller.scope is ONLY_STORED


async def test_restricted_then_suspended(acme: Pool) -> None:
    """Neither hides the other: the account's own keys are restricted until that is lifted, whoever may sign in."""
    person_id = await make_person(acme, acme="owner")
    made, ring = await make(acme), await loaded(acme)
    await set_restricted(acme, person_id, restricted=True)
    assert await facts(acme, ring, person_id, made) == ("restricted", True)
    await people.suspend(acme, person_id, although_last_owner=True)
    assert await facts(acme, ring, person_id, made) == ("suspended", True)
    assert (await loaded(acme)).find(made.key.encode()) == find(ring, made)
    await people.resume(acme, person_id)
    assert await facts(acme, ring, person_id, made) == ("restricted", True)
    await set_restricted(acme, person_id, restricted=False)
    assert await facts(acme, ring, person_id, made) == ("active", False)


async def test_suspended_then_restricted(acme: Pool) -> None:
    """The other way round; and lifting a restriction lets nobody sign in."""
    person_id = await make_person(acme, acme="owner")
    made, ring = await make(acme), await loaded(acme)
    await people.suspend(acme, person_id, although_last_owner=True)
    assert await facts(acme, ring, person_id, made) == ("suspended", False)
    await set_restricted(acme, person_id, restricted=True)
    assert await facts(acme, ring, person_id, made) == ("suspended", True)
    await set_restricted(acme, person_id, restricted=False)
    assert await facts(acme, ring, person_id, made) == ("suspended", False)
    await people.resume(acme, person_id)
    assert await facts(acme, ring, person_id, made) == ("active", False)


@pytest.mark.parametrize("lifted", [True, False])
async def test_what_the_release_before_writes_is_both_facts(acme: Pool, lifted: bool) -> None:
    """It writes the status alone, and keys' versions; while its processes run, nothing of it is lost here."""
    person_id = await make_person(acme, acme="owner")
    made, ring = await make(acme), await loaded(acme)

    async def write(status: str) -> None:
        await acme.execute("UPDATE person SET status = $1", status)
        await acme.execute("UPDATE change_version SET version = version + 1")

    await write("restricted")
    assert await facts(acme, ring, person_id, made) == ("restricted", True)
    await write("suspended")
    assert await facts(acme, ring, person_id, made) == ("suspended", True)
    await write("active" if lifted else "restricted")
    assert await facts(acme, ring, person_id, made) == (("active", False) if lifted else ("restricted", True))


async def test_who_was_restricted_and_suspended_before_stays_both(empty_database: Pool) -> None:
    """What was hidden then, the requests say."""
    files = schema.packaged()
    await schema.migrate(empty_database, files=tuple(file for file in files if file.version < 22))
    for n, (status, outcomes) in enumerate(
        [("restricted", ()), ("suspended", ("restricted",)), ("suspended", ("restricted", "lifted")), ("active", ())]
    ):
        person_id = await make_person(empty_database, f"p{n}@example.org", status=status)
        for day, outcome in enumerate(outcomes):
            await empty_database.execute(
                "INSERT INTO rights_request (reference, kind, state, channel, law, person_id, closed_at, outcome)"
                " VALUES ($1, 'restrict', 'done', 'self', 'gdpr', $2, now() + $3 * interval '1 day', $4)",
                f"{'ABCD'[n]}{'ABCD'[day]}" + "A" * 24, person_id, day, outcome,
            )  # fmt: skip
    await schema.migrate(empty_database)
    rows = await empty_database.fetch("SELECT status, restricted_at IS NOT NULL AS r FROM person ORDER BY email")
    assert [tuple(row) for row in rows] == [
        ("restricted", True), ("suspended", True), ("suspended", False), ("active", False),
    ]  # fmt: skip


@pytest.mark.parametrize("outcome", ["restricted", "lifted"])
async def test_what_the_release_before_says_of_who_is_suspended_holds(acme: Pool, outcome: str) -> None:
    """It says it in the request alone, and its processes may run beside ours, or instead of ours for a while."""
    person_id = await make_person(acme, acme="owner")
    await people.suspend(acme, person_id, although_last_owner=True)
    async with acme.acquire() as connection:
        if outcome == "lifted":
            await rights.set_restricted(connection, person_id, restricted=True)
        asked = await rights.insert(connection, Right.RESTRICT, Law.GDPR, "self", State.OPEN, person_id=person_id)
        await rights.end(connection, asked.request_id, State.DONE, outcome)
    await people.resume(acme, person_id)
    status = await acme.fetchval("SELECT status FROM person WHERE person_id = $1", person_id)
    assert status == {"restricted": "restricted", "lifted": "active"}[outcome]


async def test_a_key_that_was_erased_is_not_taken_over(acme: Pool) -> None:
    """It would be the account's own, its usage would lead to nobody, and the next start would erase it again."""
    made = await make(acme)
    lines = [line.encode() for line in (await transfer.export_lines(acme)).lines]
    async with acme.acquire() as connection:
        subject = Subject([], [], [made.info.key_id], [])
        await tombstones.insert(connection, await tombstones.of_subject(connection, subject, _NOW))
    await acme.execute("DELETE FROM api_key")
    with pytest.raises(RefusedError, match=r"Line 1: .*erased"):
        await transfer.import_lines(acme, lines)


def test_a_tombstone_that_a_full_disk_cuts_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk takes a part and says how much: nothing is erased on that, and the next one is whole."""
    whole = os.write
    grave = Tombstone(b"h" * 32, _NOW)
    monkeypatch.setattr(os, "write", lambda descriptor, data: whole(descriptor, data[:20]))
    with pytest.raises(StoreError):
        tombstones.append(tmp_path, [grave])
    monkeypatch.undo()
    tombstones.append(tmp_path, [grave])
    assert tombstones.read(tmp_path) == [grave]
