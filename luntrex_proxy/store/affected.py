"""Whose data an incident reached: accounts and people from a key, an upstream or a table between two moments.

Exact to the request as long as single requests are kept, whole days from the daily sums before, and everybody who was
here where not even those are left. Whenever more may be counted than was reached, a sentence says so. Who was erased is
in no table and so in no list.
"""

import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from luntrex_proxy.core.incidents import Reach
from luntrex_proxy.store import ownership
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.ownership import Kind, Table

_COLUMNS: Final = {"key": "key_id", "upstream": "upstream"}
# When a row came to be: what is younger than the incident was not reached.
_BEGINS: Final = ("created_at", "started_at", "received_at", "queued_at", "given_at", "at", "hour", "day")
# A request is reached that was under way then. Of one whose process died nobody knows the end, nor where else it was
# tried; of one that is unlinked the hour is left.
_REQUESTS: Final = """
SELECT account_id, key_id, count(*)::bigint AS records, count(*) FILTER (WHERE attempts > 1)::bigint AS tried,
    count(*) FILTER (WHERE code = 'interrupted')::bigint AS cut FROM usage
WHERE started_at >= $1::timestamptz - interval '1 day' AND started_at < $2
    AND (started_at + duration_us * interval '1 microsecond' >= $1 OR code = 'interrupted'
        OR key_id = 'erased' AND started_at > $1::timestamptz - interval '1 hour')
    AND ({condition}) GROUP BY account_id, key_id
"""
_DAYS: Final = """
SELECT account_id, key_id, sum(requests)::bigint AS records, 0::bigint AS tried, 0::bigint AS cut
FROM usage_rollup_daily
WHERE day >= ($1 AT TIME ZONE 'UTC')::date AND day <= ($2 AT TIME ZONE 'UTC')::date AND ({condition})
GROUP BY account_id, key_id
"""
# With whose keys they were: who has left the account since is no member any more.
_WITH_PEOPLE: Final = """
SELECT counted.account_id, sum(records)::bigint AS records, sum(tried)::bigint AS tried, sum(cut)::bigint AS cut,
    array_agg(k.person_id) FILTER (WHERE k.person_id IS NOT NULL) AS person_ids
FROM ({counted}) counted LEFT JOIN api_key k USING (key_id) GROUP BY 1
"""
_OF_KEYS: Final = """
SELECT account_id, 0::bigint AS records, array_agg(person_id) FILTER (WHERE person_id IS NOT NULL) AS person_ids
FROM api_key WHERE key_id = ANY($1) GROUP BY account_id
"""
_PEOPLE: Final = """
SELECT p.person_id, p.email, array_remove(array_agg(a.name ORDER BY a.name), NULL) AS accounts
FROM person p LEFT JOIN membership m ON m.person_id = p.person_id AND m.account_id = ANY($1)
LEFT JOIN account a USING (account_id)
WHERE m.person_id IS NOT NULL OR p.person_id = ANY($2) OR p.email = ANY($3)
GROUP BY p.person_id ORDER BY p.email
"""


@dataclass(frozen=True, slots=True)
class AffectedAccount:
    """An account, and how many of its records were reached at most."""

    account_id: int
    name: str
    records: int


@dataclass(frozen=True, slots=True)
class AffectedPerson:
    """Somebody to tell, and because of which accounts."""

    person_id: uuid.UUID
    email: str
    accounts: tuple[str, ...]


@dataclass(slots=True)
class Affected:
    """All of them. `wider`: why more may be listed than was reached."""

    accounts: list[AffectedAccount] = field(default_factory=list)
    people: list[AffectedPerson] = field(default_factory=list)
    categories: dict[str, str] = field(default_factory=dict)  # table -> purpose
    erased_accounts: int = 0  # that had records, and are not here any more
    wider: list[str] = field(default_factory=list)

    @property
    def records(self) -> int:
        """How many records of all accounts."""
        return sum(account.records for account in self.accounts)


async def affected(pool: Pool, reaches: Sequence[Reach], totals_from: datetime.datetime) -> Affected:
    """Everybody whom these reach. `totals_from`: the first moment of which daily sums are kept."""
    found = _Found()
    with store_errors("find who is affected"):
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            described = {table.name: table for table in await ownership.tables(connection)}
            for reach in reaches:
                if reach.kind == "table":
                    await _by_table(connection, reach, described, found, totals_from)
                else:
                    await _by_use(connection, reach, found, totals_from)
                    found.categories |= {name: described[name].purpose for name in ("usage", "api_key")}
            return await _named(connection, found)


@dataclass(slots=True)
class _Found:
    records: dict[int, int] = field(default_factory=dict)  # account -> how many
    person_ids: set[uuid.UUID] = field(default_factory=set)
    emails: set[str] = field(default_factory=set)
    categories: dict[str, str] = field(default_factory=dict)
    wider: list[str] = field(default_factory=list)

    def add(self, rows: Sequence[Any]) -> None:
        for row in rows:
            self.records[row["account_id"]] = self.records.get(row["account_id"], 0) + row["records"]
            self.person_ids.update(row["person_ids"] or ())

    def say(self, sentence: str) -> None:
        if sentence not in self.wider:
            self.wider.append(sentence)


