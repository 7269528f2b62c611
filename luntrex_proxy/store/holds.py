"""Legal holds: what may not be deleted for now. Placing one waits for a run of retention that is under way."""

import re
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from luntrex_proxy.store import audit
from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.retention import ADVISORY_LOCK

_CASE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ./-]{0,63}")
_COLUMNS: Final = "h.hold_id, h.person_id, h.account_id, a.name AS account, h.case_reference, h.placed_at"


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold, on a person or an account."""

    hold_id: int
    person_id: uuid.UUID | None
    account_id: int | None
    account: str | None
    case_reference: str
    placed_at: datetime


async def place(pool: Pool, case_reference: str, on: uuid.UUID | int) -> Hold:
    """Hold everything of a person (its id) or an account. RefusedError: there is none, or it is held for that case."""
    if _CASE.fullmatch(case_reference) is None:
        raise RefusedError("A case is named by its file number: letters, digits, spaces, dots, slashes and dashes.")
    person_id, account_id = (on, None) if isinstance(on, uuid.UUID) else (None, on)
    with store_errors("place the hold"):
        try:
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK)
                hold_id = await connection.fetchval(
                    "INSERT INTO legal_hold (person_id, account_id, case_reference) VALUES ($1, $2, $3)"
                    " RETURNING hold_id",
                    person_id,
                    account_id,
                    case_reference,
                )
                row = await connection.fetchrow(_one(), hold_id)
                await audit.record(
                    connection, "hold.placed", str(hold_id), account_id,
                    {"case": case_reference, "person": None if person_id is None else str(person_id)},
                )  # fmt: skip
        except asyncpg.ForeignKeyViolationError:
            raise RefusedError("There is no such person or account.") from None
        except asyncpg.UniqueViolationError:
            raise RefusedError("It is held for this case already.") from None
    return _hold(row)


async def lift(pool: Pool, hold_id: int) -> Hold:
    """End a hold: what is old by now goes with the next run."""
    with store_errors("lift the hold"):
        async with pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(_one(), hold_id)
            if row is None:
                raise RefusedError("There is no hold of this number; `luntrex-proxy rights holds` shows all.")
            await connection.execute("DELETE FROM legal_hold WHERE hold_id = $1", hold_id)
            await audit.record(
                connection, "hold.lifted", str(hold_id), row["account_id"], {"case": row["case_reference"]}
            )
    return _hold(row)


async def list_all(pool: Pool) -> list[Hold]:
    """All holds, in the order in which they were placed."""
    with store_errors("list the holds"):
        rows = await pool.fetch(
            f"SELECT {_COLUMNS} FROM legal_hold h LEFT JOIN account a USING (account_id) ORDER BY hold_id"  # noqa: S608 -- a constant of this file
        )
    return [_hold(row) for row in rows]


def _one() -> str:
    return f"SELECT {_COLUMNS} FROM legal_hold h LEFT JOIN account a USING (account_id) WHERE hold_id = $1"  # noqa: S608 -- as above


def _hold(row: Any) -> Hold:
    return Hold(**dict(row))
