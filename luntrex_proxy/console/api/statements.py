"""/accounts/{account_id}/statements: what an account is charged by month; /repricing: what prices would change."""

import time
from datetime import UTC, date, datetime
from typing import Final

from pydantic import Field

from luntrex_proxy.console.api.fields import Day
from luntrex_proxy.console.api.operations import Call, Listed, Operation, PageQuery, Query, Shown, Who, page
from luntrex_proxy.console.api.problems import Problem, invalid
from luntrex_proxy.control import repricing, statements
from luntrex_proxy.control.repricing import Selection, Tallies, Tally
from luntrex_proxy.control.statements import Closed, Line, Statement
from luntrex_proxy.core.months import BadMonthError, in_words, read_month
from luntrex_proxy.core.roles import Permission

_LONGEST_DAYS: Final = 31  # of one preview: each day's records are read


class MoneyShown(Shown):
    """Money."""

    cost_micros: int = Field(description="Millionths of a dollar, rounded half to even.")
    cost_pico: int = Field(description="Exactly: 10^-12 dollars.")


class ClosedShown(MoneyShown):
    """A closed month."""

    month: str = Field(description="In UTC, such as 2026-10.")
    closed_at: datetime
    requests: int


class LineShown(MoneyShown):
    """Usage by model and labels; of an earlier month: what came late or was priced anew, by model."""

    usage_month: str
    model: str
    labels: dict[str, str]
    requests: int
    errors: int
    input_tokens: int
    cached_input_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    input_audio_tokens: int
    output_tokens: int
    reasoning_tokens: int
    output_audio_tokens: int


class StatementShown(MoneyShown):
    """What an account is charged for a month."""

    month: str
    closed_at: datetime | None = Field(description="When it was frozen; null: as it would be if it were closed now.")
    invoices: list[str] = Field(description="Numbers of the invoices that bill it.")
    requests: int
    lines: list[LineShown]


class RepricingQuery(Query):
    """Which records."""

    since: Day | None = Field(None, description="The first UTC day; by default `until`.")
    until: Day | None = Field(None, description="The last UTC day, at most 31 of them; by default today.")
    account_id: int | None = Field(None, ge=1, le=2**63 - 1, description="Only of this account.")
    model: str | None = Field(
        None, max_length=200, pattern="^[A-Za-z0-9][A-Za-z0-9._:@/*-]*$", description="Only of this model."
    )


class RepricedShown(Shown):
    """Records of an account and model: what they cost, and what they would at the prices of now."""

    account_id: int
    model: str
    requests: int
    changed: int = Field(description="How many would cost something else.")
    unknown: int = Field(description="How many have no known price now; they stay as they are.")
    before_pico: int
    after_pico: int


class RepricingShown(Shown):
    """The difference that prices of now would make. Nothing is changed."""

    totals: list[RepricedShown]


async def _list(call: Call) -> Listed:
    before = None if call.after is None else date.fromisoformat(call.after[0])
    found = await statements.list_page(call.services.pool, call.account_id, before, call.rows)
    return page(call, found, _closed, lambda each: (each.month.isoformat(),))


async def _get(call: Call) -> StatementShown:
    return _shown(await statements.get(call.services.pool, call.account_id, _month(call)))


async def _close(call: Call) -> StatementShown:
    return _shown(await statements.close(call.services.pool, call.account_id, _month(call)))


async def _reprice(call: Call) -> RepricingShown:
    query: RepricingQuery = call.query
    today = datetime.fromtimestamp(time.time(), UTC).date()
    until = query.until or today
    since = query.since or until
    if since > until:
        raise invalid("until", "must not be before since")
    if until > today:
        raise invalid("until", "must not lie ahead")
    if (until - since).days >= _LONGEST_DAYS:
        raise invalid("until", f"must be within {_LONGEST_DAYS} days of since")
    total = Tallies()
    selection = Selection(since, until, query.account_id, query.model)
    async for tallies in repricing.reprice(call.services.pool, call.services.settings_now, selection):
        for whose, tally in tallies.items():
            total.setdefault(whose, Tally()).add(tally)
    return RepricingShown(
        totals=[
            RepricedShown(
                account_id=account_id,
                model=model,
                **{
                    name: getattr(tally, name)
                    for name in ("requests", "changed", "unknown", "before_pico", "after_pico")
                },
            )
            for (account_id, model), tally in sorted(total.items())
        ]
    )


def _month(call: Call) -> date:
    try:
        return read_month(call.place["month"])
    except BadMonthError:
        raise Problem("not_found") from None


def _money(pico: int) -> dict[str, int]:
    return {"cost_micros": statements.micros(pico), "cost_pico": pico}


def _closed(each: Closed) -> ClosedShown:
    return ClosedShown(
        month=in_words(each.month), closed_at=each.closed_at, requests=each.requests, **_money(each.cost_pico)
    )


def _line(line: Line) -> LineShown:
    return LineShown(
        usage_month=in_words(line.usage_month),
        model=line.model,
        labels=line.labels,
        **line.sums,
        **_money(line.cost_pico),
    )


def _shown(statement: Statement) -> StatementShown:
    return StatementShown(
        month=in_words(statement.month),
        closed_at=statement.closed_at,
        invoices=statement.invoices,
        requests=statement.requests,
        lines=[_line(line) for line in statement.lines],
        **_money(statement.cost_pico),
    )


_STATEMENTS: Final = "/accounts/{account_id}/statements"
OPERATIONS: Final = (
    Operation(
        name="statements.list", method="GET", path=_STATEMENTS, summary="List closed months, newest first.",
        access=(Permission.BILLING_READ,), handler=_list, query=PageQuery, answer=ClosedShown,
    ),
    Operation(
        name="statements.get", method="GET", path=f"{_STATEMENTS}/{{month}}",
        summary="Show what an account is charged for a month, by model and labels; an open month as it is now.",
        access=(Permission.BILLING_READ,), handler=_get, answer=StatementShown, problems=("bad_month",),
    ),
    Operation(
        name="statements.close", method="POST", path=f"{_STATEMENTS}/{{month}}/close",
        summary="Freeze the statement of a month that is over; doing it again changes nothing.",
        access=Who.OPERATOR, scopes=(Permission.BILLING_WRITE,), handler=_close, answer=StatementShown,
        problems=("bad_month",),
    ),
    Operation(
        name="repricing.preview", method="GET", path="/repricing",
        summary="Say what records would cost at the prices of now. Nothing is changed; /work/repricings leads to that.",
        access=Who.OPERATOR, scopes=(Permission.BILLING_READ,), handler=_reprice, query=RepricingQuery,
        answer=RepricingShown,
    ),
)  # fmt: skip
