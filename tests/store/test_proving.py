"""Keys that only bcrypt can tell: proven once, one at a time, and no flood reaches it."""

import asyncio
import threading
import time

import bcrypt
import pytest

from luntrex_proxy.core.access import Caller, KeysBusyError
from luntrex_proxy.core.apikeys import RANDOM_BYTES, make_key
from luntrex_proxy.core.policy import read_policy
from luntrex_proxy.core.scope import Scope
from luntrex_proxy.store import accounts, apikeys, proving
from luntrex_proxy.store.apikeys import NewKey
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.proving import WAITING_MAX, Prover
from luntrex_proxy.store.upkeep import KeyUpkeep
from tests.store.keys import FIRST, SECOND, catch_up, find, loaded, make, set_peppers


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
    from luntrex_proxy.core.apikeys import _checksum

    checked_part = made.key[:16].encode() + make_key(bytes([n]) * RANDOM_BYTES)[1][16:59]
    return checked_part + _checksum(checked_part)


async def test_a_key_is_proven_once_for_all(acme: Pool, checked: Counted) -> None:
    """The first use asks bcrypt; then this process and, through the table, all others find it by its hash."""
    (made,) = await lost(acme)
    ring, other = await loaded(acme, SECOND), await loaded(acme, SECOND)
    prover = Prover(ring, lambda: acme)
    assert find(ring, made) is None
    caller = await prover.prove(made.key.encode())
    assert caller is not None
    assert caller.key_id == made.info.key_id
    assert (find(ring, made), checked.calls, ring.unproven) == (caller, 1, set())
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
        assert await prover.prove(key) is None
    assert checked.calls == 0
    assert await prover.prove(forged(made)) is None
    assert checked.calls == 1


async def test_a_wrong_key_is_answered_at_the_same_moments_for_known_and_unknown_ids(
    acme: Pool, checked: Counted
) -> None:
    """Both are answered at a whole step from their arrival, however long bcrypt took."""
    (made,) = await lost(acme)
    checked.pause_s = 0.05
    prover = Prover(await loaded(acme, SECOND), lambda: acme, wrong_after_s=0.2)
    took = []
    for key in (forged(made), make_key(bytes(RANDOM_BYTES))[1]):
        started_at = time.monotonic()
        assert await prover.prove(key) is None
        took.append(time.monotonic() - started_at)
    assert all(0.2 <= seconds < 0.39 for seconds in took), took


async def test_an_id_for_which_wrong_keys_come_waits(acme: Pool, checked: Counted) -> None:
    """After five wrong keys for one id a minute passes before bcrypt is asked about it again; other ids go on."""
    made, other = await lost(acme, 2)
    prover = Prover(await loaded(acme, SECOND), lambda: acme, wrong_after_s=0.001)
    for n in range(6):
        assert await prover.prove(forged(made, n)) is None
    for key in (forged(made), made.key.encode()):
        with pytest.raises(KeysBusyError):
            await prover.prove(key)
    assert checked.calls == 6
    assert await prover.prove(other.key.encode()) is not None


async def test_one_at_a_time_and_few_wait(acme: Pool, checked: Counted) -> None:
    """Of many keys at once one is at bcrypt, sixteen wait, the others are told to come back; all work in the end."""
    made = await lost(acme, WAITING_MAX + 4)
    checked.pause_s = 0.01
    ring = await loaded(acme, SECOND)
    prover = Prover(ring, lambda: acme)
    got = await asyncio.gather(*(prover.prove(one.key.encode()) for one in made), return_exceptions=True)
    assert sum(isinstance(one, Caller) for one in got) == WAITING_MAX
    assert sum(isinstance(one, KeysBusyError) for one in got) == 4
    assert checked.most == 1
    for one in made:
        assert find(ring, one) or await prover.prove(one.key.encode())
    assert len(ring) == len(made)


async def test_retries_of_one_client_wait_for_one_check(acme: Pool, checked: Counted) -> None:
    """The same key ten times at once is one bcrypt; another key for the same id meanwhile has to come back."""
    (made,) = await lost(acme)
    checked.pause_s = 0.1
    prover = Prover(await loaded(acme, SECOND), lambda: acme)
    running = [asyncio.create_task(prover.prove(made.key.encode())) for _ in range(10)]
    await asyncio.sleep(0)
    with pytest.raises(KeysBusyError):
        await prover.prove(forged(made))
    running[0].cancel()  # the client that asked first leaves
    got = await asyncio.gather(*running[1:])
    assert {caller.key_id for caller in got if caller} == {made.info.key_id}
    assert len(got) == 9
    assert checked.calls == 1


async def test_revoked_meanwhile(acme: Pool, checked: Counted) -> None:
    """The row is read when it is this key's turn: one that was revoked a moment ago is wrong."""
    (made,) = await lost(acme)
    ring = await loaded(acme, SECOND)
    await apikeys.revoke(acme, made.info.key_id)
    assert await Prover(ring, lambda: acme, wrong_after_s=0.01).prove(made.key.encode()) is None
    assert checked.calls == 0
    await catch_up(ring, acme)
    assert ring.unproven == set()


async def test_revoked_while_bcrypt_runs(acme: Pool, checked: Counted) -> None:
    """The ring has heard of it before the proof is done: the key gets in no more, for nothing would ever cut it."""
    (made,) = await lost(acme)
    ring = await loaded(acme, SECOND)
    checked.pause_s = 0.3
    running = asyncio.create_task(Prover(ring, lambda: acme, wrong_after_s=0.01).prove(made.key.encode()))
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
            await Prover(ring, away).prove(made.key.encode())
    assert await Prover(ring, lambda: acme).prove(made.key.encode()) is not None


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
    proof = asyncio.create_task(Prover(ring, lambda: acme).prove(made.key.encode()))
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
    assert await prover.prove(made.key.encode()) is None
