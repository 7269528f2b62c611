"""The table `child_report`: that somebody here is said to be under 16, what was decided, until when the data go."""

import datetime
import uuid
from dataclasses import dataclass
from typing import Final

from luntrex_proxy.core.deadlines import Deadline, Stage
from luntrex_proxy.store import audit, mail
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError

ERASE_WITHIN_H: Final = 72
RELATIONS: Final = ("parent", "self", "school", "other")
_SELECT: Final = (
    "SELECT r.report_id, r.reported_address, r.relation, r.received_at, r.person_id, r.decided_at, r.decision,"
    " r.erase_due_at, r.ended_at, r.person_id IS NOT NULL OR EXISTS (SELECT FROM person p"
    " WHERE p.email = r.reported_address) AS is_known FROM child_report r"
)
_CLOCK_RUNS: Final = "(r.decision IS NOT DISTINCT FROM 'confirmed' AND r.ended_at IS NULL)"
# What the form was told is not needed any longer than until the end.
_END: Final = "ended_at = now(), reported_address = NULL, reporter_address = NULL, person_id = NULL"


@dataclass(frozen=True, slots=True)
class ChildReport:
    """One report. `is_known`: somebody has the address that was reported, or had it when the report came."""

    report_id: uuid.UUID
    reported_address: str | None
    relation: str
    received_at: datetime.datetime
    person_id: uuid.UUID | None
    decided_at: datetime.datetime | None
    decision: str | None
    erase_due_at: datetime.datetime | None
    ended_at: datetime.datetime | None
    is_known: bool

    def stage(self, now: datetime.datetime) -> Stage | None:
        """How near the erasure's end of time is; None: no clock runs."""
        if self.decided_at is None or self.erase_due_at is None or self.ended_at is not None:
            return None
        return Deadline("erasure", self.decided_at, self.erase_due_at).stage(now)


async def receive(pool: Pool, reported: str, reporter: str | None, relation: str) -> None:
    """Note a report, whether anybody has that address or not, and tell the operators: of many at once, not of each."""
    with store_errors("take the report"):
        async with pool.acquire() as connection, connection.transaction():
            report_id = await connection.fetchval(
                "INSERT INTO child_report (reported_address, reporter_address, relation, person_id)"
                " VALUES ($1, $2, $3, (SELECT person_id FROM person WHERE email = $1)) RETURNING report_id",
                reported,
                reporter,
                relation,
            )
            await connection.execute(
                "INSERT INTO mail (kind, person_id) SELECT 'child_report', person_id FROM person"
                " WHERE operator AND status = 'active' AND NOT EXISTS (SELECT FROM mail m WHERE m.kind = 'child_report'"
                " AND m.person_id = person.person_id AND m.queued_at > now() - interval '10 minutes')"
            )
            await audit.record(connection, "child_report.received", str(report_id), facts={"relation": relation})


async def list_all(pool: Pool, *, open_only: bool = False) -> list[ChildReport]:
    """Reports, the newest first, before them those whose clock runs: no flood of others keeps them from their end."""
    condition = " WHERE r.ended_at IS NULL" if open_only else ""
    with store_errors("list the reports"):
        rows = await pool.fetch(f"{_SELECT}{condition} ORDER BY {_CLOCK_RUNS} DESC, r.received_at DESC LIMIT 1000")
    return [ChildReport(**row) for row in rows]


async def list_page(
    pool: Pool, before: tuple[datetime.datetime, uuid.UUID] | None, limit: int, *, open_only: bool = False
) -> list[ChildReport]:
    """Reports, the newest first, those before (time, id)."""
    with store_errors("list the reports"):
        rows = await pool.fetch(
            f"{_SELECT} WHERE (r.ended_at IS NULL OR NOT $1)"
            " AND ($2::timestamptz IS NULL OR (r.received_at, r.report_id) < ($2, $3::uuid))"
            " ORDER BY r.received_at DESC, r.report_id DESC LIMIT $4",
            open_only, *(before or (None, None)), limit,
        )  # fmt: skip
    return [ChildReport(**row) for row in rows]


async def open_clocks(pool: Pool) -> list[Deadline]:
    """The clocks of erasures that confirmed reports ask for."""
    with store_errors("list the reports"):
        rows = await pool.fetch(
            "SELECT decided_at, erase_due_at FROM child_report"
            " WHERE decision = 'confirmed' AND ended_at IS NULL AND erase_due_at IS NOT NULL"
        )
    return [Deadline("child_erasure", row["decided_at"], row["erase_due_at"]) for row in rows]


