"""What verbs on the database share: settings read, database reached (the daemon's, or one of their own).

Errors (ConfigError, StoreError) pass through: `cli/__init__.py` says them and chooses the exit status.
"""

import asyncio
import contextlib
import os
import pwd
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click

from luntrex_proxy.store.audit import Actor, acting_as
from luntrex_proxy.store.database import Pool, opened_pool
from luntrex_proxy.store.datadirectory import running_dsn
from luntrex_proxy.store.embedded import EmbeddedPostgres
from luntrex_proxy.store.errors import StateInUseError, StoreUnavailableError
from luntrex_proxy.store.migrate import migrate, require_current
from luntrex_proxy.store.pepper import Lookup, lookup_of

if TYPE_CHECKING:
    from luntrex_proxy.settings.model import Settings
    from luntrex_proxy.settings.state import StateDirectory
    from luntrex_proxy.store.wrappings import Wrappings

_DAEMON_READY_WAIT_S: Final = 15.0
_PATIENCE_S: Final = 3.0  # for a configured database: somebody is waiting at the terminal
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Opened:
    """What a verb works with."""

    pool: Pool
    dsn: str
    settings: "Settings"
    state_directory: Path

    @property
    def wrappings(self) -> "Wrappings":
        """The wrapping keys that the settings name."""
        from luntrex_proxy.store.wrappings import Wrappings  # noqa: PLC0415 -- pydantic is slow and --help needs none

        return Wrappings(self.pool, self.state_directory, self.settings.sealing)

    async def lookup(self) -> Lookup:
        """What makes lookup hashes here. Raises StoreError."""
        return await lookup_of(self.pool, self.state_directory, self.wrappings)


def address_of(settings: "Settings") -> str | None:
    """The configured database's URL, around a connection pooler; None: the embedded one."""
    url = settings.database.direct_url or settings.database.url
    return url.reveal() if url else None


def run_verb(context: click.Context, body: Callable[[Opened], Awaitable[T]], *, needs_schema: bool = True) -> T:
    """Run `body` on the configured database. `needs_schema` False is for the verbs that migrate."""
    settings, state = located(context)
    url = address_of(settings)
    if state.note and url is None:
        click.echo(state.note, err=True)
    with acting_as(Actor("command line", _login_name())):
        return asyncio.run(_run(settings, state.path, url, body, needs_schema))


def _login_name() -> str:
    """Who is at the terminal, also behind sudo."""
    return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name


def located(context: click.Context) -> "tuple[Settings, StateDirectory]":
    """The settings, and the state directory they lead to."""
    from luntrex_proxy.settings.loading import load  # noqa: PLC0415 -- pydantic is slow and --help needs none
    from luntrex_proxy.settings.state import find_state_directory  # noqa: PLC0415 -- as above

    settings = load((context.find_root().obj or {}).get("config")).settings
    return settings, find_state_directory(settings.state)


async def _run(
    settings: "Settings", directory: Path, url: str | None, body: Callable[[Opened], Awaitable[T]], needs_schema: bool
) -> T:
    async with opened(directory, url, needs_schema=needs_schema) as (pool, dsn):
        return await body(Opened(pool, dsn, settings, directory))


@contextlib.asynccontextmanager
async def opened(
    state_directory: Path, database_url: str | None, *, needs_schema: bool = True
) -> AsyncIterator[tuple[Pool, str]]:
    """A pool on the configured database, or on the embedded one: the daemon's when it runs, else started meanwhile.

    And its DSN.
    """
    server = EmbeddedPostgres(state_directory)
    try:
        dsn = database_url or await _reach_embedded(server, state_directory)
        async with opened_pool(dsn, application_name="luntrex-proxy cli", max_size=2, wait_s=_PATIENCE_S) as pool:
            if needs_schema and server.pid is not None:
                await migrate(pool, post=True)  # we are the only process on it
            elif needs_schema:
                await require_current(pool)
            yield pool, dsn
    finally:
        server.stop()


async def _reach_embedded(server: EmbeddedPostgres, state_directory: Path) -> str:
    deadline = asyncio.get_running_loop().time() + _DAEMON_READY_WAIT_S
    while True:
        try:
            return server.start("verb")
        except StateInUseError:
            dsn = running_dsn(state_directory)
        if dsn is not None:
            return dsn
        if asyncio.get_running_loop().time() > deadline:
            raise StoreUnavailableError(
                f"A daemon uses {state_directory}, but its database is not ready; wait for it, or see its log."
            )
        await asyncio.sleep(0.05)
