"""Fixtures with a real PostgreSQL: one embedded server per test session, one fresh migrated database per test.

A conftest takes them with `from tests.postgres import database, database_dsn, postgres_dsn`.
"""

import asyncio
import contextlib
import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from luntrex_proxy.store.database import Pool, close_pool, open_pool
from luntrex_proxy.store.embedded import EmbeddedPostgres
from luntrex_proxy.store.migrate import migrate
from luntrex_proxy.store.pepper import Lookup
from tests.clusters import PLACE, copy_clusters

# Stands for a derived lookup key where the derivation (0.26 s) is not what is tested.
LOOKUP = Lookup(key=bytes(range(32)), fingerprint=b"f" * 16)
_TEMPLATE = "migrated"
_numbers = itertools.count(1)


def dsn_of(dsn: str, database: str) -> str:
    """`dsn` with another database name."""
    return dsn.replace("/postgres?", f"/{database}?")


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """The DSN of a running server whose database `migrated` is the template of each test's own."""
    copy_clusters()
    server = EmbeddedPostgres(Path(tempfile.mkdtemp(prefix="pg-", dir=os.environ[PLACE])))
    dsn = server.start()
    try:
        asyncio.run(_make_template(dsn))
        yield dsn
    finally:
        server.stop()


async def _make_template(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(f"CREATE DATABASE {_TEMPLATE}")
    await connection.close()
    pool = await open_pool(dsn_of(dsn, _TEMPLATE))
    await migrate(pool, post=True)
    await pool.close()


async def fresh_database(dsn: str, template: str) -> str:
    """Make a database from a template; returns its DSN."""
    name = f"test_{next(_numbers)}"
    connection = await asyncpg.connect(dsn)
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    await connection.close()
    return dsn_of(dsn, name)


async def drop_database(dsn: str) -> None:
    """Drop a test's database, whoever still uses it."""
    name = dsn.partition("@/")[2].partition("?")[0]
    connection = await asyncpg.connect(dsn.replace(f"/{name}?", "/postgres?"))
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@contextlib.asynccontextmanager
async def migrated_database(postgres_dsn: str) -> AsyncIterator[str]:
    """The DSN of a migrated database of one's own."""
    dsn = await fresh_database(postgres_dsn, _TEMPLATE)
    yield dsn
    await drop_database(dsn)


@pytest.fixture
async def database_dsn(postgres_dsn: str) -> AsyncIterator[str]:
    """The DSN of this test's own migrated database."""
    async with migrated_database(postgres_dsn) as dsn:
        yield dsn


@pytest.fixture
async def empty_database(postgres_dsn: str) -> AsyncIterator[Pool]:
    """A pool on a database without any table."""
    dsn = await fresh_database(postgres_dsn, "template0")
    pool = await open_pool(dsn)
    yield pool
    await close_pool(pool)
    await drop_database(dsn)


@pytest.fixture
async def database(database_dsn: str) -> AsyncIterator[Pool]:
    """A pool on this test's own migrated database."""
    pool = await open_pool(database_dsn)
    yield pool
    await close_pool(pool)
