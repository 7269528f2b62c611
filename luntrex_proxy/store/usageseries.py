"""Reading an account's usage over time, for pictures and tables: steps of time by groups, the smaller ones together.

A member's own key is theirs: of it others see one total of the member (or the label), without times, and nothing where
a filter would tell them more (usagepages.py has the same rule). From which tables it comes: usagesources.py. Nothing is
written here.
"""

# ruff: noqa: S608 -- every part of these statements is a constant of this file
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.ownership import Where
from luntrex_proxy.store.usagesources import SUMMED, by_day, by_hour, odd_hours, whole

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
    "model": "word",
    "upstream": "word",
    "label": "label",
}
_TELLING: Final = frozenset({"key", "member", "label"})  # groups that can be one member's alone
# Groups are ranked by what they have at all, and only then added up over time: those that are shown, and the others
# together. Steps are looked for in what is left then, not row by row.
_SERIES: Final = """
WITH used AS (
    SELECT at, u.key_id, {word} AS word, {label} AS label, requests, errors, input_tokens, output_tokens, cost_pico
    FROM ({source}) u {labels} WHERE {filters}
), parts AS (
    SELECT key_id, word, label, sum({metric}) AS measure FROM used GROUP BY 1, 2, 3
), seen AS (
    SELECT p.*, k.person_id, {telling} AND k.person_id IS NOT NULL
        AND k.person_id IS DISTINCT FROM {viewer}::uuid AS is_hidden
    FROM parts p LEFT JOIN api_key k USING (key_id)
), placed AS (
    SELECT *, {place} AS place FROM seen WHERE NOT (is_hidden AND {is_filtered}::boolean)
), ranked AS (
    SELECT place, is_hidden, row_number() OVER (ORDER BY sum(measure) DESC, place) AS rank FROM placed GROUP BY 1, 2
), shown AS MATERIALIZED (
    SELECT key_id, word, label, is_hidden, CASE WHEN rank <= {groups_max} THEN rank END AS rank
    FROM placed JOIN ranked USING (place, is_hidden)
), summed AS (
    SELECT rank, CASE WHEN NOT is_hidden THEN at END AS at, {sums}
    FROM used JOIN shown USING (key_id, word, label) GROUP BY 1, 2
)
SELECT (SELECT place FROM ranked r WHERE r.rank = s.rank) AS place,
    (SELECT is_hidden FROM ranked r WHERE r.rank = s.rank) AS is_hidden, (SELECT count(*) FROM ranked) AS groups,
    date_trunc({step}, at AT TIME ZONE {zone}) AT TIME ZONE {zone} AS step, {sums}
FROM summed s GROUP BY rank, step ORDER BY rank, step
"""
_SUMS: Final = ", ".join(f"coalesce(sum({name}), 0)::bigint AS {name}" for name in SUMMED[:-1]) + (
    ", coalesce(sum(cost_pico), 0) AS cost_pico"
)
_LABELS: Final = """
LEFT JOIN key_label l ON l.key_id = u.key_id AND l.name = {name} AND (at AT TIME ZONE 'UTC')::date >= l.since
    AND (l.until IS NULL OR (at AT TIME ZONE 'UTC')::date < l.until)
"""
_NAMES: Final = """
SELECT key_id AS id, name FROM api_key WHERE key_id = ANY($1)
UNION ALL SELECT person_id::text, coalesce(nullif(name, ''), email) FROM person WHERE person_id::text = ANY($1)
"""
_CHOICES: Final = """
SELECT array_agg(DISTINCT model) AS models, array_agg(DISTINCT upstream) AS upstreams FROM usage_total_daily
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
    with store_errors("read the usage"):
        where = Where()
        odd = await odd_hours(pool, asked.since, asked.until, asked.zone)
        if asked.step == "hour":  # one within the span is a step, whose day nobody asks for
            odd = [hour for hour in odd if hour < asked.since or hour + timedelta(hours=1) > asked.until]
        statement = _statement(where, asked, odd)
        rows = await pool.fetch(statement, *where.arguments)
        names = {}
        if asked.group in ("key", "member"):
            places = {row["place"] for row in rows if row["place"]}
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


def _statement(where: Where, asked: Asked, odd: Sequence[datetime]) -> str:
    telling = asked.group in _TELLING or asked.key_id is not None or asked.value is not None
    labelled = telling and asked.label is not None
    word = asked.group if asked.group in ("model", "upstream") else "''"
    models = not telling or word != "''" or asked.model is not None or asked.upstream is not None
    span = asked.account_id, asked.since, asked.until
    if asked.step == "hour" or asked.zone != "UTC":
        source = by_hour(where, *span, odd, keys=telling, models=models)
    else:
        source = by_day(where, *span, "day" if labelled else asked.step, keys=telling, models=models)  # labels change
    narrowed = [("model", asked.model), ("upstream", asked.upstream), ("u.key_id", asked.key_id)]
    narrowed += [("l.value", asked.value)] if labelled else []
    return _SERIES.format(
        source=source,
        word=word,
        label="coalesce(l.value, '')" if labelled else "''",
        labels=_LABELS.format(name=where.value(asked.label)) if labelled else "",
        filters=" AND ".join(
            ["true", *(f"{name} = {where.value(value)}" for name, value in narrowed if value is not None)]
        ),
        metric=METRICS[asked.metric],
        telling="true" if telling else "false",
        viewer=where.value(uuid.UUID(asked.viewer)),
        place=_PLACES[asked.group],
        is_filtered=where.value(asked.is_filtered),
        groups_max=where.value(asked.groups_max),
        step=where.value(asked.step),
        zone=where.value("UTC" if asked.step == "hour" else asked.zone) + "::text",
        sums=_SUMS,
    )


async def total(pool: Pool, account_id: int, since: datetime, until: datetime) -> Sums:
    """All that an account used from `since` to the end of the hour before `until`."""
    where = Where()
    source = whole(where, account_id, since, until)
    with store_errors("read the usage"):
        (row,) = await pool.fetch(f"SELECT {_SUMS} FROM ({source}) parts", *where.arguments)
    return _sums(row)


async def choices(pool: Pool, account_id: int, since: datetime, until: datetime) -> tuple[list[str], list[str]]:
    """Models and upstreams that were used in a span of time."""
    with store_errors("read the usage"):
        (row,) = await pool.fetch(_CHOICES, account_id, since, until)
    # What reached none has "" as its upstream, which nobody can ask for.
    return sorted(row["models"] or ()), sorted(filter(None, row["upstreams"] or ()))


async def began_at(pool: Pool, account_id: int) -> datetime | None:
    """The hour of the account's first usage that is kept; None: nothing was used yet."""
    with store_errors("read the usage"):
        found: datetime | None = await pool.fetchval(
            "SELECT min(day)::timestamp AT TIME ZONE 'UTC' FROM usage_total_daily WHERE account_id = $1", account_id
        )
    return found


def _sums(row: Any) -> Sums:
    return Sums(row["requests"], row["errors"], row["input_tokens"], row["output_tokens"], int(row["cost_pico"]))
