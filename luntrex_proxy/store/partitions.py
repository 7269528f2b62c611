"""The day partitions of `usage`, one per UTC day. Making them lives here; dropping them will too."""

import datetime
from typing import Final

from luntrex_proxy.store.database import Pool, has_table, store_errors

_ADVISORY_LOCK: Final = 0x6C756E74_02


async def ensure_partitions(pool: Pool, today: datetime.date, days_ahead: int = 7) -> list[str]:
    """Make the partitions of `today` and the days after it that are missing; returns their names.

    Safe with several processes at once. Takes a lock on `usage` when something is missing: never call it inside a
    transaction that wrote to `usage`, it would wait for itself.
    """
    days = [today + datetime.timedelta(days=offset) for offset in range(days_ahead + 1)]
    names = {f"usage_{day:%Y%m%d}": day for day in days}
    made = []
    with store_errors("make the day partitions of usage"):
        missing = await pool.fetch(
            "SELECT name FROM unnest($1::text[]) name WHERE to_regclass(name) IS NULL", list(names)
        )
        for (name,) in missing:
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _ADVISORY_LOCK)
                if not await has_table(connection, name):
                    start, end = names[name], names[name] + datetime.timedelta(days=1)
                    await connection.execute(
                        f"CREATE TABLE {name} PARTITION OF usage"
                        f" FOR VALUES FROM ('{start:%Y-%m-%d} 00:00:00+00') TO ('{end:%Y-%m-%d} 00:00:00+00')"
                    )
                    made.append(name)
    return made
