"""A thousand people with something in every table that can lead to somebody, and what must not change of the others.

Which tables those are, and by which columns, the schema's comments say (ownership.py): a table that is added and has no
statement here fails the test that uses it.
"""

import re
import uuid
from dataclasses import dataclass
from typing import Any, Final

from luntrex_proxy.store import ownership
from luntrex_proxy.store.database import Connection, Pool
from luntrex_proxy.store.ownership import Column, Kind, Subject, Table, Where

TEAMS: Final = 50
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# What an erasure writes about itself, in nobody's name: its entries, its tombstones, its version.
_OF_THE_ACT: Final = frozenset({"audit_head", "change_version", "tombstone"})
_WITH_KEYS: Final = frozenset(
    {"usage", "usage_rollup", "usage_rollup_daily", "usage_key_total", "usage_key_total_daily"}
)
_OF_ACCOUNTS: Final = frozenset({"usage_total", "usage_total_daily"})
_HASH: Final = "sha256(convert_to('{}' || c.n, 'UTF8'))"
# `c` is a person: n, person_id, email, key_id, account_id of a team; own_id and own_key_id of an account of their own.
FILL: Final = {
    "membership": "SELECT c.person_id, c.account_id, CASE WHEN c.n <= 100 THEN 'owner' ELSE 'developer' END FROM c"
    " UNION ALL SELECT c.person_id, c.own_id, 'owner' FROM c WHERE own_id IS NOT NULL",
    "api_key": "(key_id, account_id, name, bcrypt_hash, version, person_id)"
    " SELECT c.key_id, c.account_id, 'k' || c.n, '$2b$', 0, c.person_id FROM c"
    " UNION ALL SELECT c.own_key_id, c.own_id, 'own', '$2b$', 0, NULL FROM c WHERE own_id IS NOT NULL",
    "usage": "SELECT k.account_id, d + (g || ' milliseconds')::interval, gen_random_uuid(), k.key_id,"
    " 'chat_completions', 'plain', 'oai', 200, 'ok', 'complete', false, 'reported', c.n, 0, 0, 0, 0, g, 0, 0, c.n * g,"
    " 'v', 100, 100, 1, 1, 1, 1, 1 FROM c JOIN api_key k ON k.key_id IN (c.key_id, c.own_key_id),"
    " generate_series(1, 4) g, unnest(ARRAY[timestamptz '2026-11-28 07:00Z', '2026-11-29 09:00Z']) d",
    "usage_rollup": "SELECT account_id, date_trunc('hour', started_at, 'UTC'), key_id, model, upstream, count(*), 0,"
    " sum(input_tokens), 0, 0, 0, 0, sum(output_tokens), 0, 0, sum(cost_pico) FROM usage GROUP BY 1, 2, 3, 4, 5",
    "usage_rollup_daily": "SELECT account_id, (started_at AT TIME ZONE 'UTC')::date, key_id, model, upstream, count(*),"
    " 0, sum(input_tokens), 0, 0, 0, 0, sum(output_tokens), 0, 0, sum(cost_pico) FROM usage GROUP BY 1, 2, 3, 4, 5",
    "first_byte": "SELECT account_id, date_trunc('hour', started_at, 'UTC'), 80, count(*) FROM usage GROUP BY 1, 2",
    "usage_annotation": "(person_id, request_id, note) SELECT c.person_id, u.request_id, 'not by me' FROM c"
    " JOIN usage u USING (key_id) WHERE u.output_tokens = 1",
    "usage_limit": "SELECT c.account_id, c.key_id, '{}', 0 FROM c",
    "limit_level": "SELECT limit_id, account_id, '', 'requests/day', 1, 1, now() FROM usage_limit",
    "limit_streams": "SELECT limit_id, account_id, '', gen_random_uuid(), 1, now() FROM usage_limit",
    "budget": "(account_id, key_id, key_ids, person_id, period, amount_pico, is_hard, when_away, alert_percents,"
    " version) SELECT c.account_id, c.key_id, ARRAY[c.key_id], NULL::uuid, 'month', 1, true, 'open',"
    " '{80}'::smallint[], 0 FROM c UNION ALL SELECT c.account_id, NULL, '{}'::text[], c.person_id, 'day', 1, true,"
    " 'open', '{80}'::smallint[], 0 FROM c",
    "budget_window": "(budget_id, begins_at, account_id)"
    " SELECT budget_id, timestamptz '2026-11-01 00:00Z', account_id FROM budget",
    "budget_lease": "(budget_id, begins_at, boot_id, account_id, granted_pico, sequence)"
    " SELECT budget_id, timestamptz '2026-11-01 00:00Z', gen_random_uuid(), account_id, 1, 1 FROM budget",
    "statement": "SELECT c.own_id, date '2026-10-01', now(), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 FROM c"
    " WHERE own_id IS NOT NULL",
    "statement_line": "SELECT account_id, month, 1, month, 'plain', '{}', 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1"
    " FROM statement",
    "account_route": "(account_id, version) SELECT own_id, 0 FROM c WHERE own_id IS NOT NULL",
    "label_name": "SELECT c.account_id, 'l' || c.n FROM c",
    "key_label": "(key_id, account_id, name, value, since)"
    " SELECT c.key_id, c.account_id, 'l' || c.n, 'v', date '2026-01-01' FROM c",
    "session": f"(token_hash, person_id, network) SELECT {_HASH.format('s')}, c.person_id, '10.0.0.0/24' FROM c",
    "access_token": "(token_id, person_id, name, token_hash, scopes, expires_at)"
    f" SELECT 'tok' || lpad(c.n::text, 9, '0'), c.person_id, 't', {_HASH.format('t')}, '{{read}}',"
    " now() + interval '1 day' FROM c",
    "made_once": f"SELECT c.person_id, {_HASH.format('m')}, {_HASH.format('r')}, c.key_id FROM c",
    "totp": "(person_id, seed) SELECT c.person_id, 'seed' FROM c",
    "recovery_code": f"SELECT c.person_id, {_HASH.format('c')} FROM c",
    "one_time_link": "(token_hash, kind, person_id, email, expires_at)"
    f" SELECT {_HASH.format('l')}, 'address', c.person_id, 'new-' || c.email, now() FROM c",
    "export_link": f"(person_id, token_hash) SELECT c.person_id, {_HASH.format('e')} FROM c",
    "mail": "(kind, person_id, address, facts) SELECT 'reset', c.person_id, NULL, '{}'::jsonb FROM c"
    " UNION ALL SELECT 'address', NULL, 'new-' || c.email, jsonb_build_object('person', c.person_id) FROM c"
    " UNION ALL SELECT 'key_attempts', o.person_id, NULL, jsonb_build_object('key_id', c.key_id) FROM c"
    " JOIN c o ON o.n = c.n % 100 + 1",
    "invitation": "(account_id, email, role, invited_by, expires_at)"
    " SELECT c.account_id, 'guest' || c.n || '@example.org', 'viewer', c.person_id, now() FROM c"
    " UNION ALL SELECT c.account_id % 50 + 1, c.email, 'viewer', o.person_id, now() FROM c"
    " JOIN c o ON o.n = c.n % 100 + 1",
    "attempt": "SELECT now(), c.key_id, '10.0.0.0/24', 'unknown_key', gen_random_uuid(), 1, c.account_id FROM c",
    "alert": "SELECT 'key', c.key_id, c.account_id, now(), 1 FROM c",
    "rights_request": "(reference, kind, state, channel, law, person_id, email)"
    " SELECT translate(upper(substr(md5(c.n::text), 1, 26)), '0189', 'WXYZ'), 'correct', 'open', 'self', 'gdpr',"
    " c.person_id, c.email FROM c",
    "child_report": "(reported_address, reporter_address, relation, person_id)"
    " SELECT c.email, o.email, 'other', c.person_id FROM c JOIN c o ON o.n = c.n % 100 + 1",
    "consent": "(account_id, purpose, text_version, given_by) SELECT c.own_id, 'training', 1, 'console:' || c.person_id"
    " FROM c WHERE own_id IS NOT NULL",
    "subprocessor_objection": "(account_id, name, person_id) SELECT c.account_id, 's' || c.n, c.person_id FROM c",
    "debug_capture": "(account_id, key_id, person_id, public_key, requests_left, seconds_left, expires_at)"
    f" SELECT c.account_id, c.key_id, c.person_id, {_HASH.format('p')}, 1, 1, now() FROM c",
    "debug_capture_record": "(capture_id, person_id, sealed) SELECT capture_id, person_id, 'sealed' FROM debug_capture",
    "incident_account": "(incident_id, account_id) SELECT DISTINCT 1, coalesce(c.own_id, c.account_id) FROM c",
    "incident_notice": "(incident_id, person_id, way) SELECT 1, c.person_id, 'banner' FROM c",
    "billing.invoice": "(number, account_id, recipient, country, amount, currency, issued_on, keep_until)"
    " SELECT 'R-' || c.n, c.own_id, 'Somebody', 'GB', 1, 'GBP', '2026-01-01', '2033-01-01' FROM c"
    " WHERE own_id IS NOT NULL",
    "work": "(kind, person_id, begun_by) SELECT 'export', c.person_id, 'console:' || c.person_id FROM c"
    " UNION ALL SELECT 'repricing', NULL, 'console:' || c.person_id FROM c WHERE c.n = 1",
    "audit_entry": "SELECT h.sequence + row_number() OVER (ORDER BY c.n), now(), 'console:' || c.person_id, 'key.made',"
    " c.key_id, c.account_id, jsonb_build_object('person', c.person_id), '{}', decode(repeat('00', 32), 'hex')"
    " FROM c, audit_head h",
}  # fmt: skip
# A hold keeps its people from being erased; the others are made first of all.
_HELD_OR_FIRST: Final = frozenset({"legal_hold", "person", "account"})
# The database keeps them by the sums of usage.
_KEPT_BY_OTHERS: Final = frozenset({"usage_total", "usage_total_daily", "usage_key_total", "usage_key_total_daily"})


