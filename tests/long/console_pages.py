"""How long pages take on ten million usage records. Not for CI: python -m tests.long.console_pages [RECORDS] [KEPT]

One account with 200 keys, half of them members' own, six models, three upstreams, sixty days. Each page is opened ten
times over loopback by who owns the account. Shown is the time until its last byte; what of a core that took, of us (who
asks is in it) and of PostgreSQL, which is what to go by on a busy machine; and the plan of the slowest statement.
In KEPT, a directory, the database stays and is used the next time.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import aiohttp
from aiohttp import web

from benchmarks.machine import cpu_of, tree
from luntrex_proxy.console.application import PAGES, add_console
from luntrex_proxy.control.quiet import QuietRunner
from luntrex_proxy.store import budgets
from luntrex_proxy.store.database import Pool, opened_pool
from luntrex_proxy.store.embedded import EmbeddedPostgres
from luntrex_proxy.store.migrate import migrate
from luntrex_proxy.store.partitions import ensure_partitions
from tests.console.browser.places import ADA, SUMS, Places, fill
from tests.console.browsing import Browser, concrete
from tests.people import PASSWORD, services_of
from tests.store.records import id_at

DAYS = 60
KEYS = 200
TIMES = 10
GOAL_MS = 100
_KEYS = """
INSERT INTO api_key (key_id, account_id, name, bcrypt_hash, version, person_id)
SELECT 'load' || lpad(n::text, 8, '0'), $1, 'load-' || n, '$2b$', 0, CASE WHEN n % 2 = 0 THEN $2::uuid END
FROM generate_series(1, $3) n
"""
_DAY = f"""
INSERT INTO usage SELECT $1, at, {id_at("at")},
    'load' || lpad((1 + (n * 7919) % $4)::text, 8, '0'), 'chat_completions', 'model-' || (n % 6),
    'upstream-' || (n % 3), CASE WHEN n % 50 = 0 THEN 502 ELSE 200 END, 'ok', 'complete', n % 3 > 0, 'reported',
    400 + n % 900, n % 300, 0, 0, 0, 150 + n % 700, 0, 0, (400 + n % 900) * 2500000::bigint, 'test', 2000, 3000, 40, 1,
    900000, 150000 + n % 900000, 300
FROM generate_series(0, $3 - 1) n CROSS JOIN LATERAL (SELECT $2::timestamptz + n * interval '1 day' / $3 AS at) moments
"""


@dataclass
class TimedPool:
    """A pool that notes the slowest statement."""

    pool: Any
    slowest: tuple[float, str, tuple[Any, ...]] = (0.0, "", ())

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.pool, name)
        return self._timed(found) if name in ("fetch", "fetchrow", "fetchval") else found

    def _timed(self, ask: Callable[..., Any]) -> Callable[..., Any]:
        async def timed(statement: str, *arguments: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            found = await ask(statement, *arguments, **options)
            self.slowest = max(
                self.slowest, (time.perf_counter() - begun, statement, arguments), key=lambda one: one[0]
            )
            return found

        return timed


async def make(pool: Pool, directory: Path, records: int) -> Places:
    """The records, and their sums."""
    places = await fill(services_of(pool, directory), requests=1)
    bob = await pool.fetchval("SELECT person_id FROM person WHERE email <> $1 LIMIT 1", ADA)
    await pool.execute(_KEYS, places.account_id, bob, KEYS)
    today = await pool.fetchval("SELECT date_trunc('day', now(), 'UTC')")
    await ensure_partitions(pool, today.date() - timedelta(days=DAYS), DAYS + 1)
    async with pool.acquire() as connection:
        await connection.execute("SET statement_timeout = 0")
        for back in range(DAYS):
            day = today - timedelta(days=back)
            await connection.execute(_DAY, places.account_id, day, records // DAYS, KEYS, timeout=600)
        await connection.execute("TRUNCATE usage_rollup, usage_rollup_daily, first_byte")
        for statement in SUMS:
            await connection.execute(statement, timeout=900)
        await connection.execute("VACUUM ANALYZE", timeout=900)
    return places


async def look(pool: Pool, directory: Path, places: Places) -> int:
    """The times of each page; how many are above the goal."""
    timed = TimedPool(pool)
    app = web.Application()
    add_console(app, services_of(cast(Pool, timed), directory, privacy={"contact": "privacy@example.test"}))
    runner = QuietRunner(app, shutdown_timeout_s=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    slow = 0
    base = f"/accounts/{places.account_id}"
    today = (await pool.fetchval("SELECT now()")).date()
    year_ago, one_day = today - timedelta(days=364), f"since={today}&until={today}"
    more = [
        *(f"{base}?period={period}" for period in ("today", "7d", "30d")),
        *(f"{base}/usage?group={group}" for group in ("model", "key", "member", "label:project", "none")),
        f"{base}/usage?group=key&step=hour", f"{base}/usage?group=key&model=model-1&metric=tokens",
        f"{base}/usage?group=key&step=month&since={year_ago}", f"{base}/usage?group=label:project&step=hour",
        f"{base}/usage?group=key&{one_day}", f"{base}/usage?group=model&{one_day}",
    ]  # fmt: skip
    paths = [concrete(places.path(route.path)) for route in PAGES if route.access.value != "anyone"]
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
        browser = Browser(client, f"http://127.0.0.1:{site.port}")
        await browser.get("/sign-in")
        await browser.send("/sign-in", address=ADA, password=PASSWORD)
        for path in [*more, *paths, "America/New_York", *more, "Asia/Kolkata", *more]:
            if not path.startswith("/"):
                await budgets.set_time_zone(pool, "acme", path)
                print(f"         and with days of {path}")
                continue
            timed.slowest = (0.0, "", ())
            took, before_s = [], _cpu_s()
            for _ in range(TIMES):
                begun = time.perf_counter()
                seen = await browser.get(path)
                took.append((time.perf_counter() - begun) * 1_000)
            middle, most = statistics.median(took), max(took[1:])
            of_core = (_cpu_s() - before_s) * 1_000 / TIMES
            print(
                f"{middle:8.1f} ms  {most:8.1f} ms at most  {of_core:8.1f} ms of a core  {seen.status}  {path}",
                flush=True,
            )
            if middle > GOAL_MS:
                slow += 1
                _, statement, arguments = timed.slowest
                plan = await pool.fetch(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {statement}", *arguments)
                print("\n".join("          " + row[0] for row in plan))
    await runner.cleanup()
    return slow


def _cpu_s() -> float:
    return cpu_of(tree(os.getpid())).total_s


async def main(directory: Path, records: int) -> int:
    """0: all pages keep to the goal."""
    server, noted = EmbeddedPostgres(directory), directory / "places"
    dsn = server.start()
    try:
        async with opened_pool(dsn) as pool:
            await migrate(pool, post=True)
            begun = time.monotonic()
            if noted.exists():
                kinds = [cast(Callable[[str], Any], each.type) for each in fields(Places)]
                places = Places(*(kind(word) for kind, word in zip(kinds, noted.read_text().split(), strict=True)))
                await pool.execute("UPDATE account SET time_zone = 'UTC'")
            else:
                places = await make(pool, directory, records)
                noted.write_text(" ".join(str(getattr(places, each.name)) for each in fields(places)))
                print(f"{records:,} records made in {time.monotonic() - begun:.0f} s", flush=True)
            return await look(pool, directory, places)
    finally:
        server.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as fresh:
        kept = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(fresh)
        sys.exit(asyncio.run(main(kept, int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000)))
