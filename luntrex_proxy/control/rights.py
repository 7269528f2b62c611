"""Rights of people, each by themselves or by the operator: what one asks for is written down, and done at once unless
it needs time to think (erasure) or somebody's decision (what a form asks to be corrected).

What an erasure meets: the last owner of an account with others is refused until another owner is made; an unpaid
invoice stays with the others until the law lets it go; a legal hold makes it wait.
"""

import contextlib
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from luntrex_proxy.control import work
from luntrex_proxy.control.acts import RefusedError, acting_as
from luntrex_proxy.control.sessions import new_token, token_hash
from luntrex_proxy.core.deadlines import STAGES, Stage, nearest
from luntrex_proxy.core.people import NAME_RULE, read_name
from luntrex_proxy.core.rights import ENDED, Law, Right, State
from luntrex_proxy.store import erasing, exporting, exports, people, subjects, tombstones
from luntrex_proxy.store import rights as table
from luntrex_proxy.store.changes import hold_changes
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.erasing import HeldError, Receipt
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.joined import joined
from luntrex_proxy.store.lastones import LastOwnerError
from luntrex_proxy.store.rights import Request

__all__ = ["HeldError", "LastOwnerError", "Law", "Receipt", "Request", "Right", "State"]
by_reference, listed, extend, lapse = table.by_reference, table.listed, table.extend, table.lapse
to_answer = table.to_answer
is_objecting = table.is_objecting
_NOTE_CHARACTERS_MAX: Final = 500


async def restrict(
    pool: Pool, person_id: uuid.UUID, *, on: bool = True, law: Law = Law.GDPR, channel: str = "self"
) -> Request:
    """From now on the person's data is only stored, and its keys answer 403; or no more."""
    with store_errors("restrict the processing"):
        async with pool.acquire() as connection, connection.transaction():
            made = await table.insert(connection, Right.RESTRICT, law, channel, State.OPEN, person_id=person_id)
            changed = await table.set_restricted(connection, person_id, restricted=on)
            return await _marked(connection, made, "restricted" if on else "lifted", changed=changed)


async def object_to_analytics(
    pool: Pool, person_id: uuid.UUID, *, on: bool = True, law: Law = Law.GDPR, channel: str = "self"
) -> Request:
    """From now on new usage does not lead to the person in analytics; or it does again.

    That is usage of the person's keys. Of an account's own keys no record says which member used them, so it leads to
    nobody, but where all members object: who is alone in an account, or all together, are whom such usage is about.
    """
    with store_errors("note the objection"):
        async with pool.acquire() as connection, connection.transaction():
            made = await table.insert(connection, Right.OBJECT, law, channel, State.OPEN, person_id=person_id)
            changed = await table.set_objecting(connection, person_id, objecting=on)
            return await _marked(connection, made, "objected" if on else "lifted", changed=changed)


async def _marked(connection: Connection, made: Request, outcome: str, *, changed: bool) -> Request:
    await table.end(connection, made.request_id, State.DONE, outcome if changed else "was_so_already")
    return await table.by_reference(joined(connection), made.reference)


async def correct_name(
    pool: Pool, person_id: uuid.UUID, name: str, *, law: Law = Law.GDPR, channel: str = "self"
) -> Request:
    """What the person is called. (An address changes by a letter to the new one: control/people.py.)"""
    read = read_name(name)
    if read is None:
        raise RefusedError(NAME_RULE, "bad_name")
    with store_errors("correct the name"):
        async with pool.acquire() as connection, connection.transaction():
            await people.set_name(joined(connection), person_id, read)
            return await _done(connection, person_id, Right.CORRECT, law, channel, "corrected")


async def annotate(
    pool: Pool, person_id: uuid.UUID, request_id: uuid.UUID, note: str, *, law: Law = Law.GDPR, channel: str = "self"
) -> Request:
    """Say what is wrong about a record of one's own usage. Records are never changed; the words stand beside them."""
    note = note.strip()
    if not 0 < len(note) <= _NOTE_CHARACTERS_MAX or not note.isprintable():
        raise RefusedError(f"A note has 1 to {_NOTE_CHARACTERS_MAX} characters, in one line.", "bad_note")
    with store_errors("write the note"):
        async with pool.acquire() as connection, connection.transaction():
            await table.annotate(connection, person_id, request_id, note)
            return await _done(connection, person_id, Right.CORRECT, law, channel, "annotated")


