"""Keys that only bcrypt can tell: proven once, one at a time, and no flood reaches it."""

import asyncio
import contextlib
import gc
import itertools
import threading
import time
from collections.abc import Callable

import bcrypt
import pytest

from luntrex_proxy.core.access import Caller, KeysBusyError
from luntrex_proxy.core.apikeys import RANDOM_BYTES, checksum, make_key
from luntrex_proxy.core.policy import read_policy
from luntrex_proxy.core.scope import Scope
from luntrex_proxy.store import accounts, apikeys, proving
from luntrex_proxy.store.apikeys import NewKey
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.proving import KEPT_FREE, WAITING_MAX, Prover
from luntrex_proxy.store.upkeep import KeyUpkeep
from tests.store.keys import ELSEWHERE, FIRST, HERE, SECOND, catch_up, find, loaded, make, set_peppers


class Counted:
    """bcrypt, and how often it was asked, and how many at a time."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.calls = 0
        self.running = 0
        self.most = 0
        self.pause_s = pause_s

    def __call__(self, given: bytes, hashed: bytes) -> bool:
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        time.sleep(self.pause_s)
        self.running -= 1
        return CHECKPW(given, hashed)


CHECKPW = bcrypt.checkpw


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Counts what reaches bcrypt."""
    counted = Counted()
    monkeypatch.setattr(proving.bcrypt, "checkpw", counted)
    return counted


async def lost(pool: Pool, count: int = 1) -> list[NewKey]:
    """Keys whose pepper is lost."""
    made = [await make(pool, f"k{n}", FIRST) for n in range(count)]
    await set_peppers(pool, SECOND)
    return made


def forged(made: NewKey, n: int = 0) -> bytes:
    """A well-formed key with this id and another secret."""
    checked_part = made.key[:16].encode() + make_key(bytes([n]) * RANDOM_BYTES)[1][16:59]
    return checked_part + checksum(checked_part)


async def test_a_key_is_proven_once_for_all(acme: Pool, checked: Counted) -> None:
    """The first use asks bcrypt; then this process and, through the table, all others find it by its hash."""
    (made,) = await lost(acme)
    ring, other = await loaded(acme, SECOND), await loaded(acme, SECOND)
    prover = Prover(ring, lambda: acme)
    assert find(ring, made) is None
    caller = await prover.prove(made.key.encode(), HERE)
    assert caller is not None
    assert caller.key_id == made.info.key_id
    assert (find(ring, made), checked.calls, ring.unproven) == (caller, 1, {})
    await KeyUpkeep(ring, acme).write_renewed()
    await catch_up(other, acme)
    assert find(other, made) == caller
    assert find(await loaded(acme, SECOND), made) == caller


async def test_only_unproven_ids_reach_bcrypt(acme: Pool, checked: Counted) -> None:
    """No key, other forms, bad checksums, unknown ids and ids of proven keys cost nothing."""
    (made,) = await lost(acme)
    proven = await make(acme, "proven", SECOND)
    ring = await loaded(acme, SECOND)
    prover = Prover(ring, lambda: acme, wrong_after_s=0.01)
    for key in (b"", b"lx_", b"sk-x", made.key.encode()[:-1] + b"!", forged(proven), make_key(bytes(RANDOM_BYTES))[1]):
        assert await prover.prove(key, HERE) is None
    assert checked.calls == 0
    assert await prover.prove(forged(made), HERE) is None
    assert checked.calls == 1


Kind = Callable[[NewKey, NewKey, int], bytes]
# What an attacker without a right key can send: an id that is unproven, one that is proven, one that nobody has.
KINDS: dict[str, Kind] = {
    "unproven": lambda unproven, proven, n: forged(unproven, n),
    "proven": lambda unproven, proven, n: forged(proven, n),
    "unknown": lambda unproven, proven, n: make_key(bytes([n]) + bytes(RANDOM_BYTES - 33) + bytes(32))[1],
}


async def answers(prover: Prover, keys: list[bytes], network: str = HERE) -> list[tuple[str, int]]:
    """What each of these keys at once gets, and after how many steps of 0.4 s; in the order in which they were sent."""

    async def one(key: bytes) -> tuple[str, int]:
        started_at = time.monotonic()
        try:
            caller = await prover.prove(key, network)
        except KeysBusyError:
            return "busy", round((time.monotonic() - started_at) / 0.4)
        assert caller is None
        return "wrong", round((time.monotonic() - started_at) / 0.4)

    return list(await asyncio.gather(*(one(key) for key in keys)))


