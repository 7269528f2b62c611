"""Connections to PostgreSQL: opened with limits, checked, their errors made into sentences. No table is named here."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import asyncpg

from luntrex_proxy.store.binaries import SUPPORTED_MAJORS
from luntrex_proxy.store.errors import RefusedError, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
    DirectConnection = asyncpg.Connection[asyncpg.Record]
else:
    Pool = asyncpg.Pool
    Connection = DirectConnection = asyncpg.Connection

DRIVER_ERRORS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
_NOT_YET: Final = (
    OSError,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ConnectionDoesNotExistError,
)
_CONNECT_WAIT_S: Final = 5.0
_COMMAND_WAIT_S: Final = 20.0
_RELEASE_WAIT_S: Final = 2.0
_IDLE_CONNECTION_S: Final = 300.0


def _server_settings(application_name: str, pooled: bool = False) -> dict[str, str]:
    if pooled:
        return {"application_name": application_name, "timezone": "UTC"}  # poolers refuse those they do not know
    return {
        "application_name": application_name,
        "statement_timeout": "15s",
        "lock_timeout": "5s",
        "idle_in_transaction_session_timeout": "30s",
        "timezone": "UTC",
        "jit": "off",
    }


async def open_pool(
    dsn: str,
    *,
    application_name: str = "luntrex-proxy",
    max_size: int = 8,
    wait_s: float = 10.0,
    pooled: bool = False,
) -> Pool:
    """A pool on a checked database; waits up to `wait_s` for one that is starting. Raises StoreError.

    `pooled`: a transaction pooler is between. Nothing may outlast a transaction then, and cursors must not be used: the
    driver's names for their statements meet those of other processes in the pooler's sessions.
    """
    await _check_server(dsn, application_name, wait_s, pooled)
    more: dict[str, Any] = {"statement_cache_size": 0, "reset": _keep} if pooled else {}
    with _connect_errors(dsn):
        return await _Pool(
            dsn,
            min_size=0,  # with more, asyncpg logs a traceback per try while the database is away
            max_size=max_size,
            max_queries=50_000,
            loop=None,
            connection_class=asyncpg.Connection,
            record_class=asyncpg.Record,
            timeout=_CONNECT_WAIT_S,
            command_timeout=_COMMAND_WAIT_S,
            max_inactive_connection_lifetime=_IDLE_CONNECTION_S,
            server_settings=_server_settings(application_name, pooled),
            **more,
        )


class _Pool(Pool):
    """Whoever gives a connection back is not held up by it: a hung one is dropped. The driver would wait for ever."""

    async def release(self, connection: "PoolConnectionProxy[asyncpg.Record]", *, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- the driver's signature
        """As the driver's, in bounded time."""
        await super().release(connection, timeout=_RELEASE_WAIT_S if timeout is None else timeout)


async def _keep(connection: Connection) -> None:
    """In place of the driver's reset of a released connection: behind a pooler the session is another one each time."""


@contextlib.asynccontextmanager
async def opened_pool(
    dsn: str,
    *,
    application_name: str = "luntrex-proxy",
    max_size: int = 8,
    wait_s: float = 10.0,
    pooled: bool = False,
) -> AsyncIterator[Pool]:
    """`open_pool` for a block; closes in bounded time."""
    pool = await open_pool(dsn, application_name=application_name, max_size=max_size, wait_s=wait_s, pooled=pooled)
    try:
        yield pool
    finally:
        await close_pool(pool)


async def close_pool(pool: Pool, wait_s: float = 5.0) -> None:
    """Close the pool; connections that do not end within `wait_s` are dropped."""
    try:
        async with asyncio.timeout(wait_s):
            await pool.close()
    except DRIVER_ERRORS:
        pool.terminate()


async def connect_directly(
    dsn: str,
    *,
    application_name: str,
    timeout_s: float,
    command_timeout_s: float = _COMMAND_WAIT_S,
    pooled: bool = False,
) -> DirectConnection:
    """One connection outside any pool (LISTEN). Driver errors are the caller's to catch (DRIVER_ERRORS)."""
    return await asyncpg.connect(
        dsn,
        timeout=timeout_s,
        command_timeout=command_timeout_s,
        server_settings=_server_settings(application_name, pooled),
        statement_cache_size=0 if pooled else 100,
    )


async def has_table(connection: Connection, name: str) -> bool:
    """Whether the current schema has this table; right also after waiting for a lock (to_regclass may be stale)."""
    found = await connection.fetchval(
        "SELECT true FROM pg_class WHERE relname = $1 AND relnamespace = current_schema()::regnamespace", name
    )
    return found is True


