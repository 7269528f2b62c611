"""SQL that writes usage: rows and their hourly sums, and the position of a spool directory. No policy, no retries."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from luntrex_proxy.core.outcome import Outcome
from luntrex_proxy.store.database import Connection
from luntrex_proxy.store.segments import Position

Row: TypeAlias = tuple[object, ...]

_TOKENS = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "input_audio_tokens",
    "output_tokens",
    "reasoning_tokens",
    "output_audio_tokens",
)
COLUMNS = (
    *("account_id", "started_at", "request_id", "key_id", "route", "model", "upstream", "status", "code", "ending"),
    *("streamed", "usage_source", *_TOKENS, "cost_pico", "price_version", "request_bytes", "response_bytes"),
    *("events", "attempts", "duration_us", "first_byte_us", "overhead_us"),
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROWS_PER_COPY = 400  # encoding runs on the loop: a few milliseconds at a time

# Kept by the session: a table made and dropped for each batch would bloat the catalogue.
_MAKE_INCOMING = "CREATE TEMP TABLE IF NOT EXISTS usage_incoming (LIKE usage INCLUDING DEFAULTS) ON COMMIT DELETE ROWS"
_COLUMN_LIST = ", ".join(COLUMNS)
_SUMS = (*_TOKENS, "cost_pico")
# Rows come in one order, so that two shippers cannot deadlock on the sums they share.
# ruff: noqa: S608 - every part of these statements is a constant of this file
_INSERT = f"""
WITH inserted AS (
    INSERT INTO usage ({_COLUMN_LIST}) SELECT {_COLUMN_LIST} FROM usage_incoming ON CONFLICT DO NOTHING
    RETURNING account_id, started_at, key_id, model, upstream, status, ending, {", ".join(_SUMS)}
)
INSERT INTO usage_rollup AS sums
    (account_id, hour, key_id, model, upstream, requests, errors, {", ".join(_SUMS)})
SELECT account_id, date_trunc('hour', started_at, 'UTC'), key_id, model, upstream,
    count(*), count(*) FILTER (WHERE NOT (ending = 'complete' AND status < 400)),
    {", ".join(f"sum({column})::bigint" for column in _TOKENS)}, sum(cost_pico)
FROM inserted GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
ON CONFLICT (account_id, hour, key_id, model, upstream) DO UPDATE SET
    {", ".join(f"{column} = sums.{column} + excluded.{column}" for column in ("requests", "errors", *_SUMS))}
"""
_MOVE = """
UPDATE spool_position SET segment = $4, byte_offset = $5, closed = $6, updated_at = now()
WHERE boot_id = $1 AND segment = $2 AND byte_offset = $3 AND NOT closed
"""


def row_of(outcome: Outcome) -> Row:
    """The usage row of an outcome. ValueError or OverflowError when it cannot be one."""
    return (
        outcome.account_id,
        _EPOCH + timedelta(microseconds=outcome.started_us),
        UUID(outcome.request_id),
        outcome.key_id,
        outcome.route,
        outcome.model,
        outcome.upstream,
        outcome.status,
        outcome.code,
        outcome.ending.value,
        outcome.streamed,
        outcome.usage_source.value,
        outcome.tokens.input,
        outcome.tokens.cached_input,
        outcome.tokens.cache_write_5m,
        outcome.tokens.cache_write_1h,
        outcome.tokens.input_audio,
        outcome.tokens.output,
        outcome.tokens.reasoning,
        outcome.tokens.output_audio,
        outcome.cost_pico,
        outcome.price_version,
        outcome.request_bytes,
        outcome.response_bytes,
        outcome.events,
        outcome.attempts,
        outcome.duration_us,
        outcome.first_byte_us,
        outcome.overhead_us,
    )


def days_of(rows: Iterable[Row]) -> list[date]:
    """The UTC days the rows fall on, ascending."""
    return sorted({row[1].date() for row in rows if isinstance(row[1], datetime)})


async def insert_rows(connection: Connection, rows: Sequence[Row]) -> None:
    """Insert rows not stored yet and add exactly those to the hourly sums. Inside the caller's transaction."""
    await connection.execute(_MAKE_INCOMING)
    for start in range(0, len(rows), _ROWS_PER_COPY):
        await connection.copy_records_to_table(
            "usage_incoming", records=rows[start : start + _ROWS_PER_COPY], columns=COLUMNS
        )
        await asyncio.sleep(0)
    await connection.execute(_INSERT)


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


async def forget_position(connection: Connection, boot_id: UUID) -> None:
    """Remove the position of a directory that is gone."""
    await connection.execute("DELETE FROM spool_position WHERE boot_id = $1 AND closed", boot_id)


async def all_positions(connection: Connection) -> dict[UUID, Position]:
    """The stored position of every known spool directory."""
    rows = await connection.fetch("SELECT boot_id, segment, byte_offset FROM spool_position")
    return {row[0]: Position(row[1], row[2]) for row in rows}