@pytest.mark.parametrize("at_once", [1, 2, 10, 30])
async def test_no_answer_tells_whether_an_id_exists(acme: Pool, checked: Counted, at_once: int) -> None:
    """Wrong keys for one id, one, two, many or too many at once, again and again: the same answers at the same moments.

    The database is away for all of it: it could only be missed where there is something to ask.
    """
    (unproven,) = await lost(acme)
    proven = await make(acme, "proven", SECOND)

    def away() -> Pool:
        raise ConnectionRefusedError

    async def attack(kind: Kind) -> list[list[tuple[str, int]]]:
        prover = Prover(await loaded(acme, SECOND), away, wrong_after_s=0.8)
        rounds = [
            await answers(prover, [kind(unproven, proven, n * 4 + turn) for n in range(at_once)]) for turn in range(3)
        ]
        return [*rounds, await answers(prover, [kind(unproven, proven, 200 + n) for n in range(2)], ELSEWHERE)]

    checked.pause_s = 0.01
    said = dict(zip(KINDS, await asyncio.gather(*map(attack, KINDS.values())), strict=True))
    assert said["unproven"] == said["unknown"]
    assert said["proven"] == said["unknown"]
    assert ("busy", 0) in said["unknown"][1 if at_once > 5 else 2] or at_once < 3
    assert said["unknown"][-1] == [("wrong", 2)] * 2, "another network has its own failures"
    assert checked.calls > 0


async def test_other_networks_do_not_see_it_either(acme: Pool, checked: Counted) -> None:
    """Whether an attack on an id reaches bcrypt shows nowhere: not in how many others are looked at meanwhile."""
    (unproven,) = await lost(acme)
    proven = await make(acme, "proven", SECOND)
    said = {}
    for name, kind in KINDS.items():
        prover = Prover(await loaded(acme, SECOND), lambda: acme, wrong_after_s=0.8)
        attack = asyncio.create_task(answers(prover, [kind(unproven, proven, n) for n in range(20)]))
        await asyncio.sleep(0)
        said[name] = [await answers(prover, [KINDS["unknown"](unproven, proven, 100 + n) for n in range(8)], ELSEWHERE)]
        said[name].append(await attack)
    assert said["unproven"] == said["proven"] == said["unknown"]
    assert [answer for answer, _ in said["unknown"][1]].count("wrong") == WAITING_MAX - KEPT_FREE


async def test_a_network_that_sends_wrong_keys_for_an_id_waits_and_its_owner_does_not(
    acme: Pool, checked: Counted
) -> None:
    """Five wrong keys for one id from one network, and it waits a minute with that id; the owner elsewhere gets in."""
    made, other = await lost(acme, 2)
    prover = Prover(await loaded(acme, SECOND), lambda: acme, wrong_after_s=0.001)
    for n in range(6):
        assert await prover.prove(forged(made, n), HERE) is None
    for key in (forged(made), made.key.encode()):
        with pytest.raises(KeysBusyError):
            await prover.prove(key, HERE)
    assert checked.calls == 6
    assert await prover.prove(other.key.encode(), HERE) is not None
    assert await prover.prove(made.key.encode(), ELSEWHERE) is not None


async def test_the_owner_gets_in_during_an_attack(acme: Pool, checked: Counted) -> None:
    """Many networks send wrong keys for one id without end: places stay free for one that did not."""
    (made,) = await lost(acme)
    checked.pause_s = 0.01
    prover = Prover(await loaded(acme, SECOND), lambda: acme, wrong_after_s=0.3)

    async def attack(network: int) -> None:
        for n in itertools.count(network):
            with contextlib.suppress(KeysBusyError):
                await prover.prove(forged(made, n % 256), f"203.0.{network}.0/24")
            await asyncio.sleep(0.01)

    attackers = [asyncio.create_task(attack(network)) for network in range(40)]
    try:
        async with asyncio.timeout(20):  # until each has sent a wrong key
            while not all(prover._failed.owes(f"203.0.{network}.0/24", time.monotonic()) for network in range(40)):
                await asyncio.sleep(0.01)
            while len(prover._checks) != WAITING_MAX - KEPT_FREE:
                await asyncio.sleep(0.01)
        caller = await asyncio.wait_for(prover.prove(made.key.encode(), ELSEWHERE), 5)
        assert caller is not None
    finally:
        for attacker in attackers:
            attacker.cancel()
        await asyncio.gather(*attackers, return_exceptions=True)


async def test_one_at_a_time_and_few_wait(acme: Pool, checked: Counted) -> None:
    """Of many keys of one network one is at bcrypt, twelve wait, the others come back later; all work in the end."""
    made = await lost(acme, WAITING_MAX + 4)
    checked.pause_s = 0.01
    ring = await loaded(acme, SECOND)
    prover = Prover(ring, lambda: acme)
    got = await asyncio.gather(*(prover.prove(one.key.encode(), HERE) for one in made), return_exceptions=True)
    assert sum(isinstance(one, Caller) for one in got) == WAITING_MAX - KEPT_FREE
    assert sum(isinstance(one, KeysBusyError) for one in got) == 4 + KEPT_FREE
    assert checked.most == 1
    for one in made:
        assert find(ring, one) or await prover.prove(one.key.encode(), HERE)
    assert len(ring) == len(made)


