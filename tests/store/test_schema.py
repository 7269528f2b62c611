"""Every table and column says why it exists: purpose, legal basis, retention class, subject."""

import pytest

from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.inventory import FORM, comments, inventory


async def faults(database: Pool) -> list[str]:
    """What is wrong with the comments of the schema."""
    rows = await comments(database)
    assert len(rows) > 60, "the query finds the tables and their columns"
    columns = {(table, column) for table, column, _ in rows}
    found = []
    for table, column, comment in rows:
        place = f"{table}.{column}".rstrip(".")
        match = FORM.fullmatch(comment or "")
        if match is None:
            found.append(place)
        elif match["subject"] not in ("self", "none") and (table, match["subject"]) not in columns:
            found.append(f"{place}: no such column {match['subject']}")
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


async def test_the_inventory_is_the_schema(database: Pool) -> None:
    """Every column is in it with its reasons; one that nobody gave a reason for stops it with a sentence."""
    items = await inventory(database)
    names = await database.fetch(
        "SELECT CASE table_schema WHEN 'public' THEN '' ELSE table_schema || '.' END || table_name, column_name"
        " FROM information_schema.columns WHERE table_schema IN ('public', 'billing')"
        " AND table_name !~ '^usage_[0-9]{8}$'"
    )
    assert {(item.table, item.column) for item in items if item.column} == {tuple(row) for row in names}
    assert all(item.purpose and item.basis for item in items)
    await database.execute("ALTER TABLE account ADD email text")
    with pytest.raises(StoreError, match="The table account has a column email of which nobody says why"):
        await inventory(database)
