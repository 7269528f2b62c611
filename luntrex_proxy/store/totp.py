"""The tables `totp` and `recovery_code`: second factors. Seeds are sealed, of recovery codes there are hashes."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from luntrex_proxy.store import audit, sessions
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.sealing import Place, Sealer, sealed_with

_ROTATED: Final = "The data key was rotated just now; try again."


@dataclass(frozen=True, slots=True)
class Factor:
    """The second factor of a person."""

    seed: str = field(repr=False)  # as people type it
    confirmed: bool
    last_step: int


async def begin(pool: Pool, sealer: Sealer, person_id: uuid.UUID, seed: str) -> None:
    """Keep a seed that is not asked for yet, in place of an earlier one. RefusedError: there is one in use."""
    with store_errors("take the second factor"):
        async with pool.acquire() as connection, connection.transaction():
            # A rotation of the data key waits for us, or we for it and then see the new key.
            await connection.execute("LOCK TABLE totp IN ROW EXCLUSIVE MODE")
            if await connection.fetchval("SELECT max(data_key_id) FROM data_key") != sealer.newest:
                raise RefusedError(_ROTATED)
            done = await connection.execute(
                "INSERT INTO totp AS t (person_id, seed) VALUES ($1, $2) ON CONFLICT (person_id)"
                " DO UPDATE SET seed = excluded.seed, created_at = now(), last_step = 0 WHERE t.confirmed_at IS NULL",
                person_id,
                sealer.seal(_place(person_id), seed),
            )
            if done == "INSERT 0 0":
                raise RefusedError("There is a second factor already; remove it first.", "has_second_factor")


async def find(pool: Pool, sealer: Sealer, person_id: uuid.UUID) -> Factor | None:
    """The person's factor, in use or begun."""
    with store_errors("find the second factor"):
        row = await pool.fetchrow(
            "SELECT seed, confirmed_at IS NOT NULL, last_step FROM totp WHERE person_id = $1", person_id
        )
    return None if row is None else Factor(sealer.open(_place(person_id), row[0]), row[1], row[2])


async def is_in_use(connection: Connection, person_id: uuid.UUID) -> bool:
    """Whether the person is asked for codes, in the caller's transaction."""
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM totp WHERE person_id = $1 AND confirmed_at IS NOT NULL)", person_id
    )
    return found


async def use_step(pool: Pool, person_id: uuid.UUID, step: int) -> bool:
    """Whether the code of this step was not used yet; it is now."""
    with store_errors("note the code"):
        done = await pool.execute(
            "UPDATE totp SET last_step = $2 WHERE person_id = $1 AND last_step < $2", person_id, step
        )
    return done == "UPDATE 1"


async def use_recovery_code(pool: Pool, person_id: uuid.UUID, code_hash: bytes) -> bool:
    """Whether it was one of the person's; it is gone now."""
    with store_errors("note the code"):
        async with pool.acquire() as connection, connection.transaction():
            done = await connection.execute(
                "DELETE FROM recovery_code WHERE person_id = $1 AND code_hash = $2", person_id, code_hash
            )
            if done == "DELETE 0":
                return False
            left = await connection.fetchval("SELECT count(*) FROM recovery_code WHERE person_id = $1", person_id)
            await audit.record(connection, "recovery_code.used", str(person_id), facts={"left": left})
    return True


async def confirm(
    connection: Connection, person_id: uuid.UUID, step: int, code_hashes: Collection[bytes], *, but: uuid.UUID | None
) -> bool:
    """From now on codes are asked for, and other sessions end, in the caller's transaction. False: it is so already."""
    done = await connection.execute(
        "UPDATE totp SET confirmed_at = now(), last_step = $2 WHERE person_id = $1 AND confirmed_at IS NULL",
        person_id,
        step,
    )
    if done == "UPDATE 0":
        return False
    await _put_codes(connection, person_id, code_hashes)
    await audit.record(connection, "second_factor.set", str(person_id))
    await sessions.end_all(connection, person_id, but=but)
    return True


async def renew_codes(pool: Pool, person_id: uuid.UUID, code_hashes: Collection[bytes]) -> None:
    """Other recovery codes; the old ones are worth nothing."""
    with store_errors("take the recovery codes"):
        async with pool.acquire() as connection, connection.transaction():
            await _put_codes(connection, person_id, code_hashes)
            await audit.record(connection, "recovery_codes.renewed", str(person_id))


async def remove(connection: Connection, person_id: uuid.UUID, *, but: uuid.UUID | None = None) -> bool:
    """No code is asked for any more, in the caller's transaction; whether there was one."""
    done = await connection.execute("DELETE FROM totp WHERE person_id = $1", person_id)
    await connection.execute("DELETE FROM recovery_code WHERE person_id = $1", person_id)
    if done == "DELETE 0":
        return False
    await audit.record(connection, "second_factor.removed", str(person_id))
    await sessions.end_all(connection, person_id, but=but)
    return True


async def seal_anew(connection: Connection, sealer: Sealer) -> int:
    """Seal with the newest data key what older ones sealed, in the caller's transaction; how many seeds."""
    await connection.execute("LOCK TABLE totp IN SHARE ROW EXCLUSIVE MODE")
    rows = await connection.fetch("SELECT person_id, seed FROM totp")
    old = [(person_id, sealed) for person_id, sealed in rows if sealed_with(sealed) != sealer.newest]
    for person_id, sealed in old:
        place = _place(person_id)
        again = sealer.seal(place, sealer.open(place, sealed))
        await connection.execute("UPDATE totp SET seed = $2 WHERE person_id = $1", person_id, again)
    return len(old)


async def _put_codes(connection: Connection, person_id: uuid.UUID, code_hashes: Collection[bytes]) -> None:
    await connection.execute("DELETE FROM recovery_code WHERE person_id = $1", person_id)
    await connection.executemany(
        "INSERT INTO recovery_code (person_id, code_hash) VALUES ($1, $2)", [(person_id, each) for each in code_hashes]
    )


def _place(person_id: uuid.UUID) -> Place:
    return Place("totp", str(person_id), "seed")