async def test_retries_of_one_client_wait_for_one_check(acme: Pool, checked: Counted) -> None:
    """The same key ten times at once is one bcrypt; another key for the same id is looked at after it."""
    (made,) = await lost(acme)
    checked.pause_s = 0.1
    prover = Prover(await loaded(acme, SECOND), lambda: acme, wrong_after_s=0.01)
    running = [asyncio.create_task(prover.prove(made.key.encode(), HERE)) for _ in range(10)]
    await asyncio.sleep(0)
    wrong = asyncio.create_task(prover.prove(forged(made), HERE))
    await asyncio.sleep(0)
    running[0].cancel()  # the client that asked first leaves
    got = await asyncio.gather(*running[1:])
    assert {caller.key_id for caller in got if caller} == {made.info.key_id}
    assert len(got) == 9
    assert checked.calls <= 2
    assert await wrong is None
    assert checked.calls == 2


async def test_revoked_meanwhile(acme: Pool, checked: Counted) -> None:
    """The row is read once bcrypt is done: a key revoked a moment ago is wrong, before the ring hears of it."""
    (made,) = await lost(acme)
    ring = await loaded(acme, SECOND)
    await apikeys.revoke(acme, made.info.key_id)
    assert await Prover(ring, lambda: acme, wrong_after_s=0.01).prove(made.key.encode(), HERE) is None
    await catch_up(ring, acme)
    assert ring.unproven == {}
    assert find(ring, made) is None


async def test_revoked_while_bcrypt_runs(acme: Pool, checked: Counted) -> None:
    """The ring has heard of it before the proof is done: the key gets in no more, for nothing would ever cut it."""
    (made,) = await lost(acme)
    ring = await loaded(acme, SECOND)
    checked.pause_s = 0.3
    running = asyncio.create_task(Prover(ring, lambda: acme, wrong_after_s=0.01).prove(made.key.encode(), HERE))
    while not checked.running:
        await asyncio.sleep(0.005)
    await apikeys.revoke(acme, made.info.key_id)
    await catch_up(ring, acme)
    assert checked.running
    assert await running is None


async def test_without_the_database_nothing_is_wrong(acme: Pool) -> None:
    """503, not 401, and the id keeps its good name."""
    (made,) = await lost(acme)
    ring = await loaded(acme, SECOND)

    def away() -> Pool:
        raise ConnectionRefusedError

    for _ in range(10):
        with pytest.raises(KeysBusyError):
            await Prover(ring, away).prove(made.key.encode(), HERE)
    assert await Prover(ring, lambda: acme).prove(made.key.encode(), HERE) is not None


async def test_what_changed_while_the_row_was_read_holds(acme: Pool) -> None:
    """The ring hears of a new limit while the row without it is on its way: it is read again."""
    (made,) = await lost(acme)
    ring = await loaded(acme, SECOND)
    prover = Prover(ring, lambda: acme)
    read, reads = prover._read, 0

    async def slow(key_id: str) -> Caller | None:
        nonlocal reads
        caller, reads = await read(key_id), reads + 1
        if reads == 1:
            await apikeys.limit(acme, key_id, Scope(models=("m",)), ["models"])
            await catch_up(ring, acme)
        return caller

    prover._read = slow  # type: ignore[method-assign]  # the moment between reading and taking in
    caller = await prover.prove(made.key.encode(), HERE)
    assert caller is not None
    assert (caller.scope, reads) == (Scope(models=("m",)), 2)


async def test_nobody_complains_when_all_have_left(acme: Pool) -> None:
    """A check that fails when nobody waits for it any more is no error that nobody took."""
    (made,) = await lost(acme)
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    def away() -> Pool:
        raise ConnectionRefusedError

    prover = Prover(await loaded(acme, SECOND), away)
    asked = asyncio.create_task(prover.prove(made.key.encode(), HERE))
    await asyncio.sleep(0)
    asked.cancel()
    while prover._checks:
        await asyncio.sleep(0.01)
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


async def test_what_changed_while_bcrypt_worked_holds(acme: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits and the account's policy that arrive meanwhile are those of the caller that comes out."""
    (made,) = await lost(acme)
    ring = await loaded(acme, SECOND)
    started, go_on = threading.Event(), threading.Event()

    def slow(given: bytes, hashed: bytes) -> bool:
        started.set()
        go_on.wait(10)
        return CHECKPW(given, hashed)

    monkeypatch.setattr(proving.bcrypt, "checkpw", slow)
    proof = asyncio.create_task(Prover(ring, lambda: acme).prove(made.key.encode(), HERE))
    await asyncio.to_thread(started.wait, 10)
    await apikeys.limit(acme, made.info.key_id, Scope(models=("m",)), ["models"])
    await accounts.set_policy(acme, "acme", "retention=none; training=never")
    await catch_up(ring, acme)
    go_on.set()
    caller = await proof
    assert caller is not None
    assert caller.scope == Scope(models=("m",))
    assert caller.policy == read_policy("retention=none; training=never")


async def test_a_hash_that_bcrypt_never_made_is_a_wrong_key(acme: Pool) -> None:
    """Nothing breaks, and the answer is that of any wrong key."""
    (made,) = await lost(acme)
    await acme.execute("UPDATE api_key SET bcrypt_hash = '$2b$03$' || repeat('a', 53)")
    prover = Prover(await loaded(acme, SECOND), lambda: acme, wrong_after_s=0.01)
    assert await prover.prove(made.key.encode(), HERE) is None
