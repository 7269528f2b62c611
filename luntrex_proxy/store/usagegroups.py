"""Reading sums of usage by what is asked for: account, key, model, upstream, day and labels. Nothing is written.

Usage of a UTC day counts for the labels that its key carried on that day (store/labels.py).
"""

# ruff: noqa: S608 -- every part of these statements is a constant of this file or a placeholder
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from luntrex_proxy.core.labels import NAMES_MAX
from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.usage import SUMMED, SUMS, account_id_of

LABEL: Final = "label:"
_COLUMNS: Final = {
    "account": "account.name",
    "key": "sums.key_id",
    "model": "sums.model",
    "upstream": "sums.upstream",
    "day": "sums.day::text",
}
GROUPS: Final = tuple(_COLUMNS)
_JOIN: Final = """
LEFT JOIN key_label {label} ON {label}.key_id = sums.key_id AND {label}.name = ${place} AND sums.day >= {label}.since
    AND ({label}.until IS NULL OR sums.day < {label}.until)
"""
_KNOWN: Final = """
SELECT EXISTS (SELECT FROM label_name WHERE name = $1 AND ($2::bigint IS NULL OR account_id = $2))
    OR EXISTS (SELECT FROM key_label WHERE name = $1 AND ($2::bigint IS NULL OR account_id = $2))
"""


@dataclass(frozen=True, slots=True)
class Group:
    """Sums of one group. `place` has a value for each word grouped by; None: the account is gone, or no label."""

    place: tuple[str | None, ...]
    sums: dict[str, int]
    cost_pico: int


def check_groups(by: Sequence[str]) -> None:
    """RefusedError: one of these is nothing to group by."""
    for word in by:
        if word not in _COLUMNS and not word.startswith(LABEL):
            raise RefusedError(f"Usage is grouped by {', '.join(GROUPS)} or a label such as label:project.")
        if by.count(word) > 1:
            raise RefusedError(f"{word} is given twice; give it once.")
    if sum(word.startswith(LABEL) for word in by) > NAMES_MAX:
        raise RefusedError(f"Usage is grouped by {NAMES_MAX} labels at most.")


async def grouped(
    pool: Pool, since: datetime, until: datetime, by: Sequence[str], account: str | None = None
) -> list[Group]:
    """Sums over whole hours as `usage.totals` has them, by these words. RefusedError: one is none."""
    check_groups(by)
    labels = [word.removeprefix(LABEL) for word in by if word.startswith(LABEL)]
    joins, columns = [], dict(_COLUMNS)
    for number, label in enumerate(labels):
        joins.append(_JOIN.format(label=f"label_{number}", place=number + 4))
        columns[LABEL + label] = f"label_{number}.value"
    statement = (
        f"{SUMS} SELECT ARRAY[{', '.join(columns[word] for word in by)}]::text[] AS place,"
        f" {', '.join(f'sum({column})::bigint AS {column}' for column in SUMMED)}, sum(cost_pico)::text AS cost_pico"
        f" FROM sums LEFT JOIN account USING (account_id) {' '.join(joins)}"
        " WHERE $3::bigint IS NULL OR sums.account_id = $3 GROUP BY 1 ORDER BY 1"
    )
    with store_errors("read the usage"):
        account_id = await account_id_of(pool, account)
        for label in labels:
            if not await pool.fetchval(_KNOWN, label, account_id):
                raise RefusedError(
                    "No account declares a label of this name; `luntrex-proxy accounts labels list` shows an account's."
                )
        rows = await pool.fetch(statement, since, until, account_id, *labels)
    return [
        Group(tuple(row["place"]), {column: row[column] for column in SUMMED}, int(row["cost_pico"])) for row in rows
    ]
