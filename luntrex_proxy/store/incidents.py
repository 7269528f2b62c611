"""The register of incidents: what happened, what it reached, who was told and how that ended. Nothing goes here."""

import datetime
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from luntrex_proxy.core.audit import Fact
from luntrex_proxy.core.deadlines import Deadline
from luntrex_proxy.core.incidents import TEXT_CHARACTERS_MAX, TITLE_CHARACTERS_MAX, Incident, Reach, clocks
from luntrex_proxy.store import audit, ownership
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.once import claimed

# ruff: noqa: S608 -- statements of constants of this file
LETTER: Final = "incident"  # the kind of the letter; the trigger `mail_proves_notice` knows it too
_SELECT: Final = "SELECT i.* FROM incident i"
# How a letter ends of which nobody can say that its person has it.
_NOT_REACHED: Final = "('given_up', 'refused', 'unknown')"
# Whom only a banner tells: no mail is sent, or their letter did not reach them.
_BY_BANNER: Final = f"(n.way = 'banner' AND n.ended_at IS NULL OR n.outcome IN {_NOT_REACHED})"
_NOTIFY: Final = f"""
WITH wanted AS (
    SELECT p.person_id FROM person p WHERE p.person_id = ANY($2)
        AND NOT EXISTS (SELECT FROM incident_notice n WHERE n.incident_id = $1 AND n.person_id = p.person_id
                        AND (n.outcome IS NULL OR n.outcome NOT IN {_NOT_REACHED}))
), letters AS (
    INSERT INTO mail (kind, person_id, facts) SELECT $3, person_id, $4::jsonb FROM wanted WHERE $5
    RETURNING mail_id, person_id
)
INSERT INTO incident_notice (incident_id, person_id, way, mail_id)
SELECT $1, w.person_id, CASE WHEN $5 THEN 'mail' ELSE 'banner' END, l.mail_id
FROM wanted w LEFT JOIN letters l USING (person_id)
ON CONFLICT (incident_id, person_id) DO UPDATE SET way = excluded.way, mail_id = excluded.mail_id,
    queued_at = excluded.queued_at, ended_at = NULL, outcome = NULL
"""
_OF_ACCOUNT: Final = """
SELECT i.* FROM incident i JOIN incident_account a USING (incident_id)
WHERE a.account_id = $1 AND ($2::bigint IS NULL OR i.incident_id < $2) ORDER BY i.incident_id DESC LIMIT $3
"""
_NOTICES: Final = f"""
SELECT n.notice_id, p.email, n.way, n.queued_at, n.ended_at, n.outcome, {_BY_BANNER} AS by_banner FROM incident_notice n
LEFT JOIN person p USING (person_id) WHERE n.incident_id = $1 AND n.notice_id > $2 ORDER BY n.notice_id LIMIT $3
"""
FIELDS: Final = ("title", "nature", "consequences", "measures", "authority_notified_at")


@dataclass(frozen=True, slots=True)
class Notice:
    """That somebody was told, or is being told. `email` None: erased since."""

    notice_id: int
    email: str | None
    way: str
    queued_at: datetime.datetime
    ended_at: datetime.datetime | None
    outcome: str | None
    by_banner: bool  # nothing else tells them, and they have not read it


async def open_(
    pool: Pool,
    title: str,
    aware_at: datetime.datetime,
    reaches: Sequence[Reach] = (),
    texts: Mapping[str, str] | None = None,
    *,
    drill: bool = False,
) -> Incident:
    """Enter an incident; the clocks run from `aware_at`, which cannot lie ahead. RefusedError."""
    said = {"nature": "", "consequences": "", "measures": "", **(texts or {})}
    _refuse_long({"title": title, **said})
    with store_errors("enter the incident"):
        async with pool.acquire() as connection, connection.transaction(), claimed(connection) as claim:
            await _refuse_ahead(connection, aware_at)
            (row,) = await connection.fetch(
                "INSERT INTO incident (title, aware_at, nature, consequences, measures, drill)"
                " VALUES ($1, $2, $3, $4, $5, $6) RETURNING *",
                title, aware_at, said["nature"], said["consequences"], said["measures"], drill,
            )  # fmt: skip
            incident = _incident(row)
            claim.object_id = str(incident.incident_id)
            for reach in reaches:
                await _reach(connection, incident.incident_id, reach)
            facts: dict[str, Fact] = {
                "aware_at": aware_at.isoformat(),
                "drill": drill,
                "reaches": tuple(str(each) for each in reaches),
            }
            await audit.record(connection, "incident.opened", str(incident.incident_id), facts=facts)
    return incident


