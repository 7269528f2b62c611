"""Reading an account's usage over time, for pictures and tables: steps of time by groups, the smaller ones together.

A member's own key is theirs: of it others see one total of the member (or the label), without times, and nothing where
a filter would tell them more (usagepages.py has the same rule). Hours come from the hourly sums, days and longer from
the daily ones, except where the account's days are no UTC days. Nothing is written here.
"""

# ruff: noqa: S608 -- every part of these statements is a constant of this file
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.usage import SUMMED, SUMS

STEPS: Final = ("hour", "day", "week", "month")
METRICS: Final[Mapping[str, str]] = {
    "requests": "requests",
    "errors": "errors",
    "tokens": "input_tokens + output_tokens",
    "input": "input_tokens",
    "output": "output_tokens",
    "cost": "cost_pico",
}
GROUPS: Final = ("none", "key", "member", "model", "upstream", "label")
_PLACES: Final[Mapping[str, str]] = {
    "none": "''",
    "key": "CASE WHEN is_hidden THEN person_id::text ELSE key_id END",
    "member": "coalesce(person_id::text, '')",
    "model": "model",
    "upstream": "upstream",
    "label": "coalesce(label, '')",
}
_TELLING: Final = frozenset({"key", "member", "label"})  # groups that can be one member's alone
_COLUMNS: Final = f"account_id, key_id, model, upstream, {', '.join(SUMMED)}, cost_pico"
_BY_HOUR: Final = f"SELECT hour AS at, {_COLUMNS} FROM usage_rollup WHERE account_id = $1 AND hour >= $2 AND hour < $3"
_BY_DAY: Final = (
    f"SELECT day::timestamp AT TIME ZONE 'UTC' AS at, {_COLUMNS} FROM usage_rollup_daily WHERE account_id = $1"
    " AND day >= ($2 AT TIME ZONE 'UTC')::date AND day < ($3 AT TIME ZONE 'UTC')::date"
)
_SERIES: Final = """
WITH seen AS (
    SELECT u.*, k.person_id, l.value AS label, {telling} AND k.person_id IS NOT NULL
        AND k.person_id IS DISTINCT FROM $4::uuid AS is_hidden
    FROM ({source}) u LEFT JOIN api_key k USING (key_id)
    LEFT JOIN key_label l ON l.key_id = u.key_id AND l.name = $8 AND (u.at AT TIME ZONE 'UTC')::date >= l.since
        AND (l.until IS NULL OR (u.at AT TIME ZONE 'UTC')::date < l.until)
    WHERE ($9::text IS NULL OR u.model = $9) AND ($10::text IS NULL OR u.upstream = $10)
        AND ($11::text IS NULL OR u.key_id = $11) AND ($12::text IS NULL OR l.value = $12)
), placed AS (
    SELECT {place} AS place, is_hidden,
        CASE WHEN NOT is_hidden THEN date_trunc($6, at AT TIME ZONE $5) AT TIME ZONE $5 END AS step,
        sum(requests) AS requests, sum(errors) AS errors, sum(input_tokens) AS input_tokens,
        sum(output_tokens) AS output_tokens, sum(cost_pico) AS cost_pico
    FROM seen WHERE NOT (is_hidden AND $13) GROUP BY 1, 2, 3
), ranked AS (
    SELECT place, is_hidden, row_number() OVER (ORDER BY sum({metric}) DESC, place) AS rank FROM placed GROUP BY 1, 2
)
SELECT CASE WHEN rank <= $7 THEN place END AS place, bool_or(is_hidden) AS is_hidden, step,
    (SELECT count(*) FROM ranked) AS groups, sum(requests)::bigint AS requests, sum(errors)::bigint AS errors,
    sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
    sum(cost_pico)::text AS cost_pico
FROM placed JOIN ranked USING (place, is_hidden) GROUP BY 1, 3, rank <= $7, CASE WHEN rank <= $7 THEN rank END
ORDER BY min(rank), step
"""
_TOTAL: Final = f"""
{SUMS}
SELECT coalesce(sum(requests), 0)::bigint AS requests, coalesce(sum(errors), 0)::bigint AS errors,
    coalesce(sum(input_tokens), 0)::bigint AS input_tokens, coalesce(sum(output_tokens), 0)::bigint AS output_tokens,
    coalesce(sum(cost_pico), 0)::text AS cost_pico
FROM sums WHERE account_id = $3
"""
_NAMES: Final = """
SELECT key_id AS id, name FROM api_key WHERE key_id = ANY($1)
UNION ALL SELECT person_id::text, coalesce(nullif(name, ''), email) FROM person WHERE person_id::text = ANY($1)
"""
_CHOICES: Final = """
SELECT array_agg(DISTINCT model) AS models, array_agg(DISTINCT upstream) AS upstreams FROM usage_rollup_daily
WHERE account_id = $1 AND day >= ($2 AT TIME ZONE 'UTC')::date AND day <= ($3 AT TIME ZONE 'UTC')::date
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What of an account's usage, and how. Times are whole hours; `zone` is where days begin."""

    account_id: int
    viewer: str
    since: datetime
    until: datetime
    zone: str = "UTC"
    step: str = "day"
    group: str = "none"
    metric: str = "requests"
    label: str | None = None  # the name of the one grouped or filtered by
    model: str | None = None
    upstream: str | None = None
    key_id: str | None = None
    value: str | None = None  # of the label
    groups_max: int = 8

    @property
    def is_filtered(self) -> bool:
        """Whether it is a part of the usage only."""
        return any(each is not None for each in (self.model, self.upstream, self.key_id, self.value))