async def get(pool: Pool, report_id: uuid.UUID) -> ChildReport:
    """The report of this id; an unknown one raises RefusedError."""
    with store_errors("find the report"):
        row = await pool.fetchrow(f"{_SELECT} WHERE r.report_id = $1", report_id)
    if row is None:
        raise RefusedError("There is no report of this id; `luntrex-proxy children list` shows all.", "not_found")
    return ChildReport(**row)


async def confirm(pool: Pool, report_id: uuid.UUID) -> tuple[uuid.UUID, datetime.datetime]:
    """It is so: whose data have to go, and until when. RefusedError: it was decided, or nobody has that address."""
    with store_errors("decide on the report"):
        async with pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(
                "UPDATE child_report r SET decision = 'confirmed', decided_at = now(), decided_by = $2,"
                " person_id = p.person_id, erase_due_at = now() + make_interval(hours => $3)"
                " FROM person p WHERE r.report_id = $1 AND r.decision IS NULL AND p.person_id ="
                " coalesce(r.person_id, (SELECT person_id FROM person WHERE email = r.reported_address))"
                " RETURNING p.person_id, p.email, r.erase_due_at",
                report_id,
                audit.actor_way(),
                ERASE_WITHIN_H,
            )
            if row is None:
                raise RefusedError("This report was decided on already, or nobody has the address.", "decided")
            await mail.enqueue(connection, "child_erasure", row["email"])
            await audit.record(connection, "child_report.confirmed", str(report_id))
    return row["person_id"], row["erase_due_at"]


async def dismiss(pool: Pool, report_id: uuid.UUID) -> None:
    """It is not so, or nobody has that address; what was written into the form goes."""
    with store_errors("decide on the report"):
        async with pool.acquire() as connection, connection.transaction():
            found = await connection.fetchrow(
                "SELECT reporter_address FROM child_report WHERE report_id = $1 AND decision IS NULL FOR UPDATE",
                report_id,
            )
            if found is None:
                raise RefusedError("This report was decided on already, or there is none of this id.", "decided")
            await _dismiss(connection, report_id, found["reporter_address"])
            await audit.record(connection, "child_report.dismissed", str(report_id))


async def take_back(connection: Connection, report_id: uuid.UUID) -> tuple[uuid.UUID, datetime.datetime]:
    """It was a mistake to confirm it: whose data stay, and when that was; in the caller's transaction. RefusedError."""
    found = await connection.fetchrow(
        "SELECT reporter_address, person_id, decided_at FROM child_report WHERE report_id = $1"
        " AND decision = 'confirmed' AND ended_at IS NULL AND person_id IS NOT NULL FOR UPDATE",
        report_id,
    )
    if found is None:
        raise RefusedError("This report is not confirmed, or the person is erased.", "not_confirmed")
    await _dismiss(connection, report_id, found["reporter_address"])
    await audit.record(connection, "child_report.taken_back", str(report_id))
    return found["person_id"], found["decided_at"]


async def _dismiss(connection: Connection, report_id: uuid.UUID, reporter: str | None) -> None:
    if reporter:
        await mail.enqueue(connection, "child_answer", reporter)
    await connection.execute(
        "UPDATE child_report SET decision = 'dismissed', decided_at = now(), decided_by = $2, erase_due_at = NULL,"  # noqa: S608 -- a constant
        f" {_END} WHERE report_id = $1",
        report_id,
        audit.actor_way(),
    )


async def settle(pool: Pool) -> int:
    """End confirmed reports whose person is gone, and answer who reported; how many."""
    with store_errors("end reports"):
        async with pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(
                "SELECT report_id, reporter_address FROM child_report"
                " WHERE decision = 'confirmed' AND ended_at IS NULL AND person_id IS NULL FOR UPDATE"
            )
            for row in rows:
                if row["reporter_address"]:
                    await mail.enqueue(connection, "child_answer", row["reporter_address"])
                await connection.execute(
                    f"UPDATE child_report SET {_END} WHERE report_id = $1",  # noqa: S608 -- a constant
                    row["report_id"],
                )
                await audit.record(connection, "child_report.erased", str(row["report_id"]))
    return len(rows)
