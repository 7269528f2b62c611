"""/accounts/{account_id}/usage/series and /overview: usage over time, and an account at a glance."""

import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal

from pydantic import Field

from luntrex_proxy.console.api.budgets import BudgetShown, budget_shown
from luntrex_proxy.console.api.fields import Day
from luntrex_proxy.console.api.operations import PARAMETERS, Call, Operation, Query, Shown
from luntrex_proxy.console.api.problems import invalid
from luntrex_proxy.console.api.usage import KEY_ID, MODEL, UPSTREAM
from luntrex_proxy.control import accounts, overview, spans, usage
from luntrex_proxy.control.usage import Asked, Group, Sums
from luntrex_proxy.core.roles import Permission

_LABEL: Final = PARAMETERS["label"][0]
_LONGEST_DAYS: Final = {"hour": 2, "day": 366, "week": 1_830, "month": 3_660}
_DEFAULT_DAYS: Final = 30


class SeriesQuery(Query):
    """What of the usage, and how."""

    since: Day | None = Field(None, description="The first day; by default 30 days, or the 2 that hours have room for.")
    until: Day | None = Field(None, description="The last day; by default today.")
    step: Literal["hour", "day", "week", "month"] = Field("day", description="At most 2, 366, 1830, 3660 days of them.")
    group: str = Field(
        "model", pattern=f"^(none|key|member|model|upstream|label:{_LABEL})$", description="What to group by, or none."
    )
    metric: Literal["cost", "requests", "errors", "tokens", "input", "output"] = Field(
        "cost", description="By which the larger groups are told from the rest."
    )
    groups: int = Field(8, ge=1, le=1_000, description="How many; the smaller ones are one more, together.")
    model: str | None = Field(None, pattern=MODEL, description="Only of this model.")
    upstream: str | None = Field(None, pattern=UPSTREAM, description="Only of this upstream.")
    key_id: str | None = Field(None, pattern=KEY_ID, description="Only of this key.")
    label: str | None = Field(
        None, pattern=f"^{_LABEL}=[A-Za-z0-9][A-Za-z0-9._-]{{0,63}}$", description="Only with this label, NAME=VALUE."
    )


class SumsShown(Shown):
    """What was used."""

    requests: int
    errors: int
    input_tokens: int
    output_tokens: int
    cost_micros: int = Field(description="Millionths of a dollar, rounded half to even.")
    cost_pico: int = Field(description="Exactly: 10^-12 dollars.")


class StepShown(SumsShown):
    """The same, of one step of time. Steps in which nothing was used are left out."""

    at: datetime = Field(description="When it begins.")


class GroupShown(SumsShown):
    """A group, in all and by step."""

    id: str | None = Field(description="Of the key or member, or the word grouped by; null: the smaller groups.")
    name: str
    groups: int = Field(description="How many there are in it: more than one of the smaller ones.")
    hidden: bool = Field(description="Another member's: there is its sum only.")
    steps: list[StepShown]


class SeriesShown(Shown):
    """Usage over time, the largest groups first."""

    time_zone: str = Field(description="In which days begin: the account's on spans of up to two days, else UTC.")
    since: datetime
    until: datetime
    groups: list[GroupShown]


class OverviewQuery(Query):
    """Which span."""

    period: Literal["today", "7d", "30d"] = Field("7d", description="Today, or so many days, today the last of them.")


class FirstByteShown(Shown):
    """How long streamed answers took to begin."""

    p50_ms: float
    p95_ms: float


class OverviewShown(Shown):
    """An account at a glance, against the same span of time before."""

    time_zone: str
    since: datetime
    until: datetime
    now: SumsShown
    before: SumsShown
    first_byte: FirstByteShown | None = Field(description="null: nothing was streamed.")
    first_byte_before: FirstByteShown | None
    budgets: list[BudgetShown] = Field(description="That hold whoever asks: the account's, and one's own there.")


async def _series(call: Call) -> SeriesShown:
    query: SeriesQuery = call.query
    zone = (await accounts.get(call.services.pool, call.account_id)).time_zone
    longest = _LONGEST_DAYS[query.step]
    until = query.until or spans.day_of(_now(), zone)
    since = query.since or until - timedelta(days=min(_DEFAULT_DAYS, longest) - 1)
    if since > until:
        raise invalid("until", "must not be before since")
    if (until - since).days >= longest:
        raise invalid("until", f"must be within {longest} days of since")
    asked = _asked(call, query, since, until, zone)
    groups = await usage.series(call.services.pool, asked)
    return SeriesShown(
        time_zone=asked.zone, since=asked.since, until=asked.until, groups=[_group(each) for each in groups]
    )


def _asked(call: Call, query: SeriesQuery, since: date, until: date, zone: str) -> Asked:
    kind, _, grouped = query.group.partition(":")
    name, _, value = (query.label or "").partition("=")
    if grouped and name and grouped != name:
        raise invalid("label", "must be of the label that is grouped by")
    zone = spans.zone_for(zone, (until - since).days + 1)
    return Asked(
        call.account_id, call.person.person_id, spans.begin_of(since, zone),
        spans.begin_of(until + timedelta(days=1), zone), zone, query.step, kind, query.metric,
        grouped or name or None, query.model, query.upstream, query.key_id, value or None, query.groups,
    )  # fmt: skip


async def _overview(call: Call) -> OverviewShown:
    pool, viewer = call.services.pool, call.person.person_id
    zone = (await accounts.get(pool, call.account_id)).time_zone
    found = await overview.look(pool, call.account_id, viewer, zone, call.query.period, _now())
    return OverviewShown(
        time_zone=found.zone,
        since=found.since,
        until=found.until,
        now=_sums(found.now),
        before=_sums(found.before),
        first_byte=_first_byte(found.first_byte_ms),
        first_byte_before=_first_byte(found.first_byte_before_ms),
        budgets=[budget_shown(each) for each in await overview.budgets_of(pool, call.account_id, viewer)],
    )


def _first_byte(found: Sequence[float] | None) -> FirstByteShown | None:
    return None if found is None else FirstByteShown(p50_ms=found[0], p95_ms=found[1])


def _group(group: Group) -> GroupShown:
    steps = [StepShown(at=at, **_sums(sums).model_dump()) for at, sums in sorted(group.steps.items())]
    return GroupShown(
        id=group.place,
        name=group.name,
        groups=group.members,
        hidden=group.is_hidden,
        steps=[] if group.is_hidden else steps,
        **_sums(group.total).model_dump(),
    )


def _sums(sums: Sums) -> SumsShown:
    fields = {name: getattr(sums, name) for name in SumsShown.model_fields if name != "cost_micros"}
    return SumsShown(cost_micros=usage.micros(sums.cost_pico), **fields)


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


OPERATIONS: Final = (
    Operation(
        name="usage.series", method="GET", path="/accounts/{account_id}/usage/series",
        summary="Show usage over time, by hour, day, week or month, the largest groups apart.",
        access=(Permission.USAGE_READ,), handler=_series, query=SeriesQuery, answer=SeriesShown,
    ),
    Operation(
        name="usage.overview", method="GET", path="/accounts/{account_id}/overview",
        summary="Show an account at a glance: what it used against the time before, how soon answers began, budgets.",
        access=(Permission.USAGE_READ,), handler=_overview, query=OverviewQuery, answer=OverviewShown,
    ),
)  # fmt: skip
