"""PostgreSQL fixtures for the tests of the tables."""

import pytest

from luntrex_proxy.store import accounts
from luntrex_proxy.store.database import Pool
from tests.postgres import database, database_dsn, empty_database, postgres_dsn

__all__ = ["database", "database_dsn", "empty_database", "postgres_dsn"]


@pytest.fixture
async def acme(database: Pool) -> Pool:
    """A database with one account."""
    await accounts.create(database, "acme")
    return database
