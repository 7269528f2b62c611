"""/privacy: what is kept about people, why and for how long, for everybody; /retention: how old, for operators."""

from datetime import date, datetime
from typing import Final

from pydantic import Field

from luntrex_proxy.console.api.operations import Call, Listed, Operation, PageQuery, Shown, Who, page
from luntrex_proxy.control import policytext, privacy
from luntrex_proxy.core.roles import Permission


class ItemShown(Shown):
    """A table, or one of its columns, and why it is there."""

    table: str
    column: str = Field(description="Empty: the table itself.")
    purpose: str
    basis: str = Field(description="In law; none: no personal data.")
    retention: str = Field(description="The class; its period is in /privacy/retention.")
    subject: str = Field(description="Which column says whose it is; self: the row is them; none: nobody's.")


class PeriodShown(Shown):
    """How long a class of data is kept, and why."""

    name: str = Field(description="As the inventory names it.")
    days: int | None = Field(description="null: by no number of days, as `reason` says.")
    reason: str


class PeriodsShown(Shown):
    """Every class that the inventory names."""

    periods: list[PeriodShown]
    idle_account_days: int = Field(description="Without any use, after which an account's owners are told.")
    idle_notice_days: int = Field(description="Between telling them and erasing the account.")
    invoice_years: dict[str, int] = Field(description="By country of the account, after the end of the year of issue.")


class PartShown(Shown):
    """A part of the privacy policy."""

    heading: str
    paragraphs: list[str]


class PolicyShown(Shown):
    """The privacy policy."""

    version: str
    updated: str = Field(description="The day.")
    parts: list[PartShown]


class RetentionShown(Shown):
    """The oldest there is, and when old data was last dropped."""

    succeeded_at: datetime | None = Field(description="When the last whole run ended.")
    usage_kept_from: date | None = Field(description="What is older does not come back.")
    oldest_usage_day: date | None
    oldest_hourly_sum: datetime | None
    oldest_daily_sum: date | None
    oldest: dict[str, datetime] = Field(description="The oldest row of every other class that has one.")


async def _inventory(call: Call) -> Listed:
    after = () if call.after is None else tuple(call.after)
    items = sorted(await privacy.inventory(call.services.pool), key=lambda item: (item.table, item.column))
    found = [item for item in items if (item.table, item.column) > after][: call.rows]
    return page(call, found, ItemShown.model_validate, lambda item: (item.table, item.column))


async def _policy(_call: Call) -> PolicyShown:
    found = policytext.load()
    parts = [PartShown(heading=heading, paragraphs=list(paragraphs)) for heading, paragraphs in found.parts]
    return PolicyShown(version=found.version, updated=found.updated, parts=parts)


async def _periods(call: Call) -> PeriodsShown:
    settings = call.services.settings.retention
    periods = [PeriodShown.model_validate(each) for each in privacy.periods(settings.by_class())]
    return PeriodsShown(
        periods=periods,
        invoice_years=dict(privacy.INVOICE_YEARS),
        idle_account_days=settings.idle_account_days,
        idle_notice_days=settings.idle_notice_days,
    )


async def _retention(call: Call) -> RetentionShown:
    pool = call.services.pool
    found = await privacy.kept(pool)
    return RetentionShown(
        succeeded_at=await privacy.succeeded_at(pool),
        usage_kept_from=found.usage_kept_from,
        oldest_usage_day=found.oldest_usage_day,
        oldest_hourly_sum=found.oldest_hourly_sum,
        oldest_daily_sum=found.oldest_daily_sum,
        oldest=await privacy.oldest(pool),
    )


OPERATIONS: Final = (
    Operation(
        name="privacy.inventory", method="GET", path="/privacy/inventory",
        summary="List every table and column there is, with its purpose, legal basis, retention class and subject.",
        access=Who.ANYONE, handler=_inventory, query=PageQuery, answer=ItemShown,
    ),
    Operation(
        name="privacy.policy", method="GET", path="/privacy/policy", summary="Show the privacy policy and its version.",
        access=Who.ANYONE, handler=_policy, answer=PolicyShown,
    ),
    Operation(
        name="privacy.retention", method="GET", path="/privacy/retention",
        summary="Show how long each class of data is kept, and why.",
        access=Who.ANYONE, handler=_periods, answer=PeriodsShown,
    ),
    Operation(
        name="retention.get", method="GET", path="/retention",
        summary="Show the oldest data there is, and when old data was last dropped.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_READ,), handler=_retention, answer=RetentionShown,
    ),
)  # fmt: skip
