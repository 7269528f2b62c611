"""Key ring and pepper rotation as a state machine: any order of changes, uses, writes, restarts and laggards.

What must hold for every ring that has caught up: a live key is found or waits to be proven, never both nor neither; a
key that is revoked or suspended is neither.
"""

import asyncio
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule, run_state_machine_as_test

from luntrex_proxy.core.apikeys import lookup_hash
from luntrex_proxy.core.scope import Scope
from luntrex_proxy.store import accounts, apikeys
from luntrex_proxy.store.apikeys import NewKey
from luntrex_proxy.store.database import Pool, close_pool, open_pool
from luntrex_proxy.store.keyring import KeyRing
from luntrex_proxy.store.pepper import Lookup
from luntrex_proxy.store.upkeep import KeyUpkeep
from tests.store.keys import catch_up, find, make, set_peppers

RINGS = 3


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
        self.account_works = True

    def run(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    def pepper(self) -> Lookup:
        self.peppers += 1
        return Lookup(bytes([self.peppers]) * 32, bytes([self.peppers]) * 16)

    @initialize()
    def begin(self) -> None:
        self.run(
            self.pool.execute(
                "TRUNCATE api_key, account RESTART IDENTITY CASCADE; UPDATE change_version SET version = 0"
            )
        )
        self.run(accounts.create(self.pool, "acme"))
        self.run(set_peppers(self.pool, self.present))
        self.rings = [self.start() for _ in range(RINGS)]

    def held(self) -> Lookup:
        """What a machine has that was given every file."""
        return Lookup(self.present.key, self.present.fingerprint, self.old)

    def start(self) -> KeyRing:
        ring = KeyRing(self.held())
        self.run(ring.load(self.pool))
        return ring

    @rule(target=keys, laggard=st.booleans())
    def create(self, laggard: bool) -> NewKey:
        if not self.account_works:
            self.run(accounts.resume(self.pool, "acme"))
            self.account_works = True
        lookup = self.old if laggard and self.old else self.held()
        made: NewKey = self.run(make(self.pool, f"k{len(self.made)}", lookup))
        self.made.append(made)
        self.live[made.info.key_id] = True
        return made

    @rule(made=consumes(keys))
    def revoke(self, made: NewKey) -> None:
        self.run(apikeys.revoke(self.pool, made.info.key_id))
        self.live[made.info.key_id] = False

    @rule(made=keys, works=st.booleans())
    def pause(self, made: NewKey, works: bool) -> None:
        self.run((apikeys.resume if works else apikeys.suspend)(self.pool, made.info.key_id))
        self.live[made.info.key_id] = works

    @rule(works=st.booleans())
    def pause_all(self, works: bool) -> None:
        self.run((accounts.resume if works else accounts.suspend)(self.pool, "acme"))
        self.account_works = works

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
            works = self.live[made.info.key_id] and self.account_works
            found = find(ring, made) is not None
            waits = made.info.key_id in ring.unproven
            assert found + waits == works, (made.info.key_id, works, found, waits)
        assert len(ring) + len(ring.unproven) == sum(self.live.values()) * self.account_works
        known = {lookup_hash(made.key.encode(), ring.lookup.key) for made in self.made if self.live[made.info.key_id]}
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
