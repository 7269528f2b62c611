"""The table `rights_request`, and the two rights that are a mark on a person: restriction and objection."""

import base64
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from luntrex_proxy.core.deadlines import Deadline, Stage
from luntrex_proxy.core.rights import ENDED, Law, Right, State, can_be_extended, clock
from luntrex_proxy.store import audit
from luntrex_proxy.store.changes import next_version
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError

_CONFIRM_WITHIN: Final = timedelta(days=1)
_COLUMNS: Final = (
    "request_id, reference, kind, state, channel, law, person_id, email, received_at, confirmed_at, extended_at,"
    " act_at, warned, closed_at, outcome, receipt"
)
# Whom to answer. Of a request that nobody confirmed nobody knows whose it is.
_ADDRESS: Final = """
CASE WHEN state <> 'unconfirmed' THEN
    coalesce((SELECT p.email FROM person p WHERE p.person_id = r.person_id), email) END AS address
"""
# `status` says it too, of who may sign in: the release before this one reads it there.
_SET_RESTRICTED: Final = """
UPDATE person SET restricted_at = CASE WHEN $2 THEN now() END,
    status = CASE WHEN status IN ('suspended', 'unverified') THEN status WHEN $2 THEN 'restricted' ELSE 'active' END
WHERE person_id = $1 AND (restricted_at IS NULL) = $2
"""
# ruff: noqa: S608 -- statements of constants of this file


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asked for."""

    request_id: uuid.UUID
    reference: str
    kind: Right
    state: State
    channel: str
    law: Law
    person_id: uuid.UUID | None
    email: str | None
    received_at: datetime
    confirmed_at: datetime | None
    extended_at: datetime | None
    act_at: datetime | None
    warned: Stage
    closed_at: datetime | None
    outcome: str | None
    receipt: dict[str, Any] | None
    address: str | None = None  # whom to answer; in lists, and of `to_answer`

    @property
    def clock(self) -> Deadline:
        """When an answer is due."""
        return clock(self.law, self.received_at, extended=self.extended_at is not None)


async def insert(
    connection: Connection, kind: Right, law: Law, channel: str, state: State, *,
    person_id: uuid.UUID | None = None, email: str | None = None, act_at: datetime | None = None,
) -> Request:  # fmt: skip
    """Write a request down, in the caller's transaction; its reference cannot be guessed."""
    reference = base64.b32encode(secrets.token_bytes(17)).decode()[:26]
    (row,) = await connection.fetch(
        "INSERT INTO rights_request (reference, kind, state, channel, law, person_id, email, act_at, confirmed_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, CASE WHEN $3 = 'unconfirmed' THEN NULL ELSE now() END)"
        f" RETURNING {_COLUMNS}",
        reference, kind.value, state.value, channel, law.value, person_id, email, act_at,
    )  # fmt: skip
    made = _request(row)
    facts = {"right": kind.value, "law": law.value, "channel": channel}
    await audit.record(connection, "right.asked", str(made.request_id), facts=facts)
    return made


async def count_unconfirmed(connection: Connection, email: str) -> int:
    """How many requests of the last day wait for this address to confirm them."""
    count: int = await connection.fetchval(
        "SELECT count(*) FROM rights_request WHERE email = $1 AND closed_at IS NULL AND state = 'unconfirmed'"
        " AND received_at > now() - interval '1 day'",
        email,
    )
    return count


async def end(
    connection: Connection, request_id: uuid.UUID, state: State, outcome: str, receipt: dict[str, Any] | None = None
) -> None:
    """The request is answered, in the caller's transaction; its address is not needed any more."""
    done = await connection.execute(
        "UPDATE rights_request SET state = $2, outcome = $3, receipt = $4, closed_at = now(), email = NULL,"
        " confirm_hash = NULL WHERE request_id = $1 AND closed_at IS NULL",
        request_id,
        state.value,
        outcome,
        None if receipt is None else msgspec.json.encode(receipt).decode(),
    )
    if done == "UPDATE 1":
        await audit.record(connection, f"right.{state.value}", str(request_id), facts={"outcome": outcome})


async def refuse_ended(connection: Connection, request_id: uuid.UUID) -> None:
    """RefusedError: the request was withdrawn or answered."""
    if not await connection.fetchval("SELECT closed_at IS NULL FROM rights_request WHERE request_id = $1", request_id):
        raise RefusedError("This request has ended already.", "ended")


async def set_state(connection: Connection, request_id: uuid.UUID, state: State) -> None:
    """What an open request waits for now."""
    await connection.execute(
        "UPDATE rights_request SET state = $2 WHERE request_id = $1 AND closed_at IS NULL", request_id, state.value
    )


async def by_reference(pool: Pool, reference: str) -> Request:
    """The request of this reference; an unknown one raises RefusedError."""
    return await _found(pool, _COLUMNS, reference)