async def _check_server(dsn: str, application_name: str, wait_s: float, pooled: bool) -> None:
    deadline = time.monotonic() + wait_s
    with _connect_errors(dsn):
        while True:
            try:
                connection = await connect_directly(
                    dsn, application_name=application_name, timeout_s=min(_CONNECT_WAIT_S, wait_s), pooled=pooled
                )
                break
            except ssl.SSLError:
                raise  # an OSError, but waiting does not help
            except _NOT_YET:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.05)
        try:
            version_number = await connection.fetchval("SELECT current_setting('server_version_num')::int")
        finally:
            connection.terminate()
    check_major(version_number, _place(dsn))


def check_major(version_number: int, place: str) -> None:
    """Refuse a server outside the supported majors. `version_number` is PostgreSQL's server_version_num."""
    major = version_number // 10_000
    if major not in SUPPORTED_MAJORS:
        raise StoreError(
            f"{place} runs PostgreSQL {major}, supported are {SUPPORTED_MAJORS[0]} to {SUPPORTED_MAJORS[-1]}; "
            "point database.url at one of those, or remove it to use the embedded PostgreSQL."
        )


def _place(dsn: str) -> str:
    """Where the database is, in words that cannot hold a piece of the password, however the DSN is misspelt."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(dsn)
        whole_authority = "@" in parts.netloc or "@" not in dsn
        if whole_authority and parts.hostname:
            return f"The database at {parts.hostname}:{parts.port or 5432}"
        if whole_authority and parts.path and not parts.hostname:
            return "The database behind its Unix socket"
    return "The database of database.url"


@contextlib.contextmanager
def _connect_errors(dsn: str) -> Iterator[None]:
    place = _place(dsn)
    try:
        yield
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError):
        raise StoreError(f"{place} refused the user or the password; correct them in database.url.") from None
    except asyncpg.InvalidCatalogNameError:
        raise StoreError(
            f"{place} has no database of the configured name; create it or correct database.url."
        ) from None
    except ssl.SSLError:
        raise StoreError(
            f"{place} cannot be reached over TLS; check sslmode and the certificates in database.url."
        ) from None
    except asyncpg.ProtocolViolationError:
        # What pgbouncer says to settings of a session (statement_timeout and others).
        raise StoreError(
            f"{place} is a connection pooler; set database.direct_url to the PostgreSQL server behind it, for "
            "revocations, and luntrex-proxy will do without sessions of its own at database.url."
        ) from None
    except asyncpg.TooManyConnectionsError:
        raise StoreUnavailableError(
            f"{place} has no free connection; raise its max_connections, or lower database.pool_size of its clients."
        ) from None
    except _NOT_YET as error:
        raise StoreUnavailableError(
            f"{place} cannot be reached ({type(error).__name__}); start it or correct database.url."
        ) from None
    except asyncpg.PostgresError as error:
        raise StoreError(f"{place} refused the connection ({_code(error)}); see the server's log.") from None
    except (ValueError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        raise StoreError(
            "database.url is not a valid PostgreSQL address; write it as postgresql://user:password@host:5432/name."
        ) from None


def is_cancelled() -> bool:
    """Whether the task that asks was cancelled, whatever became of that.

    The driver keeps a cancellation to itself now and then, and the error of a rollback that fails takes its place: who
    asks again after each error would never end.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@contextlib.contextmanager
def store_errors(doing: str) -> Iterator[None]:
    """Turn driver errors inside the block into a StoreError: "The database could not <doing> ...".

    The driver's message and chain are dropped: they may quote values.
    """
    try:
        yield
    except asyncpg.UndefinedTableError:
        raise StoreError("The database has no tables yet; run `luntrex-proxy db migrate`.") from None
    except (asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError) as error:
        raise StoreError(
            f"The database could not {doing} ({_code(error)}); use a primary server and a user that owns the tables."
        ) from None
    except asyncpg.DataError as error:
        raise RefusedError(f"The database could not {doing}: a value is not acceptable ({_code(error)}).") from None
    except asyncpg.PostgresError as error:
        raise StoreUnavailableError(
            f"The database could not {doing} ({_code(error)}); try again, and see the server's log when it stays."
        ) from None
    except DRIVER_ERRORS as error:
        raise StoreUnavailableError(
            f"The database could not {doing} ({type(error).__name__}); check that it runs, then try again."
        ) from None


def _code(error: asyncpg.PostgresError) -> str:
    return f"SQLSTATE {error.sqlstate or 'unknown'}"
