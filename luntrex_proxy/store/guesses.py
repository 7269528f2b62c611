"""The table `sign_in_failure`: how often something was guessed at, by keyed hashes of addresses and networks only.

A try counts as a failure before it is looked at (`claim`), so that many at once are not more than the bound allows; one
that was right is taken back (`release`).
"""

from dataclasses import dataclass

from luntrex_proxy.core.guessing import FORGOTTEN_AFTER_S, wait_s
from luntrex_proxy.store.database import Pool, store_errors


@dataclass(frozen=True, slots=True)
class Counted:
    """One count: its hash, how many failures are free, and whether it holds a try up or is only kept."""

    subject_hash: bytes
    free: int
    holds: bool = True


async def claim(pool: Pool, pair: Counted, network: Counted, subject: Counted) -> float:
    """Count a try; 0.0: it may be made. Else how many seconds it has to wait, and nothing is counted."""
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
            found = {row["subject_hash"]: row for row in rows}
            waits = [
                wait_s(found[hashed]["failures"], counted.free, found[hashed]["age_s"])
                for hashed, counted in counts.items()
                if counted.holds
            ]
            if max(waits) > 0:
                return max(waits)
            old = found[pair.subject_hash]
            is_fresh = old["age_s"] > FORGOTTEN_AFTER_S or old["failures"] < pair.free
            await connection.execute(
                "UPDATE sign_in_failure SET last_at = now(), failures ="
                " CASE WHEN last_at < now() - $2 * interval '1 second' THEN 1 ELSE failures + 1 END"
                " WHERE subject_hash = ANY($1)",
                [hashed for hashed in hashes if is_fresh or hashed != subject.subject_hash],
                FORGOTTEN_AFTER_S,
            )
    return 0.0


async def release(pool: Pool, pair: Counted, network: Counted, subject: Counted, *, succeeded: bool) -> None:
    """The try was right, and who made it is known now; or it was not looked at (`succeeded` False)."""
    gone = [pair.subject_hash, subject.subject_hash] if succeeded else []
    with store_errors("count the try"):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("DELETE FROM sign_in_failure WHERE subject_hash = ANY($1)", sorted(gone))
            await connection.execute(
                "UPDATE sign_in_failure SET failures = greatest(failures - 1, 0) WHERE subject_hash = ANY($1)",
                sorted({pair.subject_hash, network.subject_hash, subject.subject_hash} - set(gone)),
            )


async def forget_old(pool: Pool) -> int:
    """Drop what counts no more; how many."""
    with store_errors("forget old tries"):
        done = await pool.execute(
            "DELETE FROM sign_in_failure WHERE last_at < now() - $1 * interval '1 second'", FORGOTTEN_AFTER_S
        )
    return int(done.rpartition(" ")[2])
