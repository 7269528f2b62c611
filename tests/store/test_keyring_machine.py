"""Key ring and pepper rotation as a state machine: any order of changes, uses, writes, restarts and laggards.

What must hold for every ring that has caught up: a live key is known or waits to be proven, never both nor neither; a
key that is revoked or suspended is neither. One that is known is found unless its account is suspended, with what its
account and its member say at that moment.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule, run_state_machine_as_test

from luntrex_proxy.core.apikeys import lookup_hash
from luntrex_proxy.core.consents import TRAINING_BIT, Purpose
from luntrex_proxy.core.policy import read_policy
from luntrex_proxy.core.scope import Scope
from luntrex_proxy.store import accounts, apikeys, consents, members, people, rights
from luntrex_proxy.store.apikeys import NewKey
from luntrex_proxy.store.database import Pool, close_pool, open_pool
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.keyring import KeyRing
from luntrex_proxy.store.pepper import Lookup
from luntrex_proxy.store.upkeep import KeyUpkeep
from tests.people import make_person
from tests.store.keys import catch_up, find, set_peppers

RINGS = 3
WATCHED = st.none() | st.integers(0, RINGS - 1)  # a ring that has keys in use as the change comes, and follows at once
POLICIES = ("region=eu; retention=none; training=never", "retention=none; training=never")


@dataclass
class Account:
    """What an account says, as simply as it can be kept."""

    works: bool = True
    policy: str | None = None
    trains: bool = False
    members: set[uuid.UUID] = field(default_factory=set)


class Machine(RuleBasedStateMachine):
    """`present` and `old` are the installation's peppers; each ring has those it was started with."""

    keys = Bundle("keys")
    runner: asyncio.Runner
    pool: Pool

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[str, bool] = {}
        self.made: list[NewKey] = []
        self.peppers = 0
        self.present = self.pepper()
        self.old: Lookup | None = None
        self.accounts = {"acme": Account()}
        self.restricted: set[uuid.UUID] = set()
        self.suspended: set[uuid.UUID] = set()

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    def pepper(self) -> Lookup:
        self.peppers += 1
        return Lookup(bytes([self.peppers]) * 32, bytes([self.peppers]) * 16)

    @initialize()
    def begin(self) -> None:
        self.run(
            self.pool.execute(
                "TRUNCATE api_key, account, person, consent RESTART IDENTITY CASCADE;"
                " UPDATE change_version SET version = 0, removed_version = 0"
            )
        )
        self.run(accounts.create(self.pool, "acme"))
        self.people = [self.run(make_person(self.pool, f"p{n}@example.org", acme="owner")) for n in range(2)]
        self.accounts["acme"].members = set(self.people)
        self.run(set_peppers(self.pool, self.present))
        self.rings = [self.start() for _ in range(RINGS)]

    def held(self) -> Lookup:
        """What a machine has that was given every file."""
        return Lookup(self.present.key, self.present.fingerprint, self.old)

    def start(self) -> KeyRing:
        ring = KeyRing(self.held())
        self.run(ring.load(self.pool))
        return ring

    def make(self, account: str, lookup: Lookup, owner: uuid.UUID | None = None) -> NewKey:
        person_id = None if owner is None else str(owner)
        name = f"k{len(self.made)}"
        made: NewKey = self.run(apikeys.create(self.pool, lookup, account, name, person_id=person_id, bcrypt_cost=4))
        self.made.append(made)
        self.live[made.info.key_id] = True
        return made

    @rule(target=keys, laggard=st.booleans(), owned=st.booleans())
    def create(self, laggard: bool, owned: bool) -> NewKey:
        """The account's own, or one of its first member's."""
        if not self.accounts["acme"].works:
            self.pause_all("acme", True)
        lookup = self.old if laggard and self.old else self.held()
        ada = self.people[0]
        return self.make("acme", lookup, ada if owned and ada not in self.suspended else None)

    @rule(target=keys, policy=st.sampled_from([None, *POLICIES]))
    def create_account(self, policy: str | None) -> NewKey:
        """Its policy is no change of it: it came with it."""
        name = f"a{len(self.made)}"
        self.run(accounts.create(self.pool, name, policy))
        self.accounts[name] = Account(policy=policy)
        return self.make(name, self.held())

    @rule(made=consumes(keys))
    def revoke(self, made: NewKey) -> None:
        self.run(apikeys.revoke(self.pool, made.info.key_id))
        self.live[made.info.key_id] = False

    @rule(made=consumes(keys), ring=WATCHED)
    def remove(self, made: NewKey, ring: int | None) -> None:
        """As an erasure does: its row goes in another transaction than the one that revokes it."""
        self.run(apikeys.revoke(self.pool, made.info.key_id))
        self.live[made.info.key_id] = False
        if ring is not None:
            self.compare(ring)
        self.run(self.pool.execute("UPDATE api_key SET rotated_from = NULL WHERE rotated_from = $1", made.info.key_id))
        self.run(self.pool.execute("DELETE FROM api_key WHERE key_id = $1", made.info.key_id))

    @rule(made=keys, works=st.booleans())
    def pause(self, made: NewKey, works: bool) -> None:
        owner = made.info.person_id
        try:
            self.run((apikeys.resume if works else apikeys.suspend)(self.pool, made.info.key_id))
        except RefusedError:
            assert works
            assert owner in {str(person_id) for person_id in self.suspended}
        else:
            self.live[made.info.key_id] = works

    def some_account(self, number: int) -> str:
        return list(self.accounts)[number % len(self.accounts)]

    @contextlib.contextmanager
    def watched(self, ring: int | None) -> Iterator[None]:
        if ring is not None:
            self.compare(ring)
        yield
        if ring is not None:
            self.compare(ring)

    @rule(number=st.integers(0, 3), works=st.booleans(), ring=WATCHED)
    def pause_account(self, number: int, works: bool, ring: int | None) -> None:
        with self.watched(ring):
            self.pause_all(self.some_account(number), works)

    def pause_all(self, name: str, works: bool) -> None:
        self.run((accounts.resume if works else accounts.suspend)(self.pool, name))
        self.accounts[name].works = works

    @rule(number=st.integers(0, 3), policy=st.sampled_from([None, *POLICIES]), ring=WATCHED)
    def set_policy(self, number: int, policy: str | None, ring: int | None) -> None:
        name = self.some_account(number)
        with self.watched(ring):
            self.run(accounts.set_policy(self.pool, name, policy))
            self.accounts[name].policy = policy

    @rule(number=st.integers(0, 3), ring=WATCHED)
    def consent(self, number: int, ring: int | None) -> None:
        """Give it, or take it back."""
        name = self.some_account(number)
        account = self.accounts[name]
        with self.watched(ring):
            self.run((consents.withdraw if account.trains else consents.give)(self.pool, name, Purpose.TRAINING))
            account.trains = not account.trains

    @rule(number=st.integers(0, 1), ring=WATCHED)
    def restrict(self, number: int, ring: int | None) -> None:
        """Or no more."""
        person_id = self.people[number]

        async def body() -> bool:
            async with self.pool.acquire() as connection, connection.transaction():
                return await rights.set_restricted(connection, person_id, restricted=person_id not in self.restricted)

        with self.watched(ring):
            assert self.run(body())
            self.restricted ^= {person_id}

    @rule(number=st.integers(0, 1))
    def suspend_person(self, number: int) -> None:
        """Or let them in again; their keys wait to be resumed."""
        person_id = self.people[number]
        if person_id in self.suspended:
            self.run(people.resume(self.pool, person_id))
        else:
            self.run(people.suspend(self.pool, person_id, although_last_owner=True))
            self.live |= {key.info.key_id: False for key in self.made if key.info.person_id == str(person_id)}
        self.suspended ^= {person_id}

    @rule()
    def join_or_leave(self) -> None:
        """The second member, who has no key of their own."""
        account, bob = self.accounts["acme"], self.people[1]
        if bob not in account.members:
            self.run(members.put_person(self.pool, 1, bob, "owner"))
        elif self.people[0] not in self.suspended:  # else they would be the last owner
            self.run(members.remove(self.pool, 1, bob))
        else:
            return
        account.members ^= {bob}

    @rule(made=keys)
    def limit(self, made: NewKey) -> None:
        """A change that takes nothing away."""
        self.run(apikeys.limit(self.pool, made.info.key_id, Scope(models=("m",)), ["models"]))

    @rule()
    def rotate(self) -> None:
        if self.old is None:
            self.old, self.present = self.present, self.pepper()
            self.run(set_peppers(self.pool, self.present, self.old))

    @rule()
    def finish(self) -> None:
        self.old = None
        self.run(set_peppers(self.pool, self.present))

    @rule()
    def lose(self) -> None:
        self.old, self.present = None, self.pepper()
        self.run(set_peppers(self.pool, self.present))

    @rule(number=st.integers(0, RINGS - 1))
    def restart(self, number: int) -> None:
        self.rings[number] = self.start()

    @rule(number=st.integers(0, RINGS - 1), made=keys)
    def use(self, number: int, made: NewKey) -> None:
        find(self.rings[number], made)

    @rule(number=st.integers(0, RINGS - 1), made=keys)
    def prove(self, number: int, made: NewKey) -> None:
        ring = self.rings[number]

        async def body() -> None:
            async with self.pool.acquire() as connection:
                caller = await ring.read_live(connection, made.info.key_id)
            if caller is not None and made.info.key_id in ring.unproven:
                ring.accept(caller, made.key.encode())

        self.run(body())

    @rule(number=st.integers(0, RINGS - 1))
    def write(self, number: int) -> None:
        self.run(KeyUpkeep(self.rings[number], self.pool).write_renewed())

    @rule(number=st.integers(0, RINGS - 1))
    def compare(self, number: int) -> None:
        """The invariant, for a ring that has heard all there is."""
        ring = self.rings[number]
        self.run(catch_up(ring, self.pool))
        for made in self.made:
            account = self.accounts[made.info.account]
            lives, waits = self.live[made.info.key_id], made.info.key_id in ring.unproven
            assert lives or not waits
            caller = find(ring, made)
            assert (caller is not None) == (lives and account.works and not waits), (made.info, lives, waits)
            if caller is None:
                continue
            owner = made.info.person_id
            of_whom = account.members if owner is None else {uuid.UUID(owner)}
            assert (caller.scope is not None and caller.scope.is_restricted) == bool(
                of_whom and of_whom <= self.restricted
            )
            assert caller.policy == (None if account.policy is None else read_policy(account.policy))
            assert caller.consents == TRAINING_BIT * account.trains
        assert len(ring) + len(ring.unproven) == sum(self.live.values())
        known = {
            lookup_hash(made.key.encode(), lookup.key)
            for lookup in (ring.lookup, ring._old)
            if lookup is not None
            for made in self.made
            if self.live[made.info.key_id]
        }
        assert not [hashed for hashed in ring._moved.values() if hashed not in known]


def test_any_order_of_things(database_dsn: str) -> None:
    """Random programs of up to 30 steps."""
    with asyncio.Runner() as runner:
        pool = runner.run(open_pool(database_dsn, max_size=2))
        try:
            run_state_machine_as_test(
                type("OnePool", (Machine,), {"runner": runner, "pool": pool}),
                settings=settings(
                    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
                ),
            )
        finally:
            runner.run(close_pool(pool))
