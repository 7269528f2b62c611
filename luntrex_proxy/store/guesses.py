"""The table `sign_in_failure`: how often something was guessed at, by keyed hashes of addresses and networks only.

A try counts as a failure before it is looked at (`claim`), so that many at once are not more than the bound allows; one
that was right is taken back (`release`).
"""

from collections.abc import Collection
from dataclasses import dataclass

from luntrex_proxy.core.guessing import Allowance
from luntrex_proxy.store.database import Pool, store_errors


@dataclass(frozen=True, slots=True)
class Counted:
    """One count: its hash, what it allows, and whether it holds a try up or is only kept."""

    subject_hash: bytes
    allowance: Allowance
    holds: bool = True


async def claim(pool: Pool, pair: Counted, network: Counted, subject: Counted) -> tuple[float, Collection[bytes]]:
    """Count a try; in which counts it is. 0.0: it may be made; else the seconds it has to wait, and it is in none."""
    counts = {counted.subject_hash: counted for counted in (pair, network, subject)}
    hashes = sorted(counts)  # all lock in one order
    with store_errors("count the try"):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "INSERT INTO sign_in_failure (subject_hash, failures) SELECT unnest($1::bytea[]), 0"
                " ON CONFLICT DO NOTHING",
                hashes,
            )
            rows = await connection.fetch(
                "SELECT subject_hash, failures, extract(epoch FROM now() - last_at)::float8 AS age_s"
                " FROM sign_in_failure WHERE subject_hash = ANY($1) ORDER BY subject_hash FOR UPDATE",
                hashes,
            )
            found = {row["subject_hash"]: (row["failures"], row["age_s"]) for row in rows}
            wait_s = max(one.allowance.wait_s(*found[hashed]) for hashed, one in counts.items() if one.holds)
            if wait_s > 0:
                # Nor is anything kept: else whoever waits fills the table, with as many addresses as it likes.
                await connection.execute(
                    "DELETE FROM sign_in_failure WHERE subject_hash = ANY($1) AND failures = 0", hashes
                )
                return wait_s, ()
            left = {hashed: one.allowance.left(*found[hashed]) for hashed, one in counts.items()}
            if left[pair.subject_hash] >= pair.allowance.free:
                del left[subject.subject_hash]  # this network has made its share of that count
            await connection.executemany(
                "UPDATE sign_in_failure SET last_at = now(), failures = $2 WHERE subject_hash = $1",
                [(hashed, left[hashed] + 1) for hashed in hashes if hashed in left],
            )
    return 0.0, list(left)


async def release(pool: Pool, counted: Collection[bytes], forgotten: Collection[bytes] = ()) -> None:
    """The try that is in these counts was right, or not looked at. `forgotten`: counts that begin anew."""
    with store_errors("count the try"):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("DELETE FROM sign_in_failure WHERE subject_hash = ANY($1)", sorted(forgotten))
            await connection.execute(
                "UPDATE sign_in_failure SET failures = greatest(failures - 1, 0) WHERE subject_hash = ANY($1)",
                sorted(set(counted) - set(forgotten)),
            )
