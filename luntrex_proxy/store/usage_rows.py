"""SQL that writes usage: rows, their sums by hour and day, the position of a spool directory. No policy, no retries."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID

from luntrex_proxy.core.outcome import Outcome, Tokens
from luntrex_proxy.store.charging import CHARGE, HAS_BUDGETS
from luntrex_proxy.store.database import Connection
from luntrex_proxy.store.firstbytes import BUCKET
from luntrex_proxy.store.segments import Position
from luntrex_proxy.store.tombstones import ADVISORY_LOCK
from luntrex_proxy.store.unlinking import unlink_incoming

_TOKENS = tuple(Tokens().columns())
# What a record brings, in its order; `usage` has the same columns but for the time, which a record counts in integers.
COLUMNS = Outcome.__struct_fields__
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TURN_RECORDS = 1_000  # encoded at a time; then the loop may do other things
_BEGIN, _END = b'["settle",', b"]"
_BETWEEN = _END + b"\n" + _BEGIN
_NO_TRAIL = b',""'  # the trail is the one text that can come last; nearly all records have none
_FIRST_DAY = date(2025, 1, 1)  # no request came before it
_FIRST = f"timestamptz '{_FIRST_DAY} 00:00Z'"

# Kept by the session: a table made and dropped for each batch would bloat the catalogue.
_MAKE_INCOMING = """
CREATE TEMP TABLE IF NOT EXISTS usage_incoming ON COMMIT DELETE ROWS
AS SELECT 0::bigint AS started_us, ''::text AS budget_key_id, usage.* FROM usage WITH NO DATA
"""
_COLUMN_LIST = ", ".join("started_at" if column == "started_us" else column for column in COLUMNS)
_STARTED_AT = "timestamptz 'epoch' + started_us * interval '1 microsecond'"
_SELECT_LIST = ", ".join(_STARTED_AT if column == "started_us" else column for column in COLUMNS)
_SUMS = (*_TOKENS, "cost_pico")
_COUNTED = ("requests", "errors", *_SUMS)
_ADDED = ", ".join(f"{column} = sums.{column} + excluded.{column}" for column in _COUNTED)
# What is older than anything retention kept is not stored again: how often a record comes, it changes nothing.
# A record from before this program existed, or older than the process that wrote it ($1; a day is spared), is one of a
# wrong clock.
# Rows come in one order, so that two shippers cannot deadlock on the sums they share.
# ruff: noqa: S608 - every part of these statements is a constant of this file
_INSERT_ROWS = f"""
WITH kept AS (
    SELECT greatest(max(kept_from), {_FIRST}) AS since,
        greatest({_FIRST}, now() - $1::interval - interval '1 day') AS possible
    FROM usage_retention
),
inserted AS (
    INSERT INTO usage ({_COLUMN_LIST})
    SELECT {_SELECT_LIST} FROM usage_incoming CROSS JOIN kept WHERE {_STARTED_AT} >= since ON CONFLICT DO NOTHING
    RETURNING account_id, started_at, request_id, key_id, model, upstream, status, ending, streamed, first_byte_us,
        {", ".join(_SUMS)}
), hours AS (
    SELECT account_id, date_trunc('hour', started_at, 'UTC') AS hour, key_id, model, upstream,
        count(*) AS requests, count(*) FILTER (WHERE NOT (ending = 'complete' AND status < 400)) AS errors,
        {", ".join(f"sum({column})::bigint AS {column}" for column in _TOKENS)}, sum(cost_pico) AS cost_pico
    FROM inserted GROUP BY 1, 2, 3, 4, 5
), hourly AS (
    INSERT INTO usage_rollup AS sums (account_id, hour, key_id, model, upstream, {", ".join(_COUNTED)})
    SELECT account_id, hour, key_id, model, upstream, {", ".join(_COUNTED)} FROM hours ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (account_id, hour, key_id, model, upstream) DO UPDATE SET {_ADDED}
), daily AS (
    INSERT INTO usage_rollup_daily AS sums (account_id, day, key_id, model, upstream, {", ".join(_COUNTED)})
    SELECT account_id, (hour AT TIME ZONE 'UTC')::date, key_id, model, upstream,
        {", ".join(f"sum({column})" for column in _COUNTED)}
    FROM hours GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
    ON CONFLICT (account_id, day, key_id, model, upstream) DO UPDATE SET {_ADDED}
), began AS (
    INSERT INTO first_byte AS sums (account_id, at, bucket, answers)
    SELECT account_id, date_trunc('hour', started_at, 'UTC'), {BUCKET}, count(*) FROM inserted
    WHERE streamed AND status < 400 AND first_byte_us > 0 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (account_id, at, bucket) DO UPDATE SET answers = sums.answers + excluded.answers
)
"""
_OLD = f"SELECT request_id, {_STARTED_AT} < possible FROM usage_incoming CROSS JOIN kept WHERE {_STARTED_AT} < since"
_INSERT = _INSERT_ROWS + _OLD
_INSERT_AND_CHARGE = f"{_INSERT_ROWS}, {CHARGE} {_OLD}"
# What a commit has stored is deleted from the spool: a server that commits without waiting for its disk must wait here.
# And nobody may be erased between here and the commit.
_MOVE = f"""
WITH waits AS (
    SELECT CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END
), turn AS (
    SELECT pg_advisory_xact_lock_shared({ADVISORY_LOCK})
)
UPDATE spool_position SET segment = $4, byte_offset = $5, closed = $6, updated_at = now() FROM waits, turn
WHERE boot_id = $1 AND segment = $2 AND byte_offset = $3 AND NOT closed
"""

_RESET = """
INSERT INTO spool_position (boot_id, segment, byte_offset) VALUES ($1, 0, 0)
ON CONFLICT (boot_id) DO UPDATE SET segment = 0, byte_offset = 0, closed = false, updated_at = now()
"""
# Sums of whole accounts are added to by the database at the end of a statement, in no order that all keep: of two that
# store usage of one account one waits here, where it has no lock yet that the other could need. Accounts are numbered
# up to a bound, because a batch can have thousands of them and a server has room for so many locks only.
_TURNS: Final = """
SELECT pg_advisory_xact_lock(1819635316, number)
FROM (SELECT DISTINCT (account_id % 64)::integer AS number FROM usage_incoming ORDER BY 1) turns
"""


class WrongClockError(Exception):
    """Records whose time cannot be: their process had a wrong clock. `ids`: of these requests."""

    def __init__(self, ids: set[UUID]) -> None:
        super().__init__()
        self.ids = ids


def days_of(outcomes: Iterable[Outcome]) -> list[date]:
    """The UTC days of requests that can have a row, ascending. ValueError or OverflowError when one is no day."""
    days = sorted({(_EPOCH + timedelta(microseconds=outcome.started_us)).date() for outcome in outcomes})
    return [day for day in days if day >= _FIRST_DAY]


def lines_of(records: Sequence[bytes]) -> bytes:
    """Outcomes in the spool's JSON as CSV (quote `"`, escape `\\`) in the order of COLUMNS, without decoding them.

    Raises ValueError when one is no outcome or holds a control character.
    """
    text = b"\n".join(records)
    if not text.startswith(_BEGIN) or not text.endswith(_END):
        raise ValueError("not a usage record")
    lines = text[len(_BEGIN) : -len(_END)].split(_BETWEEN)
    if len(lines) != len(records) or b"\n" in b"".join(lines):
        raise ValueError("not a usage record")
    if b"\\" in text and b"\\" in text.replace(b"\\\\", b"").replace(b'\\"', b""):
        raise ValueError("a control character in a record")  # CSV knows no other escape than of these two
    return b"\n".join([line if line.endswith(b'"') else line + _NO_TRAIL for line in lines])


async def insert_rows(
    connection: Connection,
    records: Sequence[bytes],
    age_s: float | None = None,
    *,
    again: bool = False,
    boot_id: UUID | None = None,
) -> set[UUID]:
    """Insert rows (outcomes in the spool's JSON) not stored yet, and add exactly those to sums and budgets.

    Returns the ids of those older than what retention keeps, which are left out. `age_s`: how long the process that
    wrote them has run, when it is known, and `boot_id` which one it is; `again`: they come from a directory that is
    stored once more. Inside the caller's transaction. Raises ValueError like `lines_of`, and WrongClockError.
    """
    await connection.execute(_MAKE_INCOMING)
    pieces = []
    for start in range(0, len(records), _TURN_RECORDS):
        pieces.append(lines_of(records[start : start + _TURN_RECORDS]) + b"\n")
        await asyncio.sleep(0)
    await connection.copy_to_table("usage_incoming", source=_each(pieces), columns=COLUMNS, format="csv", escape="\\")
    dropped = await unlink_incoming(connection, again=again)
    await connection.execute(_TURNS)
    age = None if age_s is None else timedelta(seconds=age_s)
    # Without a budget nothing but usage is touched: whatever else is locked, it is stored.
    if await connection.fetchval(HAS_BUDGETS):
        old = await connection.fetch(_INSERT_AND_CHARGE, age, boot_id)
    else:
        old = await connection.fetch(_INSERT, age)
    if wrong := {row[0] for row in old if row[1]}:
        raise WrongClockError(wrong)
    return dropped | {row[0] for row in old}


async def _each(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def load_position(connection: Connection, boot_id: UUID) -> tuple[Position, bool]:
    """How far a spool directory is stored and whether it is closed; begins the account of an unknown one."""
    await connection.execute(
        "INSERT INTO spool_position (boot_id, segment, byte_offset) VALUES ($1, 0, 0) ON CONFLICT DO NOTHING", boot_id
    )
    row = await connection.fetchrow(
        "SELECT segment, byte_offset, closed FROM spool_position WHERE boot_id = $1", boot_id
    )
    return (Position(0, 0), False) if row is None else (Position(row[0], row[1]), row[2])


async def move_position(connection: Connection, boot_id: UUID, old: Position, new: Position, closed: bool) -> bool:
    """Advance from `old`; False when the stored position is another one or closed. Locks the row until commit."""
    status = await connection.execute(_MOVE, boot_id, *old, *new, closed)
    return status == "UPDATE 1"


async def reset_position(connection: Connection, boot_id: UUID) -> None:
    """Let a spool directory be stored from its beginning, whatever the stored position says."""
    await connection.execute(_RESET, boot_id)


async def forget_position(connection: Connection, boot_id: UUID) -> None:
    """Remove the position of a directory that is gone."""
    await connection.execute("DELETE FROM spool_position WHERE boot_id = $1 AND closed", boot_id)


async def all_positions(connection: Connection) -> dict[UUID, Position]:
    """The stored position of every known spool directory."""
    rows = await connection.fetch("SELECT boot_id, segment, byte_offset FROM spool_position")
    return {row[0]: Position(row[1], row[2]) for row in rows}
