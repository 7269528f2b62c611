"""How long it takes to find who an incident reached, at a million requests: `python -m tests.long.incidents`."""

import asyncio
import datetime
import tempfile
import time
from pathlib import Path

from luntrex_proxy.core.incidents import Reach
from luntrex_proxy.store.affected import affected
from luntrex_proxy.store.database import open_pool
from luntrex_proxy.store.embedded import EmbeddedPostgres
from luntrex_proxy.store.migrate import migrate
from tests.people import make_person
from tests.store.test_incidents import NOW, fill

ROWS, ACCOUNTS, PARTS = 1_000_000, 1_000, 50


async def _measure(dsn: str) -> None:
    pool = await open_pool(dsn)
    await migrate(pool, post=True)
    for number in range(ACCOUNTS):
        await make_person(pool, f"p{number}@example.org", **{f"a{number}": "owner"})
    begins = NOW - datetime.timedelta(days=10)
    for part in range(PARTS):  # statements have a time limit
        after = begins + part * datetime.timedelta(days=10) / PARTS
        await fill(pool, ROWS // PARTS, ACCOUNTS, after, datetime.timedelta(days=10) / ROWS)
    for kind, name in (("key", "key000000007"), ("upstream", "rare"), ("upstream", "often"), ("table", "usage")):
        began_s = time.monotonic()
        found = await affected(pool, [Reach(kind, name, begins, NOW)], NOW - datetime.timedelta(days=3_653))
        took_s = time.monotonic() - began_s
        print(f"{kind} {name}: {len(found.accounts)} accounts, {len(found.people)} people, "
              f"{found.records} records in {took_s:.2f} s")  # fmt: skip
    await pool.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="lx-") as directory:
        server = EmbeddedPostgres(Path(directory))
        try:
            asyncio.run(_measure(server.start()))
        finally:
            server.stop()
