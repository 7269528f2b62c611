"""Erasure: whatever leads to a person is gone everywhere, totals stay, nobody else loses a row, nothing comes back."""

import asyncio
import datetime
import random
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from luntrex_proxy.core.consents import Purpose
from luntrex_proxy.core.outcome import Outcome
from luntrex_proxy.store import (
    accounts,
    apikeys,
    audit,
    backup,
    billing,
    consents,
    erasing,
    holds,
    ownership,
    scrubbing,
    tombstones,
    unlinking,
    usage,
)
from luntrex_proxy.store.binaries import find_clients
from luntrex_proxy.store.changes import next_version
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.erasing import HeldError, Receipt
from luntrex_proxy.store.frames import encode_frame, parse_frames
from luntrex_proxy.store.keyring import KeyRing
from luntrex_proxy.store.lastones import LastOwnerError
from luntrex_proxy.store.shipper import Shipper
from luntrex_proxy.store.spool import Spool
from tests.people import make_person
from tests.postgres import LOOKUP
from tests.store.keys import in_use
from tests.store.notes import NOTE
from tests.store.records import assert_sums_match, outcome, ship

NOW = datetime.datetime(2026, 11, 29, 12, tzinfo=datetime.UTC)
SUMS = "sum(input_tokens), sum(output_tokens), sum(cost_pico), sum({})"


async def erase(pool: Pool, directory: Path, person: uuid.UUID, **more: Any) -> Receipt:
    return await erasing.erase_person(pool, directory, person, NOW, 2192, **more)


async def key_of(pool: Pool, account: str, name: str, person: uuid.UUID | None = None) -> str:
    """A key, a member's own or the account's."""
    made = await apikeys.create(pool, LOOKUP, account, name, bcrypt_cost=4)
    await pool.execute("UPDATE api_key SET person_id = $2 WHERE key_id = $1", made.info.key_id, person)
    return made.info.key_id


async def use(pool: Pool, root: Path, account_id: int, key_id: str, *numbers: int) -> None:
    """Requests of a key, stored."""
    spool = Spool(root, uuid.uuid4())
    for number in numbers:
        spool.settle(outcome(number, account_id=account_id, key_id=key_id, started_us=outcome(number).started_us))
    await ship(pool, root, spool)


async def totals(pool: Pool) -> list[tuple[Any, ...]]:
    """All sums over everybody."""
    found = [await pool.fetchrow(f"SELECT count(*), {SUMS.format(1)} FROM usage")]
    for table in ("usage_rollup", "usage_rollup_daily"):
        found.append(await pool.fetchrow(f"SELECT {SUMS.format('requests')}, sum(errors) FROM {table}"))
    return [tuple(row) for row in found if row is not None]


async def each_is_found(pool: Pool, count: int) -> None:
    """By the ids that unlinked rows have, as by those that gateways make: pages of them lead there."""
    ids = [row[0] for row in await pool.fetch("SELECT request_id::text FROM usage WHERE key_id = 'erased'")]
    assert len(set(ids)) == count
    for each in ids:
        assert (await usage.request(pool, each)).request_id == each


async def everything(pool: Pool) -> str:
    """The database as text, as a thief of a dump would have it."""
    dsn: str = pool._connect_args[0]  # type: ignore[attr-defined]
    clients = find_clients(await backup.server_major(pool))
    script = await asyncio.to_thread(lambda: b"".join(backup.dump(dsn, clients)).decode())
    return "\n".join(line for line in script.splitlines() if not line.startswith("\\"))


