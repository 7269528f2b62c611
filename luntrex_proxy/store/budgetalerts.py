"""Budgets that have reached a part of their amount: each part is told once in each time, whichever process sees it."""

import datetime
from dataclasses import dataclass
from typing import Final

from luntrex_proxy.store.database import Connection

_RAISE: Final = """
WITH due AS (
    SELECT w.budget_id, w.begins_at, b.account_id, b.key_ids[cardinality(b.key_ids)] AS key_id,
        b.person_id::text AS person_id, b.label_name || '=' || b.label_value AS label,
        b.period, b.amount_pico, b.is_hard, w.ends_at, w.spent_pico,
        (SELECT max(p) FROM unnest(b.alert_percents) p
         WHERE p > w.alerted AND w.spent_pico * 100 >= p * b.amount_pico) AS percent
    FROM budget_window w JOIN budget b USING (budget_id)
    WHERE b.amount_pico IS NOT NULL AND (w.ends_at IS NULL OR w.ends_at > now() - interval '1 hour')
        AND w.spent_pico > 0
        AND EXISTS (SELECT FROM unnest(b.alert_percents) p
            WHERE p > w.alerted AND w.spent_pico * 100 >= p * b.amount_pico)
    ORDER BY w.budget_id, w.begins_at LIMIT 500 FOR UPDATE OF w SKIP LOCKED
)
UPDATE budget_window w SET alerted = due.percent FROM due
WHERE w.budget_id = due.budget_id AND w.begins_at = due.begins_at AND w.alerted < due.percent
RETURNING due.*
"""


@dataclass(frozen=True, slots=True)
class Reached:
    """A budget that has reached a part of its amount. Money in pico-dollars; `ends_at` None: never."""

    budget_id: int
    begins_at: datetime.datetime
    account_id: int
    key_id: str | None
    person_id: str | None
    label: str | None
    period: str
    amount_pico: int
    is_hard: bool
    ends_at: datetime.datetime | None
    spent_pico: int
    percent: int


async def raise_reached(connection: Connection) -> list[Reached]:
    """Note what is to be told now, in the caller's transaction."""
    rows = await connection.fetch(_RAISE)
    return [
        Reached(**{**row, "amount_pico": int(row["amount_pico"]), "spent_pico": int(row["spent_pico"])}) for row in rows
    ]
