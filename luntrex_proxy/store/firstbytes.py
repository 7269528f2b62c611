"""The table `first_byte`: counts of streamed answers by how long they took to begin. Written where usage is stored."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from luntrex_proxy.store.database import Pool, store_errors

_PER_DOUBLING: Final = 8  # so that what is read is at most five percent beside what it was
BUCKET: Final = f"floor({_PER_DOUBLING} * ln(first_byte_us::float8) / ln(2::float8))::smallint"
_COUNTS: Final = """
SELECT bucket, sum(answers)::bigint AS answers FROM first_byte
WHERE account_id = $1 AND at >= $2 AND at < $3 GROUP BY bucket ORDER BY bucket
"""


async def percentiles_ms(
    pool: Pool, account_id: int, since: datetime, until: datetime, *percents: int
) -> list[float] | None:
    """In which time this part of an account's streamed answers had begun, in milliseconds; None: there were none.

    Whole hours, from the one of `since` to before `until`.
    """
    with store_errors("read the usage"):
        rows = await pool.fetch(_COUNTS, account_id, since, until)
    total = sum(row["answers"] for row in rows)
    return [_percentile_ms(rows, total, percent) for percent in percents] if total else None


def _percentile_ms(rows: Sequence[Any], total: int, percent: int) -> float:
    so_far = 0
    for row in rows:
        so_far += row["answers"]
        if 100 * so_far >= percent * total:
            break
    microseconds: float = 2 ** ((row["bucket"] + 0.5) / _PER_DOUBLING)
    return microseconds / 1_000