async def fill(pool: Pool, person: uuid.UUID) -> None:
    """A row of the person in tables of all kinds."""
    for statement in (
        "INSERT INTO session (token_hash, person_id, network)"
        " VALUES (sha256(($1::uuid)::text::bytea), $1, 'canary-network')",
        "INSERT INTO mail (kind, person_id, facts) VALUES ('reset', $1, '{\"x\": \"canary-fact\"}')",
        "INSERT INTO totp (person_id, seed) VALUES ($1, 'canary-seed')",
        "INSERT INTO usage_annotation (person_id, request_id, note) VALUES ($1, gen_random_uuid(), 'canary-note')",
        "INSERT INTO rights_request (reference, kind, state, channel, law, person_id, email)"
        " VALUES ('CANARYAAAAAAAAAAAAAAAAAAAA', 'erase', 'open', 'self', 'gdpr', $1, 'canary@example.org')",
        "INSERT INTO note VALUES ($1, 'canary-of-a-new-table')",
    ):
        await pool.execute(statement, person)
    await pool.execute(
        "INSERT INTO mail (kind, address) VALUES ('invitation', 'canary@example.org')",
    )
    await pool.execute(
        "INSERT INTO mail (kind, address, facts) VALUES ('address', 'new-canary@example.org',"
        " jsonb_build_object('person', $1::text))",
        str(person),
    )
    await pool.execute(
        "INSERT INTO invitation (account_id, email, role, expires_at)"
        " SELECT max(account_id), 'canary@example.org', 'viewer', now() FROM account"
    )


async def test_a_person_is_gone_and_totals_stay(database: Pool, tmp_path: Path) -> None:
    """Names, addresses, keys, notes, letters: in no dump; usage adds up and leads to nobody; others keep all theirs."""
    await database.execute(NOTE)
    person = await make_person(database, "canary@example.org", acme="developer")
    await database.execute("UPDATE person SET name = 'Canary Name' WHERE person_id = $1", person)
    other = await make_person(database, "other@example.org", acme="owner")
    await database.execute("INSERT INTO note VALUES ($1, 'kept')", other)
    theirs, others = await key_of(database, "acme", "canary-key", person), await key_of(database, "acme", "x", other)
    await use(database, tmp_path / "spool", 1, theirs, 1, 2, 3)
    await use(database, tmp_path / "spool", 1, others, 4, 5)
    await fill(database, person)
    await database.execute("INSERT INTO alert VALUES ('key', $1, 1, now(), 21)", theirs)
    await database.execute(
        "INSERT INTO mail (kind, person_id, facts) VALUES ('key_attempts', $1, jsonb_build_object('key_id', $2::text))",
        other, theirs,
    )  # fmt: skip
    before, kept = await totals(database), await database.fetch("SELECT * FROM usage WHERE key_id = $1", others)
    receipt = await erase(database, tmp_path, person)
    assert await totals(database) == before
    assert await database.fetch("SELECT * FROM usage WHERE key_id = $1", others) == kept
    await assert_sums_match(database)
    dump = await everything(database)
    assert "other@example.org" in dump, "the dump is one"
    for canary in ("canary", "Canary Name", theirs):
        where = [line for line in dump.splitlines() if canary in line and "\tkey." not in line]
        assert where == [], canary  # the audit log names a key by its id, which leads nowhere any more
    assert await database.fetchval("SELECT array_agg(text) FROM note") == ["kept"]
    assert await database.fetchval("SELECT count(*) FROM person") == 1
    assert receipt.unlinked["usage"] == 3
    await each_is_found(database, 3)
    assert receipt.erased["session"] == receipt.erased["note"] == receipt.erased["person"] == 1
    assert receipt.erased["mail"] == 2
    assert {each.what for each in receipt.kept} >= {
        "audit log without names", "usage without a link", "backups made before",
    }  # fmt: skip


