"""Why storing failed, as one word of a fixed set: for a metric label and a state, never the driver's text."""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import ParamSpec, TypeVar

import asyncpg

from luntrex_proxy.store.errors import StoreError

P = ParamSpec("P")
T = TypeVar("T")


class Failure(StrEnum):
    """Why the last attempt to store failed."""

    NONE = ""
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    OUT_OF_CONNECTIONS = "out_of_connections"
    READ_ONLY = "read_only"
    DISK_FULL = "disk_full"
    LOCKED = "locked"
    ACCESS = "access"
    SCHEMA = "schema"
    POSITION_MOVED = "position_moved"
    SPOOL_UNREADABLE = "spool_unreadable"
    QUARANTINE = "quarantine"  # cannot be written: what belongs there waits in its segment, the rest is stored
    OTHER = "other"


class SpoolUnreadableError(Exception):
    """A spool file could not be read, copied or removed."""


class PositionMovedError(Exception):
    """The stored position is not the one known here: nothing was stored, read it again."""


# These say nothing about the database: the other directories go on.
ABOUT_ONE_DIRECTORY = frozenset({Failure.SPOOL_UNREADABLE, Failure.OTHER})

# The record itself is at fault, whatever the state of the server: a value Postgres or the driver's encoder refuses.
REFUSED_RECORD = (
    asyncpg.DataError,
    asyncpg.CheckViolationError,
    asyncpg.NotNullViolationError,
    asyncpg.ProgramLimitExceededError,  # a word too long for an index
    ValueError,
    OverflowError,
    TypeError,
)

_WORDS: tuple[tuple[type[BaseException], Failure], ...] = (
    (SpoolUnreadableError, Failure.SPOOL_UNREADABLE),
    (PositionMovedError, Failure.POSITION_MOVED),
    (TimeoutError, Failure.TIMEOUT),
    (asyncpg.QueryCanceledError, Failure.TIMEOUT),
    (asyncpg.TooManyConnectionsError, Failure.OUT_OF_CONNECTIONS),
    (asyncpg.ReadOnlySQLTransactionError, Failure.READ_ONLY),
    (asyncpg.DiskFullError, Failure.DISK_FULL),
    (asyncpg.LockNotAvailableError, Failure.LOCKED),
    (asyncpg.TransactionRollbackError, Failure.LOCKED),
    (asyncpg.InvalidAuthorizationSpecificationError, Failure.ACCESS),
    (asyncpg.InsufficientPrivilegeError, Failure.ACCESS),
    (asyncpg.SyntaxOrAccessError, Failure.SCHEMA),
    (asyncpg.IntegrityConstraintViolationError, Failure.SCHEMA),
    (asyncpg.PostgresConnectionError, Failure.UNREACHABLE),
    (asyncpg.OperatorInterventionError, Failure.UNREACHABLE),
    (asyncpg.InterfaceError, Failure.UNREACHABLE),
    (StoreError, Failure.UNREACHABLE),
    (OSError, Failure.UNREACHABLE),
)


def failure_of(error: BaseException) -> Failure:
    """The word for an error met while storing."""
    return next((word for kind, word in _WORDS if isinstance(error, kind)), Failure.OTHER)


async def on_files(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking work on spool files in a thread; its OSError is not to be taken for the network's.

    A thread cannot be cancelled: who is cancelled meanwhile (once; a stop that insists gets its way) goes only when it
    is done, so that nobody else is given files that it is still at.
    """
    work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    # Who was cancelled does not ask how it went, which the loop would report.
    work.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        return await asyncio.shield(work)
    except OSError:
        raise SpoolUnreadableError from None
    finally:
        await asyncio.wait({work})
