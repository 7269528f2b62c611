"""What the database can hold, column by column, as the schema's own comments say it: nothing is listed by hand."""

import re
from dataclasses import dataclass
from typing import Final

from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.errors import StoreError

# purpose: ... | basis: ... | retention: ... | subject: ...; a column without it fails a test, so it cannot be released.
FORM: Final = re.compile(
    r"purpose: (?P<purpose>[^|]+) \| basis: (?P<basis>contract|legal_obligation|legitimate_interest|none)"
    r" \| retention: (?P<retention>forever|account|usage|totals|audit|security|session|mail|day|signup|invoice)"
    r" \| subject: (?P<subject>self|none|[a-z_]+)"
)
# Partitions (relispartition) have the comments of their parent.
_COMMENTS: Final = """
SELECT CASE nspname WHEN 'public' THEN '' ELSE nspname || '.' END || c.relname AS "table",
    coalesce(a.attname, '') AS "column", d.description AS comment
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname IN ('public', 'billing')
LEFT JOIN (SELECT 0::int2 AS attnum, NULL::name AS attname, oid AS attrelid FROM pg_class
           UNION ALL SELECT attnum, attname, attrelid FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped) a
       ON a.attrelid = c.oid
LEFT JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = a.attnum
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class Item:
    """A table (`column` empty) or a column, and why it is there."""

    table: str
    column: str
    purpose: str
    basis: str  # in law: contract, legal_obligation, legitimate_interest; none: no personal data
    retention: str  # class; the periods are settings
    subject: str  # the column that says whose it is; self: the row is the person or account; none: nobody's


async def comments(pool: Pool) -> list[tuple[str, str, str | None]]:
    """Table, column ("" for the table itself) and comment, of everything there is."""
    with store_errors("say what it holds"):
        return [(row["table"], row["column"], row["comment"]) for row in await pool.fetch(_COMMENTS)]


async def inventory(pool: Pool) -> list[Item]:
    """Every table and column. StoreError: somebody added one and did not say why."""
    items = []
    for table, column, comment in await comments(pool):
        match = FORM.fullmatch(comment or "")
        if match is None:
            raise StoreError(
                f"The table {table} has {f'a column {column}' if column else 'no comment'} of which nobody says why it "
                "is there; remove it, or bring the database to this release with `luntrex-proxy db migrate`."
            )
        items.append(Item(table, column, **match.groupdict()))
    return items