async def test_nothing_joins_usage_with_who_was_erased(database: Pool, tmp_path: Path) -> None:
    """Not by account, key, request id or moment; an invoice is kept and leads to no usage, and its role sees none."""
    person = await make_person(database, solo="owner")
    account = (await accounts.get(database, "solo")).account_id
    key = await key_of(database, "solo", "k")
    await use(database, tmp_path / "spool", account, key, 1, 2)
    ids = [row["request_id"] for row in await database.fetch("SELECT request_id FROM usage")]
    await billing.ensure_role(database)
    issued = datetime.date(2026, 3, 3)
    await billing.issue(database, account, "R-1", "Ada, London", "GB", Decimal(5), "GBP", issued)
    receipt = await erase(database, tmp_path, person)
    assert await database.fetchval("SELECT count(*) FROM usage") == 2
    joins = (
        "SELECT count(*) FROM usage JOIN billing.invoice USING (account_id)",
        "SELECT count(*) FROM usage_rollup JOIN billing.invoice USING (account_id)",
        "SELECT count(*) FROM usage_rollup_daily JOIN billing.invoice USING (account_id)",
        "SELECT count(*) FROM usage u JOIN audit_entry e ON e.object_id = u.key_id OR e.account_id = u.account_id",
        "SELECT count(*) FROM usage u JOIN tombstone t ON t.subject_hash = " + tombstones.hash_of("key", "u.key_id"),
        "SELECT count(*) FROM usage WHERE started_at <> date_trunc('hour', started_at)",
    )
    for join in joins:
        assert await database.fetchval(join) == 0, join
    assert await database.fetchval("SELECT count(*) FROM usage WHERE request_id = ANY($1)", ids) == 0
    kept = {each.what: each for each in receipt.kept}["invoice R-1"]
    assert (kept.until, kept.why) == (datetime.date(2032, 12, 31), "tax law of GB, and it is not paid yet")
    assert await database.fetchval("SELECT recipient FROM billing.invoice") == "Ada, London"
    async with database.acquire() as connection, connection.transaction():
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with billing.in_role(connection), connection.transaction():
                await connection.fetch("SELECT * FROM billing.invoice JOIN usage USING (account_id)")


async def test_who_agreed_to_something_goes_as_often_as_somebody_did(database: Pool, tmp_path: Path) -> None:
    """The proof of a consent stays, of nobody's account and by nobody, and it has ended: also that of the second."""
    people = [await make_person(database, f"{name}@example.org", **{name: "owner"}) for name in ("ada", "eve")]
    for person, name in zip(people, ("ada", "eve"), strict=True):
        with audit.acting_as(audit.Actor(f"console:{person}")):
            await consents.give(database, name, Purpose.TRAINING)
    for person in people:
        assert (await erase(database, tmp_path, person)).erased["person"] == 1
    rows = await database.fetch("SELECT account_id, given_by, withdrawn_by, withdrawn_at IS NULL FROM consent")
    assert [tuple(row) for row in rows] == [(0, "console", "erasure", False)] * 2


async def test_the_last_owner_and_a_hold_have_their_outcomes(database: Pool, tmp_path: Path) -> None:
    """An account with others needs another owner first; a hold makes it wait; neither changes anything."""
    person = await make_person(database, acme="owner")
    viewer = await make_person(database, "v@example.org", acme="viewer")
    before = await everything(database)
    with pytest.raises(LastOwnerError, match="last owner of acme"):
        await erase(database, tmp_path, person)
    assert await everything(database) == before
    await database.execute("UPDATE membership SET role = 'owner' WHERE person_id = $1", viewer)
    hold = await holds.place(database, "case", person)
    before = await everything(database)
    with pytest.raises(HeldError):
        await erase(database, tmp_path, person)
    assert await everything(database) == before
    await holds.lift(database, hold.hold_id)
    assert (await erase(database, tmp_path, person)).erased["person"] == 1
    await holds.place(database, "case", 1)
    with pytest.raises(HeldError):
        await erase(database, tmp_path, viewer)


