"""A month of 200,000 made-up requests, reconciled to the pico-dollar. Not for CI: python -m tests.long.billing [N]

Ten accounts, twenty keys whose labels change in the midst of the month, four models, two upstreams; stored as a daemon
stores them, closed, proved, priced anew and proved again. In between `billing reprice --apply` is killed (-9) again and
again: each day has its old prices or its new ones, and everything adds up after each kill.
"""

import asyncio
import json
import os
import random
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from luntrex_proxy.core.pricing import Price
from luntrex_proxy.store import statements
from luntrex_proxy.store.database import Pool, opened_pool
from luntrex_proxy.store.embedded import EmbeddedPostgres
from luntrex_proxy.store.migrate import migrate
from luntrex_proxy.store.reconciling import Comparison, compare_day, compare_statements, days_between
from luntrex_proxy.store.repricing import Selection, Tally, days_of, reprice_day
from tests.store.months import make_keys, rates_of, records, store

MONTH, LAST, NEXT = date(2026, 9, 1), date(2026, 9, 30), date(2026, 10, 1)
NAMES = tuple(f"account-{number}" for number in range(10))


async def proved(pool: Pool) -> Comparison:
    """As `billing reconcile --month 2026-09`."""
    found = Comparison()
    for day in days_between(MONTH, LAST):
        await compare_day(pool, day, None, found)
    await compare_statements(pool, MONTH, None, found)
    return found


async def spent(pool: Pool) -> int:
    """What all records cost, in pico-dollars."""
    return int(await pool.fetchval("SELECT sum(cost_pico)::text FROM usage"))


MIXED = """
SELECT count(*) FROM (SELECT FROM usage WHERE model IN ('large', 'small') AND (input_tokens > 0 OR output_tokens > 0)
    GROUP BY (started_at AT TIME ZONE 'UTC')::date HAVING count(DISTINCT price_version LIKE 'config-%') > 1) days
"""
DONE = "SELECT count(*) FROM usage WHERE price_version LIKE 'config-%'"


async def killed(pool: Pool, dsn: str, root: Path) -> bool:
    """Whether all was right after each kill, and the run that ended was whole."""
    targets = [{"upstream": name, "model": "m"} for name in ("east", "west")]
    config = {
        "upstreams": [
            {"name": name, "dialect": "openai", "base_url": "http://127.0.0.1:9/v1"} for name in ("east", "west")
        ],
        "models": [
            {"name": name, "targets": targets, "price": {"input": 1.5, "output": 6}} for name in ("large", "small")
        ],
    }
    (root / "config.yaml").write_text(json.dumps(config))
    environment = os.environ | {
        "LUNTREX_DATABASE__URL": dsn,
        "LUNTREX_STATE__DIRECTORY": str(root),
        "LUNTREX_CONFIG": str(root / "config.yaml"),
    }
    command = [sys.executable, "-m", "luntrex_proxy", "billing", "reprice", "--apply"]
    command += ["--since", str(MONTH), "--until", str(LAST)]
    right, kills, wait_s = True, 0, 1.0
    while True:
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.DEVNULL)
        try:
            status = await asyncio.wait_for(process.wait(), wait_s)
        except TimeoutError:
            process.kill()
            await process.wait()
            kills += 1
            wait_s += 0.4
            mixed, done = await pool.fetchval(MIXED), await pool.fetchval(DONE)
            adds_up = not (await proved(pool)).differing_days
            print(
                f"  killed: {done} records are new, {mixed} days mixed, {'right' if adds_up else 'WRONG'}", flush=True
            )
            right = right and not mixed and adds_up
            continue
        return right and status == 0 and kills > 0


def say(what: str, begun: float, more: str = "") -> None:
    """One line with its seconds."""
    print(f"{what:42} {time.monotonic() - begun:7.1f} s  {more}", flush=True)


async def run(pool: Pool, dsn: str, root: Path, count: int) -> bool:
    """Everything once; whether it added up."""
    await migrate(pool, post=True)
    seed = random.Random(2026)
    keys, rates = await make_keys(pool, NAMES), rates_of(seed)
    begun = time.monotonic()
    await store(pool, root / "spool", records(seed, keys, rates, count))
    say(f"{count} records stored", begun, f"{await spent(pool)} pico-dollars")
    begun = time.monotonic()
    closed = [(await statements.close(pool, name, MONTH))[0] for name in NAMES]
    charged = sum(each.cost_pico for each in closed)
    say("closed", begun, f"{charged} pico-dollars in {sum(len(each.lines) for each in closed)} lines")
    begun = time.monotonic()
    first = await proved(pool)
    say("proved", begun, "right" if first.is_right else "WRONG")
    begun = time.monotonic()
    survived = await killed(pool, dsn, root)
    say("killed while pricing anew", begun, "right" if survived else "WRONG")
    new, whole = rates_of(seed), Tally()
    selection = Selection(MONTH, LAST)
    begun = time.monotonic()
    longest = 0.0
    for day in await days_of(pool, selection):
        started = time.monotonic()
        done = await reprice_day(
            pool,
            day,
            selection,
            lambda _account, model, _upstream, _version, _at: Price(new[model], model, "v2") if model in new else None,
            apply=True,
        )
        longest = max(longest, time.monotonic() - started)
        for tally in done.values():
            whole.add(tally)
    say(
        "priced anew",
        begun,
        f"{whole.changed} changed, {whole.after_pico - whole.before_pico:+d}; a day {longest:.1f} s",
    )
    late = await proved(pool)
    missing = sum(each.used_pico - (each.charged_pico or 0) for each in late.accounts.values())
    say("proved", begun, f"not charged {missing:+d}")
    corrected = sum([(await statements.close(pool, name, NEXT))[0].cost_pico for name in NAMES])
    last = await proved(pool)
    total = await spent(pool)
    say("the month after closed, proved", begun, f"{charged + corrected} charged, {total} spent")
    return survived and first.is_right and last.is_right and charged + corrected == total == whole.after_pico


async def main(count: int) -> bool:
    """On an embedded PostgreSQL of its own."""
    with tempfile.TemporaryDirectory() as directory:
        server = EmbeddedPostgres(Path(directory))
        try:
            dsn = server.start("verb")
            async with opened_pool(dsn, application_name="long billing", max_size=4, wait_s=30) as pool:
                return await run(pool, dsn, Path(directory), count)
        finally:
            server.stop()


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)) else 1)
