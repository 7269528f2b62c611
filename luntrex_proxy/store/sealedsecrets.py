"""The table `secret`: values the operator sets at run time, sealed. Nothing shows a value again."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from luntrex_proxy.core.audit import Fact
from luntrex_proxy.store import audit, totp
from luntrex_proxy.store.accounts import NAME_RULE
from luntrex_proxy.store.changes import next_version
from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.rotation import alone
from luntrex_proxy.store.sealing import Known, Place, Sealer, add_data_key, open_sealer, sealed_with
from luntrex_proxy.store.wrapping import WrappingUnavailableError
from luntrex_proxy.store.wrappings import Wrappings

_BYTES_MAX: Final = 65_536


@dataclass(frozen=True, slots=True)
class SecretInfo:
    """What may be shown of a secret."""

    name: str
    set_at: datetime
    data_key_id: int


async def put(pool: Pool, sealer: Sealer, name: str, value: str) -> None:
    """Set a secret, new or in place of the old one; running daemons use it within seconds. May raise RefusedError."""
    if not value or len(value.encode()) > _BYTES_MAX:
        raise RefusedError(f"A secret is text of 1 to {_BYTES_MAX} bytes.")
    with store_errors("take the secret"):
        async with pool.acquire() as connection, connection.transaction():
            version = await next_version(connection)
            if await connection.fetchval("SELECT max(data_key_id) FROM data_key") != sealer.newest:
                raise RefusedError("The data key was rotated just now; set the secret again.")
            try:
                await connection.execute(
                    "INSERT INTO secret (name, sealed, version) VALUES ($1, $2, $3)"
                    " ON CONFLICT (name)"
                    " DO UPDATE SET sealed = excluded.sealed, version = excluded.version, set_at = now()",
                    name,
                    sealer.seal(_place(name), value),
                    version,
                )
            except (asyncpg.CheckViolationError, asyncpg.DataError):
                raise RefusedError(f"A secret's name is {NAME_RULE}.") from None
            await audit.record(connection, "secret.set", name)


async def remove(pool: Pool, name: str) -> None:
    """Forget a secret; an unknown one raises RefusedError. What runs with it runs on until the next start."""
    with store_errors("forget the secret"):
        async with pool.acquire() as connection, connection.transaction():
            await next_version(connection)
            if await connection.execute("DELETE FROM secret WHERE name = $1", name) == "DELETE 0":
                raise RefusedError("There is no secret of this name; `luntrex-proxy secrets list` shows all.")
            await audit.record(connection, "secret.removed", name)


async def list_all(pool: Pool) -> list[SecretInfo]:
    """Names and ages, never values."""
    with store_errors("list the secrets"):
        rows = await pool.fetch("SELECT name, set_at, sealed FROM secret ORDER BY name")
    return [SecretInfo(row["name"], row["set_at"], sealed_with(row["sealed"])) for row in rows]


async def values(pool: Pool, sealer: Sealer) -> dict[str, str]:
    """All secrets, opened. Raises StoreError."""
    with store_errors("give the secrets"):
        rows = await pool.fetch("SELECT name, sealed FROM secret")
    return {name: sealer.open(_place(name), sealed) for name, sealed in rows}


class SecretBook:
    """The secrets a daemon uses, in memory; `refresh` when something may have changed."""

    def __init__(self, pool: Pool, wrappings: Wrappings) -> None:
        self.values: dict[str, str] = {}
        self.keeper_answers = True  # whoever keeps the wrapping key, when asked last
        self._pool = pool
        self._wrappings = wrappings
        self.data_keys: Known = {}  # in memory for good: who wraps them may be away later

    async def open(self) -> None:
        """Read all at the start. A configured service has to answer now, so that it is not missed first when needed."""
        if self._wrappings.is_remote:
            await open_sealer(self._pool, self._wrappings, self.data_keys)
        await self.refresh()

    async def ask_keeper(self) -> None:
        """See whether a service that keeps the wrapping key still unwraps. Raises StoreError."""
        if not self._wrappings.is_remote:
            return
        try:
            await open_sealer(self._pool, self._wrappings, {})
        except WrappingUnavailableError:
            self.keeper_answers = False
            raise
        self.keeper_answers = True

    async def refresh(self) -> bool:
        """Read what the table holds; whether anything is another value now. Raises StoreError, and changes nothing."""
        if not await self._pool.fetchval("SELECT EXISTS (SELECT FROM secret)"):
            found: dict[str, str] = {}
        else:
            # The data keys as well: they may have been rotated.
            sealer = await open_sealer(self._pool, self._wrappings, self.data_keys)
            found = await values(self._pool, sealer)
        changed = found != self.values
        self.values = found
        return changed


async def rotate_data_key(pool: Pool, wrappings: Wrappings) -> int:
    """Make a data key and seal every secret with it; how many. RefusedError: another rotation is running."""
    async with alone(pool):
        await open_sealer(pool, wrappings)
        await add_data_key(pool, wrappings)
        return await seal_anew(pool, await open_sealer(pool, wrappings))


async def seal_anew(pool: Pool, sealer: Sealer) -> int:
    """Seal with the newest data key what older ones sealed, second factors too, and drop those; how many secrets.

    RefusedError: there is a newer one, which somebody else is about to seal with.
    """
    with store_errors("seal the secrets anew"):
        async with pool.acquire() as connection, connection.transaction():
            await next_version(connection)  # waits for whoever sets one just now
            await connection.execute("LOCK TABLE data_key IN SHARE ROW EXCLUSIVE MODE")
            if await connection.fetchval("SELECT max(data_key_id) FROM data_key") != sealer.newest:
                raise RefusedError("The data key was rotated by somebody else just now.")
            rows = await connection.fetch("SELECT name, sealed FROM secret FOR UPDATE")
            old = [(name, sealed) for name, sealed in rows if sealed_with(sealed) != sealer.newest]
            for name, sealed in old:
                again = sealer.seal(_place(name), sealer.open(_place(name), sealed))
                await connection.execute("UPDATE secret SET sealed = $2 WHERE name = $1", name, again)
            seeds = await totp.seal_anew(connection, sealer)
            await connection.execute("DELETE FROM data_key WHERE data_key_id <> $1", sealer.newest)
            facts: dict[str, Fact] = {"secrets": len(old), "second_factors": seeds}
            await audit.record(connection, "data_key.rotated", str(sealer.newest), facts=facts)
    return len(old) + seeds


def _place(name: str) -> Place:
    return Place("secret", name, "sealed")
