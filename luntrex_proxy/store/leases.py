"""SQL that lends processes what they may spend of budgets. What a process says it has holds; it gets more beyond that.

    available = amount - spent - what all processes have and is not stored as spent yet
    a grant   = what is needed, or a sixteenth of what is available if that is more; never more than is available

Two statements in one transaction: the first locks the windows (the second would else not see what others were lent
while it waited). Whoever repeats a question whose answer was lost gets nothing twice. Who has nothing begins to count,
so what was stored of it before is no part of what it is lent now.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from luntrex_proxy.core.leases import NEVER_US
from luntrex_proxy.store.database import Connection

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OPEN: Final = """
INSERT INTO budget_window (budget_id, account_id, begins_at, ends_at)
SELECT DISTINCT b.budget_id, b.account_id, s.begins_at, s.ends_at
FROM unnest($1::bigint[], $2::timestamptz[]) AS asked (budget_id, moment)
JOIN budget b USING (budget_id) JOIN account a USING (account_id)
CROSS JOIN LATERAL budget_span(b.period, b.since, a.time_zone, asked.moment) s
WHERE b.amount_pico IS NOT NULL ORDER BY 1, 3
ON CONFLICT (budget_id, begins_at) DO UPDATE SET ends_at = excluded.ends_at
RETURNING budget_id, begins_at, ends_at
"""
_LEND: Final = """
WITH asked AS (
    SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::numeric[], $4::numeric[], $5::numeric[])
        AS a (budget_id, begins_at, has, least_needed, wanted)
), stand AS (
    SELECT a.*, w.account_id, w.short_at,
        b.amount_pico - w.spent_pico - others.held
            - greatest(a.has - coalesce(own.shipped_pico, 0), 0) AS available
    FROM asked a JOIN budget b ON b.budget_id = a.budget_id AND b.amount_pico IS NOT NULL
    JOIN budget_window w ON w.budget_id = a.budget_id AND w.begins_at = a.begins_at
    LEFT JOIN budget_lease own
        ON own.budget_id = a.budget_id AND own.begins_at = a.begins_at AND own.boot_id = $6
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(greatest(l.granted_pico - l.shipped_pico, 0)), 0) AS held FROM budget_lease l
        WHERE l.budget_id = a.budget_id AND l.begins_at = a.begins_at AND l.boot_id <> $6
    ) others
), lent AS (
    SELECT *, CASE WHEN least_needed > 0 AND available >= least_needed
        THEN least(greatest(wanted, div(available, 16)), available) ELSE 0 END AS more
    FROM stand
), written AS (
    INSERT INTO budget_lease AS l
        (budget_id, begins_at, boot_id, account_id, granted_pico, sequence)
    SELECT budget_id, begins_at, $6, account_id, has + more, $7 FROM lent
    ON CONFLICT (budget_id, begins_at, boot_id) DO UPDATE
    SET granted_pico = excluded.granted_pico, sequence = excluded.sequence, last_at = now(),
        shipped_pico = CASE WHEN EXISTS (
            SELECT FROM lent WHERE budget_id = l.budget_id AND begins_at = l.begins_at AND has = 0
        ) THEN 0 ELSE l.shipped_pico END
    WHERE l.sequence < excluded.sequence
    RETURNING budget_id, begins_at
), short AS (
    UPDATE budget_window w SET short_at = now() FROM lent
    WHERE w.budget_id = lent.budget_id AND w.begins_at = lent.begins_at AND lent.wanted > lent.available
)
SELECT budget_id, begins_at, more, available - more AS left_over,
    coalesce(short_at > now() - interval '3 seconds', false) AS is_short
FROM lent JOIN written USING (budget_id, begins_at)
"""
_SHORT: Final = """
SELECT budget_id FROM budget_window
WHERE budget_id = ANY($1::bigint[]) AND short_at > now() - interval '3 seconds'
"""


class Asked(NamedTuple):
    """What a process has of a window and wants. Money in pico-dollars."""

    budget_id: int
    begins_us: int
    has: int  # of this window, what was lent to it and is not given back
    least_needed: int  # more than 0: with less than this nobody is helped
    wanted: int


class Lent(NamedTuple):
    """The answer."""

    budget_id: int
    begins_us: int
    more: int
    left: int  # that could be lent still
    is_short: bool  # somebody could not be lent what was needed: give back what is not used


async def open_windows(connection: Connection, moments: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Lock the windows of (budget, unix microseconds), in the caller's transaction: (budget, begin, end) of each.

    Of budgets that are not there any more, nothing.
    """
    rows = await connection.fetch(
        _OPEN, [budget_id for budget_id, _ in moments], [_moment(at_us) for _, at_us in moments]
    )
    return [
        (row["budget_id"], _us(row["begins_at"]), NEVER_US if row["ends_at"] is None else _us(row["ends_at"]))
        for row in rows
    ]


async def lend(connection: Connection, boot_id: UUID, sequence: int, asked: Sequence[Asked]) -> list[Lent]:
    """Note what the process has and lend it more, of windows that are locked."""
    columns: list[list[Any]] = [list(column) for column in zip(*asked, strict=True)]
    columns[1] = [_moment(at_us) for at_us in columns[1]]
    rows = await connection.fetch(_LEND, *columns, boot_id, sequence)
    return [
        Lent(
            row["budget_id"],
            _us(row["begins_at"]),
            int(row["more"]),
            int(row["left_over"]),
            row["is_short"],
        )
        for row in rows
    ]


async def short(connection: Connection, budget_ids: Sequence[int]) -> set[int]:
    """Those of these budgets of which somebody could not be lent what was needed, a moment ago."""
    return {row["budget_id"] for row in await connection.fetch(_SHORT, budget_ids)}


def _moment(at_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at_us)


def _us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)