async def test_a_key_made_at_that_moment_goes_too(database: Pool, tmp_path: Path) -> None:
    """It does not become the account's own."""
    person = await make_person(database, acme="developer")
    await make_person(database, "o@example.org", acme="owner")
    made = await key_of(database, "acme", "first", person)
    async with database.acquire() as connection:
        async with connection.transaction():
            await next_version(connection)  # as whoever makes a key
            erased = asyncio.create_task(erase(database, tmp_path, person))
            while not await database.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                await asyncio.sleep(0.01)
            late = dict(await connection.fetchrow("SELECT * FROM api_key WHERE key_id = $1", made) or {})
            late |= {"key_id": "lateLateLate", "name": "late", "lookup_hash": b"l" * 32}
            places = ", ".join(f"${at}" for at in range(1, len(late) + 1))
            await connection.execute(f"INSERT INTO api_key ({', '.join(late)}) VALUES ({places})", *late.values())
        await erased
    assert await database.fetch("SELECT key_id, status FROM api_key") == []


async def test_what_comes_late_is_unlinked_too(database: Pool, tmp_path: Path) -> None:
    """Records still in a spool at the erasure: counted and added up, without a link. Stored again, they are no more."""
    person = await make_person(database, solo="owner")
    key = await key_of(database, "solo", "k", person)
    account = (await accounts.get(database, "solo")).account_id
    spool = Spool(tmp_path / "spool", uuid.uuid4())
    for number in range(5):
        spool.settle(outcome(number, account_id=account, key_id=key))
    spool.settle(outcome(9, account_id=77))
    await erase(database, tmp_path, person)
    shipper = await ship(database, tmp_path / "spool", spool)
    assert (shipper.accepted, shipper.stored, shipper.expired) == (6, 6, 0)
    rows = await database.fetch("SELECT account_id, key_id, count(*) FROM usage GROUP BY 1, 2 ORDER BY 1")
    assert [tuple(row) for row in rows] == [(0, "erased", 5), (77, "abcdefghijkl", 1)]
    assert (
        await database.fetchval(
            "SELECT count(*) FROM usage WHERE account_id = 0 AND extract(minute FROM started_at) = 0"
        )
        == 5
    )
    await each_is_found(database, 5)
    await assert_sums_match(database)


async def test_a_spool_that_is_stored_again_adds_nothing(database: Pool, tmp_path: Path) -> None:
    """Its position is lost: of who was erased nothing is stored twice, of others all that was missing."""
    person = await make_person(database, solo="owner")
    key = await key_of(database, "solo", "k", person)
    account = (await accounts.get(database, "solo")).account_id
    spool = Spool(tmp_path / "spool", uuid.uuid4())
    for number in range(3):
        spool.settle(outcome(number, account_id=account, key_id=key))
    shipper = Shipper(lambda: database, tmp_path / "spool", spool)
    shipper.start()
    async with asyncio.timeout(10):
        while await database.fetchval("SELECT count(*) FROM usage") < 3:
            await asyncio.sleep(0.02)
    await erase(database, tmp_path, person)
    await database.execute("UPDATE spool_position SET segment = 7, byte_offset = 77")  # by somebody
    spool.settle(outcome(4, account_id=77))
    assert await shipper.drain(20)
    assert shipper.positions_refused >= 1
    assert (shipper.accepted, shipper.stored + shipper.expired) == (4, 4)
    assert await database.fetchval("SELECT count(*) FROM usage WHERE key_id = 'erased'") == 3
    assert await database.fetchval("SELECT count(*) FROM usage") == 4


async def test_other_processes_forget_the_keys(database: Pool, tmp_path: Path) -> None:
    """A ring that was away while it happened, however long, does not know the key when it comes back."""
    person = await make_person(database, acme="developer")
    await make_person(database, "o@example.org", acme="owner")
    made = await apikeys.create(database, LOOKUP, "acme", "k", bcrypt_cost=4)
    await database.execute("UPDATE api_key SET person_id = $1", person)
    gone: set[str] = set()
    ring = KeyRing(LOOKUP, gone.update, lambda: in_use(made))
    await ring.load(database)
    assert ring.find(made.key.encode()) is not None
    await erase(database, tmp_path, person)
    async with database.acquire() as connection:
        await ring.catch_up(connection)
        assert (ring.find(made.key.encode()), gone) == (None, {made.info.key_id})
        generation = ring.generation
        await ring.catch_up(connection)
    assert ring.generation == generation, "once is enough"


