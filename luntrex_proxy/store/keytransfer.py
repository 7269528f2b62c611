"""Keys from one installation to another, as JSON lines that hold no key: ids, names, terms, labels and bcrypt hashes.

A member's key names its owner by e-mail address. It is theirs again where the account has a member of this address;
elsewhere it is the account's own, since people are not made by a file: they affirm things themselves.

A key taken over has no lookup hash, since that is another pepper's; `proving.py` tells it at its first use.
"""

# ruff: noqa: S608 -- statements of constants of this file and keyselect.py
import datetime
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from luntrex_proxy.core import labels
from luntrex_proxy.core.scope import BadScopeError, read_scope
from luntrex_proxy.store import accounts, audit
from luntrex_proxy.store.accounts import NAME
from luntrex_proxy.store.changes import next_version
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.keyrows import Terms, read_labels, refuse_unusable_times, scope_columns
from luntrex_proxy.store.keyselect import RESTRICTED_ACCOUNTS, RESTRICTED_PEOPLE
from luntrex_proxy.store.labels import TODAY
from luntrex_proxy.store.tombstones import hash_of

_LINES_MAX: Final = 100_000  # more would make those wait who change another key
_MAKE_INCOMING: Final = """
CREATE TEMP TABLE key_incoming (line int, id text, account text, name text, bcrypt_hash text, not_before timestamptz,
    expires_at timestamptz, endpoints text[], models text[], regions text[], networks cidr[], person text,
    labels jsonb) ON COMMIT DROP
"""
_FAULT: Final = """
SELECT line, id, i.account FROM key_incoming i LEFT JOIN account a ON a.name = i.account
WHERE {condition} ORDER BY line LIMIT 1
"""
_CHECKS: Final = (
    ("a.account_id IS NULL", "There is no account {account!r}; make it with `luntrex-proxy accounts create`."),
    (
        "a.status <> 'active'",
        "The account {account} is suspended, so its keys would be refused; first run `luntrex-proxy accounts resume "
        "{account}`.",
    ),
    ("expires_at <= now()", "A key cannot end in the past; give a later time, in UTC."),
    ("not_before >= expires_at", "A key cannot end before it begins; give a later end or an earlier begin."),
    ("EXISTS (SELECT FROM key_incoming j WHERE j.id = i.id AND j.line < i.line)", "the key {id} came before."),
    (
        "EXISTS (SELECT FROM key_incoming j WHERE j.account = i.account AND j.name = i.name AND j.line < i.line)",
        "a line before has the same account and name.",
    ),
)
_CHECKS_IN_TURN: Final = (
    (
        "EXISTS (SELECT FROM jsonb_each_text(i.labels) l"
        " LEFT JOIN label_name n ON n.account_id = a.account_id AND n.name = l.key"
        " WHERE n.name IS NULL OR l.value <> ALL (n.allowed))",
        "the account {account} declares no such label or value; first run `luntrex-proxy accounts labels declare`.",
    ),
    ("EXISTS (SELECT FROM api_key k WHERE k.key_id = i.id)", "there is a key of the id {id} here already."),
    (
        f"EXISTS (SELECT FROM tombstone WHERE subject_hash = {hash_of('key', 'i.id')})",
        "the key {id} was erased here with whom it led to; make another one.",
    ),
    (
        "EXISTS (SELECT FROM api_key k WHERE k.account_id = a.account_id AND k.name = i.name AND k.status <> 'revoked'"
        " AND (k.expires_at IS NULL OR k.expires_at > now())"
        " AND NOT EXISTS (SELECT FROM api_key s WHERE s.rotated_from = k.key_id))",
        "another key of this account has this name; choose another, or rotate that key.",
    ),
    (
        "EXISTS (SELECT FROM person p JOIN membership m USING (person_id)"
        " WHERE p.email = i.person AND m.account_id = a.account_id AND p.status = 'suspended')",
        "who owns the key {id} is suspended here; first run `luntrex-proxy people resume ADDRESS`.",
    ),
)
_INSERT: Final = """
INSERT INTO api_key (key_id, account_id, name, bcrypt_hash, version, not_before, expires_at, endpoints, models, regions,
    networks, person_id)
SELECT id, a.account_id, i.name, bcrypt_hash, $1, not_before, expires_at, endpoints, models, regions, networks,
    m.person_id
FROM key_incoming i JOIN account a ON a.name = i.account
    LEFT JOIN person p ON p.email = i.person LEFT JOIN membership m USING (person_id, account_id)
"""
_LABEL: Final = f"""
INSERT INTO key_label (key_id, account_id, name, value, since)
SELECT id, a.account_id, l.key, l.value, {TODAY}
FROM key_incoming i JOIN account a ON a.name = i.account CROSS JOIN jsonb_each_text(i.labels) l
"""
_COUNTS: Final = """
SELECT a.account_id, a.name, count(*), count(*) FILTER (WHERE i.person IS NOT NULL AND k.person_id IS NULL)
FROM key_incoming i JOIN account a ON a.name = i.account JOIN api_key k ON k.key_id = i.id GROUP BY 1, 2 ORDER BY 1
"""
_WORKS: Final = f"""
k.status = 'active' AND a.status = 'active' AND CASE WHEN k.person_id IS NULL
    THEN k.account_id NOT IN ({RESTRICTED_ACCOUNTS}) ELSE k.person_id NOT IN ({RESTRICTED_PEOPLE}) END
"""
_EXPORT: Final = f"""
SELECT a.account_id, {_WORKS} AS works,
       k.key_id AS id, a.name AS account, k.name, p.email AS person, k.bcrypt_hash, k.not_before,
       k.expires_at, coalesce(k.endpoints, '{{}}') AS endpoints, coalesce(k.models, '{{}}') AS models,
       coalesce(k.regions, '{{}}') AS regions, coalesce(k.networks::text[], '{{}}') AS networks,
       (SELECT coalesce(jsonb_object_agg(l.name, l.value), '{{}}') FROM key_label l
        WHERE l.key_id = k.key_id AND l.until IS NULL) AS labels
FROM api_key k JOIN account a USING (account_id) LEFT JOIN person p USING (person_id)
WHERE k.status <> 'revoked' AND (k.expires_at IS NULL OR k.expires_at > now()) AND ($1::text IS NULL OR a.name = $1)
  AND NOT EXISTS (SELECT FROM api_key s WHERE s.rotated_from = k.key_id AND s.status <> 'revoked')
ORDER BY a.name, k.name
"""