async def change(pool: Pool, incident_id: int, changes: Mapping[str, str | datetime.datetime]) -> Incident:
    """State more of it, or that the authority was told. Only keys of FIELDS."""
    _refuse_long({name: value for name, value in changes.items() if isinstance(value, str)})
    columns = [name for name in FIELDS if name in changes]
    places = ", ".join(f"{name} = ${at}" for at, name in enumerate(columns, 2))
    with store_errors("change the incident"):
        async with pool.acquire() as connection, connection.transaction():
            told_at = changes.get("authority_notified_at")
            if isinstance(told_at, datetime.datetime):
                await _refuse_ahead(connection, told_at)
            row = await connection.fetchrow(
                f"UPDATE incident SET {places} WHERE incident_id = $1 RETURNING *",
                incident_id,
                *(changes[name] for name in columns),
            )
            if row is None:
                raise _unknown()
            await audit.record(connection, "incident.changed", str(incident_id), facts={"changed": tuple(columns)})
    return _incident(row)


async def add_reach(pool: Pool, incident_id: int, reach: Reach) -> None:
    """It reached this as well."""
    with store_errors("change the incident"):
        async with pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval(
                "SELECT EXISTS (SELECT FROM incident WHERE incident_id = $1)", incident_id
            ):
                raise _unknown()
            await _reach(connection, incident_id, reach)
            await audit.record(connection, "incident.widened", str(incident_id), facts={"reach": str(reach)})


async def list_all(
    pool: Pool, before: int | None = None, limit: int | None = None, *, is_open: bool | None = None
) -> list[Incident]:
    """All of them, or those that are open, or are not; the newest first, those before the number `before`."""
    with store_errors("list the incidents"):
        rows = await pool.fetch(
            f"{_SELECT} WHERE ($1::bigint IS NULL OR incident_id < $1)"
            " AND ($3::boolean IS NULL OR (closed_at IS NULL) = $3) ORDER BY incident_id DESC LIMIT $2",
            before, limit, is_open,
        )  # fmt: skip
    return [_incident(row) for row in rows]


async def list_of_account(pool: Pool, account_id: int, before: int | None, limit: int) -> list[Incident]:
    """Those of which people of the account were told, the newest first, those before the number `before`."""
    with store_errors("list the incidents"):
        return [_incident(row) for row in await pool.fetch(_OF_ACCOUNT, account_id, before, limit)]


async def open_clocks(pool: Pool) -> list[Deadline]:
    """The clocks of incidents of which the authority was not told yet; exercises have none."""
    with store_errors("list the incidents"):
        rows = await pool.fetch(
            "SELECT min(aware_at) AS aware_at FROM incident"
            " WHERE closed_at IS NULL AND authority_notified_at IS NULL AND NOT drill"
        )
    return [each for row in rows if row["aware_at"] is not None for each in clocks(row["aware_at"])]


async def get(pool: Pool, incident_id: int) -> tuple[Incident, list[Reach]]:
    """One of them, and what it reached; an unknown one raises RefusedError."""
    with store_errors("find the incident"):
        row = await pool.fetchrow(f"{_SELECT} WHERE incident_id = $1", incident_id)
        if row is None:
            raise _unknown()
        reaches = await pool.fetch(
            "SELECT kind, object, begins_at, ends_at FROM incident_scope WHERE incident_id = $1 ORDER BY 1, 2, 3",
            incident_id,
        )
    return _incident(row), [Reach(**each) for each in reaches]


async def notify(
    pool: Pool, incident_id: int, person_ids: Sequence[uuid.UUID], account_ids: Sequence[int] = (), *, by_mail: bool
) -> int:
    """Queue a letter to each of these who was not told before, or show a banner where no mail is sent; how many.

    Whom no letter reached was not told.

    `account_ids`: the accounts it reached, whose own people see it from now on.
    """
    facts = msgspec.json.encode({"incident_id": incident_id}).decode()
    with store_errors("queue the notices"):
        async with pool.acquire() as connection, connection.transaction():
            incident = await connection.fetchrow(f"{_SELECT} WHERE incident_id = $1 FOR UPDATE", incident_id)
            if incident is None:
                raise _unknown()
            if incident["drill"]:
                raise RefusedError("This is an exercise: nobody is told.", "exercise")
            await connection.execute(
                "INSERT INTO incident_account (incident_id, account_id) SELECT $1, account_id FROM account"
                " WHERE account_id = ANY($2) ON CONFLICT DO NOTHING",
                incident_id,
                list(account_ids),
            )
            done = await connection.execute(_NOTIFY, incident_id, list(person_ids), LETTER, facts, by_mail)
            told = int(done.rpartition(" ")[2])
            await audit.record(
                connection, "incident.notified", str(incident_id), facts={"people": told, "by_mail": by_mail}
            )
    return told


