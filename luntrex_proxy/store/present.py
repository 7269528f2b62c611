"""What the tables have of the accounts, members and keys that a file names. Nothing is written here."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from luntrex_proxy.core.budgets import BudgetTerms
from luntrex_proxy.core.declared import Present, PresentAccount, PresentKey
from luntrex_proxy.core.labels import Allowed
from luntrex_proxy.core.limits import Terms
from luntrex_proxy.store.budgets import terms_of
from luntrex_proxy.store.database import Connection
from luntrex_proxy.store.keyrows import read_labels, scope_of
from luntrex_proxy.store.limits import read_terms

_LABELS: Final = "SELECT account_id, name, allowed FROM label_name WHERE account_id = ANY($1)"
_ACCOUNTS: Final = "SELECT account_id, name, status, policy, time_zone FROM account WHERE name = ANY($1)"
_LIMITS: Final = "SELECT account_id, key_id, limits FROM usage_limit WHERE account_id = ANY($1)"
_BUDGETS: Final = """
SELECT account_id, key_ids, period, amount_pico, is_hard, alert_percents, when_away FROM budget
WHERE account_id = ANY($1) AND amount_pico IS NOT NULL AND person_id IS NULL AND label_name IS NULL
"""
_MEMBERS: Final = (
    "SELECT m.account_id, p.email, m.role FROM membership m JOIN person p USING (person_id)"
    " WHERE m.account_id = ANY($1)"
)
# A name's live key: not ended, not replaced by a successor.
_KEYS: Final = """
SELECT k.account_id, k.key_id, k.name, k.status, p.email AS owner, k.not_before, k.expires_at,
    k.endpoints, k.models, k.regions, k.networks,
    (SELECT coalesce(jsonb_object_agg(l.name, l.value), '{}') FROM key_label l
     WHERE l.key_id = k.key_id AND l.until IS NULL) AS labels
FROM api_key k LEFT JOIN person p USING (person_id)
WHERE k.account_id = ANY($1) AND k.name = ANY($2) AND k.status <> 'revoked'
    AND (k.expires_at IS NULL OR k.expires_at > now())
    AND NOT EXISTS (SELECT FROM api_key s WHERE s.rotated_from = k.key_id)
"""


async def present(
    connection: Connection, accounts: Collection[str], people: Collection[str], keys: Collection[str]
) -> Present:
    """What there is of these account names, addresses and key names."""
    rows = await connection.fetch(_ACCOUNTS, list(accounts))
    ids = [row["account_id"] for row in rows]
    members: dict[int, dict[str, str]] = {account_id: {} for account_id in ids}
    for row in await connection.fetch(_MEMBERS, ids):
        members[row["account_id"]][row["email"]] = row["role"]
    limits = {
        row["key_id"] or row["account_id"]: read_terms(row["limits"]) for row in await connection.fetch(_LIMITS, ids)
    }
    budgets: dict[int | str, dict[str, BudgetTerms]] = {}
    for row in await connection.fetch(_BUDGETS, ids):
        for ident in row["key_ids"] or [row["account_id"]]:
            budgets.setdefault(ident, {})[row["period"]] = terms_of(row)
    live: dict[int, dict[str, PresentKey]] = {account_id: {} for account_id in ids}
    for row in await connection.fetch(_KEYS, ids, list(keys)):
        key_id = row["key_id"]
        live[row["account_id"]][row["name"]] = _key(row, limits.get(key_id, {}), budgets.get(key_id, {}))
    labels: dict[int, dict[str, Allowed]] = {account_id: {} for account_id in ids}
    for row in await connection.fetch(_LABELS, ids):
        labels[row["account_id"]][row["name"]] = None if row["allowed"] is None else frozenset(row["allowed"])
    known = await connection.fetch("SELECT email FROM person WHERE email = ANY($1)", list(people))
    found = {
        row["name"]: PresentAccount(
            *(row["status"], row["policy"], members[of], live[of], labels[of]),
            *(limits.get(of, {}), budgets.get(of, {}), row["time_zone"]),
        )
        for row in rows
        if (of := row["account_id"])
    }
    return Present(found, frozenset(row["email"] for row in known))


def _key(row: Any, limits: Terms, budgets: Mapping[str, BudgetTerms]) -> PresentKey:
    said = {name: row[name] for name in ("key_id", "status", "owner", "not_before", "expires_at")}
    carried = read_labels(row["labels"])
    return PresentKey(**said, scope=scope_of(row), labels=carried, limits=limits, budgets=budgets)
