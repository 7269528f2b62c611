"""The audit chain: every act is in it once, any tampering is found, and erased words leave it whole."""

import asyncio
import os
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import msgspec
import pytest

from luntrex_proxy.core.audit import BEGINNING, Entry, entry_hash
from luntrex_proxy.store import accounts, apikeys, audit
from luntrex_proxy.store.anchors import ANCHOR_FILE, Anchor, AnchorKey, append_anchor, own_anchors, read_anchors
from luntrex_proxy.store.audit import Actor, acting_as
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.wrapping import local_wrapping
from tests.postgres import LOOKUP

NOW = datetime(2026, 11, 28, tzinfo=UTC)
TAMPERINGS = 100


async def acts(pool: Pool, count: int = 12) -> None:
    """A history: an account, keys, changes of them, by two actors."""
    with acting_as(Actor("command line", "somebody.lovelace")):
        await accounts.create(pool, "acme")
        for n in range(count):
            made = await apikeys.create(pool, LOOKUP, "acme", f"k{n}", bcrypt_cost=4)
            if n % 3 == 0:
                await apikeys.suspend(pool, made.info.key_id)
            if n % 4 == 0:
                await apikeys.revoke(pool, made.info.key_id)


async def anchored(pool: Pool, key: AnchorKey) -> Anchor:
    return key.sign(*await audit.head(pool), NOW)


async def test_each_act_is_one_entry(database: Pool) -> None:
    """What was done, to what, whose, by whom; newest first; a refused act leaves none."""
    with acting_as(Actor("command line", "somebody.lovelace")):
        account = await accounts.create(database, "acme")
        made = await apikeys.create(database, LOOKUP, "acme", "main", bcrypt_cost=4)
        with pytest.raises(RefusedError):
            await apikeys.create(database, LOOKUP, "acme", "main", bcrypt_cost=4)
    second = await apikeys.rotate(database, LOOKUP, made.info.key_id, overlap_s=60, bcrypt_cost=4)
    await apikeys.suspend(database, second.info.key_id)
    await apikeys.resume(database, second.info.key_id)
    await apikeys.revoke(database, second.info.key_id)
    await accounts.suspend(database, "acme")
    await accounts.resume(database, "acme")
    found = list(reversed(await audit.newest(database, 100)))
    assert [(entry.sequence, entry.act) for entry in found] == list(
        enumerate(
            ["account.created", "key.created", "key.rotated", "key.suspended", "key.resumed", "key.revoked",
             "account.suspended", "account.resumed"], 1)
    )  # fmt: skip
    assert {entry.account for entry in found} == {"acme"}
    assert found[1].object_id == made.info.key_id
    assert (found[1].actor, found[1].personal) == ("command line", {"actor": "somebody.lovelace"})
    assert (found[2].actor, found[2].personal) == ("daemon", {})
    assert found[2].facts == {"successor": second.info.key_id, "overlap_s": 60}
    assert [entry.act for entry in await audit.newest(database, 2)] == ["account.resumed", "account.suspended"]
    assert [entry.act for entry in await audit.newest(database, 9, act="key.revoked")] == ["key.revoked"]
    assert await audit.newest(database, 9, account="other") == []
    assert account.account_id == 1
    assert made.key[16:59] not in str(await database.fetch("SELECT * FROM audit_entry"))


async def test_acts_at_once_are_a_chain(database: Pool) -> None:
    """Twenty at the same time: no number twice, none missing, every hash right."""
    await accounts.create(database, "acme")
    await asyncio.gather(*(accounts.suspend(database, "acme") for _ in range(20)))
    verdict = await audit.verify(database, [])
    assert (verdict.entries, verdict.faults, verdict.anchored, verdict.unprotected) == (21, [], 0, 21)


