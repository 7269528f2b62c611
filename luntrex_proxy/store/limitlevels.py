"""SQL of what is used of limits by all processes: each tells what it let in, and hears how full a bucket is then.

A row is one bucket and one statement changes it, so that nothing is lost between two processes. Rows come in one order.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from luntrex_proxy.store.database import Connection, Pool, store_errors

STREAMS_LAST_S: Final = 30  # without being told of; a process tells each second
_APART_S: Final = 5  # of two that tell at once; what is further ahead was told before the clock was put back
_PLACED: Final = """
placed AS (
    SELECT u.limit_id, u.account_id, a.* FROM asked a JOIN usage_limit u ON u.key_id = a.key
    UNION ALL
    SELECT u.limit_id, u.account_id, a.* FROM asked a
    JOIN usage_limit u ON u.account_id = a.account AND u.key_id IS NULL
)
"""
_TELL: Final = f"""
WITH asked AS (
    SELECT * FROM unnest($1::int[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::float8[], $7::float8[])
        AS a (number, account, key, model, word, units, rate)
), {_PLACED}, told AS (
    INSERT INTO limit_level AS l (limit_id, account_id, model, word, level, rate, last_at)
    SELECT limit_id, account_id, model, word, units, rate, clock_timestamp() FROM placed
    ORDER BY limit_id, model, word
    ON CONFLICT (limit_id, model, word) DO UPDATE SET
        level = greatest(0, greatest(0, l.level
            - excluded.rate * greatest(0, extract(epoch FROM excluded.last_at - l.last_at))) + excluded.level),
        rate = excluded.rate, last_at = CASE WHEN l.last_at > excluded.last_at + interval '{_APART_S} seconds'
            THEN excluded.last_at ELSE greatest(l.last_at, excluded.last_at) END
    RETURNING limit_id, model, word, level
)
SELECT p.number, t.level FROM placed p JOIN told t USING (limit_id, model, word)
"""  # noqa: S608 -- constants
_TELL_STREAMS: Final = f"""
WITH asked AS (
    SELECT * FROM unnest($1::int[], $2::bigint[], $3::text[], $4::text[], $5::bigint[])
        AS a (number, account, key, model, n)
), {_PLACED}, told AS (
    INSERT INTO limit_streams AS s (limit_id, account_id, model, boot_id, count, last_at)
    SELECT limit_id, account_id, model, $6, n, now() FROM placed ORDER BY limit_id, model
    ON CONFLICT (limit_id, model, boot_id) DO UPDATE SET count = excluded.count, last_at = excluded.last_at
)
SELECT p.number, coalesce((
    SELECT sum(s.count) FROM limit_streams s WHERE s.limit_id = p.limit_id AND s.model = p.model AND s.boot_id <> $6
        AND s.last_at BETWEEN now() - interval '{STREAMS_LAST_S} seconds'
            AND now() + interval '{STREAMS_LAST_S} seconds'), 0)::bigint AS others
FROM placed p
"""  # noqa: S608 -- constants

# A level falls all the time; streams are those that processes have told of lately.
_USED: Final = f"""
SELECT u.account_id, u.key_id, l.model, l.word,
    greatest(0, l.level - l.rate * greatest(0, extract(epoch FROM clock_timestamp() - l.last_at))) AS used
FROM limit_level l JOIN usage_limit u USING (limit_id) WHERE l.account_id = $1
UNION ALL
SELECT u.account_id, u.key_id, s.model, 'streams', sum(s.count) FROM limit_streams s JOIN usage_limit u USING (limit_id)
WHERE s.account_id = $1 AND s.last_at > now() - interval '{STREAMS_LAST_S} seconds'
GROUP BY u.account_id, u.key_id, s.model
"""  # noqa: S608 -- constants


class Told(NamedTuple):
    """What a process let in of one limit. `ident`: account id or key id."""

    ident: int | str
    model: str
    word: str
    units: int  # since it was told last, less than 0 when more was given back; of streams, how many run
    rate: float  # units per second by which it fills up


async def tell(connection: Connection, told: Sequence[Told]) -> dict[int, float]:
    """How full each is then in units, by its place in `told`; those of limits that are gone are left out."""
    columns = _columns(told)
    words = [each.word for each in told]
    units, rates = [float(each.units) for each in told], [each.rate for each in told]
    rows = await connection.fetch(_TELL, *columns, words, units, rates)
    return {row["number"]: row["level"] for row in rows}


async def tell_streams(connection: Connection, boot_id: UUID, told: Sequence[Told]) -> dict[int, int]:
    """How many streams of other processes there are, likewise."""
    rows = await connection.fetch(_TELL_STREAMS, *_columns(told), [each.units for each in told], boot_id)
    return {row["number"]: row["others"] for row in rows}


async def used(pool: Pool, account_id: int) -> dict[tuple[int | str, str, str], float]:
    """How full the limits of an account and its keys are, in units, by (account id or key id, model, word)."""
    with store_errors("read what is used of limits"):
        rows = await pool.fetch(_USED, account_id)
    return {(row["key_id"] or row["account_id"], row["model"], row["word"]): row["used"] for row in rows}


def _columns(told: Sequence[Told]) -> list[list[Any]]:
    idents = [each.ident for each in told]
    return [
        list(range(len(told))),
        [ident if isinstance(ident, int) else None for ident in idents],
        [ident if isinstance(ident, str) else None for ident in idents],
        [each.model for each in told],
    ]
