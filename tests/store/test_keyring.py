"""The key ring follows the store: changes within a second, dead and hung listeners noticed, outages survived."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from luntrex_proxy.core.policy import NOTHING, Policy, RetentionKind, Training, Traits, read_policy
from luntrex_proxy.core.scope import Scope
from luntrex_proxy.gateway import ports
from luntrex_proxy.store import accounts, apikeys, keyring, newest
from luntrex_proxy.store import following as following_module
from luntrex_proxy.store.apikeys import NewKey
from luntrex_proxy.store.book import Book
from luntrex_proxy.store.database import Connection, Pool, close_pool, open_pool
from luntrex_proxy.store.embedded import EmbeddedPostgres
from luntrex_proxy.store.following import follow
from luntrex_proxy.store.keyring import KeyRing
from luntrex_proxy.store.livekeys import LiveKeys
from luntrex_proxy.store.migrate import migrate
from luntrex_proxy.store.packedkeys import PackedKey
from luntrex_proxy.store.pepper import Lookup
from tests.postgres import LOOKUP
from tests.store.keys import catch_up, find, in_use, loaded


async def make(pool: Pool, name: str = "main") -> NewKey:
    return await apikeys.create(pool, LOOKUP, "acme", name, bcrypt_cost=4)


@contextlib.asynccontextmanager
async def following(ring: KeyRing, pool: Pool, dsn: str) -> AsyncIterator[None]:
    """The ring, loaded and running."""
    await ring.load(pool)
    running = asyncio.create_task(follow(ring, dsn))
    try:
        assert await seconds_until(lambda: ring.lag_s() < 1) < 2
        await asyncio.sleep(0.1)  # it listens
        yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def seconds_until(condition: Callable[[], bool], wait_s: float = 8) -> float:
    """How long it took until the condition held; infinite when it did not."""
    started_at = time.monotonic()
    while not condition():
        if time.monotonic() - started_at > wait_s:
            return float("inf")
        await asyncio.sleep(0.01)
    return time.monotonic() - started_at


async def test_loads_live_keys(acme: Pool) -> None:
    """After loading, live keys give their caller; others, and anything that is no key, give nothing."""
    ring = KeyRing(LOOKUP)
    fits: ports.KeyRing = ring
    live, revoked = await make(acme, "live"), await make(acme, "revoked")
    await apikeys.revoke(acme, revoked.info.key_id)
    assert ring.find(live.key.encode()) is None
    assert not ring.is_current()
    await ring.load(acme)
    caller = fits.find(live.key.encode())
    assert caller is not None
    assert caller.key_id == live.info.key_id
    assert caller.account_id == (await accounts.list_all(acme))[0].account_id
    assert (caller.not_before, caller.expires_at) == (0.0, 0.0)
    assert ring.find(revoked.key.encode()) is None
    assert ring.find(live.key.encode()[:-1] + b"!") is None
    assert ring.find(b"sk-something") is None
    assert fits.is_current()
    assert len(ring) == 1


async def test_another_lookup_key_finds_nothing(acme: Pool) -> None:
    """The rows alone, without the pepper's key, recognise no key."""
    made = await make(acme)
    ring = KeyRing(Lookup(bytes(32), LOOKUP.fingerprint))
    await ring.load(acme)
    assert ring.find(made.key.encode()) is None


async def test_holds_no_plain_key(acme: Pool) -> None:
    """Nothing the ring keeps is a key or can be made one."""
    made = await make(acme)
    ring = KeyRing(LOOKUP)
    await ring.load(acme)
    assert ring.find(made.key.encode()) is not None
    held = repr(ring._live._packed.parts) + repr(vars(ring._live)) + repr(vars(ring))
    assert made.info.key_id in held
    assert made.key[16:59] not in held


async def test_changes_arrive_within_a_second(acme: Pool, database_dsn: str) -> None:
    """Create, revoke, rotate, suspend and resume elsewhere are followed at once; `on_gone` hears who left."""
    gone: set[str] = set()
    running: dict[str, int] = {}
    ring = KeyRing(LOOKUP, gone.update, lambda: running)
    async with following(ring, acme, database_dsn):
        first = await make(acme, "first")
        key = first.key.encode()
        running |= in_use(first)
        assert await seconds_until(lambda: ring.find(key) is not None) < 0.9
        await accounts.suspend(acme, "acme")
        assert await seconds_until(lambda: ring.find(key) is None) < 0.9
        assert await seconds_until(lambda: gone == {first.info.key_id}) < 2
        await accounts.resume(acme, "acme")
        assert await seconds_until(lambda: ring.find(key) is not None) < 0.9
        gone.clear()
        second = await apikeys.rotate(acme, LOOKUP, first.info.key_id, overlap_s=600, bcrypt_cost=4)
        assert await seconds_until(lambda: ring.find(second.key.encode()) is not None) < 0.9
        caller = ring.find(key)
        assert caller is not None
        assert caller.valid_at(time.time())
        assert not caller.valid_at(time.time() + 601)
        assert not gone
        await apikeys.revoke(acme, first.info.key_id)
        assert await seconds_until(lambda: ring.find(key) is None) < 0.9
        assert gone == {first.info.key_id}
        assert ring.find(second.key.encode()) is not None


