"""The table `work`: long work, how far it is and how it ended. One that tells nothing for a while was interrupted.

`about` and `result` hold numbers, ids, days, names of models and our own sentences; nothing of a person.
"""

# ruff: noqa: S608 -- statements of constants of this file
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg
import msgspec

from luntrex_proxy.store import audit
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError

Tell = Callable[[int, int], Awaitable[None]]  # so much is done, of so much
TELLS_EVERY_S: Final = 1.0
_SILENT: Final = "told_at < now() - interval '20 seconds'"
_LIST: Final = f"""
SELECT work_id, kind, w.person_id, about, begun_by, coalesce(nullif(p.name, ''), p.email) AS begun_by_name,
    w.created_at, done, expected, ended_at, result,
    CASE WHEN ended_at IS NULL AND {_SILENT} THEN 'interrupted' ELSE coalesce(outcome, 'running') END AS state
FROM work w LEFT JOIN person p ON p.person_id::text = split_part(begun_by, ':', 2)
"""


@dataclass(frozen=True, slots=True)
class Work:
    """A piece of work. `state`: running, done, failed, stopped, or interrupted with its process."""

    work_id: uuid.UUID
    kind: str
    person_id: uuid.UUID | None  # whose data it gives out
    about: dict[str, Any]
    begun_by: str
    begun_by_name: str | None
    created_at: datetime
    done: int
    expected: int  # 0: not known yet
    ended_at: datetime | None
    result: dict[str, Any]
    state: str


async def tell_nobody(_done: int, _expected: int) -> None:
    """Where nobody asks how far it is."""


async def begin(pool: Pool, kind: str, about: Mapping[str, Any], person_id: uuid.UUID | None = None) -> uuid.UUID:
    """Write down that it begins. RefusedError: of its kind there is one at a time, and it runs."""
    with store_errors("begin the work"):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(
                f"UPDATE work SET ended_at = now(), outcome = 'interrupted' WHERE ended_at IS NULL AND {_SILENT}"
            )
            try:
                async with connection.transaction():
                    work_id: uuid.UUID = await connection.fetchval(
                        "INSERT INTO work (kind, about, person_id, begun_by) VALUES ($1, $2, $3, $4) RETURNING work_id",
                        kind, msgspec.json.encode(about).decode(), person_id, audit.actor_way(),
                    )  # fmt: skip
            except asyncpg.UniqueViolationError:
                raise RefusedError("One of these is under way; wait until it has ended.", "under_way") from None
    return work_id


async def tell(pool: Pool, work_id: uuid.UUID, done: int, expected: int) -> None:
    """It runs, and how far it is."""
    with store_errors("note how far it is"):
        await pool.execute(
            "UPDATE work SET told_at = now(), done = $2, expected = $3 WHERE work_id = $1 AND ended_at IS NULL",
            work_id, done, expected,
        )  # fmt: skip


async def end(
    pool: Pool, work_id: uuid.UUID, outcome: str, done: int, expected: int, result: Mapping[str, Any]
) -> None:
    """How it ended, whatever was thought of it meanwhile."""
    with store_errors("note how it ended"):
        await pool.execute(
            "UPDATE work SET ended_at = now(), outcome = $2, done = $3, expected = $4, result = $5 WHERE work_id = $1",
            work_id, outcome, done, expected, msgspec.json.encode(result).decode(),
        )  # fmt: skip


async def erasure_ended(connection: Connection, request_id: uuid.UUID) -> None:
    """An erasure that was interrupted is done after all, in the caller's transaction."""
    await connection.execute(
        "UPDATE work SET ended_at = now(), outcome = 'done', done = expected"
        " WHERE kind = 'erasure' AND about ->> 'request' = $1 AND outcome IS DISTINCT FROM 'done'",
        str(request_id),
    )


async def get(pool: Pool, work_id: uuid.UUID) -> Work | None:
    """One piece of work."""
    with store_errors("find the work"):
        row = await pool.fetchrow(f"{_LIST} WHERE work_id = $1", work_id)
    return None if row is None else _work(row)


async def of_request(pool: Pool, reference: str) -> Work | None:
    """The newest erasure for a request by right."""
    with store_errors("find the work"):
        row = await pool.fetchrow(
            f"{_LIST} WHERE kind = 'erasure' AND about ->> 'reference' = $1 ORDER BY w.created_at DESC LIMIT 1",
            reference,
        )
    return None if row is None else _work(row)


async def newest(
    pool: Pool, limit: int, *, kinds: Collection[str] | None = None, person_id: uuid.UUID | None = None
) -> list[Work]:
    """The newest first; of some kinds, or of exports of one person."""
    with store_errors("list the work"):
        rows = await pool.fetch(
            f"{_LIST} WHERE ($1::text[] IS NULL OR kind = ANY($1)) AND ($2::uuid IS NULL OR w.person_id = $2)"
            " ORDER BY w.created_at DESC, work_id LIMIT $3",
            None if kinds is None else list(kinds), person_id, limit,
        )  # fmt: skip
    return [_work(row) for row in rows]


def _work(row: Any) -> Work:
    return Work(**{**row, "about": msgspec.json.decode(row["about"]), "result": msgspec.json.decode(row["result"])})
