"""The migration runner: idempotent, guarded by checksums, whole files or nothing."""

import asyncio
import datetime
from dataclasses import replace

import pytest

from luntrex_proxy.store import migrate as schema
from luntrex_proxy.store.database import Pool, close_pool, open_pool
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.migrate import Migration
from luntrex_proxy.store.partitions import ensure_partitions
from tests.store.records import assert_totals_match

FIRST = Migration(1, "pre_first", "CREATE TABLE one (n int); INSERT INTO one VALUES (1);")
SECOND = Migration(2, "pre_second", "ALTER TABLE one ADD m int;")
CONTRACTING = Migration(3, "post_third", "ALTER TABLE one DROP n;")


async def test_shipped_files_apply_once(empty_database: Pool) -> None:
    """All shipped files run on an empty database, in their order, and a second run does nothing."""
    before = await schema.status(empty_database)
    done = await schema.migrate(empty_database, post=True)
    assert done.applied == before.pending == tuple(file.label for file in schema.packaged())
    assert done.applied[0] == "0001_pre_first_tables"
    assert (await schema.migrate(empty_database, post=True)).applied == ()
    after = await schema.status(empty_database)
    assert (after.applied, after.pending, after.ahead) == (done.applied, (), ())


async def test_two_processes_migrate_at_once(empty_database: Pool) -> None:
    """Several processes that start together apply each file exactly once."""
    slow = Migration(1, "pre_first", "SELECT pg_sleep(0.3); CREATE TABLE one (n int);")
    results = await asyncio.gather(*(schema.migrate(empty_database, files=(slow, SECOND)) for _ in range(4)))
    assert sorted(label for done in results for label in done.applied) == ["0001_pre_first", "0002_pre_second"]


async def test_changed_file_is_refused(empty_database: Pool) -> None:
    """A file that was changed after it was applied stops everything, before anything new is applied."""
    await schema.migrate(empty_database, files=(FIRST,))
    changed = replace(FIRST, sql=FIRST.sql + " ")
    with pytest.raises(StoreError, match="0001_pre_first is not the one this database was made with; restore"):
        await schema.migrate(empty_database, files=(changed, SECOND))
    assert (await schema.status(empty_database, files=(FIRST, SECOND))).pending == ("0002_pre_second",)


async def test_failed_file_leaves_no_trace(empty_database: Pool) -> None:
    """A file is applied whole or not at all, and what it raised is not quoted."""
    broken = Migration(2, "pre_broken", "CREATE TABLE two (n int); SELECT 'canary'::int;")
    with pytest.raises(StoreError) as caught:
        await schema.migrate(empty_database, files=(FIRST, broken))
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert await empty_database.fetchval("SELECT to_regclass('two')") is None
    assert (await schema.status(empty_database, files=(FIRST, broken))).applied == ("0001_pre_first",)


async def test_contracting_files_wait_to_be_asked(empty_database: Pool) -> None:
    """`post` files run only when asked, and the daemon does not miss them."""
    files = (FIRST, SECOND, CONTRACTING)
    assert (await schema.migrate(empty_database, files=files)).applied == ("0001_pre_first", "0002_pre_second")
    assert (await schema.migrate(empty_database, files=files, post=True)).applied == ("0003_post_third",)


async def test_previous_release_runs_on_the_new_schema(empty_database: Pool) -> None:
    """A database ahead by `pre` files is only remarked; one ahead by a `post` file is refused."""
    await schema.migrate(empty_database, files=(FIRST, SECOND))
    assert (await schema.migrate(empty_database, files=(FIRST,))).ahead == ("0002_pre_second",)
    await schema.migrate(empty_database, files=(FIRST, SECOND, CONTRACTING), post=True)
    with pytest.raises(StoreError, match="0003_post_third, with which this release cannot work; install"):
        await schema.migrate(empty_database, files=(FIRST,))


async def test_other_history_is_refused(empty_database: Pool) -> None:
    """A database with a file in between that this release does not have was made by something else."""
    await schema.migrate(empty_database, files=(FIRST, SECOND))
    with pytest.raises(StoreError, match="0002_pre_second"):
        await schema.migrate(empty_database, files=(FIRST, replace(SECOND, version=4)))


async def test_verbs_say_that_tables_are_missing(empty_database: Pool) -> None:
    """Without tables the sentence names the command that makes them."""
    with pytest.raises(StoreError, match="run `luntrex-proxy db migrate`"):
        await schema.require_current(empty_database)


