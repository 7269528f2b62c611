"""Which rows are whose, read from the schema: comments, foreign keys and the names of columns. No table is named here.

    declared link    a column that a comment of its table names as subject: the row is about whom it leads to
    mention          another column that leads to somebody: the row is somebody else's, or the account's

Access, export, erasure and holds use it, so a table that is added is reached without code of its own. A subject that
leads nowhere raises StoreError, and tests/store/test_ownership.py fails.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from luntrex_proxy.core.retention import AGE_COLUMNS, BY_DATE, BY_NAME, UNTIMED
from luntrex_proxy.store.database import Connection, store_errors
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.inventory import FORM


class Kind(Enum):
    """Whom a column leads to."""

    PERSON = "person"
    ACCOUNT = "account"
    KEY = "api_key"
    EMAIL = "email"


# How columns without a foreign key are called.
_NAMES: Final = {"person_id": Kind.PERSON, "account_id": Kind.ACCOUNT, "key_id": Kind.KEY}
_ADDRESSES: Final = ("email", "address")  # how names of columns with an address end
# Their rows lead to somebody only through what is outside them: a keyed hash, or the entry of the audit log.
WITHOUT_LINK: Final = frozenset({"sign_in_failure", "audit_personal"})
_COLUMNS: Final = """
SELECT CASE nspname WHEN 'public' THEN '' ELSE nspname || '.' END || c.relname AS "table", a.attname AS "column",
    format_type(a.atttypid, NULL) AS type, NOT a.attnotnull AS nullable, col_description(c.oid, a.attnum) AS comment,
    obj_description(c.oid, 'pg_class') AS table_comment, f.relname AS refers_to, k.confdeltype::text AS on_delete
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname IN ('public', 'billing')
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'f' AND k.conkey = ARRAY[a.attnum]
LEFT JOIN pg_class f ON f.oid = k.confrelid
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
ORDER BY 1, a.attnum
"""


@dataclass(frozen=True, slots=True)
class Column:
    """A column, whom it leads to, and whether the row is about them."""

    name: str
    type: str
    nullable: bool
    refers_to: str | None
    cascades: bool  # the row goes with what it refers to
    kind: Kind | None
    declared: bool

    @property
    def is_secret(self) -> bool:
        """Whether it proves something to us and is worth nothing to its person: hashes and sealed things."""
        return self.type == "bytea" or self.name.endswith("_hash")


@dataclass(frozen=True, slots=True)
class Table:
    """A table as its comments describe it."""

    name: str
    purpose: str
    basis: str
    retention: str
    subject: str
    columns: tuple[Column, ...]

    @property
    def links(self) -> list[Column]:
        """The columns that lead to somebody."""
        return [column for column in self.columns if column.kind is not None]

    @property
    def declared(self) -> list[Column]:
        """Those that say whose the row is."""
        return [column for column in self.links if column.declared]

    @property
    def keeps_proof(self) -> bool:
        """Whether its rows stay as proof when their subject is erased, without the link."""
        return self.basis == "legal_obligation" and self.retention in ("audit", "invoice", "forever")

    @property
    def is_part(self) -> bool:
        """Whether each row goes with the row of another table that it belongs to."""
        return any(column.cascades and not column.nullable for column in self.columns)

    @property
    def age(self) -> str | None:
        """An expression for when a row's time begins, null while it has not; None: no column tells."""
        names = {column.name for column in self.columns if column.type == "timestamp with time zone"}
        found = [name for name in AGE_COLUMNS if name in names]
        return f"coalesce({', '.join(found)})" if found else None


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom something concerns: people with their addresses and keys, and accounts that are nobody else's."""

    person_ids: Sequence[uuid.UUID] = ()
    emails: Sequence[str] = ()
    key_ids: Sequence[str] = ()
    account_ids: Sequence[int] = ()

    def __or__(self, other: "Subject") -> "Subject":
        return Subject(
            [*self.person_ids, *other.person_ids],
            [*self.emails, *other.emails],
            [*self.key_ids, *other.key_ids],
            [*self.account_ids, *other.account_ids],
        )

    def __bool__(self) -> bool:
        return bool(self.person_ids or self.emails or self.key_ids or self.account_ids)