async def fill(pool: Pool, people: int) -> None:
    """So many people in teams of their number / 50, every fourth with an account of their own besides."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "CREATE SCHEMA crowd; CREATE TABLE crowd.c (n int, person_id uuid, email text, key_id text,"
            " account_id bigint, own_id bigint, own_key_id text)"
        )
        await connection.execute(
            "INSERT INTO account (name) SELECT 'team' || g FROM generate_series(1, $1::int) g", TEAMS
        )
        await connection.execute(
            "INSERT INTO account (name) SELECT 'own' || g FROM generate_series(4, $1::int, 4) g", people
        )
        await connection.execute(
            "INSERT INTO person (email, name, affirmed_16_at) SELECT 'p' || lpad(g::text, 5, '0') || '@example.org',"
            " 'Name of ' || lpad(g::text, 5, '0'), now() FROM generate_series(1, $1::int) g", people,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO crowd.c SELECT n, p.person_id, p.email, 'key' || lpad(n::text, 9, '0'), t.account_id,"
            " o.account_id,"
            " CASE WHEN o.account_id IS NOT NULL THEN 'own' || lpad(n::text, 9, '0') END"
            " FROM (SELECT *, substr(email, 2, 5)::int AS n FROM person) p"
            f" JOIN account t ON t.name = 'team' || (n % {TEAMS} + 1) LEFT JOIN account o ON o.name = 'own' || n"
        )
        await connection.execute("INSERT INTO incident (title, aware_at) VALUES ('A leak', now())")
        for day in (28, 29):
            await connection.execute(
                f"CREATE TABLE IF NOT EXISTS usage_202611{day} PARTITION OF usage FOR VALUES"
                f" FROM ('2026-11-{day} 00:00Z') TO ('2026-11-{day} 24:00Z')"
            )
        wanted = [table.name for table in await ownership.tables(connection) if table.links]
        missing = set(wanted) - FILL.keys() - _HELD_OR_FIRST - _KEPT_BY_OTHERS
        assert not missing, f"tables that lead to somebody and have no rows here: {missing}"
        for table, rows in FILL.items():
            await connection.execute(f"WITH c AS (SELECT * FROM crowd.c) INSERT INTO {table} {rows}")
        await connection.execute("UPDATE audit_head SET sequence = (SELECT max(sequence) FROM audit_entry)")
        await connection.execute(
            "INSERT INTO audit_personal SELECT e.sequence, 'email', decode(repeat('00', 16), 'hex'), c.email"
            " FROM audit_entry e JOIN crowd.c ON c.key_id = e.object_id"
        )


@dataclass(frozen=True, slots=True)
class Rest:
    """What a table has of others: rows that lead to nobody of the subject, and how many there are with those that stay
    without a link to it: they only mention it, or are kept as proof.
    """

    rows: frozenset[str]
    count: int

    def lost_to(self, after: "Rest") -> str:
        """How it differs from what is there later; "" when no row of anybody else was touched."""
        lost, more = self.rows - after.rows, after.rows - self.rows
        found = f"{len(lost)} rows lost or changed" if lost else ""
        found += f" {len(more)} rows more" if len(more) > self.count - len(self.rows) else ""
        return found + (f" {self.count} rows became {after.count}" if self.count != after.count else "")


class Others:
    """Everybody but a subject."""

    def __init__(self, subject: Subject, words: list[str], last_entry: int) -> None:
        self._subject, self._words, self._last_entry = subject, words, last_entry

    async def look(self, connection: Connection) -> dict[str, Rest]:
        """What is kept of them now, by table."""
        found, tables = {}, await ownership.tables(connection)
        for table in tables:
            if table.name not in _OF_THE_ACT:
                rows = self._apart(table, table.links, tables)
                going = [column for column in table.links if column.declared or column.cascades]
                about = self._apart(table, [] if table.keeps_proof else going, tables)
                texts_ = await connection.fetch(f"SELECT t::text FROM {table.name} t WHERE {rows[0]}", *rows[1])
                count = await connection.fetchval(f"SELECT count(*) FROM {table.name} t WHERE {about[0]}", *about[1])
                found[table.name] = Rest(frozenset(row[0] for row in texts_), count)
        return found

    def _apart(self, table: Table, columns: list[Column], tables: list[Table]) -> tuple[str, list[Any]]:
        """The condition that a row is not of the subject, nor part of one that is, and its arguments."""
        where, conditions = Where(), []
        theirs = where.any_of(columns, self._subject)
        if theirs:
            conditions.append(f"NOT coalesce({theirs}, false)")
        parents = {column.refers_to: column.name for column in table.columns if column.cascades and not column.kind}
        for parent in tables:
            of_it = where.any_of(parent.links, self._subject) if parent.name in parents else None
            if of_it is not None:
                at = parents[parent.name]
                conditions.append(f"NOT EXISTS (SELECT FROM {parent.name} p WHERE p.{at} = t.{at} AND {of_it})")
        if table.name in _WITH_KEYS:
            conditions.append("key_id <> 'erased'")
        if table.name in _OF_ACCOUNTS:
            conditions.append("account_id <> 0")
        ids = [str(each) for each in (*self._subject.person_ids, *self._subject.key_ids)]
        if table.name == "mail":
            placed = where.value(ids)
            conditions.append(
                f"NOT coalesce(facts ->> 'person' = ANY({placed}) OR facts ->> 'key_id' = ANY({placed}), false)"
            )
        if table.name == "alert":
            conditions.append(f"subject <> ALL({where.value(list(self._subject.key_ids))})")
        if table.name == "audit_personal":
            conditions.append(f"word <> ALL({where.value(self._words)})")
        if table.name in ("audit_entry", "audit_personal"):
            conditions.append(f"sequence <= {where.value(self._last_entry)}")
        return " AND ".join(conditions) or "true", where.arguments


async def others(pool: Pool, person_ids: list[uuid.UUID]) -> tuple[Others, list[str]]:
    """Everybody but these, and the words and ids that lead to these: none may be left but in the audit log.

    An account goes with the last of its members.
    """
    people = await pool.fetch("SELECT email, name FROM person WHERE person_id = ANY($1)", person_ids)
    accounts = await pool.fetch(
        "SELECT account_id FROM membership GROUP BY 1 HAVING bool_and(person_id = ANY($1))", person_ids
    )
    account_ids = [row["account_id"] for row in accounts]
    keys = await pool.fetch(
        "SELECT key_id FROM api_key WHERE person_id = ANY($1) OR account_id = ANY($2)", person_ids, account_ids
    )
    subject = Subject(person_ids, [row["email"] for row in people], [row["key_id"] for row in keys], account_ids)
    words = [*subject.emails, *(row["name"] for row in people)]
    last = await pool.fetchval("SELECT sequence FROM audit_head")
    return Others(subject, words, last), [*words, *map(str, person_ids), *subject.key_ids]


async def naming(pool: Pool) -> list[str]:
    """The tables that name somebody by more than the number of an account."""
    async with pool.acquire() as connection:
        tables = await ownership.tables(connection)
    return [
        table.name
        for table in tables
        if table.name in FILL.keys() | _KEPT_BY_OTHERS and {column.kind for column in table.links} - {Kind.ACCOUNT}
    ]


async def texts(pool: Pool) -> dict[str, str]:
    """All there is, table by table, as a thief of a dump would have it."""
    async with pool.acquire() as connection:
        names = [table.name for table in await ownership.tables(connection)]
        return {
            name: await connection.fetchval(f"SELECT coalesce(string_agg(t::text, chr(10)), '') FROM {name} t")
            for name in names
        }


def uuids_in(text: str) -> set[str]:
    """Every id of that form."""
    return set(_UUID.findall(text))


_TOTAL: Final = (
    "SELECT sum(input_tokens)::bigint, sum(output_tokens)::bigint, sum(cost_pico)::bigint, {}::bigint FROM {}"
)
TOTALS: Final = " UNION ALL ".join((
    _TOTAL.format("count(*)", "usage"),
    _TOTAL.format("sum(requests)", "usage_rollup"),
    _TOTAL.format("sum(requests)", "usage_rollup_daily"),
    *(_TOTAL.format("sum(requests)", table) for table in sorted(_KEPT_BY_OTHERS)),
))  # fmt: skip
