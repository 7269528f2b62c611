"""Two peppers at a time: every key is found by either, moves to the present one when used, and leaves when revoked."""

from typing import Any

import pytest

from luntrex_proxy.core.apikeys import lookup_hash
from luntrex_proxy.core.consents import TRAINING_BIT, Purpose
from luntrex_proxy.core.policy import read_policy
from luntrex_proxy.core.scope import ONLY_STORED, Scope
from luntrex_proxy.store import accounts, apikeys, consents, rights
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.keyring import KeyRing
from luntrex_proxy.store.pepper import Lookup
from luntrex_proxy.store.upkeep import KeyUpkeep
from tests.people import make_person
from tests.store.keys import BOTH, FIRST, SECOND, catch_up, find, in_use, loaded, make, set_peppers


async def test_a_key_made_before_is_found_and_moves_when_used(acme: Pool) -> None:
    """By the old hash once, by the new one from then on; the table has both, so that processes with one work too."""
    await set_peppers(acme, FIRST)
    made = await make(acme)
    await set_peppers(acme, SECOND, FIRST)
    lagging, modern = await loaded(acme, FIRST), await loaded(acme, BOTH)
    upkeep = KeyUpkeep(modern, acme)
    assert find(modern, made) == find(lagging, made) is not None
    assert modern.renewed == {made.info.key_id: lookup_hash(made.key.encode(), SECOND.key)}
    await upkeep.write_renewed()
    assert modern.renewed == {}
    (row,) = await acme.fetch("SELECT * FROM api_key")
    assert (row["pepper_fingerprint"], row["old_pepper_fingerprint"]) == (SECOND.fingerprint, FIRST.fingerprint)
    assert row["lookup_hash"] == lookup_hash(made.key.encode(), SECOND.key)
    for ring in (lagging, modern):
        await catch_up(ring, acme)
        assert find(ring, made) is not None
        assert len(ring) == 1
    for lookup in (FIRST, BOTH, SECOND):
        assert find(await loaded(acme, lookup), made) is not None


async def test_a_new_key_works_everywhere_in_a_rotation(acme: Pool) -> None:
    """It is made with both hashes where both peppers are."""
    await set_peppers(acme, SECOND, FIRST)
    made = await make(acme, lookup=BOTH)
    for lookup in (FIRST, BOTH, SECOND):
        assert find(await loaded(acme, lookup), made) is not None
    by_a_laggard = await make(acme, "other", FIRST)
    assert find(await loaded(acme, BOTH), by_a_laggard) is not None
    assert set((await loaded(acme, SECOND)).unproven) == {by_a_laggard.info.key_id}


@pytest.mark.parametrize("used", [True, False])
@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize("finished", ["no", "seen", "unseen"])
@pytest.mark.parametrize("holder", [FIRST, BOTH])
async def test_a_revoked_key_is_gone_whatever_happened_to_its_hashes(
    acme: Pool, used: bool, written: bool, finished: str, holder: object
) -> None:
    """Used or not, its new hash written by this or another process or not, the rotation finished or not: revoked is."""
    gone: set[str] = set()
    await set_peppers(acme, FIRST)
    made = await make(acme)
    await set_peppers(acme, SECOND, FIRST)
    ring = KeyRing(FIRST if holder is FIRST else BOTH, gone.update)
    await ring.load(acme)
    other = await loaded(acme, BOTH)
    if used:
        assert find(ring, made) is not None
    if written:
        assert find(other, made) is not None
        await KeyUpkeep(other, acme).write_renewed()
    if finished != "no":
        await set_peppers(acme, SECOND)
        await acme.execute("UPDATE api_key SET old_lookup_hash = NULL, old_pepper_fingerprint = NULL")
        if finished == "seen":
            await catch_up(ring, acme)
    await apikeys.revoke(acme, made.info.key_id)
    await catch_up(ring, acme)
    assert find(ring, made) is None
    assert len(ring) == 0
    assert ring.unproven == {}
    assert gone <= {made.info.key_id}


async def test_the_end_of_a_rotation_is_noticed_without_a_restart(acme: Pool) -> None:
    """Keys that moved stay, keys that did not must be proven, and the old pepper finds nothing any more."""
    await set_peppers(acme, FIRST)
    moved, unused = await make(acme, "moved"), await make(acme, "unused")
    await set_peppers(acme, SECOND, FIRST)
    ring = await loaded(acme, BOTH)
    assert find(ring, moved) is not None
    await KeyUpkeep(ring, acme).write_renewed()
    await set_peppers(acme, SECOND)
    await catch_up(ring, acme)
    assert find(ring, moved) is not None
    assert find(ring, unused) is None
    assert set(ring.unproven) == {unused.info.key_id}


async def test_a_process_without_the_present_pepper_writes_nothing(acme: Pool) -> None:
    """What it proves it keeps for itself: its hashes would help nobody."""
    await set_peppers(acme, SECOND, FIRST)
    made = await make(acme, lookup=SECOND)
    ring = await loaded(acme, FIRST)
    assert set(ring.unproven) == {made.info.key_id}
    async with acme.acquire() as connection:
        caller = await ring.read_live(connection, made.info.key_id)
    assert caller is not None
    ring.accept(caller, made.key.encode())
    await KeyUpkeep(ring, acme).write_renewed()
    assert await acme.fetchval("SELECT pepper_fingerprint FROM api_key") == SECOND.fingerprint
    assert find(ring, made) is not None
    await apikeys.revoke(acme, made.info.key_id)
    await catch_up(ring, acme)
    assert find(ring, made) is None