async def access(
    pool: Pool,
    person_id: uuid.UUID,
    now: datetime,
    days: Mapping[str, int],
    *,
    law: Law = Law.GDPR,
    channel: str = "self",
) -> tuple[Request, dict[str, Any]]:
    """What is kept of the person, why and how long, and who else gets it; the rows themselves are in an export."""
    with store_errors("say what it keeps"):
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            subject = await subjects.of_person(connection, person_id)
            if subject is None:
                raise RefusedError("There is no such person.", "not_found")
            report = await exporting.report(connection, subject, now, days)
    return await _done_at_once(pool, person_id, Right.ACCESS, law, channel, "given"), report


async def offer_export(
    pool: Pool, person_id: uuid.UUID, *, law: Law = Law.GDPR, channel: str = "self"
) -> tuple[Request, str, datetime]:
    """The secret of a link that gives the person's data out once within a day, and until when."""
    with store_errors("offer the export"):
        async with pool.acquire() as connection, connection.transaction():
            token, until = await export_link(connection, person_id)
            done = await _done(connection, person_id, Right.EXPORT, law, channel, "link_given")
    return done, token, until


async def export_link(connection: Connection, person_id: uuid.UUID) -> tuple[str, datetime]:
    """The link's secret, in the caller's transaction."""
    token = new_token()
    return token, await exports.make_link(connection, person_id, token_hash(token))


async def noted_export(pool: Pool, person_id: uuid.UUID, *, law: Law, channel: str) -> Request:
    """The data was given to the person by hand."""
    return await _done_at_once(pool, person_id, Right.EXPORT, law, channel, "given")


async def export_works(pool: Pool, token: str) -> bool:
    """Whether a link could be used now; looking uses nothing up."""
    return await exports.works(pool, token_hash(token))


async def take_export(pool: Pool, dsn: str, token: str, days: Mapping[str, int]) -> AsyncGenerator[bytes, None]:
    """The zip of whose link it is, in pieces; the link is used up. DeadExportError."""
    person_id = await exports.use_link(pool, token_hash(token))
    with acting_as(f"console:{person_id}"):
        begun = await work.begin(pool, "export", {}, person_id)
    return _given(pool, begun, exports.stream(dsn, person_id, days, begun.to))


