"""/accounts/{account_id}/usage: totals over days, and single requests: metadata, never what was said."""

import time
from datetime import UTC, date, datetime, timedelta
from typing import Final

from pydantic import Field

from luntrex_proxy.console.api.fields import Day, Moment
from luntrex_proxy.console.api.operations import PARAMETERS, Call, Listed, Operation, PageQuery, Shown, page
from luntrex_proxy.console.api.problems import invalid
from luntrex_proxy.control import usage
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.control.usage import GroupTotal, Only
from luntrex_proxy.core.labels import NAME as LABEL_NAME
from luntrex_proxy.core.roles import Permission

_GROUPS: Final = ("key", "model", "upstream", "day")
_LABEL: Final = "label:"
_WORD: Final = f"({'|'.join(_GROUPS)}|{_LABEL}{LABEL_NAME.pattern})"
_DEFAULT_DAYS: Final = 30
KEY_ID: Final = "^[0-9A-Za-z]{12}$"
MODEL: Final = "^[A-Za-z0-9][A-Za-z0-9._:@/*-]{0,199}$"  # as usage has it
UPSTREAM: Final = f"^{PARAMETERS['upstream'][0]}$"


class TotalsQuery(PageQuery):
    """Which totals."""

    since: Day | None = Field(None, description="The first UTC day; by default 30 days ago.")
    until: Day | None = Field(None, description="The last UTC day; by default today.")
    by: str = Field(
        "key,model,upstream",
        pattern=f"^{_WORD}(,{_WORD}){{0,4}}$",
        description="What to group by: any of key, model, upstream, day and one label, such as label:project, with "
        "commas between.",
    )


class RequestsQuery(PageQuery):
    """Which requests."""

    since: Moment | None = Field(None, description="From when on; by default 30 days ago.")
    until: Moment | None = Field(None, description="Before when; by default now.")
    key_id: str | None = Field(None, pattern=KEY_ID, description="Only those of this key.")
    model: str | None = Field(None, pattern=MODEL, description="Only those for this model.")
    upstream: str | None = Field(None, pattern=UPSTREAM, description="Only those that this upstream answered.")
    failed: bool = Field(False, description="Only those that failed.")


class SumsShown(Shown):
    """Tokens by class, and money."""

    input_tokens: int
    cached_input_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    input_audio_tokens: int
    output_tokens: int
    reasoning_tokens: int
    output_audio_tokens: int
    cost_micros: int = Field(description="Millionths of a dollar, rounded half to even.")
    cost_pico: int = Field(description="Exactly: 10^-12 dollars.")


class TotalShown(SumsShown):
    """Sums of one group. Of another member's keys only the sum of that member, or of the label, is shown."""

    day: date | None
    key_id: str | None
    key_name: str | None
    member_id: str | None = Field(description="Whose own key; null: the account's, or not grouped by key.")
    model: str | None
    upstream: str | None
    label: str | None = Field(description="Value of the label grouped by; null: none was carried, or not grouped by.")
    requests: int
    errors: int


class RequestShown(SumsShown):
    """One request."""

    request_id: str = Field(description="The value of its answer's x-request-id.")
    started_at: datetime
    key_id: str
    key_name: str | None
    member_id: str | None = Field(description="Whose own key; null: the account's.")
    route: str
    status: int
    code: str
    ending: str
    model: str
    upstream: str
    streamed: bool
    usage_source: str
    price_version: str
    price_known: bool = Field(description="false: no price is known, or none of the service tier it was served at.")
    request_bytes: int
    response_bytes: int
    events: int
    attempts: int
    duration_us: int
    first_byte_us: int
    overhead_us: int
    labels: dict[str, str] = Field(description="That its key carried on that day.")
    trail: str = Field(description="What was unusual on its way, in short; empty for nearly all.")


class PassageShown(Shown):
    """A part of a request's time, or an upstream that was not asked (then without times)."""

    station: str = Field(description="route, gateway, key, body, connect, forward or relay.")
    upstream: str
    start_us: int | None = Field(description="Microseconds since the request's head arrived.")
    took_us: int | None
    code: str
    says: str


class RequestTraced(RequestShown):
    """One request, and where its time went."""

    timeline: list[PassageShown]


async def _totals(call: Call) -> Listed:
    query: TotalsQuery = call.query
    today = datetime.fromtimestamp(time.time(), UTC).date()
    days = (query.since or today - timedelta(days=_DEFAULT_DAYS), query.until or today)
    if days[0] > days[1]:
        raise invalid("until", "must not be before since")
    by = query.by.split(",")
    names = {word.removeprefix(_LABEL) for word in by if word.startswith(_LABEL)}
    if len(names) > 1:
        raise invalid("by", "must have one label at most")
    found = await usage.totals_page(
        call.services.pool,
        call.account_id,
        call.person.person_id,
        days,
        tuple(word for word in by if not word.startswith(_LABEL)),
        call.after,
        call.rows,
        next(iter(names), None),
    )
    return page(call, found, _total, lambda total: total.place)


async def _requests(call: Call) -> Listed:
    query: RequestsQuery = call.query
    now = datetime.fromtimestamp(time.time(), UTC)
    # A gateway's clock ahead of ours hides nothing.
    times = (query.since or now - timedelta(days=_DEFAULT_DAYS), query.until or now + timedelta(hours=1))
    if times[0] > times[1]:
        raise invalid("until", "must not be before since")
    after = None if call.after is None else (datetime.fromisoformat(call.after[0]), call.after[1])
    only = Only(query.key_id, query.model, query.upstream, query.failed)
    found = await usage.requests_seen(call.services.pool, call.person, call.account_id, times, only, after, query.limit)
    return page(call, found, RequestShown.model_validate, lambda request: (request.started_at, request.request_id))


async def _request(call: Call) -> RequestTraced:
    found = await usage.request_seen(call.services.pool, call.person, call.account_id, call.place["request_id"])
    if found is None:
        raise NotFoundError
    shown = RequestShown.model_validate(found).model_dump()
    return RequestTraced(**shown, timeline=[PassageShown.model_validate(each) for each in usage.timeline_of(found)])


def _total(total: GroupTotal) -> TotalShown:
    return TotalShown(
        day=None if total.day is None else date.fromisoformat(total.day),
        key_id=total.key_id,
        key_name=total.key_name,
        member_id=total.member_id,
        model=total.model,
        upstream=total.upstream,
        label=total.label,
        cost_micros=usage.micros(total.cost_pico),
        cost_pico=total.cost_pico,
        **total.sums,
    )


OPERATIONS: Final = (
    Operation(
        name="usage.totals", method="GET", path="/accounts/{account_id}/usage",
        summary="Sum up usage and cost over whole UTC days, by key, model, upstream, day or label.",
        access=(Permission.USAGE_READ,), handler=_totals, query=TotalsQuery, answer=TotalShown,
    ),
    Operation(
        name="usage.requests", method="GET", path="/accounts/{account_id}/usage/requests",
        summary="List single requests, newest first: those of the account's keys and of one's own; for owners those of "
        "members from when on the account agreed to member_requests, which is recorded.",
        access=(Permission.USAGE_READ,), handler=_requests, query=RequestsQuery, answer=RequestShown,
    ),
    Operation(
        name="usage.request", method="GET", path="/accounts/{account_id}/usage/requests/{request_id}",
        summary="Show one request and where its time went: of the account's keys and of one's own; for owners one of a "
        "member since the account agreed to member_requests, which is recorded.",
        access=(Permission.USAGE_READ,), handler=_request, answer=RequestTraced,
    ),
)  # fmt: skip