async def to_answer(pool: Pool, reference: str) -> Request:
    """The same with the address of whom to answer."""
    return await _found(pool, f"{_COLUMNS}, {_ADDRESS}", reference)


async def _found(pool: Pool, columns: str, reference: str) -> Request:
    with store_errors("find the request"):
        row = await pool.fetchrow(f"SELECT {columns} FROM rights_request r WHERE reference = $1", reference.upper())
    if row is None:
        raise RefusedError("There is no request of this reference.", "not_found")
    return _request(row)


async def listed(
    pool: Pool,
    *,
    person_id: uuid.UUID | None = None,
    only_open: bool = True,
    after: tuple[datetime, uuid.UUID] | None = None,
    limit: int = 1_000,
    newest_first: bool = False,
    kind: Right | None = None,
    state: State | None = None,
) -> list[Request]:
    """Requests, the oldest first, those behind `after` (time, id); those of one person, or everybody's.

    `newest_first` goes without `after`. `kind`, `state`: only those.
    """
    order = "received_at DESC, request_id DESC" if newest_first else "received_at, request_id"
    with store_errors("list the requests"):
        rows = await pool.fetch(
            f"SELECT {_COLUMNS}, {_ADDRESS} FROM rights_request r WHERE ($1::uuid IS NULL OR person_id = $1)"
            " AND (closed_at IS NULL OR NOT $2)"
            " AND ($3::timestamptz IS NULL OR (received_at, request_id) > ($3, $4::uuid))"
            " AND ($6::text IS NULL OR kind = $6) AND ($7::text IS NULL OR state = $7)"
            f" ORDER BY {order} LIMIT $5",
            person_id, only_open, *(after or (None, None)), limit, kind, state,
        )  # fmt: skip
    return [_request(row) for row in rows]


async def open_clocks(pool: Pool, *, only_first: bool = False) -> list[Deadline]:
    """The clocks of all open requests, or only of those that came first: none of its law is due before."""
    received_at = "min(received_at) AS received_at" if only_first else "received_at"
    groups = " GROUP BY 1, 2" if only_first else ""
    with store_errors("list the requests"):
        rows = await pool.fetch(
            f"SELECT law, extended_at IS NOT NULL AS extended, {received_at} FROM rights_request"
            f" WHERE closed_at IS NULL{groups}"
        )
    return [clock(Law(row["law"]), row["received_at"], extended=row["extended"]) for row in rows]


async def open_erasures(connection: Connection, person_ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    """Requests of these people to be erased that nobody has answered yet."""
    rows = await connection.fetch(
        "SELECT request_id FROM rights_request WHERE person_id = ANY($1) AND kind = 'erase' AND closed_at IS NULL",
        list(person_ids),
    )
    return [row["request_id"] for row in rows]


async def erasures_by_operator(connection: Connection, person_id: uuid.UUID, since: datetime) -> list[uuid.UUID]:
    """Requests, not older than `since` and not answered yet, by which an operator has the person erased."""
    rows = await connection.fetch(
        "SELECT request_id FROM rights_request WHERE person_id = $1 AND kind = 'erase' AND channel = 'operator'"
        " AND closed_at IS NULL AND received_at >= $2",
        person_id,
        since,
    )
    return [row["request_id"] for row in rows]


async def due_erasures(pool: Pool, now: datetime) -> list[Request]:
    """Erasures whose time to think is over; those under a hold are tried again."""
    with store_errors("list the requests"):
        rows = await pool.fetch(
            f"SELECT {_COLUMNS} FROM rights_request WHERE kind = 'erase' AND state IN ('waiting', 'held')"
            " AND act_at <= $1 AND closed_at IS NULL AND person_id IS NOT NULL ORDER BY act_at",
            now,
        )
    return [_request(row) for row in rows]


async def extend(pool: Pool, reference: str, reason: str = "") -> Request:
    """Take the longer time of the law, once. RefusedError: it has none, or it is taken or over already.

    `reason`: a fixed word, for the audit log.
    """
    found = await by_reference(pool, reference)
    if not can_be_extended(found.law) or found.extended_at is not None or found.state in ENDED:
        raise RefusedError("This request has no longer time to take.", "no_longer_time")
    with store_errors("extend the request"):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "UPDATE rights_request SET extended_at = now(), warned = 'running' WHERE request_id = $1",
                found.request_id,
            )
            facts = {"reason": reason} if reason else {}
            await audit.record(connection, "right.extended", str(found.request_id), facts=facts)
    return await by_reference(pool, reference)


async def wait_until(connection: Connection, request_id: uuid.UUID, act_at: datetime) -> None:
    """An erasure that is carried out then, unless it is withdrawn."""
    await connection.execute(
        "UPDATE rights_request SET state = 'waiting', act_at = $2 WHERE request_id = $1", request_id, act_at
    )