LabelName = Annotated[str, msgspec.Meta(pattern=rf"^{labels.NAME.pattern}\Z")]
LabelValue = Annotated[str, msgspec.Meta(pattern=rf"^{labels.VALUE.pattern}\Z")]


class _Line(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    id: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z]{12}\Z")]
    account: Annotated[str, msgspec.Meta(pattern=rf"^{NAME.pattern}\Z")]
    name: Annotated[str, msgspec.Meta(pattern=rf"^{NAME.pattern}\Z")]
    # A cost above 12 would hold up everybody's first use; a salt's 22nd character has four bits that are none.
    bcrypt_hash: Annotated[
        str, msgspec.Meta(pattern=r"^\$2b\$(?:0[4-9]|1[0-2])\$[./0-9A-Za-z]{21}[.Oeu][./0-9A-Za-z]{31}\Z")
    ]
    person: Annotated[str, msgspec.Meta(pattern=r"^[^@\sA-Z]{1,64}@[^@\sA-Z]{1,255}\Z")] | None = None
    not_before: datetime.datetime | None = None
    expires_at: datetime.datetime | None = None
    endpoints: list[str] = []
    models: list[str] = []
    regions: list[str] = []
    networks: list[str] = []
    labels: dict[LabelName, LabelValue] = {}

    def terms(self) -> Terms:
        """When the key may be used, and for what. Raises BadScopeError and RefusedError."""
        scope = read_scope(self.endpoints, self.models, self.regions, self.networks)
        terms = Terms(_aware(self.not_before), _aware(self.expires_at), scope)
        refuse_unusable_times(terms)
        return terms


