"""How long an export holds the loop at most, whatever else the machine does: `python -m tests.long.export_turns`.

Delays by the clock show what other processes take; here the loop's own CPU time between two of its turns is measured.
"""

import asyncio
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from luntrex_proxy.settings.retention import RetentionPeriods
from luntrex_proxy.store import exports
from luntrex_proxy.store.database import close_pool, open_pool
from luntrex_proxy.store.embedded import EmbeddedPostgres
from luntrex_proxy.store.migrate import migrate
from luntrex_proxy.store.partitions import ensure_partitions
from tests.long.rights import FILL
from tests.people import make_person

ROWS, PARTS = 300_000, 3
KEY = "key000000001"


class Turns:
    """The longest CPU time of the loop's thread from one turn to the next."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        self._last_s = time.thread_time()
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        now_s = time.thread_time()
        self.worst_s, self._last_s = max(self.worst_s, now_s - self._last_s), now_s
        self._handle = self._loop.call_soon(self._turn)

    def stop(self) -> float:
        """The longest, in milliseconds."""
        self._handle.cancel()
        return self.worst_s * 1000


async def _measure(dsn: str) -> None:
    pool = await open_pool(dsn)
    await migrate(pool, post=True)
    person = await make_person(pool, acme="owner")
    day = datetime.fromtimestamp(time.time(), UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    await ensure_partitions(pool, day.date())
    for _ in range(PARTS):  # statements have a time limit
        await pool.execute(FILL, 1, KEY, day, ROWS // PARTS)
    await pool.execute(
        "INSERT INTO api_key (key_id, account_id, name, bcrypt_hash, version, person_id)"
        " VALUES ($1, 1, 'k', '$2b$', 0, $2)",
        KEY,
        person,
    )
    turns = Turns()
    await asyncio.sleep(1)
    idle_ms, turns = turns.stop(), Turns()
    begun, byte_count = time.monotonic(), 0
    async for piece in exports.stream(dsn, person, RetentionPeriods().by_class()):
        byte_count += len(piece)
    print(f"{ROWS} requests, {byte_count >> 20} MiB in {time.monotonic() - begun:.0f} s; longest turn of the loop: "
          f"{turns.stop():.2f} ms of CPU, {idle_ms:.2f} without an export")  # fmt: skip
    await close_pool(pool)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="lx-") as directory:
        server = EmbeddedPostgres(Path(directory))
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_measure(server.start()))
        finally:
            server.stop()
