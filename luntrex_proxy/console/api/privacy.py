"""/privacy: what is kept about people and why, for everybody; how old what is there is, for who runs it."""

from datetime import date, datetime
from typing import Final

from pydantic import Field

from luntrex_proxy.console.api.operations import Call, Listed, Operation, PageQuery, Shown, Who, page
from luntrex_proxy.control import privacy
from luntrex_proxy.core.roles import Permission


class ItemShown(Shown):
    """A table, or one of its columns, and why it is there."""

    table: str
    column: str = Field(description="Empty: the table itself.")
    purpose: str
    basis: str = Field(description="In law; none: no personal data.")
    retention: str = Field(description="The class; its period is in /privacy/retention.")
    subject: str = Field(description="Which column says whose it is; self: the row is them; none: nobody's.")


class RetentionShown(Shown):
    """How long usage is kept, and the oldest there is."""

    usage_days: int = Field(description="Days that single requests and hourly sums are kept.")
    totals_days: int = Field(description="Days that daily sums are kept.")
    usage_kept_from: date | None = Field(description="What is older does not come back.")
    oldest_usage_day: date | None
    oldest_hourly_sum: datetime | None
    oldest_daily_sum: date | None


async def _inventory(call: Call) -> Listed:
    after = () if call.after is None else tuple(call.after)
    items = sorted(await privacy.inventory(call.services.pool), key=lambda item: (item.table, item.column))
    found = [item for item in items if (item.table, item.column) > after][: call.rows]
    return page(call, found, ItemShown.model_validate, lambda item: (item.table, item.column))


async def _retention(call: Call) -> RetentionShown:
    periods, found = call.services.settings.retention, await privacy.kept(call.services.pool)
    return RetentionShown(
        usage_days=periods.usage_days,
        totals_days=periods.totals_days,
        usage_kept_from=found.usage_kept_from,
        oldest_usage_day=found.oldest_usage_day,
        oldest_hourly_sum=found.oldest_hourly_sum,
        oldest_daily_sum=found.oldest_daily_sum,
    )


OPERATIONS: Final = (
    Operation(
        name="privacy.inventory", method="GET", path="/privacy/inventory",
        summary="List every table and column there is, with its purpose, legal basis, retention class and subject.",
        access=Who.ANYONE, handler=_inventory, query=PageQuery, answer=ItemShown,
    ),
    Operation(
        name="privacy.retention", method="GET", path="/privacy/retention",
        summary="Show how long usage is kept, and the oldest there is.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_READ,), handler=_retention, answer=RetentionShown,
    ),
)  # fmt: skip