@dataclass(frozen=True, slots=True)
class Taken:
    """How many keys were taken over, and how many of them were a member's and are the account's own now."""

    keys: int
    without_member: int


@dataclass(frozen=True, slots=True)
class Exported:
    """Keys as lines, and how many were left out because they do not work now: what stopped them would not go along."""

    lines: list[str]
    stopped: int


async def export_lines(pool: Pool, account: str | None = None) -> Exported:
    """One line for each key that works and is not replaced. An unknown account raises RefusedError."""
    if account is not None:
        await accounts.get(pool, account)
    with store_errors("list the keys"):
        async with pool.acquire() as connection, connection.transaction():
            found = await connection.fetch(_EXPORT, account)
            rows = [{**row, "labels": read_labels(row["labels"])} for row in found]
            working = [row for row in rows if row.pop("works")]
            counts = Counter((row.pop("account_id"), row["account"]) for row in working)
            for (account_id, name), count in counts.items():
                await audit.record(connection, "key.exported", name, account_id, {"keys": count})
    return Exported([msgspec.json.encode(_Line(**row)).decode() for row in working], len(rows) - len(working))


async def import_lines(pool: Pool, lines: Sequence[bytes], account: str | None = None) -> Taken:
    """Take over the keys of these lines, all or none. RefusedError names the line that is at fault."""
    if account is not None:
        await accounts.get(pool, account)
    rows = [_row(number, text, account) for number, text in enumerate(lines, 1) if text.strip()]
    if len(rows) > _LINES_MAX:
        raise RefusedError(f"{len(rows)} keys are too many at once; take over {_LINES_MAX} at a time.")
    with store_errors("take over keys"):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(_MAKE_INCOMING)
            await connection.copy_records_to_table("key_incoming", records=rows)
            await _refuse(connection, _CHECKS)
            # The version last: whoever changes another key waits for it.
            version = await next_version(connection)
            await _refuse(connection, _CHECKS_IN_TURN)
            await connection.execute(_INSERT, version)
            await connection.execute(_LABEL)
            without_member = 0
            for account_id, name, count, orphans in await connection.fetch(_COUNTS):
                await audit.record(connection, "key.imported", name, account_id, {"keys": count})
                without_member += orphans
    return Taken(len(rows), without_member)


async def _refuse(connection: Connection, checks: Sequence[tuple[str, str]]) -> None:
    for condition, sentence in checks:
        found = await connection.fetchrow(_FAULT.format(condition=condition))
        if found is not None:
            said = sentence.format(account=found["account"], id=found["id"])
            raise RefusedError(f"Line {found['line']}: {said} Nothing was taken over.")


def _row(number: int, text: bytes, account: str | None) -> tuple[object, ...]:
    try:
        line = _read(text)
        terms = line.terms()
    except (RefusedError, BadScopeError) as error:
        raise RefusedError(f"Line {number}: {error} Nothing was taken over.") from None
    limits = scope_columns(terms.scope)
    times = terms.not_before, terms.expires_at
    named = account or line.account, line.name, line.bcrypt_hash
    return number, line.id, *named, *times, *limits, line.person, msgspec.json.encode(line.labels).decode()


def _read(text: bytes) -> _Line:
    try:
        return msgspec.json.decode(text, type=_Line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # Never the decoder's words: they may quote what is there, and somebody may have put a whole key there.
        raise RefusedError(
            "this is no line of `luntrex-proxy keys export`, or its hash is none that bcrypt makes (cost 4 to 12)."
        ) from None


def _aware(time: datetime.datetime | None) -> datetime.datetime | None:
    return time.replace(tzinfo=datetime.UTC) if time is not None and time.tzinfo is None else time