async def test_missed_notification_is_made_up(acme: Pool, database_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where NOTIFY does not arrive (a pooler in between) the heartbeat sees the change, within about a second."""
    monkeypatch.setattr(following_module, "CHANNEL", "another_channel")
    ring = KeyRing(LOOKUP)
    async with following(ring, acme, database_dsn):
        made = await make(acme)
        assert await seconds_until(lambda: ring.find(made.key.encode()) is not None) < 1.5


async def test_terminated_listener_still_sees_changes(acme: Pool, database_dsn: str) -> None:
    """An administrator or a failover ends the listening connection: the next one reads what was missed."""
    made = await make(acme)
    ring = KeyRing(LOOKUP)
    async with following(ring, acme, database_dsn):
        assert await acme.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name LIKE 'luntrex-proxy keyring %' AND datname = current_database()"
        )
        await apikeys.revoke(acme, made.info.key_id)
        assert await seconds_until(lambda: ring.find(made.key.encode()) is None) < 3


async def test_hung_listener_is_noticed(acme: Pool, database_dsn: str) -> None:
    """A connection that is open and silent (a lost machine, a stopped process) is replaced within 5 s."""
    made = await make(acme)
    ring = KeyRing(LOOKUP)
    async with following(ring, acme, database_dsn):
        pid = await acme.fetchval(
            "SELECT pid FROM pg_stat_activity"
            " WHERE application_name LIKE 'luntrex-proxy keyring %' AND datname = current_database()"
        )
        os.kill(pid, signal.SIGSTOP)
        try:
            await apikeys.revoke(acme, made.info.key_id)
            assert await seconds_until(lambda: ring.find(made.key.encode()) is None) < 5
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_expired_key_leaves_the_ring(acme: Pool, database_dsn: str) -> None:
    """At its end a key is dropped and announced, so that what runs with it can be cut."""
    gone: set[str] = set()
    ring = KeyRing(LOOKUP, gone.update)
    made = await make(acme)
    async with following(ring, acme, database_dsn):
        await apikeys.rotate(acme, LOOKUP, made.info.key_id, overlap_s=1, bcrypt_cost=4)
        assert await seconds_until(lambda: gone == {made.info.key_id}) < 4
        assert ring.find(made.key.encode()) is None


@pytest.mark.parametrize("before", ["DELETE FROM api_key", "UPDATE account SET status = 'suspended'"])
async def test_restored_database_is_read_anew(acme: Pool, database_dsn: str, before: str) -> None:
    """A database put back to an older backup has lower versions: everything is read again, and what ran is cut."""
    gone: set[str] = set()
    made = await make(acme)
    ring = KeyRing(LOOKUP, gone.update, lambda: in_use(made))
    async with following(ring, acme, database_dsn):
        await acme.execute(f"{before}; UPDATE change_version SET version = 0")
        assert await seconds_until(lambda: ring.find(made.key.encode()) is None) < 3
        assert await seconds_until(lambda: gone == {made.info.key_id}) < 3


async def test_a_restored_database_that_has_overtaken_us_is_read_anew(acme: Pool) -> None:
    """Restored by whatever means and changed since, its version says nothing: the audit log's history is another one.

    What is gone and in use is cut, what came is known, and a key that was revoked before is as the database says.
    """
    gone: set[str] = set()
    kept = await make(acme, "kept")
    tables = ("account", "api_key", "change_version", "audit_entry", "audit_personal", "audit_head")
    await acme.execute("".join(f"CREATE TABLE backup_{table} AS TABLE {table};" for table in tables))
    lost, idle = await make(acme, "lost"), await make(acme, "idle")
    ring = KeyRing(LOOKUP, gone.update, lambda: in_use(kept, lost))
    await ring.load(acme)
    async with acme.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")  # no trigger, as a restore has none
        for table in tables:
            columns = ", ".join(
                row[0]
                for row in await connection.fetch(
                    "SELECT column_name FROM information_schema.columns WHERE table_name = $1", table
                )
            )
            await connection.execute(
                f"DELETE FROM {table}; INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE"
                f" SELECT {columns} FROM backup_{table}"
            )
    came = await make(acme, "came")
    await accounts.suspend(acme, "acme")
    await accounts.resume(acme, "acme")
    assert await acme.fetchval("SELECT version FROM change_version") > ring.version
    async with acme.acquire() as connection:
        await ring.catch_up(connection)
    assert [ring.find(made.key.encode()) is not None for made in (kept, came, lost, idle)] == [
        True,
        True,
        False,
        False,
    ]
    assert gone == {lost.info.key_id}


async def test_a_history_that_only_grows_is_not_read_anew(acme: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acts that change no key, many between two looks, and a log cut by retention are no restore."""
    ring = KeyRing(LOOKUP)
    await make(acme, "first")
    await ring.load(acme)

    async def never(*_: object, **__: object) -> None:
        raise AssertionError("read whole")

    monkeypatch.setattr(ring, "_read_all", never)
    for _ in range(3):
        made = await make(acme, f"k{len(ring)}")
        await accounts.create(acme, f"other{len(ring)}")
        async with acme.acquire() as connection:
            await ring.catch_up(connection)
        assert ring.find(made.key.encode()) is not None
    async with acme.acquire() as connection:
        async with connection.transaction():
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute(
                "DELETE FROM audit_entry; UPDATE audit_head SET kept_sequence = sequence, kept_hash = hash"
            )
        await ring.catch_up(connection)


async def test_keys_end_without_a_database(acme: Pool) -> None:
    """The sweep needs none: at its end a key is dropped and told, others stay, whatever their end was before."""
    gone: set[str] = set()
    ring = KeyRing(LOOKUP, gone.update)
    soon, later, freed, brought = [await make(acme, name) for name in ("soon", "later", "freed", "brought")]
    await acme.execute("UPDATE api_key SET expires_at = now() + interval '0.3 s' WHERE name IN ('soon', 'freed')")
    await acme.execute("UPDATE api_key SET expires_at = now() + interval '1 h' WHERE name IN ('later', 'brought')")
    await ring.load(acme)
    await acme.execute("UPDATE api_key SET expires_at = NULL, version = 100 WHERE name = 'freed'")
    await acme.execute("UPDATE api_key SET expires_at = now() + interval '0.3 s', version = 100 WHERE name = 'brought'")
    await acme.execute("UPDATE change_version SET version = 100")
    async with acme.acquire() as connection:
        await ring.catch_up(connection)
    await asyncio.sleep(0.6)
    ring.give_up_when_too_old()
    assert gone == {soon.info.key_id, brought.info.key_id}
    assert [ring.find(made.key.encode()) is not None for made in (soon, later, freed, brought)] == [
        False, True, True, False,
    ]  # fmt: skip


async def test_a_clock_that_comes_back_brings_back_what_it_ended(acme: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host's clock that was wrong for a while ends keys for that while only."""
    made = await make(acme)
    await acme.execute("UPDATE api_key SET expires_at = now() + interval '1 h'")
    ring = KeyRing(LOOKUP)
    await ring.load(acme)
    right = time.time
    for hours, is_there in ((2, False), (0, True)):
        monkeypatch.setattr(time, "time", lambda hours=hours: right() + hours * 3600)
        async with acme.acquire() as connection:
            for _ in range(20):
                await ring.catch_up(connection)
        assert (ring.find(made.key.encode()) is not None) is is_there


@pytest.mark.parametrize("all_anew", [False, True])
@pytest.mark.parametrize("stopped_by", ["revoked", "suspended"])
async def test_while_many_keys_are_read_a_stop_does_not_wait(
    acme: Pool, monkeypatch: pytest.MonkeyPatch, stopped_by: str, all_anew: bool
) -> None:
    """A million keys take a while to read: who is stopped meanwhile is out at once, and stays out."""
    monkeypatch.setattr(newest, "_EVERY_S", 0.0)
    monkeypatch.setattr(keyring, "_BATCH_ROWS", 1)
    await accounts.create(acme, "other")
    gone: set[str] = set()
    ring = KeyRing(LOOKUP, gone.update, lambda: in_use(made))
    await acme.execute(
        "INSERT INTO api_key (key_id, account_id, name, bcrypt_hash, lookup_hash, pepper_fingerprint, version)"
        " SELECT lpad(n::text, 12, '0'), a.account_id, n, '$2b$04$' || repeat('x', 53), sha256(n::text::bytea), $1, 1"
        " FROM generate_series(1, 2000) n, account a WHERE name = 'other'",
        LOOKUP.fingerprint,
    )
    made = await make(acme)
    await ring.load(acme)
    key, found, stopping, seen = made.key.encode(), [], [], []

    def on_answer() -> None:
        found.append(ring.find(key) is not None)
        seen.append(ring.seen)
        if len(found) == 20:
            stop = apikeys.revoke(acme, made.info.key_id) if stopped_by == "revoked" else accounts.suspend(acme, "acme")
            stopping.append(asyncio.ensure_future(stop))

    await acme.execute("UPDATE change_version SET version = version + 1")
    await acme.execute("UPDATE api_key SET version = (SELECT version FROM change_version) WHERE name <> 'main'")
    if all_anew:
        await acme.execute("UPDATE change_version SET version = 0")
        await acme.execute("UPDATE api_key SET version = 0; UPDATE account SET version = 0")
    async with acme.acquire() as connection:
        await ring.catch_up(connection, on_answer)
        assert gone == {made.info.key_id}
        assert found[:20] == [True] * 20
        assert len(found) > 2000
        assert seen[1500] != seen[0], "who follows the ring does not wait either"
        assert not any(found[-50:])
        assert ring.find(key) is None
        await asyncio.gather(*stopping)
        await ring.catch_up(connection)
        assert ring.find(key) is None
        if stopped_by == "suspended":
            await accounts.resume(acme, "acme")
            await ring.catch_up(connection)
            assert ring.at(ring.hash_of(key)) is not None


class _Unreadable(Book):
    """A book of which nothing can be read at first; then it notes what is so when it is read."""

    what, readable = "nothing", False

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.looks: Callable[[], bool] = lambda: True
        self.seen: list[bool] = []

    async def catch_up(self, connection: Connection, on_answer: Callable[[], None], readings: int) -> None:
        if not self.readable:
            await connection.execute("SELECT 1/0")
        self.seen.append(self.looks())


async def test_limits_that_cannot_be_read_keep_no_revocation_up(acme: Pool) -> None:
    """They are read again with each heartbeat, until they can be; and else before new keys are live."""
    book = _Unreadable(acme)
    ring = KeyRing(LOOKUP, books=[book])
    made = await make(acme)
    await ring.load(acme)
    await apikeys.revoke(acme, made.info.key_id)
    await catch_up(ring, acme)
    assert find(ring, made) is None
    made = await make(acme, "other")
    await catch_up(ring, acme)
    assert find(ring, made) is not None
    book.readable = True
    await catch_up(ring, acme)
    assert book.seen == [True]
    third = await make(acme, "third")
    book.looks = lambda: find(ring, third) is not None
    await catch_up(ring, acme)
    assert book.seen[1] is False
    assert find(ring, third) is not None


async def test_while_many_keys_are_read_the_database_is_not_said_to_be_away(acme: Pool) -> None:
    """Of an unknown key nothing is certain then; but nobody is to look for what is wrong with the database."""
    ring = await loaded(acme)
    said: list[tuple[bool, bool]] = []
    ring.contact -= 60
    said.append((ring.is_current(), ring.answers()))
    await acme.execute("UPDATE change_version SET version = version + 1, removed_version = version + 1")
    async with acme.acquire() as connection:
        await ring.catch_up(connection, lambda: said.append((ring.is_current(), ring.answers())))
    assert said[:4] == [(False, False), (False, False), (False, True), (False, True)]
    assert ring.is_current()


async def test_changes_of_a_key_with_an_end_cost_no_memory(acme: Pool) -> None:
    """Its end is noted when it is near, and not each time that the key is changed, or goes and comes."""
    made = await make(acme)
    await acme.execute("UPDATE api_key SET expires_at = now() + interval '3 h'")
    ring = KeyRing(LOOKUP)
    await ring.load(acme)
    for _ in range(5):
        await apikeys.limit(acme, made.info.key_id, Scope(models=("m",)), ["models"])
        await apikeys.suspend(acme, made.info.key_id)
        async with acme.acquire() as connection:
            await ring.catch_up(connection)
        await apikeys.resume(acme, made.info.key_id)
        async with acme.acquire() as connection:
            await ring.catch_up(connection)
    assert len(ring) == 1
    assert len(ring._live._soon) == 0


@pytest.mark.parametrize("told_by", ["revoked", "restored", "stale"])
async def test_what_runs_with_a_key_that_has_to_be_proven_is_cut_as_well(acme: Pool, told_by: str) -> None:
    """A request may have begun while the key was known: it is not in memory now, and its end is told all the same."""
    gone: set[str] = set()
    made = await make(acme)
    ring = KeyRing(Lookup(bytes(32), b"s" * 16), gone.update, lambda: in_use(made), max_staleness_s=0.2)
    await ring.load(acme)
    assert list(ring.unproven) == [made.info.key_id]
    if told_by == "revoked":
        await apikeys.revoke(acme, made.info.key_id)
    elif told_by == "restored":
        await acme.execute("DELETE FROM api_key; UPDATE change_version SET version = 0")
    if told_by == "stale":
        await asyncio.sleep(0.3)
        ring.give_up_when_too_old()
    else:
        async with acme.acquire() as connection:
            await ring.catch_up(connection)
    assert gone == {made.info.key_id}


async def test_database_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the database known keys work on, the ring says it is not current, and after its return it is again."""
    monkeypatch.setattr(keyring, "CURRENT_FOR_S", 1.5)
    server = EmbeddedPostgres(tmp_path / "state")
    dsn = server.start()
    try:
        pool = await open_pool(dsn)
        await migrate(pool)
        await accounts.create(pool, "acme")
        made = await make(pool)
        gone: set[str] = set()
        ring = KeyRing(LOOKUP, gone.update, lambda: in_use(made), max_staleness_s=3)
        async with following(ring, pool, dsn):
            key = made.key.encode()
            server.stop()
            assert await seconds_until(lambda: not ring.is_current()) < 3
            assert ring.find(key) is not None
            assert not gone
            assert await seconds_until(lambda: ring.find(key) is None) < 4
            assert await seconds_until(lambda: gone == {made.info.key_id}) < 4
            assert not ring.is_current()
            assert server.start() == dsn
            assert await seconds_until(ring.is_current) < 4
            assert ring.find(key) is not None
            await apikeys.revoke(pool, made.info.key_id)
            assert await seconds_until(lambda: ring.find(key) is None) < 0.9
        await close_pool(pool)
    finally:
        server.stop()


async def test_loading_many_keys_holds_the_loop_briefly(acme: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are loaded in batches: between two of them everything else has its turn."""
    await acme.execute(
        "INSERT INTO api_key (key_id, account_id, name, bcrypt_hash, lookup_hash, pepper_fingerprint, version)"
        " SELECT lpad(n::text, 12, '0'), 1, 'n' || n, '$2b$', sha256(n::text::bytea), $1, 1"
        " FROM generate_series(1, 20000) n",
        LOOKUP.fingerprint,
    )
    ring = KeyRing(LOOKUP)
    taken_in: list[int] = []  # between two turns of the loop
    put = LiveKeys.put

    def counted(self: LiveKeys, hashed: bytes, key: PackedKey) -> None:
        taken_in[-1] += 1
        put(self, hashed, key)

    monkeypatch.setattr(LiveKeys, "put", counted)
    loading = asyncio.create_task(ring.load(acme))
    while not loading.done():
        taken_in.append(0)
        await asyncio.sleep(0)
    await loading
    assert len(ring) == sum(taken_in) == 20_000
    assert max(taken_in) <= 500


async def test_policy_of_the_account_comes_with_its_keys(acme: Pool, database_dsn: str) -> None:
    """Set, changed and taken back within a second; what nobody understands admits nothing."""
    made = await make(acme)
    ring = KeyRing(LOOKUP)
    key = made.key.encode()

    def policy() -> Policy | None:
        caller = ring.find(key)
        assert caller is not None
        return caller.policy

    async with following(ring, acme, database_dsn):
        assert policy() is None
        await accounts.set_policy(acme, "acme", "region=eu; retention=none; training=never")
        assert await seconds_until(lambda: policy() is not None) < 0.9
        assert policy() == read_policy("region=eu; retention=none; training=never")
        await accounts.set_policy(acme, "acme", None)
        assert await seconds_until(lambda: policy() is None) < 0.9
        await acme.execute("UPDATE account SET policy = 'of a later release'")
        await accounts.suspend(acme, "acme")
        await accounts.resume(acme, "acme")
        assert await seconds_until(lambda: ring.find(key) is not None and policy() == NOTHING) < 2
    again = KeyRing(LOOKUP)
    await again.load(acme)
    caller = again.find(key)
    assert caller is not None
    assert caller.policy == NOTHING
    assert not NOTHING.admits(Traits.of("eu", RetentionKind.NONE, None, Training.NEVER))