async def _by_use(connection: Connection, reach: Reach, found: _Found, totals_from: datetime.datetime) -> None:
    """Accounts that used the key or the upstream. A key's own account is reached whether it was used or not."""
    if reach.kind == "key":
        found.add(await connection.fetch(_OF_KEYS, [reach.object]))
    column = _COLUMNS[reach.kind]
    # Of several upstreams asked for one request only the last is on record: each of them may have seen it.
    tries = " OR attempts > 1 OR code = 'interrupted'" if reach.kind == "upstream" else ""
    rows = await _requests(connection, reach, found, totals_from, f"{column} = $3{tries}", f"{column} = $3")
    if reach.kind == "upstream" and any(row["tried"] for row in rows):
        found.say("requests that were tried at several upstreams are counted, because only the last one is on record")
    found.add(rows)


async def _requests(
    connection: Connection, reach: Reach, found: _Found, totals_from: datetime.datetime, exact: str, daily: str
) -> list[Any]:
    kept_from: datetime.datetime = await connection.fetchval(
        "SELECT greatest(kept_from, 'epoch'::timestamptz) FROM usage_retention"
    )
    arguments = [reach.object] if "$3" in exact else []
    rows: list[Any] = []
    if reach.ends_at > kept_from:
        begins_at = max(reach.begins_at, kept_from)
        counted = _WITH_PEOPLE.format(counted=_REQUESTS.format(condition=exact))
        exactly = await connection.fetch(counted, begins_at, reach.ends_at, *arguments)
        if any(row["cut"] for row in exactly):
            found.say("requests of up to a day before are counted whose process died, because nobody knows their end")
        rows += exactly
    if reach.begins_at < kept_from:
        ends_at = min(reach.ends_at, kept_from)
        found.say(
            f"single requests of before {kept_from:%Y-%m-%d} are not kept, so whole days count; of several upstreams "
            "asked for one request their sums name the last"
        )
        counted = _WITH_PEOPLE.format(counted=_DAYS.format(condition=daily))
        rows += await connection.fetch(counted, reach.begins_at, ends_at, *arguments)
        rows += await _everybody_before(connection, reach, found, totals_from)
    return rows


async def _everybody_before(
    connection: Connection, reach: Reach, found: _Found, totals_from: datetime.datetime
) -> list[Any]:
    if reach.begins_at >= totals_from:
        return []
    rows = await connection.fetch(
        "SELECT account_id, 0::bigint AS records, 0::bigint AS tried, 0::bigint AS cut, NULL AS person_ids FROM account"
        " WHERE created_at < $1",
        min(reach.ends_at, totals_from),
    )
    if rows:
        found.say(f"of before {totals_from:%Y-%m-%d} nothing is kept, so every account that was there then counts")
    return rows


async def _by_table(
    connection: Connection, reach: Reach, described: dict[str, Table], found: _Found, totals_from: datetime.datetime
) -> None:
    """Whoever has rows there that existed then."""
    table = described.get(reach.object)
    if table is None:
        raise RefusedError("There is no table of this name; `luntrex-proxy privacy inventory` lists all.")
    found.categories[table.name] = table.purpose
    if table.name == "usage":
        found.add(await _requests(connection, reach, found, totals_from, "true", "true"))
        return
    begins = next((name for name in _BEGINS if name in {column.name for column in table.columns}), None)
    until = f" WHERE {begins} < $1" if begins else ""
    arguments = [reach.ends_at] if begins else []
    found.say(f"rows of {table.name} count that were there before the end; rows deleted since cannot be seen any more")
    for column in table.links:
        rows = await connection.fetch(
            f"SELECT {column.name} AS link, count(*) AS records FROM {table.name}{until} GROUP BY 1",  # noqa: S608 -- names of the schema
            *arguments,
        )
        await _follow(connection, column.kind, [row for row in rows if row["link"] is not None], found)


async def _follow(connection: Connection, kind: Kind | None, rows: list[Any], found: _Found) -> None:
    """From what a column leads to on to accounts and people."""
    links = [row["link"] for row in rows]
    if kind is Kind.ACCOUNT:
        found.add([{"account_id": row["link"], "records": row["records"], "person_ids": ()} for row in rows])
    elif kind is Kind.PERSON:
        found.person_ids |= {uuid.UUID(str(link)) for link in links}
    elif kind is Kind.KEY:
        found.add(await connection.fetch(_OF_KEYS, links))
    else:
        found.emails |= set(links)


async def _named(connection: Connection, found: _Found) -> Affected:
    accounts = await connection.fetch(
        "SELECT account_id, name FROM account WHERE account_id = ANY($1) ORDER BY name", list(found.records)
    )
    people = await connection.fetch(
        _PEOPLE, [row["account_id"] for row in accounts], list(found.person_ids), list(found.emails)
    )
    return Affected(
        [AffectedAccount(row["account_id"], row["name"], found.records[row["account_id"]]) for row in accounts],
        [AffectedPerson(row["person_id"], row["email"], tuple(row["accounts"])) for row in people],
        found.categories,
        len(found.records) - len(accounts),
        found.wider,
    )