async def test_a_key_that_moved_and_then_changed_can_still_be_revoked(acme: Pool) -> None:
    """The place where this process alone holds it is remembered through other changes of the key."""
    await set_peppers(acme, FIRST)
    made = await make(acme)
    await set_peppers(acme, SECOND, FIRST)
    ring = await loaded(acme, BOTH)
    assert find(ring, made) is not None
    await apikeys.limit(acme, made.info.key_id, Scope(models=("m",)), ["models"])
    await catch_up(ring, acme)
    caller = find(ring, made)
    assert caller is not None
    assert caller.scope == Scope(models=("m",))
    await apikeys.revoke(acme, made.info.key_id)
    await catch_up(ring, acme)
    assert find(ring, made) is None
    assert len(ring) == 0


async def test_the_end_of_a_rotation_cuts_nobody(acme: Pool) -> None:
    """Keys that moved and keys that now have to be proven are not gone: what runs with them runs on."""
    gone: set[str] = set()
    await set_peppers(acme, FIRST)
    moved, unused = await make(acme, "moved"), await make(acme, "unused")
    await set_peppers(acme, SECOND, FIRST)
    ring = KeyRing(BOTH, gone.update, lambda: in_use(moved, unused))
    await ring.load(acme)
    assert find(ring, moved) is not None
    await set_peppers(acme, SECOND)
    await catch_up(ring, acme)
    assert gone == set()
    assert set(ring.unproven) == {moved.info.key_id, unused.info.key_id}


async def test_an_account_of_many_keys_is_one_row_to_change(acme: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it or its member says is one row, written and read, for all its keys; other accounts' are untouched."""
    await set_peppers(acme, FIRST)
    await accounts.create(acme, "other")
    mine = [await make(acme, f"k{n}") for n in range(3)]
    theirs = await apikeys.create(acme, FIRST, "other", "main", bcrypt_cost=4)
    gone: set[str] = set()
    ring = KeyRing(FIRST, gone.update, lambda: in_use(*mine, theirs))
    await ring.load(acme)
    versions = await acme.fetch("SELECT key_id, version FROM api_key ORDER BY key_id")
    read: list[object] = []
    monkeypatch.setattr(ring, "_change", read.append)
    at_hand = [find(ring, made) for made in mine]
    await accounts.suspend(acme, "acme")
    await catch_up(ring, acme)
    assert gone == {made.info.key_id for made in mine}
    assert not any(ring.at(ring.hash_of(made.key.encode())) for made in mine)
    assert find(ring, theirs) is not None
    await accounts.resume(acme, "acme")
    await catch_up(ring, acme)
    assert [find(ring, made) for made in mine] == at_hand
    member = await make_person(acme, acme="owner")
    async with acme.acquire() as connection, connection.transaction():
        await rights.set_restricted(connection, member, restricted=True)
    await accounts.set_policy(acme, "acme", "region=eu; retention=none; training=never")
    await consents.give(acme, "acme", Purpose.TRAINING)
    await catch_up(ring, acme)
    for caller in (ring.at(ring.hash_of(made.key.encode())) for made in mine):
        assert caller is not None
        assert caller.policy == read_policy("region=eu; retention=none; training=never")
        assert (caller.consents, caller.scope) == (TRAINING_BIT, ONLY_STORED)
    assert await acme.fetch("SELECT key_id, version FROM api_key ORDER BY key_id") == versions
    assert read == []


async def test_an_account_whose_policy_came_with_it_is_known_with_its_first_key(acme: Pool) -> None:
    """It was never changed: its first key brings it in, while many keys are read as well."""
    words = "region=eu; retention=none; training=never"
    ring = await loaded(acme)
    await accounts.create(acme, "strict", words)
    made = await apikeys.create(acme, FIRST, "strict", "main", bcrypt_cost=4)
    await catch_up(ring, acme)
    caller = find(ring, made)
    assert caller is not None
    assert caller.policy == read_policy(words)


async def test_a_process_whose_pepper_is_no_more_reads_all_keys_once(
    acme: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with each change; and a key that others write another hash over, where ours was, can still be revoked."""
    await set_peppers(acme, FIRST)
    made, late = await make(acme), await make(acme, "late")
    ring = await loaded(acme)
    await apikeys.suspend(acme, late.info.key_id)
    await catch_up(ring, acme)
    reads: list[object] = []
    read_all = ring._read_all

    async def counted(*values: Any, **more: Any) -> Any:
        reads.append(values)
        return await read_all(*values, **more)

    monkeypatch.setattr(ring, "_read_all", counted)
    await set_peppers(acme, SECOND)
    await catch_up(ring, acme)
    assert len(reads) == 1
    await apikeys.resume(acme, late.info.key_id)
    await catch_up(ring, acme)
    assert (find(ring, made) is not None, find(ring, late) is not None) == (True, True)
    await acme.execute("UPDATE api_key SET lookup_hash = sha256(key_id::bytea), pepper_fingerprint = $1", b"s" * 16)
    for key in (made, late):
        await apikeys.limit(acme, key.info.key_id, Scope(models=("m",)), ["models"])
    await catch_up(ring, acme)
    assert (find(ring, made) is not None, find(ring, late) is not None) == (True, True), "it is the same key"
    for key in (made, late):
        await apikeys.revoke(acme, key.info.key_id)
    await catch_up(ring, acme)
    assert (find(ring, made), find(ring, late), len(ring)) == (None, None, 0)
    assert len(reads) == 1
    await set_peppers(acme, Lookup(bytes(32), b"t" * 16))
    for _ in range(2):
        await catch_up(ring, acme)
        assert len(reads) == 2, "once for each pepper"
