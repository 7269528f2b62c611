"""Every table and column says why it exists: purpose, legal basis, retention class, subject."""

import re

import pytest

from luntrex_proxy.store.database import Pool

FORM = re.compile(
    r"purpose: [^|]+ \| basis: (contract|legal_obligation|legitimate_interest|none)"
    r" \| retention: (forever|account|usage|totals) \| subject: (self|none|[a-z_]+)"
)
# Partitions (relispartition) have the comments of their parent.
COMMENTS = """
SELECT c.relname AS "table", coalesce(a.attname, '') AS "column", d.description AS comment
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
LEFT JOIN (SELECT 0::int2 AS attnum, NULL::name AS attname, oid AS attrelid FROM pg_class
           UNION ALL SELECT attnum, attname, attrelid FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped) a
       ON a.attrelid = c.oid
LEFT JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = a.attnum
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
ORDER BY 1, 2
"""


async def faults(database: Pool) -> list[str]:
    """What is wrong with the comments of the schema."""
    rows = await database.fetch(COMMENTS)
    assert len(rows) > 60, "the query finds the tables and their columns"
    columns = {(row["table"], row["column"]) for row in rows}
    found = []
    for row in rows:
        place = f"{row['table']}.{row['column']}".rstrip(".")
        match = FORM.fullmatch(row["comment"] or "")
        if match is None:
            found.append(place)
        elif match[3] not in ("self", "none") and (row["table"], match[3]) not in columns:
            found.append(f"{place}: no such column {match[3]}")
    return found


async def test_every_table_and_column_says_why(database: Pool) -> None:
    """Inventory, export, erasure and retention are driven from the comments, so none may be missing or misspelt."""
    assert await faults(database) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("COMMENT ON TABLE api_key IS NULL", "api_key"),
        ("COMMENT ON COLUMN usage.model IS NULL", "usage.model"),
        ("ALTER TABLE account ADD email text", "account.email"),
        ("CREATE TABLE note (n int)", "note"),
        (
            "COMMENT ON COLUMN account.name IS 'purpose: x | basis: contract | retention: ever | subject: self'",
            "account.name",
        ),
        (
            "COMMENT ON COLUMN usage.code IS 'purpose: x | basis: contract | retention: usage | subject: person_id'",
            "usage.code: no such column person_id",
        ),
    ],
)
async def test_a_missing_reason_is_noticed(database: Pool, change: str, fault: str) -> None:
    """The test above fails when a comment is removed or wrong, and for each new table or column without one."""
    await database.execute(change)
    assert fault in await faults(database)


async def test_partitions_need_no_comments_of_their_own(database: Pool) -> None:
    """Day partitions come and go; their parent speaks for them."""
    await database.execute(
        "CREATE TABLE usage_20260101 PARTITION OF usage FOR VALUES FROM ('2026-01-01 00:00Z') TO ('2026-01-02 00:00Z')"
    )
    assert await faults(database) == []


async def test_usage_is_keyed_by_account_and_split_by_time(database: Pool) -> None:
    """What cannot be changed later: keyed by account first, partitioned by day."""
    keys = await database.fetch(
        "SELECT a.attname FROM pg_index i CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place)"
        " JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum"
        " WHERE i.indrelid = 'usage'::regclass AND i.indisprimary ORDER BY k.place"
    )
    assert [row["attname"] for row in keys] == ["account_id", "started_at", "request_id"]
    assert await database.fetchval("SELECT pg_get_partkeydef('usage'::regclass)") == "RANGE (started_at)"
