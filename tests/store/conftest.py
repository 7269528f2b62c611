"""PostgreSQL fixtures for the tests of the tables."""

from tests.postgres import database, database_dsn, empty_database, postgres_dsn

__all__ = ["database", "database_dsn", "empty_database", "postgres_dsn"]
