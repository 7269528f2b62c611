"""What accounts say of their keys: in little memory, and in time also while there is much of it to read."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.core.policy import NOTHING, read_policy
from luntrex_proxy.store import accounts, apikeys, newest, standings
from luntrex_proxy.store.accountsaid import ORDINARY, Said, SaidByAccounts
from luntrex_proxy.store.database import Connection, Pool
from luntrex_proxy.store.keyring import KeyRing
from tests.postgres import LOOKUP
from tests.store.keys import find, in_use, make

POLICY = "region=eu; retention=none; training=never"
SAID = st.builds(Said, st.booleans(), st.sampled_from([None, NOTHING, read_policy(POLICY)]), st.integers(0, 3))
IDS = st.one_of(st.integers(1, 600), st.integers(1, 2**63 - 1))


@given(st.lists(st.tuples(IDS, SAID), max_size=60))
def test_each_account_says_what_it_said_last(acts: list[tuple[int, Said]]) -> None:
    """Whatever others say, and numbers of what nobody says any more are given away again."""
    told, model = SaidByAccounts(), dict[int, Said]()
    for account_id, said in acts:
        assert told.put(account_id, said) == (model.get(account_id, ORDINARY) != said)
        model[account_id] = said
        assert {each: told.get(each) for each in model} == model
        assert told.get(account_id ^ 1) == model.get(account_id ^ 1, ORDINARY)
        assert len(told._numbers) == len({*model.values(), ORDINARY})
    assert len(told._said) <= len(told._numbers) + len(told._free)


@pytest.mark.parametrize("stopped_by", ["revoked", "suspended"])
async def test_while_many_accounts_are_read_a_stop_does_not_wait_either(
    acme: Pool, monkeypatch: pytest.MonkeyPatch, stopped_by: str
) -> None:
    """A million accounts that each say something of their one key, and somebody is erased."""
    monkeypatch.setattr(newest, "_EVERY_S", 0.0)
    monkeypatch.setattr(standings, "_BATCH_ROWS", 1)
    await acme.execute(f"INSERT INTO account (name, policy) SELECT n, '{POLICY}' FROM generate_series(1, 1000) n")
    made = await make(acme)
    gone: set[str] = set()
    ring = KeyRing(LOOKUP, gone.update, lambda: in_use(made))
    await ring.load(acme)
    key, found, stopping = made.key.encode(), [], []

    async def stop() -> None:
        await (apikeys.revoke(acme, made.info.key_id) if stopped_by == "revoked" else accounts.suspend(acme, "acme"))
        await accounts.create(acme, "new", POLICY)
        stopping.append(await apikeys.create(acme, LOOKUP, "new", "k", bcrypt_cost=4))

    def on_answer() -> None:
        if ring.seen.readings == 1:
            found.append(ring.find(key) is not None)
        if len(found) == 100 and not stopping:
            stopping.append(asyncio.ensure_future(stop()))

    await acme.execute("UPDATE change_version SET version = version + 1, removed_version = version + 1")
    async with acme.acquire() as connection:
        await ring.catch_up(connection, on_answer)
    assert len(found) > 1000
    assert found[0]
    assert not found[-1]
    assert gone == {made.info.key_id}
    assert find(ring, made) is None, "it does not come back either"
    caller = find(ring, stopping[1])
    assert caller is not None
    assert caller.policy == read_policy(POLICY), "of an account made meanwhile"


async def test_a_key_that_changes_while_a_process_starts_does_not_keep_it_from_starting(
    acme: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many keys and accounts that takes a while, and somebody always makes or ends a key."""
    monkeypatch.setattr(newest, "_EVERY_S", 0.0)
    monkeypatch.setattr(standings, "_BATCH_ROWS", 1)
    await acme.execute(f"INSERT INTO account (name, policy) SELECT n, '{POLICY}' FROM generate_series(1, 1000) n")
    revoked = await make(acme)
    ring = KeyRing(LOOKUP)
    looks, made = 0, []
    look = newest.Newest.read

    async def change_amid(self: newest.Newest, connection: Connection, on_answer: Callable[[], None]) -> None:
        nonlocal looks
        looks += 1
        if looks == 500:
            await apikeys.revoke(acme, revoked.info.key_id)
            made.append(await make(acme, "made"))
        await look(self, connection, on_answer)

    monkeypatch.setattr(newest.Newest, "read", change_amid)
    await ring.load(acme)
    assert looks > 1000
    assert ring.newest > ring.version, "it was heard of while all was read"
    assert find(ring, revoked) is None
    assert find(ring, made[0]) is not None
