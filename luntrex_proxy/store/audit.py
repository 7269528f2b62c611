"""The audit chain in its tables: one entry per act, in the act's own transaction; listed and verified. No act is here.

Who acts is said once, where the act begins (`acting_as`): a verb of the command line, a request of the console.
"""

import contextlib
import contextvars
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from luntrex_proxy.core.audit import (
    SALT_BYTES,
    Entry,
    Fact,
    commitment,
    entry_hash,
    keeps_commitments,
)
from luntrex_proxy.store.anchors import Anchor
from luntrex_proxy.store.database import Connection, Pool, store_errors

_BATCH_ROWS: Final = 1_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.json.Encoder(order="sorted").encode
_SELECT: Final = "SELECT sequence, at, actor, act, object_id, account_id, facts, commitments, hash FROM audit_entry"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: by which way, and a personal word for people who read the log."""

    way: str
    name: str = ""


_DAEMON: Final = Actor("daemon")
_actor: contextvars.ContextVar[Actor] = contextvars.ContextVar("actor", default=_DAEMON)


@contextlib.contextmanager
def acting_as(actor: Actor) -> Iterator[None]:
    """Acts recorded inside the block are this actor's."""
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)


def actor_way() -> str:
    """Who acts now, as entries name it: by which way, and the id of a person who is signed in; never a name."""
    return _actor.get().way


async def record(
    connection: Connection,
    act: str,
    object_id: str,
    account_id: int | None = None,
    facts: Mapping[str, Fact] | None = None,
    personal: Mapping[str, str] | None = None,
) -> None:
    """Add an entry in the caller's transaction. `personal` words are kept apart, so that they can be erased."""
    # Locks the head until commit: entries become visible in their order, and two acts at once are two entries.
    sequence, previous, at = await _next(connection)
    actor = _actor.get()
    words = {**(personal or {}), **({"actor": actor.name} if actor.name else {})}
    salts = {name: secrets.token_bytes(SALT_BYTES) for name in words}
    entry = Entry(
        sequence=sequence,
        at_us=_us(at),
        actor=actor.way,
        act=act,
        object_id=object_id,
        account_id=account_id,
        facts=dict(facts or {}),
        commitments={name: commitment(salts[name], word) for name, word in words.items()},
    )
    hashed = entry_hash(previous, entry)
    await connection.execute(
        "INSERT INTO audit_entry (sequence, at, actor, act, object_id, account_id, facts, commitments, hash)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        sequence, at, entry.actor, act, object_id, account_id,
        _encode(entry.facts).decode(), _encode(entry.commitments).decode(), hashed,
    )  # fmt: skip
    await connection.executemany(
        "INSERT INTO audit_personal (sequence, field, salt, word) VALUES ($1, $2, $3, $4)",
        [(sequence, name, salts[name], word) for name, word in words.items()],
    )
    await connection.execute("UPDATE audit_head SET sequence = $1, hash = $2", sequence, hashed)


async def _next(connection: Connection) -> tuple[int, bytes, datetime]:
    (row,) = await connection.fetch(
        "SELECT sequence + 1 AS sequence, hash, date_trunc('milliseconds', clock_timestamp()) AS at"
        " FROM audit_head FOR UPDATE"
    )
    return row["sequence"], row["hash"], row["at"]


@dataclass(frozen=True, slots=True)
class Shown:
    """An entry as people see it; `personal` holds the words that were not erased."""

    sequence: int
    at: datetime
    actor: str
    act: str
    object_id: str
    account: str | None
    facts: dict[str, Any]
    personal: dict[str, str]


_PAGE: Final = """
SELECT e.*, a.name AS account,
    coalesce((SELECT jsonb_object_agg(field, word) FROM audit_personal p WHERE p.sequence = e.sequence), '{}') AS words
FROM audit_entry e LEFT JOIN account a USING (account_id)
"""


@dataclass(frozen=True, slots=True)
class Only:
    """Which entries somebody looks for; None: any."""

    act: str | None = None
    who: str | None = None  # the mail address or id of a person, or a way such as `cli`
    since: datetime | None = None
    until: datetime | None = None


# Somebody by console, or with a token: the id of the person is the end of it.
_BY: Final = """(e.actor = $5 OR right(e.actor, 37) IN (':' || lower($5),
    ':' || (SELECT person_id::text FROM person WHERE email = lower($5))))"""


async def page(pool: Pool, account_id: int | None, only: Only, before: int | None, limit: int) -> list[Shown]:
    """Entries, newest first, those before the number `before`; of one account unless it is None."""
    with store_errors("read the audit log"):
        rows = await pool.fetch(
            _PAGE + "WHERE ($1::bigint IS NULL OR e.account_id = $1) AND ($2::text IS NULL OR e.act = $2)"
            f" AND ($3::bigint IS NULL OR e.sequence < $3) AND ($5::text IS NULL OR {_BY})"
            " AND ($6::timestamptz IS NULL OR e.at >= $6) AND ($7::timestamptz IS NULL OR e.at < $7)"
            " ORDER BY e.sequence DESC LIMIT $4",
            account_id, only.act, before, limit, only.who, only.since, only.until,
        )  # fmt: skip
    return [_shown(row) for row in rows]