async def set_confirm_hash(pool: Pool, request_id: str, hashed: bytes) -> bool:
    """Another link confirms the request from now on; False: it waits for none."""
    with store_errors("make the link"):
        done = await pool.execute(
            "UPDATE rights_request SET confirm_hash = $2 WHERE request_id::text = $1 AND state = 'unconfirmed'",
            request_id,
            hashed,
        )
    return bool(done == "UPDATE 1")


async def confirm(connection: Connection, hashed: bytes) -> Request | None:
    """The request whose link this is, confirmed by it, once, in the caller's transaction; None: there is none."""
    row = await connection.fetchrow(
        "UPDATE rights_request r SET state = 'open', confirmed_at = now(), confirm_hash = NULL,"
        " person_id = (SELECT person_id FROM person p WHERE p.email = r.email)"
        " WHERE confirm_hash = $1 AND state = 'unconfirmed' AND received_at > now() - $2::interval"
        f" RETURNING {_COLUMNS}",
        hashed,
        _CONFIRM_WITHIN,
    )
    if row is not None:
        await audit.record(connection, "right.confirmed", str(row["request_id"]))
    return None if row is None else _request(row)


async def lapse(pool: Pool) -> int:
    """End requests that nobody confirmed within a day; how many."""
    with store_errors("end the request"):
        async with pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(
                "SELECT request_id FROM rights_request WHERE state = 'unconfirmed'"
                " AND received_at <= now() - $1::interval FOR UPDATE SKIP LOCKED",
                _CONFIRM_WITHIN,
            )
            for row in rows:
                await end(connection, row["request_id"], State.LAPSED, "not_confirmed")
    return len(rows)


async def warned(pool: Pool, request_id: uuid.UUID, stage: Stage) -> None:
    """It was told how near the end of its time is."""
    with store_errors("note the warning"):
        await pool.execute("UPDATE rights_request SET warned = $2 WHERE request_id = $1", request_id, stage.value)


async def set_restricted(connection: Connection, person_id: uuid.UUID, *, restricted: bool) -> bool:
    """Whether the person's data may only be stored, in the caller's transaction; False: it is so already."""
    version = await next_version(connection)
    if await connection.execute(_SET_RESTRICTED, person_id, restricted) == "UPDATE 0":
        return False
    await connection.execute(
        "UPDATE account SET version = $2 WHERE account_id IN (SELECT account_id FROM membership WHERE person_id = $1)",
        person_id,
        version,
    )
    await audit.record(connection, "person.restricted" if restricted else "person.unrestricted", str(person_id))
    return True


async def set_objecting(connection: Connection, person_id: uuid.UUID, *, objecting: bool) -> bool:
    """Whether new usage leads to the person in analytics, in the caller's transaction; False: it is so already."""
    done = await connection.execute(
        "UPDATE person SET objected_at = CASE WHEN $2 THEN now() END"
        " WHERE person_id = $1 AND (objected_at IS NULL) = $2",
        person_id,
        objecting,
    )
    if done == "UPDATE 0":
        return False
    await audit.record(connection, "person.objected" if objecting else "person.objection_ended", str(person_id))
    return True


async def is_objecting(pool: Pool, person_id: uuid.UUID) -> bool:
    """Whether new usage leads to nobody in analytics, because the person objected."""
    with store_errors("find the person"):
        return bool(await pool.fetchval("SELECT objected_at IS NOT NULL FROM person WHERE person_id = $1", person_id))


async def annotate(connection: Connection, person_id: uuid.UUID, request_id: uuid.UUID, note: str) -> None:
    """Put a person's words beside a record of its own usage, in the caller's transaction. RefusedError: it has none."""
    done = await connection.execute(
        "INSERT INTO usage_annotation (person_id, request_id, note) SELECT $1, $2, $3 WHERE EXISTS ("
        "SELECT FROM usage u JOIN api_key k USING (key_id) WHERE u.request_id = $2 AND (k.person_id = $1 OR EXISTS ("
        "SELECT FROM membership m WHERE m.person_id = $1 AND m.account_id = u.account_id AND k.person_id IS NULL)))",
        person_id,
        request_id,
        note,
    )
    if done == "INSERT 0 0":
        raise RefusedError("There is no such request among this person's usage.", "not_found")
    await audit.record(connection, "usage.annotated", str(request_id), facts={"person": str(person_id)})


def _request(row: Any) -> Request:
    fields = dict(row)
    receipt = fields["receipt"]
    return Request(
        **fields
        | {
            "kind": Right(fields["kind"]),
            "state": State(fields["state"]),
            "law": Law(fields["law"]),
            "warned": Stage(fields["warned"]),
            "receipt": None if receipt is None else msgspec.json.decode(receipt),
        }
    )