async def notices(pool: Pool, incident_id: int, after: int = 0, limit: int | None = None) -> list[Notice]:
    """Who was told, when, and how it ended, those after the number `after`: the proof."""
    with store_errors("list the notices"):
        rows = await pool.fetch(_NOTICES, incident_id, after, limit)
    return [Notice(**row) for row in rows]


async def unread(pool: Pool) -> dict[int, list[str]]:
    """The addresses of whom a banner alone tells of open incidents and who have not read it, by incident."""
    with store_errors("list the notices"):
        rows = await pool.fetch(
            "SELECT incident_id, array_agg(p.email ORDER BY p.email) AS emails FROM incident_notice n"
            " JOIN person p USING (person_id) JOIN incident i USING (incident_id)"
            f" WHERE {_BY_BANNER} AND i.closed_at IS NULL GROUP BY 1"
        )
    return {row["incident_id"]: row["emails"] for row in rows}


async def banners(pool: Pool, person_id: uuid.UUID) -> list[Incident]:
    """The incidents that this person was to be told of here and has not confirmed yet."""
    with store_errors("look for notices"):
        rows = await pool.fetch(
            f"{_SELECT} JOIN incident_notice n USING (incident_id) WHERE n.person_id = $1 AND {_BY_BANNER} ORDER BY 1",
            person_id,
        )
    return [_incident(row) for row in rows]


async def confirm_banner(pool: Pool, person_id: uuid.UUID, incident_id: int) -> None:
    """The person has read it."""
    with store_errors("note that a notice was read"):
        await pool.execute(
            "UPDATE incident_notice n SET ended_at = now(), outcome = 'read' WHERE incident_id = $1 AND person_id = $2"
            f" AND {_BY_BANNER}",
            incident_id,
            person_id,
        )


async def close(pool: Pool, incident_id: int, conclusion: str) -> Incident:
    """End it, with the reason. RefusedError: it is closed already, or there is none of this number."""
    _refuse_long({"conclusion": conclusion})
    with store_errors("close the incident"):
        async with pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(
                "UPDATE incident SET closed_at = now(), conclusion = $2 WHERE incident_id = $1 AND closed_at IS NULL"
                " RETURNING *",
                incident_id,
                conclusion,
            )
            if row is None:
                raise RefusedError(
                    "There is no open incident of this number; `luntrex-proxy incidents list` shows all.",
                    "closed_already",
                )
            await audit.record(connection, "incident.closed", str(incident_id))
    return _incident(row)


async def record_reading(pool: Pool, incident_id: int) -> None:
    """Somebody looks at who is affected: names and addresses of others."""
    with store_errors("record the act"):
        async with pool.acquire() as connection, connection.transaction():
            await audit.record(connection, "incident.affected_read", str(incident_id))


def _incident(row: Any) -> Incident:
    return Incident(*(row[name] for name in Incident.__slots__))


async def _reach(connection: Connection, incident_id: int, reach: Reach) -> None:
    if reach.ends_at <= reach.begins_at:
        raise RefusedError(
            "What an incident reached ends after it begins; give a later end or an earlier begin.", "bad_reach"
        )
    if reach.kind == "table" and reach.object not in {table.name for table in await ownership.tables(connection)}:
        raise RefusedError("There is no table of this name; `luntrex-proxy privacy inventory` lists all.", "bad_reach")
    await connection.execute(
        "INSERT INTO incident_scope (incident_id, kind, object, begins_at, ends_at) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (incident_id, kind, object, begins_at) DO UPDATE SET ends_at = excluded.ends_at",
        incident_id, reach.kind, reach.object, reach.begins_at, reach.ends_at,
    )  # fmt: skip


def _refuse_long(texts: Mapping[str, str]) -> None:
    if not 0 < len(texts.get("title", "-")) <= TITLE_CHARACTERS_MAX:
        raise RefusedError(f"The title of an incident has 1 to {TITLE_CHARACTERS_MAX} characters.", "bad_text")
    if any(len(text) > TEXT_CHARACTERS_MAX for text in texts.values()):
        raise RefusedError(
            f"What is stated of an incident has at most {TEXT_CHARACTERS_MAX} characters each.", "bad_text"
        )


async def _refuse_ahead(connection: Connection, moment: datetime.datetime) -> None:
    if await connection.fetchval("SELECT $1 > now()", moment):
        raise RefusedError("This lies ahead; give a time that has passed, in UTC.", "ahead")


def _unknown() -> RefusedError:
    return RefusedError("There is no incident of this number; `luntrex-proxy incidents list` shows all.", "not_found")