async def newest(pool: Pool, limit: int, account: str | None = None, act: str | None = None) -> list[Shown]:
    """The newest entries, newest first."""
    with store_errors("read the audit log"):
        rows = await pool.fetch(
            _PAGE + "WHERE ($2::text IS NULL OR a.name = $2) AND ($3::text IS NULL OR e.act = $3)"
            " ORDER BY e.sequence DESC LIMIT $1",
            limit,
            account,
            act,
        )
    return [_shown(row) for row in rows]


def _shown(row: Any) -> Shown:
    return Shown(
        row["sequence"], row["at"], row["actor"], row["act"], row["object_id"], row["account"],
        msgspec.json.decode(row["facts"]), msgspec.json.decode(row["words"]),
    )  # fmt: skip


async def head(pool: Pool) -> tuple[int, bytes]:
    """The last entry's number and hash."""
    with store_errors("read the audit log"):
        (row,) = await pool.fetch("SELECT sequence, hash FROM audit_head")
    return row["sequence"], row["hash"]


@dataclass(slots=True)
class Verdict:
    """What was found. No faults: everything up to `anchored` is as it was when that anchor was signed."""

    entries: int = 0
    last: int = 0
    anchored: int = 0  # the last entry an anchor vouches for; what is after it could have been made anew
    anchors: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def unprotected(self) -> int:
        """Entries after the last anchor."""
        return max(0, self.last - self.anchored)


_FAULTS_MAX: Final = 20


async def verify(pool: Pool, anchors: Sequence[Anchor], line: datetime | None = None) -> Verdict:
    """Read the whole chain and compare it with the anchors, whose signatures the caller has checked.

    `line`: retention drops nothing younger.
    """
    verdict = Verdict(anchors=len(anchors))
    by_sequence: dict[int, list[Anchor]] = {}
    for anchor in anchors:
        by_sequence.setdefault(anchor.sequence, []).append(anchor)
    with store_errors("read the audit log"):
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            (ends,) = await connection.fetch("SELECT sequence, hash, kept_sequence, kept_hash FROM audit_head")
            last, hashed = ends["kept_sequence"], ends["kept_hash"]
            # Retention drops entries up to an anchored one; else somebody took more, and moved the mark.
            cut_at = [anchor for anchor in by_sequence.pop(last, ()) if anchor.hash == hashed]
            if last and anchors and not cut_at:
                verdict.faults.append(
                    f"The log begins after entry {last}, and no anchor here is of that one; if another machine runs "
                    "the retention, give its file and key as well."
                )
            elif last and line is not None and cut_at and min(anchor.at for anchor in cut_at) >= line:
                verdict.faults.append(
                    f"The log begins after entry {last}, which is younger than retention.audit_days lets drop: unless "
                    "that was less before, somebody else dropped entries."
                )
            verdict.anchored = last if cut_at else 0
            async for entry, stored, personal in _chain(connection):
                _look_at(verdict, last, hashed, entry, stored)
                if not keeps_commitments(entry, personal):
                    verdict.faults.append(f"Entry {entry.sequence}: a personal word was changed.")
                for anchor in by_sequence.pop(entry.sequence, ()):
                    if anchor.hash == stored:
                        verdict.anchored = max(verdict.anchored, entry.sequence)
                    else:
                        verdict.faults.append(
                            f"Entry {entry.sequence} is not the one that was anchored at {anchor.at}."
                        )
                last, hashed = entry.sequence, stored
                verdict.entries += 1
                if len(verdict.faults) >= _FAULTS_MAX:
                    break
    verdict.last = last
    if (last, hashed) != (ends["sequence"], ends["hash"]):
        verdict.faults.append(f"The log ends at entry {last}, its head says {ends['sequence']}: the end is missing.")
    for sequence in sorted(by_sequence):
        if sequence > ends["kept_sequence"]:
            verdict.faults.append(f"Entry {sequence} was anchored and is missing.")
    return verdict


def _look_at(verdict: Verdict, last: int, previous: bytes, entry: Entry, stored: bytes) -> None:
    if entry.sequence != last + 1:
        verdict.faults.append(f"After entry {last} comes {entry.sequence}: entries are missing.")
    elif entry_hash(previous, entry) != stored:
        verdict.faults.append(f"Entry {entry.sequence} does not follow from the one before: one of them was changed.")


async def _chain(connection: Connection) -> AsyncIterator[tuple[Entry, bytes, dict[str, tuple[bytes, str]]]]:
    """All entries in order, with their stored hashes and the personal words that are left."""
    cursor = await connection.cursor(_SELECT + " ORDER BY sequence")
    while rows := await cursor.fetch(_BATCH_ROWS):
        words: dict[int, dict[str, tuple[bytes, str]]] = {}
        for word in await connection.fetch(
            "SELECT sequence, field, salt, word FROM audit_personal WHERE sequence BETWEEN $1 AND $2",
            rows[0]["sequence"],
            rows[-1]["sequence"],
        ):
            words.setdefault(word["sequence"], {})[word["field"]] = (word["salt"], word["word"])
        for row in rows:
            sequence, at, actor, act, object_id, account_id, facts, commitments, hashed = row
            entry = Entry(
                sequence, _us(at), actor, act, object_id, account_id,
                msgspec.json.decode(facts), msgspec.json.decode(commitments),
            )  # fmt: skip
            yield entry, hashed, words.get(sequence, {})


def _us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)
