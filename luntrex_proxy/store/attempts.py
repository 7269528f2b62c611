"""Refused keys, counted in memory by minute, key id and network, written in batches: exact, bounded, and no address.

What is written is how many this process has seen in a minute, not how many more: written twice it counts once.
"""

import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from luntrex_proxy.store.database import Connection, Pool, store_errors

PLACES_MAX: Final = 1_000  # counted apart while they wait; a flood from more networks is counted together
OTHERS: Final = "others"
_MINUTE_S: Final = 60
# A key id is what somebody claimed: only those of keys there are get into the table.
_WRITE: Final = """
INSERT INTO attempt AS old (at, key_id, network, code, process, count, account_id)
SELECT seen.at, coalesce(k.key_id, ''), seen.network, seen.code, $6, sum(seen.count), k.account_id
FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::bigint[])
     AS seen(at, claimed, network, code, count)
LEFT JOIN api_key k ON k.key_id = seen.claimed
GROUP BY 1, 2, 3, 4, k.account_id
ON CONFLICT (at, key_id, network, code, process) DO UPDATE SET count = greatest(old.count, excluded.count)
"""
_PAGE: Final = """
SELECT at, key_id, network, code, sum(count)::bigint AS count, max(a.name) AS account
FROM attempt t LEFT JOIN account a USING (account_id)
WHERE ($1::bigint IS NULL OR t.account_id = $1)
  AND ($2::timestamptz IS NULL OR (at, key_id, network, code) < ($2, $3, $4, $5))
GROUP BY 1, 2, 3, 4 ORDER BY 1 DESC, 2 DESC, 3 DESC, 4 DESC LIMIT $6
"""


class AttemptBook:
    """Counts refusals on the way (`note`); `write` puts them into the table."""

    def __init__(self, process: uuid.UUID | None = None) -> None:
        self._process = process or uuid.uuid4()
        self._counts: dict[tuple[int, str, str, str], int] = {}  # minute, claimed key id, network, code
        self._minute = 0
        self._changed = False

    def note(self, network: str, code: str, claimed: str = "") -> None:
        """One refusal; `claimed` is the id in the refused key, if it has one."""
        # Never back: counts of a minute that is written and forgotten would begin anew below what the table has.
        self._minute = max(self._minute, int(time.time()) // _MINUTE_S)
        place = (self._minute, claimed, network, code)
        if place not in self._counts and len(self._counts) >= PLACES_MAX:
            # Of the oldest minute that waits, so that an hour without the database takes no more memory either.
            place = (next(iter(self._counts))[0], "", OTHERS, code)
        self._counts[place] = self._counts.get(place, 0) + 1
        self._changed = True

    async def write(self, pool: Pool) -> bool:
        """Write what was counted; whether there was anything. Raises StoreError, and all waits for the next time."""
        if not self._changed:
            return False
        written = dict(self._counts)
        rows = [
            (datetime.fromtimestamp(minute * _MINUTE_S, UTC), *place, count)
            for (minute, *place), count in written.items()
        ]
        with store_errors("take counts of refused keys"):
            await pool.execute(_WRITE, *map(list, zip(*rows, strict=True)), self._process)
        # A minute that is over gets no more; what came during the write is still to be written.
        now = max(self._minute, int(time.time()) // _MINUTE_S)
        for place, count in written.items():
            if place[0] < now and self._counts[place] == count:
                del self._counts[place]
        self._changed = any(written.get(place) != count for place, count in self._counts.items())
        return True


@dataclass(frozen=True, slots=True)
class AttemptCount:
    """Refusals of one kind in one minute."""

    at: datetime
    key_id: str | None  # None: no key of ours was named
    account: str | None
    network: str
    code: str
    count: int

    @property
    def place(self) -> tuple[str, str, str, str]:
        """Where it stands in the list."""
        return (self.at.isoformat(), self.key_id or "", self.network, self.code)


async def list_page(
    pool: Pool, account_id: int | None, after: tuple[str, str, str, str] | None, limit: int
) -> list[AttemptCount]:
    """The newest first; of one account's keys, or (None) all."""
    at, *rest = after or (None, None, None, None)
    with store_errors("list refused keys"):
        rows = await pool.fetch(_PAGE, account_id, at and datetime.fromisoformat(at), *rest, limit)
    return [
        AttemptCount(row["at"], row["key_id"] or None, row["account"], row["network"], row["code"], row["count"])
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class Alert:
    """A key or network with more refusals than the limit."""

    kind: str  # key or network
    subject: str
    account_id: int | None
    count: int


_RAISE: Final = """
WITH recent AS (SELECT * FROM attempt WHERE at > now() - $1::interval),
found AS (
    SELECT 'key' AS kind, key_id AS subject, max(account_id) AS account_id, sum(count) AS count
    FROM recent WHERE key_id <> '' GROUP BY key_id HAVING sum(count) > $2
    UNION ALL
    SELECT 'network', network, NULL, sum(count) FROM recent GROUP BY network HAVING sum(count) > $3
)
INSERT INTO alert AS old (kind, subject, account_id, last_at, count)
SELECT kind, subject, account_id, now(), count FROM found ORDER BY kind, subject
ON CONFLICT (kind, subject) DO UPDATE SET last_at = now(), count = excluded.count, account_id = excluded.account_id
    WHERE old.last_at <= now() - $4::interval
RETURNING kind, subject, account_id, count
"""


async def raise_alerts(
    connection: Connection, per_key: int | None, per_network: int | None, window_s: float, again_s: float
) -> list[Alert]:
    """Whom to alert about, in the caller's transaction; of several processes that ask at once one gets each."""
    never = 2**62
    rows = await connection.fetch(
        _RAISE, timedelta(seconds=window_s), per_key or never, per_network or never, timedelta(seconds=again_s)
    )
    return [Alert(row["kind"], row["subject"], row["account_id"], row["count"]) for row in rows]


async def answerable(connection: Connection, account_id: int) -> list[uuid.UUID]:
    """Who is told of attempts on the account's keys: its owners and admins."""
    rows = await connection.fetch(
        "SELECT person_id FROM membership WHERE account_id = $1 AND role IN ('owner', 'admin') ORDER BY 1", account_id
    )
    return [row["person_id"] for row in rows]