@dataclass(slots=True)
class Sums:
    """What was used."""

    requests: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_pico: int = 0

    def add(self, other: "Sums") -> None:
        """Count it in."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def of(self, metric: str) -> int:
        """By the words of METRICS."""
        if metric == "tokens":
            return self.input_tokens + self.output_tokens
        name = {"input": "input_tokens", "output": "output_tokens", "cost": "cost_pico"}.get(metric, metric)
        value: int = getattr(self, name)
        return value


@dataclass(slots=True)
class Group:
    """One group, largest first. `place` None: all the smaller ones, `members` of them."""

    place: str | None
    name: str
    is_hidden: bool  # another member's: no times
    members: int = 1
    total: Sums = field(default_factory=Sums)
    steps: dict[datetime, Sums] = field(default_factory=dict)


async def series(pool: Pool, asked: Asked) -> list[Group]:
    """The groups, largest first, and last the rest."""
    from_hours = asked.step == "hour" or asked.zone != "UTC"
    telling = asked.group in _TELLING or asked.key_id is not None or asked.value is not None
    statement = _SERIES.format(
        telling="true" if telling else "false",
        source=_BY_HOUR if from_hours else _BY_DAY,
        place=_PLACES[asked.group],
        metric=METRICS[asked.metric],
    )
    with store_errors("read the usage"):
        rows = await pool.fetch(
            statement, asked.account_id, asked.since, asked.until, uuid.UUID(asked.viewer),
            "UTC" if asked.step == "hour" else asked.zone, asked.step,
            asked.groups_max, asked.label, asked.model, asked.upstream, asked.key_id, asked.value, asked.is_filtered,
        )  # fmt: skip
        names = {}
        if asked.group in ("key", "member"):
            places = [row["place"] for row in rows if row["place"]]
            names = {row["id"]: row["name"] for row in await pool.fetch(_NAMES, places)}
    groups: dict[tuple[str | None, bool], Group] = {}
    for row in rows:
        place = row["place"]
        hidden = place is not None and row["is_hidden"]
        group = groups.setdefault((place, hidden), Group(place, names.get(place, place or ""), hidden))
        group.members = 1 if place is not None else row["groups"] - asked.groups_max
        sums = _sums(row)
        group.total.add(sums)
        if row["step"] is not None:
            group.steps.setdefault(row["step"], Sums()).add(sums)
    return sorted(groups.values(), key=lambda group: group.place is None)


async def total(pool: Pool, account_id: int, since: datetime, until: datetime) -> Sums:
    """All that an account used, in whole hours from the one of `since` to before `until`."""
    with store_errors("read the usage"):
        (row,) = await pool.fetch(_TOTAL, since, until, account_id)
    return _sums(row)


async def choices(pool: Pool, account_id: int, since: datetime, until: datetime) -> tuple[list[str], list[str]]:
    """Models and upstreams that were used in a span of time."""
    with store_errors("read the usage"):
        (row,) = await pool.fetch(_CHOICES, account_id, since, until)
    return sorted(row["models"] or ()), sorted(row["upstreams"] or ())


async def began_at(pool: Pool, account_id: int) -> datetime | None:
    """The hour of the account's first usage that is kept; None: nothing was used yet."""
    with store_errors("read the usage"):
        found: datetime | None = await pool.fetchval(
            "SELECT min(day)::timestamp AT TIME ZONE 'UTC' FROM usage_rollup_daily WHERE account_id = $1", account_id
        )
    return found


def _sums(row: Any) -> Sums:
    return Sums(row["requests"], row["errors"], row["input_tokens"], row["output_tokens"], int(row["cost_pico"]))