@dataclass(slots=True)
class Where:
    """A condition under construction, with its arguments from $1 on."""

    arguments: list[Any] = field(default_factory=list)

    def value(self, value: Any) -> str:
        """A placeholder for a value."""
        self.arguments.append(value)
        return f"${len(self.arguments)}"

    def leads_to(self, column: Column, subject: Subject) -> str | None:
        """That a link leads to this subject; None: it has nothing of that kind."""
        values: dict[Kind | None, Sequence[Any]] = {
            Kind.PERSON: subject.person_ids if column.type == "uuid" else [str(each) for each in subject.person_ids],
            Kind.EMAIL: subject.emails,
            Kind.KEY: subject.key_ids,
            Kind.ACCOUNT: subject.account_ids,
        }
        if not values[column.kind]:
            return None
        return f"{column.name} = ANY({self.value(list(values[column.kind]))})"

    def any_of(self, columns: Iterable[Column], subject: Subject) -> str | None:
        """That one of the links leads to this subject."""
        said = [each for column in columns if (each := self.leads_to(column, subject)) is not None]
        return f"({' OR '.join(said)})" if said else None


async def tables(connection: Connection) -> list[Table]:
    """Every table, those that refer to others before these. Raises StoreError."""
    with store_errors("describe its tables"):
        rows = await connection.fetch(_COLUMNS)
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row["table"], []).append(row)
    made = {name: _table(name, columns) for name, columns in found.items()}
    return sorted(made.values(), key=lambda table: -_depth(table, made, frozenset()))


def _table(name: str, rows: list[Any]) -> Table:
    match = FORM.fullmatch(rows[0]["table_comment"] or "")
    if match is None:
        raise StoreError(
            f"Nobody says why the table {name} is there; `luntrex-proxy privacy inventory` names what lacks it."
        )
    comments = [FORM.fullmatch(row["comment"] or "") for row in rows]
    subjects = {match["subject"], *(each["subject"] for each in comments if each)}
    columns: dict[str, Column] = {}
    for row in rows:
        kind = Kind(row["refers_to"]) if row["refers_to"] in ("person", "account", "api_key") else None
        is_itself = name == row["column"].removesuffix("_id") and match["subject"] == "self"
        kind = kind or _NAMES.get(row["column"])
        if kind is None and row["type"] == "text" and row["column"].endswith(_ADDRESSES):
            kind = Kind.EMAIL
        columns[row["column"]] = Column(
            row["column"], row["type"], row["nullable"], row["refers_to"], row["on_delete"] == "c", kind,
            row["column"] in subjects or is_itself or (kind is Kind.KEY and row["column"] == "key_id"),
        )  # fmt: skip
    leads = {column.name for column in columns.values() if column.kind is not None}
    lost = subjects - {"self", "none"} - leads
    if lost or (match["subject"] == "self" and not leads and name not in WITHOUT_LINK):
        raise StoreError(
            f"The subject of the table {name} leads nowhere; refer to person, account or api_key, or name the column "
            f"like {', '.join([*_NAMES, *_ADDRESSES])}."
        )
    table = Table(name, match["purpose"], match["basis"], match["retention"], match["subject"], tuple(columns.values()))
    if table.retention not in BY_NAME.keys() | UNTIMED.keys() | BY_DATE.keys():
        raise StoreError(f"The table {name} has the retention class {table.retention}, which has no period.")
    return table


def _depth(table: Table, made: dict[str, Table], above: frozenset[str]) -> int:
    """How many tables in a row refer to the next, from this one on."""
    below = {column.refers_to for column in table.columns if column.refers_to in made} - above - {table.name}
    return max((1 + _depth(made[name], made, above | {table.name}) for name in below if name), default=0)