async def _given(pool: Pool, begun: work.Progress, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with work.told(pool, begun) as progress, contextlib.aclosing(pieces):
        async for piece in pieces:
            progress.result["bytes"] = progress.result.get("bytes", 0) + len(piece)
            yield piece


async def ask_erasure(
    pool: Pool,
    person_id: uuid.UUID,
    now: datetime,
    grace: timedelta,
    *,
    law: Law = Law.GDPR,
    channel: str = "self",
) -> Request:
    """Erase the person when `grace` is over, unless it is withdrawn. LastOwnerError: another owner is needed first."""
    with store_errors("note the erasure"):
        async with pool.acquire() as connection, connection.transaction():
            lost = await subjects.last_owner_of(connection, person_id)
            if lost:
                raise LastOwnerError(lost[0])
            known = await connection.fetchval(
                "SELECT reference FROM rights_request WHERE person_id = $1 AND kind = 'erase' AND closed_at IS NULL"
                " AND act_at IS NOT NULL",
                person_id,
            )
            if known is None:
                made = await table.insert(
                    connection, Right.ERASE, law, channel, State.WAITING, person_id=person_id, act_at=now + grace
                )
                known = made.reference
    return await table.by_reference(pool, known)


async def withdraw(pool: Pool, reference: str, person_id: uuid.UUID | None = None) -> Request:
    """Take a request back that was not carried out. RefusedError: it was, or it is another person's."""
    found = await table.by_reference(pool, reference)
    if person_id not in (None, found.person_id):
        raise RefusedError("There is no request of this reference.", "not_found")
    if found.state in ENDED:
        raise RefusedError("This request has ended already.", "ended")
    return await _end(pool, found, State.WITHDRAWN, "withdrawn")


async def answer(pool: Pool, reference: str, *, refused: bool, outcome: str) -> Request:
    """Close a request that somebody decided on. `outcome`: a fixed word."""
    found = await table.by_reference(pool, reference)
    if found.state in ENDED:
        raise RefusedError("This request has ended already.", "ended")
    return await _end(pool, found, State.REFUSED if refused else State.DONE, outcome)


async def _end(pool: Pool, found: Request, state: State, outcome: str) -> Request:
    with store_errors("answer the request"):
        async with pool.acquire() as connection, connection.transaction():
            await hold_changes(connection)  # an erasure begins behind this, and finds that it is withdrawn
            if found.person_id is not None and await tombstones.is_gone(connection, found.person_id):
                raise RefusedError("This request is carried out at this moment.", "ended")
            await table.end(connection, found.request_id, state, outcome)
    return await table.by_reference(pool, found.reference)


async def carry_out(pool: Pool, directory: Path, request: Request, now: datetime, audit_days: int) -> Request:
    """Erase whom the request is of, now. Under a hold, or as a last owner, it waits and is tried again."""
    if request.person_id is None:
        raise RefusedError("The person of this request is not known here any more.", "not_found")
    about = {"request": str(request.request_id), "reference": request.reference}
    try:
        async with contextlib.AsyncExitStack() as stack:
            begun: list[work.Progress] = []

            async def tell(done: int, expected: int) -> None:
                with contextlib.suppress(StoreError):  # who is erased does not wait for its being told
                    if not begun:  # one that has to wait is tried again and again: only what is done is work
                        progress = await work.begin(pool, "erasure", about)
                        begun.append(await stack.enter_async_context(work.told(pool, progress)))
                    begun[0].to(done, expected)

            await erasing.erase_person(
                pool, directory, request.person_id, now, audit_days, request_id=request.request_id, tell=tell
            )
    except (HeldError, LastOwnerError):
        with store_errors("note that it waits"):
            async with pool.acquire() as connection:
                await table.set_state(connection, request.request_id, State.HELD)
        raise
    return await table.by_reference(pool, request.reference)


async def carry_out_due(pool: Pool, directory: Path, now: datetime, audit_days: int) -> int:
    """Erase everybody whose time to think is over; how many. What fails is raised when the others are through."""
    erased, failed = 0, None
    for request in await table.due_erasures(pool, now):
        try:
            await carry_out(pool, directory, request, now, audit_days)
            erased += 1
        except (HeldError, LastOwnerError):
            continue
        except StoreError as error:
            # It has ended: withdrawn while others were erased.
            failed = failed if isinstance(error, RefusedError) and error.code == "ended" else error
    if failed is not None:
        raise failed
    return erased


async def warnings(pool: Pool, now: datetime) -> list[tuple[Request, Stage]]:
    """Open requests that came nearer to the end of their time since this was asked last: half, late, over."""
    found = []
    for request in await table.listed(pool):
        stage = request.clock.stage(now)
        if STAGES.index(stage) > STAGES.index(request.warned):
            await table.warned(pool, request.request_id, stage)
            found.append((request, stage))
    return found


@dataclass(frozen=True, slots=True)
class Clocks:
    """How many open requests are how near their end, and when the next of each law is due."""

    stages: dict[str, int]
    nearest: dict[str, datetime]


async def clocks(pool: Pool, now: datetime) -> Clocks:
    """The clocks of everybody's open requests."""
    found = await table.open_clocks(pool)
    counts = Counter(each.stage(now).value for each in found)
    return Clocks({stage.value: counts[stage.value] for stage in STAGES}, nearest(found))


def shown(request: Request, now: datetime) -> dict[str, Any]:
    """A request as everybody with its reference may see it: no address, no person."""
    clock = request.clock
    is_open = request.state not in ENDED
    return {
        "reference": request.reference,
        "right": request.kind.value,
        "state": request.state.value,
        "law": request.law.value,
        "received_at": request.received_at,
        "due_at": clock.due,
        "stage": clock.stage(now).value if is_open else None,
        "extended": request.extended_at is not None,
        "act_at": request.act_at if is_open else None,
        "closed_at": request.closed_at,
        "outcome": request.outcome,
        "receipt": request.receipt,
    }


async def _done_at_once(pool: Pool, person_id: uuid.UUID, kind: Right, law: Law, channel: str, outcome: str) -> Request:
    with store_errors("note the request"):
        async with pool.acquire() as connection, connection.transaction():
            return await _done(connection, person_id, kind, law, channel, outcome)


async def _done(
    connection: Connection, person_id: uuid.UUID, kind: Right, law: Law, channel: str, outcome: str
) -> Request:
    """The same, in the caller's transaction: nothing is done that is not on record as asked for."""
    made = await table.insert(connection, kind, law, channel, State.OPEN, person_id=person_id)
    return await _marked(connection, made, outcome, changed=True)
