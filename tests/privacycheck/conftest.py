"""A database for the search."""

from tests.postgres import database, database_dsn, postgres_dsn

__all__ = ["database", "database_dsn", "postgres_dsn"]
