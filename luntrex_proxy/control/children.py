"""Reports that somebody here is under 16: taken from anybody, decided on by an operator, then the data go.

A confirmed one suspends at once and erases the next day, until when it can be taken back; 72 hours is the longest.
"""

import contextlib
import datetime
import uuid
from pathlib import Path
from typing import Final

from luntrex_proxy.control import rights
from luntrex_proxy.control.guessing import trying
from luntrex_proxy.control.people import checked_address
from luntrex_proxy.control.services import Services
from luntrex_proxy.core.deadlines import Stage
from luntrex_proxy.core.people import ADDRESS_RULE, read_address
from luntrex_proxy.core.rights import State
from luntrex_proxy.store import childreports as table
from luntrex_proxy.store import erasing, people, tombstones
from luntrex_proxy.store import rights as rights_table
from luntrex_proxy.store.changes import hold_changes
from luntrex_proxy.store.childreports import RELATIONS, ChildReport
from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.erasing import HeldError
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.lastones import LastOwnerError

__all__ = ["RELATIONS", "ChildReport", "confirm", "dismiss", "get", "keep", "list_page", "receive", "take_back"]
dismiss, get, list_page = table.dismiss, table.get, table.list_page
_TIME_TO_UNDO: Final = datetime.timedelta(hours=24)
_BEFORE_THE_END: Final = datetime.timedelta(hours=6)  # then it is erased whether its account has another owner or not


async def receive(services: Services, reported: str, reporter: str, relation: str, network: str) -> None:
    """Take a report. Who sends many has to wait; nobody learns whether there is such an address here."""
    address = checked_address(reported)
    answer_to = read_address(reporter) if reporter.strip() else None
    if reporter.strip() and answer_to is None:
        raise RefusedError(ADDRESS_RULE, "bad_reporter")
    if relation not in RELATIONS:
        raise RefusedError("Say who you are: parent, self, school or other.", "invalid")
    async with trying(services, "child report", address, network, free=True):
        await table.receive(services.pool, address, answer_to, relation)


async def confirm(pool: Pool, report_id: uuid.UUID, now: datetime.datetime) -> ChildReport:
    """Suspend the person at once, and let the erasure begin."""
    person_id, _ = await table.confirm(pool, report_id)
    await people.suspend(pool, person_id, although_last_owner=True)
    await _ask_erasure(pool, person_id, now)
    return await table.get(pool, report_id)


async def take_back(pool: Pool, report_id: uuid.UUID) -> None:
    """It was a mistake to confirm it: nobody is erased by it. RefusedError: it is not confirmed, or it is too late.

    The person stays suspended until an operator resumes them: it may have been for something else.
    """
    with store_errors("take the decision back"):
        async with pool.acquire() as connection, connection.transaction():
            await hold_changes(connection)  # an erasure begins behind this
            person_id, decided_at = await table.take_back(connection, report_id)
            if await tombstones.is_gone(connection, person_id):
                raise RefusedError("The person is being erased at this moment.", "not_confirmed")
            for request_id in await rights_table.erasures_by_operator(connection, person_id, decided_at):
                await rights_table.end(connection, request_id, State.WITHDRAWN, "withdrawn")


async def keep(
    pool: Pool, now: datetime.datetime, directory: Path, audit_days: int, *, clock_is_right: bool = True
) -> list[tuple[ChildReport, Stage]]:
    """What time does: erasures that could not be asked for are, ended reports are closed; those whose end is near.

    `clock_is_right` False: nobody's time to undo ends by a clock that may have jumped; the report says how near it is.
    """
    near: list[tuple[ChildReport, Stage]] = []
    for report in await table.list_all(pool, open_only=True):
        if report.decision == "confirmed" and report.person_id is not None:
            if await _is_in(pool, report.person_id):
                await people.suspend(pool, report.person_id, although_last_owner=True)
            await _ask_erasure(pool, report.person_id, now)
            end = report.erase_due_at
            if clock_is_right and end is not None and now >= end - _BEFORE_THE_END:
                with contextlib.suppress(HeldError):
                    await erasing.erase_person(
                        pool, directory, report.person_id, now, audit_days, although_last_owner=True
                    )
        stage = report.stage(now)
        if stage is not None and stage is not Stage.RUNNING:
            near.append((report, stage))
    await table.settle(pool)
    return near


async def _is_in(pool: Pool, person_id: uuid.UUID) -> bool:
    """Whether a crash came between the decision and the suspension, or somebody resumed the person."""
    found = await people.by_id(pool, person_id)
    return found is not None and found.status != "suspended"


async def _ask_erasure(pool: Pool, person_id: uuid.UUID, now: datetime.datetime) -> None:
    # A last owner's account should get another one first: the operator is told of the clock, and it is tried again.
    with contextlib.suppress(LastOwnerError):
        await rights.ask_erasure(pool, person_id, now, _TIME_TO_UNDO, channel="operator")
