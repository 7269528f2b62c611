"""Fills the daemon's database with keys that nobody has, to see what many keys cost."""

import asyncio
from pathlib import Path

import asyncpg

from luntrex_proxy.store.embedded import running_dsn

# Copies of the one real key under other ids and hashes. No bcrypt: 10,000 of them would take ten minutes.
_ADD = """
INSERT INTO api_key (key_id, account_id, name, bcrypt_hash, lookup_hash, pepper_fingerprint, version)
SELECT substr(md5(number::text), 1, 12), account_id, 'filler', bcrypt_hash, sha256(number::text::bytea),
       pepper_fingerprint, version
FROM (SELECT * FROM api_key LIMIT 1) AS real, generate_series(1, $1) AS number
ON CONFLICT DO NOTHING
"""


def add_keys(state_directory: Path, count: int) -> None:
    """Add so many keys to the database of the daemon that runs in this state directory."""
    dsn = running_dsn(state_directory)
    if dsn is None:
        raise RuntimeError("the daemon's database is not running")
    asyncio.run(_add(dsn, count))


async def _add(dsn: str, count: int) -> None:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        await connection.execute(_ADD, count, timeout=300)
    finally:
        await connection.close()
