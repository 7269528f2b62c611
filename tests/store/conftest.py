"""PostgreSQL fixtures for the tests of the tables."""

from collections.abc import Iterator

import pytest

from luntrex_proxy.store import accounts
from luntrex_proxy.store.database import Pool
from tests.postgres import database, database_dsn, empty_database, postgres_dsn
from tests.upstreams.loop_thread import LoopThread

__all__ = ["database", "database_dsn", "empty_database", "postgres_dsn"]


@pytest.fixture
async def acme(database: Pool) -> Pool:
    """A database with one account."""
    await accounts.create(database, "acme")
    return database


@pytest.fixture
def servers() -> Iterator[LoopThread]:
    """A loop of its own, so that what is in front of the database does not wait for the test's."""
    thread = LoopThread()
    yield thread
    thread.stop()
