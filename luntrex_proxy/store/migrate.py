"""The migration runner: numbered SQL files, forward only, each in one transaction under one advisory lock.

    NNNN_pre_name.sql    expands: the previous release keeps working on the new schema; the daemon runs these at start
    NNNN_post_name.sql   contracts: only when no process of the previous release is left (`db migrate --post`)

Files never change once released: their checksums are stored and compared. Only the runner's own SQL lives here.
"""

import hashlib
import importlib.resources
import re
from dataclasses import dataclass
from typing import Final

import asyncpg

from luntrex_proxy.store.database import Connection, Pool, has_table, store_errors
from luntrex_proxy.store.errors import StoreError

ADVISORY_LOCK: Final = 0x6C756E74_01  # "lunt", 1: one number per job that must run once at a time
_FILE_NAME: Final = re.compile(r"(\d{4})_((?:pre|post)_[a-z0-9_]+)\.sql")
_FILE_WAIT_S: Final = 600.0

_OWN_TABLE: Final = """
CREATE TABLE schema_migration (
    version integer PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    took_ms integer NOT NULL
);
COMMENT ON TABLE schema_migration IS 'purpose: which migrations this database has | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN schema_migration.version IS 'purpose: number of the file | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN schema_migration.name IS 'purpose: phase and name of the file | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN schema_migration.sha256 IS 'purpose: notice a changed file | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN schema_migration.applied_at IS 'purpose: when it was applied | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN schema_migration.took_ms IS 'purpose: plan for later ones | basis: none | retention: forever | subject: none';
"""  # noqa: E501 -- one comment per line, as in the migration files


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. `name` starts with its phase."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """The checksum that is stored and compared."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def label(self) -> str:
        """The file name without its ending."""
        return f"{self.version:04}_{self.name}"

    @property
    def contracts(self) -> bool:
        """Whether the previous release cannot run any more after this one."""
        return self.name.startswith("post_")


@dataclass(frozen=True, slots=True)
class SchemaState:
    """Labels of files. `ahead`: applied by a newer release, harmless for this one (worth a warning)."""

    applied: tuple[str, ...]
    pending: tuple[str, ...]
    ahead: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Migrated:
    """What one `migrate` did, and what a newer release did before."""

    applied: tuple[str, ...]
    ahead: tuple[str, ...]


def packaged() -> tuple[Migration, ...]:
    """The files shipped with this release, in order."""
    found = []
    for file in importlib.resources.files("luntrex_proxy.store").joinpath("migrations").iterdir():
        if not file.name.endswith(".sql"):
            continue
        match = _FILE_NAME.fullmatch(file.name)
        if match is None:
            raise StoreError(f"The migration file {file.name} is not named NNNN_(pre|post)_name.sql; rename it.")
        found.append(Migration(int(match[1]), match[2], file.read_text("utf-8")))
    return tuple(sorted(found, key=lambda migration: migration.version))


async def migrate(pool: Pool, *, post: bool = False, files: tuple[Migration, ...] | None = None) -> Migrated:
    """Apply the pending `pre` files, and `post` ones when asked. A failed file raises StoreError, leaves no trace."""
    files = packaged() if files is None else files
    done: list[str] = []
    with store_errors("be migrated"):
        async with pool.acquire() as connection:
            state = await _read_state(connection, files)
            for migration in files:
                wanted = post or not migration.contracts
                if wanted and migration.label in state.pending and await _apply(connection, migration):
                    done.append(migration.label)
    return Migrated(tuple(done), state.ahead)


async def status(pool: Pool, *, files: tuple[Migration, ...] | None = None) -> SchemaState:
    """What the database has and lacks. Raises StoreError when it does not fit this release."""
    with store_errors("say its schema version"):
        async with pool.acquire() as connection:
            return await _read_state(connection, packaged() if files is None else files)


async def require_current(pool: Pool) -> None:
    """Raise StoreError when a `pre` file of this release is missing in the database."""
    missing = [label for label in (await status(pool)).pending if "_pre_" in label]
    if missing:
        raise StoreError(f"The database lacks {', '.join(missing)}; run `luntrex-proxy db migrate`.")


async def _read_state(connection: Connection, files: tuple[Migration, ...]) -> SchemaState:
    stored: dict[int, asyncpg.Record] = {}
    if await has_table(connection, "schema_migration"):
        rows = await connection.fetch("SELECT version, name, sha256 FROM schema_migration ORDER BY version")
        stored = {row["version"]: row for row in rows}
    ours = {migration.version: migration for migration in files}
    ahead = []
    for version, row in stored.items():
        label = f"{version:04}_{row['name']}"
        if version in ours:
            _check_same(ours[version], row["name"], row["sha256"])
        elif version < max(ours, default=0) or row["name"].startswith("post_"):
            raise StoreError(
                f"The database has the migration {label}, with which this release cannot work; "
                "install the release that brought it, or a newer one."
            )
        else:
            ahead.append(label)
    return SchemaState(
        applied=tuple(ours[version].label for version in stored if version in ours),
        pending=tuple(migration.label for migration in files if migration.version not in stored),
        ahead=tuple(ahead),
    )


def _check_same(migration: Migration, name: str, sha256: str) -> None:
    if name != migration.name or sha256 != migration.sha256:
        raise StoreError(
            f"The migration file {migration.label} is not the one this database was made with; "
            "restore the released file (reinstall this version) and put the change into a new file."
        )


async def _apply(connection: Connection, migration: Migration) -> bool:
    """Apply one file unless another process did meanwhile."""
    async with connection.transaction():
        # Waiting for another process's migration may take long; for a busy table it must not (all queue behind it).
        await connection.execute("SET LOCAL lock_timeout = '120s'; SET LOCAL statement_timeout = '600s'")
        await connection.execute("SELECT pg_advisory_xact_lock($1)", ADVISORY_LOCK, timeout=_FILE_WAIT_S)
        await connection.execute("SET LOCAL lock_timeout = '5s'")
        if not await has_table(connection, "schema_migration"):
            await connection.execute(_OWN_TABLE)
        if await connection.fetchval("SELECT 1 FROM schema_migration WHERE version = $1", migration.version):
            return False
        await connection.execute(migration.sql, timeout=_FILE_WAIT_S)
        await connection.execute(
            "INSERT INTO schema_migration (version, name, sha256, took_ms)"
            " VALUES ($1, $2, $3, extract(epoch FROM clock_timestamp() - now()) * 1000)",
            migration.version,
            migration.name,
            migration.sha256,
        )
    return True
