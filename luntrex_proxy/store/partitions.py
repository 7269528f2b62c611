"""The day partitions of `usage`, one per UTC day: making them, finding them, dropping one. When is not known here."""

import datetime
import re
from typing import Final

from luntrex_proxy.store.database import Connection, Pool, has_table, store_errors

_ADVISORY_LOCK: Final = 0x6C756E74_02
_NAME: Final = re.compile(r"usage_(\d{8})")
# Days that retention has dropped stay dropped, whatever comes late.
_MISSING: Final = """
SELECT name FROM unnest($1::text[], $2::date[]) AS wanted (name, day)
WHERE to_regclass(name) IS NULL
    AND day >= coalesce((SELECT max((kept_from AT TIME ZONE 'UTC')::date) FROM usage_retention), '-infinity')
"""


async def ensure_partitions(pool: Pool, today: datetime.date, days_ahead: int = 7) -> list[str]:
    """Make the partitions of `today` and the days after it that are missing; returns their names.

    Safe with several processes at once, and never in the way of writers, readers or a backup.
    """
    days = [today + datetime.timedelta(days=offset) for offset in range(days_ahead + 1)]
    names = {f"usage_{day:%Y%m%d}": day for day in days}
    made = []
    with store_errors("make the day partitions of usage"):
        missing = await pool.fetch(_MISSING, list(names), list(names.values()))
        for (name,) in missing:
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _ADVISORY_LOCK)
                if not await has_table(connection, name):
                    await _make(connection, name, names[name])
                    made.append(name)
    return made


async def _make(connection: Connection, name: str, day: datetime.date) -> None:
    # Attached, because CREATE TABLE ... PARTITION OF locks out everybody: it would wait for a backup to end, and the
    # shipper behind it.
    start, end = (f"{each:%Y-%m-%d} 00:00:00+00" for each in (day, day + datetime.timedelta(days=1)))
    await connection.execute(
        f"CREATE TABLE {name} (LIKE usage INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE);"
        f"ALTER TABLE usage ATTACH PARTITION {name} FOR VALUES FROM ('{start}') TO ('{end}')"
    )


async def partition_days(connection: Connection) -> list[datetime.date]:
    """The days that have a partition, ascending."""
    rows = await connection.fetch(
        "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'usage'::regclass"
    )
    found = (_NAME.fullmatch(row["relname"]) for row in rows)
    return sorted(datetime.datetime.strptime(match[1], "%Y%m%d").date() for match in found if match)  # noqa: DTZ007 -- a day


async def drop_partition(connection: Connection, day: datetime.date) -> None:
    """Drop the partition of a day with its rows, inside the caller's transaction and its lock_timeout.

    A plain DROP: it locks `usage`, but only for the moment it takes, and one that is killed leaves nothing behind.
    DETACH CONCURRENTLY would wait without a bound for every reader, and left half done it needs somebody to finish it.
    """
    await connection.execute(f"DROP TABLE IF EXISTS usage_{day:%Y%m%d}")