async def test_who_follows_reads_no_other_key_for_it(
    database: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ring that saw the keys revoked knows all there is to know; one that was away reads all of them anew, once."""
    person = await make_person(database, acme="developer")
    await make_person(database, "o@example.org", acme="owner")
    made = await apikeys.create(database, LOOKUP, "acme", "k", bcrypt_cost=4)
    await database.execute("UPDATE api_key SET person_id = $1", person)
    other = await apikeys.create(database, LOOKUP, "acme", "other", bcrypt_cost=4)
    rings = [KeyRing(LOOKUP), KeyRing(LOOKUP)]
    for ring in rings:
        await ring.load(database)
    finish = erasing._finish

    async def after_following(*rest: Any) -> Receipt:
        async with database.acquire() as connection:
            await rings[0].catch_up(connection)
        return await finish(*rest)

    monkeypatch.setattr(erasing, "_finish", after_following)
    await erase(database, tmp_path, person)
    for _ in range(2):
        for ring in rings:
            async with database.acquire() as connection:
                await ring.catch_up(connection)
    assert [ring.seen.readings for ring in rings] == [1, 2]
    assert [ring.find(made.key.encode()) for ring in rings] == [None, None]
    assert all(ring.find(other.key.encode()) is not None for ring in rings)


async def test_a_key_that_goes_while_its_revocation_is_read_is_not_missed(database: Pool) -> None:
    """After the ring asked how far the changes go, and before it reads them: the row that said it is gone."""
    await accounts.create(database, "acme")
    made = await apikeys.create(database, LOOKUP, "acme", "k", bcrypt_cost=4)
    ring = KeyRing(LOOKUP)
    await ring.load(database)
    await apikeys.revoke(database, made.info.key_id)

    class Interrupted:
        """A connection whose first answer is late."""

        def __init__(self, connection: Any) -> None:
            self._connection, self._answered = connection, False

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

        async def fetch(self, *arguments: Any) -> Any:
            answer = await self._connection.fetch(*arguments)
            if not self._answered:
                await database.execute("DELETE FROM api_key")
            self._answered = True
            return answer

    async with database.acquire() as connection:
        await ring.catch_up(Interrupted(connection))  # type: ignore[arg-type] -- what is used of one
        await ring.catch_up(connection)
    assert (ring.find(made.key.encode()), ring.seen.readings) == (None, 2)


async def test_a_restore_brings_nobody_back(database: Pool, tmp_path: Path) -> None:
    """The rows are there again as after a restore: the next start erases them, by the file beside the database."""
    person = await make_person(database, "canary@example.org", solo="owner")
    other = await make_person(database, "other@example.org", acme="owner")
    account = (await accounts.get(database, "solo")).account_id
    key = await key_of(database, "solo", "k", person)
    tables = ("account", "person", "membership", "api_key")
    rows = {table: await database.fetch(f"SELECT * FROM {table}") for table in tables}
    await erase(database, tmp_path, person)
    async with database.acquire() as connection, connection.transaction():
        await connection.execute(
            "DELETE FROM tombstone; DELETE FROM membership; DELETE FROM person; DELETE FROM account"
        )
        for table in tables:
            await connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            records = [tuple(row) for row in rows[table]]
            await connection.copy_records_to_table(table, records=records)
    await use(database, tmp_path / "spool", account, key, 1)  # stored before the tombstone is back
    assert await database.fetchval("SELECT count(*) FROM usage WHERE key_id = $1", key) == 1
    assert await erasing.catch_up(database, tmp_path, NOW, 2192) == 1
    assert "canary" not in await everything(database)
    assert await database.fetchval("SELECT array_agg(person_id) FROM person") == [other]
    assert await database.fetchval("SELECT array_agg(key_id) FROM usage") == ["erased"]
    assert await database.fetchval("SELECT count(*) FROM tombstone") == 3
    assert await erasing.catch_up(database, tmp_path, NOW, 2192) == 0


async def test_after_a_restore_no_new_account_gets_an_erased_id(database: Pool, tmp_path: Path) -> None:
    """The sequence is restored as well: who comes next would be taken for who was erased, and erased at the start."""
    await accounts.create(database, "stays")
    gone = [(await accounts.create(database, name)).account_id for name in ("gone", "gone-too")]
    for account_id in gone:
        await erasing.erase_account(database, tmp_path, account_id, NOW, 2192)
    restored = "SELECT setval(pg_get_serial_sequence('account', 'account_id'), $1)"
    await database.execute(restored, gone[0] - 1)
    assert (await accounts.create(database, "new")).account_id > gone[-1]
    await database.execute("DELETE FROM account WHERE name = 'new'")
    await database.execute(restored, gone[0] - 1)
    async with database.acquire() as connection, connection.transaction():
        assert await accounts.create_own(connection, "a@example.org") > gone[-1]
    await erasing.catch_up(database, tmp_path, NOW, 2192)
    assert await database.fetchval("SELECT count(*) FROM account") == 2


async def test_a_restored_hold_keeps_its_person_and_lets_the_daemon_start(database: Pool, tmp_path: Path) -> None:
    """Its keys are refused, others are erased; when the hold is lifted again, it is erased as well."""
    held = await make_person(database, mine="owner")
    other = await make_person(database, "o@example.org", solo="owner")
    key = await key_of(database, "mine", "k", held)
    hold = await holds.place(database, "case", held)
    async with database.acquire() as connection:
        graves = await tombstones.of_subject(connection, ownership.Subject([held, other], account_ids=[1, 2]), NOW)
        tombstones.append(tmp_path, graves)
    assert await erasing.catch_up(database, tmp_path, NOW, 2192) == 1
    assert await database.fetchval("SELECT array_agg(person_id) FROM person") == [held]
    assert await database.fetchval("SELECT count(*) FROM api_key WHERE status <> 'revoked' AND key_id = $1", key) == 0
    await holds.lift(database, hold.hold_id)
    assert await erasing.catch_up(database, tmp_path, NOW, 2192) == 1
    assert await database.fetchval("SELECT count(*) FROM person") == 0


async def test_another_machine_learns_of_it(database: Pool, tmp_path: Path) -> None:
    """The file of each state directory has all tombstones; a line that was cut in half does no harm."""
    here, there = tmp_path / "here", tmp_path / "there"
    for place in (here, there):
        place.mkdir()
    await erase(database, here, await make_person(database))
    (there / tombstones.TOMBSTONE_FILE).write_bytes(b'{"hash":"ab')
    await erasing.catch_up(database, there, NOW, 2192)
    assert tombstones.read(there) == tombstones.read(here) != []


async def test_many_rows_go_page_by_page(database: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than an index is good for: each is met once, and nothing is missed."""
    monkeypatch.setattr(unlinking, "_FEW", 10)
    monkeypatch.setattr(unlinking, "_PAGES", 1)
    person = await make_person(database, acme="developer")
    await make_person(database, "o@example.org", acme="owner")
    key = await key_of(database, "acme", "k", person)
    await use(database, tmp_path / "spool", 1, key, *range(300))
    before = await totals(database)
    assert (await erase(database, tmp_path, person)).unlinked["usage"] == 300
    assert await totals(database) == before
    assert await database.fetchval("SELECT count(*) FROM usage WHERE key_id <> 'erased'") == 0


async def test_the_quarantine_forgets_too(database: Pool, tmp_path: Path) -> None:
    """Sound records keep their numbers without the link, unreadable bytes lose the id; others stay as they are."""
    person = await make_person(database, solo="owner")
    key = await key_of(database, "solo", "k", person)
    account = (await accounts.get(database, "solo")).account_id
    place = tmp_path / "spool" / "quarantine"
    place.mkdir(parents=True)
    theirs, others = outcome(1, account_id=account, key_id=key), outcome(2, account_id=77)
    files = {"a.seg": encode_frame(theirs) + encode_frame(others), "b.seg": b"\xc1torn" + encode_frame(theirs)[3:],
             "c.seg": encode_frame(others)}  # fmt: skip
    for name, data in files.items():
        (place / name).write_bytes(data)
    await erase(database, tmp_path, person)
    assert await scrubbing.scrub_quarantine(database, tmp_path / "spool") == 2
    now = {name: (place / name).read_bytes() for name in files}
    assert not any(key.encode() in data for data in now.values())
    assert now["c.seg"] == files["c.seg"]
    first, second = (frame.record for frame in parse_frames(now["a.seg"]).frames)
    assert second == others
    assert isinstance(first, Outcome)
    assert (first.account_id, first.key_id, first.cost_pico) == (0, "erased", theirs.cost_pico)
    assert first.request_id != theirs.request_id
    came = usage.moment_of(uuid.UUID(first.request_id))
    hour = datetime.datetime.fromtimestamp(first.started_us / 1e6, datetime.UTC)
    assert came is not None, "its page would not be found"
    assert came[0] < hour < came[1]
    assert hour.minute == 0
    assert await scrubbing.scrub_quarantine(database, tmp_path / "spool") == 0


async def test_many_in_random_order_take_nothing_of_others(database: Pool, tmp_path: Path) -> None:
    """Whoever is erased before or after whom, what stays of the others is what it was."""
    seed = random.Random(3)
    persons, keys = [], {}
    for number in range(12):
        roles = {f"team{number % 3}": "owner" if number < 3 else "developer"}
        person = await make_person(database, f"p{number}@example.org", **roles)
        persons.append(person)
        keys[person] = await key_of(database, f"team{number % 3}", f"k{number}", person)
        await use(database, tmp_path / "spool", number % 3 + 1, keys[person], *range(number * 10, number * 10 + 5))
    before, order = await totals(database), persons[3:]
    seed.shuffle(order)
    for position, person in enumerate(order):
        left = [keys[each] for each in (*order[position + 1 :], *persons[:3])]
        theirs = "SELECT * FROM usage WHERE key_id = ANY($1) ORDER BY started_at"
        kept = await database.fetch(theirs, left)
        await erase(database, tmp_path, person)
        assert await database.fetch(theirs, left) == kept
        assert await totals(database) == before
    await assert_sums_match(database)
    assert await database.fetchval("SELECT count(*) FROM person") == 3


async def test_every_table_has_a_way_out(database: Pool) -> None:
    """For each link of each table it is decided what becomes of it, and no required column would be emptied."""
    async with database.acquire() as connection:
        for table in await ownership.tables(connection):
            for column in table.links if table.name not in erasing._APART else ():
                instead = erasing._instead(table, column)
                assert instead is None or instead.value is not None or column.nullable, (table.name, column.name)


async def test_a_deadlock_in_the_middle_is_tried_again_and_counts_nothing_twice(database: Pool, tmp_path: Path) -> None:
    account = await accounts.create(database, "acme")
    person = await make_person(database, "ada@example.org")
    key_id = await key_of(database, "acme", "own", person)
    await use(database, tmp_path / "spool", account.account_id, key_id, 1, 2)
    # The server ends one of two that wait for each other with this code; the sequence remembers what is undone.
    await database.execute("""
        CREATE SEQUENCE tries;
        CREATE FUNCTION end_the_first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('tries') < 3 THEN RAISE 'somebody waits' USING ERRCODE = 'deadlock_detected'; END IF;
            RETURN OLD;
        END $$;
        CREATE TRIGGER end_the_first BEFORE DELETE ON person FOR EACH ROW EXECUTE FUNCTION end_the_first()
    """)
    receipt = await erase(database, tmp_path, person)
    assert await database.fetchval("SELECT last_value FROM tries") == 3
    assert receipt.unlinked["usage"] == 2
    assert receipt.erased["person"] == 1
    assert await database.fetchval("SELECT count(*) FROM person") == 0