async def test_partitions_by_day(database: Pool, database_dsn: str) -> None:
    """Partitions of the next days appear once, whoever asks; a day without one can be made when it is needed."""
    today = datetime.date(2026, 12, 30)
    other = await open_pool(database_dsn)
    made = await asyncio.gather(*(ensure_partitions(pool, today) for pool in (database, other, database, other)))
    await close_pool(other)
    names = sorted(name for part in made for name in part)
    assert names == [
        "usage_20261230", "usage_20261231", *(f"usage_2027010{day}" for day in range(1, 7)),
    ]  # fmt: skip
    assert await ensure_partitions(database, today) == []
    assert await ensure_partitions(database, datetime.date(2024, 2, 29), days_ahead=0) == ["usage_20240229"]
    bounds = await database.fetchval(
        "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'usage_20240229'"
    )
    assert bounds == "FOR VALUES FROM ('2024-02-29 00:00:00+00') TO ('2024-03-01 00:00:00+00')"


async def test_daily_sums_begin_with_what_the_hourly_ones_hold(empty_database: Pool) -> None:
    """A database with history gets its days added up once, by UTC day."""
    before = tuple(file for file in schema.packaged() if file.version < 3)
    await schema.migrate(empty_database, files=before)
    rows = [("01 23:00Z", "a", 1), ("01 00:00Z", "a", 2), ("02 00:00Z", "a", 4), ("01 05:00Z", "b", 8)]
    for hour, model, count in rows:
        await empty_database.execute(
            "INSERT INTO usage_rollup VALUES (1, $1::text::timestamptz, 'abcdefghijkl', $2, 'local',"
            " $3::bigint, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1e20)",
            f"2026-03-{hour}", model, count,
        )  # fmt: skip
    await schema.migrate(empty_database)
    found = await empty_database.fetch(
        "SELECT day::text, model, requests, errors, output_audio_tokens, cost_pico::text"
        " FROM usage_rollup_daily ORDER BY 1, 2"
    )
    assert [tuple(row) for row in found] == [
        ("2026-03-01", "a", 3, 2, 18, "200000000000000000000"),
        ("2026-03-01", "b", 8, 1, 9, "100000000000000000000"),
        ("2026-03-02", "a", 4, 1, 9, "100000000000000000000"),
    ]


async def test_totals_begin_with_what_the_sums_hold(empty_database: Pool) -> None:
    """What was there, what is stored by another process before it is added up, and what comes after count once each."""

    async def use(hour: str, key: str, model: str, requests: int) -> None:
        for table, at in (("usage_rollup", f"2026-03-{hour}:00Z"), ("usage_rollup_daily", f"2026-03-{hour[:2]}")):
            period = "day" if table.endswith("daily") else "hour"
            await empty_database.execute(
                f"INSERT INTO {table} AS s VALUES (1, '{at}', $1, $2, 'local', $3, 1, 2, 0, 0, 0, 0, 3, 0, 0, 1e17)"
                f" ON CONFLICT (account_id, {period}, key_id, model, upstream) DO UPDATE SET"
                " requests = s.requests + excluded.requests, cost_pico = s.cost_pico + excluded.cost_pico",
                key, model, requests,
            )  # fmt: skip

    files = schema.packaged()
    await schema.migrate(empty_database, files=tuple(file for file in files if file.version < 39))
    await use("01 05", "a", "small", 1)
    await use("01 05", "b", "small", 2)
    await use("01 06", "a", "large", 4)
    await use("01 09", "gone", "large", 99)
    await schema.migrate(empty_database, files=tuple(file for file in files if file.version < 40))
    await use("01 05", "a", "small", 8)
    await empty_database.execute("DELETE FROM usage_rollup WHERE key_id = 'gone'")
    await empty_database.execute("DELETE FROM usage_rollup_daily WHERE key_id = 'gone'")
    await schema.migrate(empty_database)
    await use("01 06", "b", "large", 16)
    await assert_totals_match(empty_database)
    rows = await empty_database.fetch("SELECT model, requests, cost_pico::text FROM usage_total ORDER BY hour")
    assert [tuple(row) for row in rows] == [("small", 11, "3" + "0" * 17), ("large", 20, "2" + "0" * 17)]
