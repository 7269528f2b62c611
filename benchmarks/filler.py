"""Fills the daemon's database with keys that nobody has, to see what many keys cost."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import asyncpg

from luntrex_proxy.store.datadirectory import running_dsn

# Copies of the one real key under other ids and hashes. No bcrypt: 10,000 of them would take ten minutes.
_ADD = """
INSERT INTO api_key (key_id, account_id, name, bcrypt_hash, lookup_hash, pepper_fingerprint, version,
                     not_before, expires_at, models, networks)
SELECT substr(md5(number::text), 1, 12), account_id, 'filler', bcrypt_hash, sha256(number::text::bytea),
       pepper_fingerprint, version,
       CASE WHEN $2 THEN now() - number * interval '1 s' END,
       CASE WHEN $2 THEN now() + interval '1 day' + number * interval '31.5 s' END,
       CASE WHEN $2 THEN ARRAY['plain', 'model-' || number % 500] END,
       CASE WHEN $2 THEN ARRAY['127.0.0.0/8', format('10.%s.0.0/16', number % 200)]::cidr[] END
FROM (SELECT * FROM api_key LIMIT 1) AS real, generate_series(1, $1) AS number
ON CONFLICT DO NOTHING
"""


def add_keys(state_directory: Path, count: int, *, terms: bool = False) -> None:
    """Add so many keys to the database of the daemon that runs in this state directory.

    `terms`: each begins and ends at a moment of its own, within a year, and has one of 1,000 scopes.
    """
    execute(state_directory, _ADD, count, terms)


def execute(state_directory: Path, sql: str, *arguments: object) -> None:
    """Run a statement that may take minutes in the database of the daemon that runs in this state directory."""
    dsn = running_dsn(state_directory)
    if dsn is None:
        raise RuntimeError("the daemon's database is not running")
    asyncio.run(_execute(dsn, sql, arguments))


async def _execute(dsn: str, sql: str, arguments: Sequence[object]) -> None:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        await connection.execute(sql, *arguments, timeout=600)
    finally:
        await connection.close()
