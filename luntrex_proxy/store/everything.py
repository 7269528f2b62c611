"""Every row of every table as text, for a search; and what a throw-away account leaves, to be removed."""

from collections.abc import AsyncIterator
from datetime import date

from luntrex_proxy.store.database import Pool, store_errors

_ROWS = 2_000
# PostgreSQL's own views of what it is doing and has seen are among them.
_TABLES = """
SELECT format('%I.%I', schemaname, relname) AS name, relname FROM pg_stat_all_tables
WHERE schemaname <> 'information_schema' AND schemaname NOT LIKE 'pg_toast%' ORDER BY 1
"""
_VIEWS = ("pg_stat_activity", "pg_stats", "pg_prepared_statements")
_TRACES = (
    "DELETE FROM usage WHERE account_id = $1",
    "DELETE FROM usage_rollup WHERE account_id = $1",
    "DELETE FROM usage_rollup_daily WHERE account_id = $1",
    "DELETE FROM first_byte WHERE account_id = $1",
    "DELETE FROM alert WHERE account_id = $1",
    "DELETE FROM audit_personal WHERE sequence IN (SELECT sequence FROM audit_entry WHERE account_id = $1)",
    "DELETE FROM consent WHERE account_id = $1",
    "DELETE FROM api_key WHERE account_id = $1",
    "DELETE FROM account WHERE account_id = $1",
)


async def tables(pool: Pool, since: date) -> list[str]:
    """Every table and view to look into; days of usage before `since` can hold nothing that was said since."""
    with store_errors("list its tables"):
        rows = await pool.fetch(_TABLES)
    old = f"usage_{since:%Y%m%d}"
    names = [row["name"] for row in rows if not (row["relname"].startswith("usage_2") and row["relname"] < old)]
    return [*names, *_VIEWS]


async def texts(pool: Pool, table: str) -> AsyncIterator[bytes]:
    """The table's rows as PostgreSQL writes them, many at a time."""
    with store_errors("show a table"):
        async with pool.acquire() as connection, connection.transaction(readonly=True):
            cursor = await connection.cursor(f"SELECT t::text FROM {table} AS t")  # noqa: S608 -- quoted by format()
            while rows := await cursor.fetch(_ROWS):
                yield "\n".join(row[0] or "" for row in rows).encode(errors="surrogateescape")


async def remove_traces(pool: Pool, account_id: int | None, boot_ids: list[str]) -> None:
    """Delete a throw-away account, all of its usage, and what these processes counted. The audit log keeps that it was
    there, without its name.
    """
    with store_errors("remove what the check made"):
        async with pool.acquire() as connection, connection.transaction():
            for statement in _TRACES:
                await connection.execute(statement, account_id)
            await connection.execute("DELETE FROM attempt WHERE process = ANY($1::uuid[])", boot_ids)
            await connection.execute("DELETE FROM spool_position WHERE boot_id = ANY($1::uuid[])", boot_ids)
            await connection.execute("UPDATE change_version SET version = version + 1")


async def write_files(pool: Pool) -> None:
    """Let PostgreSQL write to its files what it has in memory, if it lets us."""
    with store_errors("write its files"):
        await pool.execute("CHECKPOINT")
