"""SQL that counts what stored usage costs of budgets, part of the statement that stores it (usage_rows.py); no policy.

Locks are taken in one order everywhere: windows by budget and beginning, then a process's leases of those.
"""

from typing import Final
from uuid import UUID

from luntrex_proxy.store.database import Connection

# After `inserted`, the rows really stored; $2 is the process that wrote them. Who covers a request: the account's
# budgets, those of its key, those of the member whose own the key is, those of what the key was labelled on that day.
# A key's requests of one minute are charged as one, since times of days and months begin at whole minutes; budgets in
# total begin at any moment, so when one began since the first of these requests, each is charged by itself.
CHARGE: Final = """
costly AS (
    SELECT i.account_id, coalesce(o.budget_key_id, i.key_id) AS key_id, min(i.started_at) AS started_at,
        sum(i.cost_pico) AS cost_pico
    FROM inserted i LEFT JOIN (
        SELECT DISTINCT request_id, budget_key_id FROM usage_incoming WHERE budget_key_id IS NOT NULL
    ) o USING (request_id) WHERE i.cost_pico > 0
    GROUP BY 1, 2, CASE
        WHEN EXISTS (
            SELECT FROM (SELECT account_id, min(started_at) AS first FROM inserted GROUP BY 1) f
            JOIN budget b USING (account_id) WHERE b.period = 'total' AND b.since >= f.first
        ) THEN i.started_at
        ELSE date_bin('1 minute', i.started_at, 'epoch') END
), covered AS (
    SELECT b.budget_id, c.started_at, c.cost_pico FROM costly c JOIN budget b USING (account_id)
    WHERE b.key_id IS NULL AND b.person_id IS NULL AND b.label_name IS NULL AND b.amount_pico IS NOT NULL
    UNION ALL
    SELECT b.budget_id, c.started_at, c.cost_pico FROM costly c
    JOIN budget b ON b.key_ids @> ARRAY[c.key_id] AND b.account_id = c.account_id
    WHERE b.amount_pico IS NOT NULL
    UNION ALL
    SELECT b.budget_id, c.started_at, c.cost_pico FROM costly c JOIN api_key k USING (key_id)
    JOIN budget b ON b.person_id = k.person_id AND b.account_id = c.account_id
    WHERE b.amount_pico IS NOT NULL
    UNION ALL
    SELECT b.budget_id, c.started_at, c.cost_pico FROM costly c JOIN key_label l
        ON l.key_id = c.key_id AND (c.started_at AT TIME ZONE 'UTC')::date >= l.since
        AND (l.until IS NULL OR (c.started_at AT TIME ZONE 'UTC')::date < l.until)
    JOIN budget b ON b.account_id = c.account_id AND b.label_name = l.name AND b.label_value = l.value
    WHERE b.amount_pico IS NOT NULL
), charged AS (
    SELECT c.budget_id, b.account_id, s.begins_at, s.ends_at, sum(c.cost_pico) AS cost
    FROM covered c JOIN budget b USING (budget_id) JOIN account a USING (account_id)
    CROSS JOIN LATERAL budget_span(b.period, b.since, a.time_zone, c.started_at) s
    WHERE c.started_at >= s.begins_at GROUP BY 1, 2, 3, 4
), windows AS (
    INSERT INTO budget_window AS w (budget_id, account_id, begins_at, ends_at, spent_pico)
    SELECT budget_id, account_id, begins_at, ends_at, cost FROM charged ORDER BY budget_id, begins_at
    ON CONFLICT (budget_id, begins_at) DO UPDATE SET spent_pico = w.spent_pico + excluded.spent_pico
    RETURNING w.budget_id, w.begins_at
), told AS (
    UPDATE budget_lease l SET shipped_pico = l.shipped_pico + c.cost
    FROM windows w JOIN charged c USING (budget_id, begins_at)
    WHERE l.budget_id = w.budget_id AND l.begins_at = w.begins_at AND l.boot_id = $2
)
"""
HAS_BUDGETS: Final = "SELECT EXISTS (SELECT FROM budget WHERE amount_pico IS NOT NULL)"
_LOCK: Final = """
SELECT FROM budget_window w WHERE (budget_id, begins_at) IN (
    SELECT budget_id, begins_at FROM budget_lease WHERE boot_id = $1
) ORDER BY budget_id, begins_at FOR UPDATE
"""
_END: Final = "DELETE FROM budget_lease WHERE boot_id = $1"


async def end_leases(connection: Connection, boot_id: UUID) -> None:
    """All that this process spent is stored: what it had borrowed and did not spend is there for others again."""
    await connection.execute(_LOCK, boot_id)
    await connection.execute(_END, boot_id)