async def test_the_log_only_grows(database: Pool) -> None:
    """The table refuses updates, deletions and truncation."""
    await acts(database, 1)
    for statement in ("UPDATE audit_entry SET actor = 'x'", "DELETE FROM audit_entry", "TRUNCATE audit_entry"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only grows"):
            await database.execute(statement)
    assert (await audit.verify(database, [])).faults == []


async def test_erased_words_leave_the_chain_whole(database: Pool) -> None:
    """Salt and word gone: nothing to guess from, and the chain verifies; a word that was swapped is found."""
    await acts(database)
    await database.execute("UPDATE audit_personal SET word = 'bob' WHERE sequence = 3")
    assert (await audit.verify(database, [])).faults == ["Entry 3: a personal word was changed."]
    await database.execute("DELETE FROM audit_personal")
    verdict = await audit.verify(database, [])
    assert verdict.faults == []
    assert "somebody.lovelace" not in str(await database.fetch("SELECT * FROM audit_entry"))
    assert {tuple(entry.personal) for entry in await audit.newest(database, 100)} == {()}


async def test_a_hundred_tamperings_are_all_found(database: Pool, tmp_path: Path) -> None:
    """Edits, deletions, reorderings, insertions, truncations; half of them with every later hash made anew."""
    await acts(database, 16)
    key = AnchorKey.load(tmp_path)
    anchors = [await anchored(database, key)]
    assert (await audit.verify(database, anchors)).faults == []
    await database.execute("ALTER TABLE audit_entry DISABLE TRIGGER ALL")
    chooser = random.Random(7)
    missed, kinds = [], set()
    for number in range(TAMPERINGS):
        transaction_connection = await database.acquire()
        transaction = transaction_connection.transaction()
        await transaction.start()
        last = await transaction_connection.fetchval("SELECT max(sequence) FROM audit_entry")
        kind, statement = tampering(chooser, last, rehashed=bool(number % 2))
        kinds.add(kind)
        await transaction_connection.execute(statement)
        if number % 2:
            await rehash(transaction_connection)
        verdict = await audit.verify(Single(transaction_connection), anchors)  # type: ignore[arg-type]  # one connection as a pool
        if not verdict.faults:
            missed.append((number, kind, statement))
        await transaction.rollback()
        await database.release(transaction_connection)
    assert missed == []
    assert kinds == {"edit", "delete", "swap", "insert", "truncate"}
    assert (await audit.verify(database, anchors)).faults == []


def tampering(chooser: random.Random, last: int, *, rehashed: bool) -> tuple[str, str]:
    """One change to the log."""
    kind = chooser.choice(["edit", "delete", "swap", "insert", "truncate"])
    at = chooser.randint(1, last - 1)
    if kind == "edit":
        change = chooser.choice([
            "at = at + interval '1 second'", "actor = actor || 'x'", "act = 'key.made'", "object_id = object_id || 'x'",
            "account_id = 99", "facts = facts || '{\"x\": 1}'", "commitments = commitments || '{\"x\": \"y\"}'",
            *([] if rehashed else ["hash = sha256(hash)"]),
        ])  # fmt: skip
        return kind, f"UPDATE audit_entry SET {change} WHERE sequence = {at}"
    if kind == "delete":
        return kind, f"DELETE FROM audit_entry WHERE sequence = {at}"
    if kind == "swap":
        return kind, (
            f"UPDATE audit_entry SET sequence = -1 WHERE sequence = {at};"
            f"UPDATE audit_entry SET sequence = {at} WHERE sequence = {at + 1};"
            f"UPDATE audit_entry SET sequence = {at + 1} WHERE sequence = -1"
        )
    if kind == "insert":
        return kind, (
            f"UPDATE audit_entry SET sequence = -sequence - 1 WHERE sequence > {at};"
            "UPDATE audit_entry SET sequence = -sequence WHERE sequence < 0;"
            f"INSERT INTO audit_entry SELECT {at + 1}, at, actor, act, object_id, account_id, facts, commitments, hash"
            f" FROM audit_entry WHERE sequence = {at}"
        )
    return kind, (
        f"DELETE FROM audit_entry WHERE sequence > {at};"
        f"UPDATE audit_head SET sequence = {at}, hash = (SELECT hash FROM audit_entry WHERE sequence = {at})"
    )


async def rehash(connection: asyncpg.Connection) -> None:
    """What a clever forger does: all numbers and hashes right again, and the head too."""
    await connection.execute(
        "UPDATE audit_entry e SET sequence = -n.number FROM"
        " (SELECT sequence, row_number() OVER (ORDER BY sequence) AS number FROM audit_entry) n"
        " WHERE n.sequence = e.sequence; UPDATE audit_entry SET sequence = -sequence"
    )
    hashed, last = BEGINNING, 0
    rows = await connection.fetch(audit._SELECT + " ORDER BY sequence")
    for row in rows:
        entry = Entry(row["sequence"], audit._us(row["at"]), *row[2:6], *map(msgspec.json.decode, row[6:8]))
        hashed, last = entry_hash(hashed, entry), entry.sequence
        await connection.execute("UPDATE audit_entry SET hash = $1 WHERE sequence = $2", hashed, last)
    await connection.execute("UPDATE audit_head SET sequence = $1, hash = $2", last, hashed)


class Single:
    """One connection, used like a pool, so that a test can undo what it did."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    def acquire(self) -> "Single":
        return self

    async def __aenter__(self) -> "Single":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def transaction(self, **_: object) -> asyncpg.transaction.Transaction:
        return self.connection.transaction()

    async def fetch(self, *arguments: object) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = await self.connection.fetch(*arguments)
        return found

    async def cursor(self, *arguments: object) -> object:
        return await self.connection.cursor(*arguments)


async def test_what_came_after_the_last_anchor_is_said(database: Pool, tmp_path: Path) -> None:
    """A forger can make the unprotected end anew, and nothing before it."""
    await acts(database, 3)
    anchor = await anchored(database, AnchorKey.load(tmp_path))
    before = anchor.sequence
    await accounts.suspend(database, "acme")
    await accounts.resume(database, "acme")
    verdict = await audit.verify(database, [anchor])
    assert (verdict.anchored, verdict.unprotected, verdict.faults) == (before, 2, [])


def test_anchors_are_kept_and_checked(tmp_path: Path) -> None:
    """Written, read, private; changed, spoilt and foreign lines are refused; a torn last one is passed over."""
    key = AnchorKey.load(tmp_path)
    assert AnchorKey.load(tmp_path).public == key.public
    for n in range(3):
        append_anchor(tmp_path, key.sign(n, bytes([n]) * 32, NOW))
    path = tmp_path / ANCHOR_FILE
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    assert [anchor.sequence for anchor in read_anchors(path, [key.public])] == [0, 1, 2]
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    assert len(read_anchors(path, [key.public])) == 3
    stranger = AnchorKey.load(tmp_path / "other")
    spoilt: dict[str, Callable[[], bytes]] = {
        "was changed after it was signed": lambda: whole.replace(b'"sequence":1', b'"sequence":7'),
        "is no anchor": lambda: whole + b"{}\n",
        "signed by the key": lambda: whole.replace(b"\n", b"\n", 1),
    }
    for sentence, make in spoilt.items():
        path.write_bytes(make())
        with pytest.raises(RefusedError, match=sentence):
            read_anchors(path, [stranger.public] if "signed by" in sentence else [key.public])
    (tmp_path / "audit.key").write_bytes(b"short")
    with pytest.raises(StoreError, match="is no key for anchors"):
        AnchorKey.load(tmp_path)


@pytest.mark.parametrize("load", [AnchorKey.load, local_wrapping])
def test_a_key_is_made_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: Callable[[Path], object]
) -> None:
    """A full disk leaves no empty file, which nobody could use or would dare to remove."""

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left"):
            load(tmp_path)
    assert list(tmp_path.iterdir()) == []
    load(tmp_path)
    (made,) = tmp_path.iterdir()
    assert (made.stat().st_size, made.stat().st_mode & 0o777) == (32, 0o600)


def test_a_torn_line_spoils_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a line is left by a death or a full disk; what is written later is read, and retention goes on."""
    key, path = AnchorKey.load(tmp_path), tmp_path / ANCHOR_FILE
    append_anchor(tmp_path, key.sign(1, bytes(32), NOW))
    with path.open("ab") as file:
        file.write(path.read_bytes()[:40])
    append_anchor(tmp_path, key.sign(2, bytes(32), NOW))
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:50]))
        with pytest.raises(StoreError, match="No space left"):
            append_anchor(tmp_path, key.sign(3, bytes(32), NOW))
    append_anchor(tmp_path, key.sign(3, bytes(32), NOW))
    assert [anchor.sequence for anchor in read_anchors(path, [key.public])] == [1, 2, 3]
    (tmp_path / "audit.key").unlink()
    stranger = AnchorKey.load(tmp_path)
    append_anchor(tmp_path, stranger.sign(4, bytes(32), NOW))
    later = NOW + timedelta(seconds=1)
    assert [anchor.sequence for anchor in own_anchors(tmp_path, later)] == [4], "the old key's are no reason to stop"
    assert own_anchors(tmp_path, NOW) == []


def test_anchors_of_a_log_are_anchors(tmp_path: Path) -> None:
    """The lines that the daemon logs, kept by the journal on another machine, prove as much as the file."""
    key, path = AnchorKey.load(tmp_path), tmp_path / "journal.jsonl"
    anchor = key.sign(7, bytes(range(32)), NOW)
    line = {"event": "luntrex.audit_anchored", "level": "info"} | anchor.as_text()
    path.write_bytes(msgspec.json.encode(line) + b"\n")
    assert read_anchors(path, [key.public]) == [anchor]
    for name, value in (("sequence", 8), ("hash", "00" * 32), ("signed_at", "2026-11-28T00:00:01+00:00")):
        path.write_bytes(msgspec.json.encode(line | {name: value}) + b"\n")
        with pytest.raises(RefusedError, match="was changed after it was signed"):
            read_anchors(path, [key.public])
    path.write_bytes(msgspec.json.encode(line | {"hash": "no hex"}) + b"\n")
    with pytest.raises(RefusedError, match="is no anchor"):
        read_anchors(path, [key.public])
