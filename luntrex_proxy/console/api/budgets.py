"""/accounts/{account_id}/budgets, and those of its keys and members: how much money they may cost."""

import uuid
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from luntrex_proxy.console.api.operations import Body, Call, Operation, Shown, Who
from luntrex_proxy.control import budgets
from luntrex_proxy.control.budgets import BudgetInfo, Terms, Wanted
from luntrex_proxy.core.budgets import (
    ALERTS_MAX,
    PERCENT_MAX,
    PERIODS,
    BadBudgetError,
    check_alerts,
    dollars,
    read_dollars,
)
from luntrex_proxy.core.roles import Permission
from luntrex_proxy.settings.section import fault


def _check_dollars(given: Any) -> Any:
    try:
        read_dollars(given if isinstance(given, str) else "")
    except BadBudgetError:
        raise fault("must be dollars as text, more than 0 and at most 1000000000, such as 2.50") from None
    return given


Dollars = Annotated[
    str,
    BeforeValidator(_check_dollars),
    Field(pattern=r"^\d{1,12}(\.\d{1,6})?$", max_length=19, description="In dollars, as text: no float is exact."),
]
_Percent = Annotated[int, Field(ge=1, le=PERCENT_MAX)]


class BudgetBody(Body):
    """How much may be spent in one period."""

    dollars: Dollars
    hard: bool = Field(True, description="Refuse what goes beyond it; false: only tell of it.")
    alert_percents: list[_Percent] = Field(
        [80, 100], max_length=ALERTS_MAX, description="At which parts of it somebody is told, in percent."
    )
    when_away: Literal["open", "closed"] = Field(
        "closed", description="Whether requests are let in while nobody can say what is left."
    )


class BudgetsBody(Body):
    """All budgets of an account, a key or a member; what is left out or null is not limited."""

    day: BudgetBody | None = None
    month: BudgetBody | None = None
    total: BudgetBody | None = None

    @property
    def wanted(self) -> Wanted:
        """By period."""
        given = {period: getattr(self, period) for period in PERIODS}
        return {
            period: (read_dollars(each.dollars), Terms(each.hard, check_alerts(each.alert_percents), each.when_away))
            for period, each in given.items()
            if each is not None
        }


class BudgetShown(Shown):
    """A budget, and how it stands in the time that it is now."""

    key_id: str | None = Field(description="Of this key (the newest of those that share it); null: of no key.")
    person_id: str | None = Field(description="Of this member; null: of no member.")
    label: str | None = Field(description="Of the keys that carry this label, as project=search; null: of no label.")
    period: Literal["day", "month", "total"]
    dollars: str
    hard: bool
    alert_percents: list[int]
    when_away: Literal["open", "closed"]
    begins_at: datetime
    ends_at: datetime | None = Field(description="When it begins anew; null: never.")
    spent_dollars: str
    held_dollars: str = Field(description="Held by processes, for what they spend next and what is not stored yet.")
    left_dollars: str = Field(description="Less than 0 when requests cost more than was held for them.")
    changed_at: datetime


class BudgetsShown(Shown):
    """Budgets, and the zone in which their days and months begin."""

    budgets: list[BudgetShown]


class TimeZoneBody(Body):
    """The zone of an account."""

    time_zone: str = Field(min_length=1, max_length=64, description="A name of the IANA list, such as Europe/Berlin.")


class TimeZoneShown(Shown):
    """The zone in which days and months of the account's budgets begin."""

    time_zone: str


async def _list(call: Call) -> BudgetsShown:
    return _shown(await budgets.list_all(call.services.pool, call.account_id))


async def _set_of_account(call: Call) -> BudgetsShown:
    return _shown(await budgets.set_of_account(call.services.pool, call.account_id, call.body.wanted))


async def _set_of_key(call: Call) -> BudgetsShown:
    key_id = call.place["key_id"]
    return _shown(await budgets.set_of_key(call.services.pool, call.account_id, key_id, call.body.wanted))


async def _set_of_member(call: Call) -> BudgetsShown:
    person_id = uuid.UUID(call.place["person_id"])
    return _shown(await budgets.set_of_member(call.services.pool, call.account_id, person_id, call.body.wanted))


async def _set_of_label(call: Call) -> BudgetsShown:
    name, value = call.place["label"], call.place["label_value"]
    return _shown(await budgets.set_of_label(call.services.pool, call.account_id, name, value, call.body.wanted))


async def _set_time_zone(call: Call) -> TimeZoneShown:
    await budgets.set_time_zone(call.services.pool, call.account_id, call.body.time_zone)
    return TimeZoneShown(time_zone=call.body.time_zone)


def _shown(found: list[BudgetInfo]) -> BudgetsShown:
    return BudgetsShown(budgets=[budget_shown(each) for each in found])


def budget_shown(each: BudgetInfo) -> BudgetShown:
    """A budget, as every operation shows it."""
    return BudgetShown(
        key_id=each.key_id,
        person_id=each.person_id,
        label=each.label,
        period=each.period,
        dollars=dollars(each.amount_pico),
        hard=each.is_hard,
        alert_percents=list(each.alert_percents),
        when_away=each.when_away,
        begins_at=each.begins_at,
        ends_at=each.ends_at,
        spent_dollars=dollars(each.spent_pico),
        held_dollars=dollars(each.held_pico),
        left_dollars=dollars(each.left_pico),
        changed_at=each.changed_at,
    )


_ACCOUNT: Final = "/accounts/{account_id}"
OPERATIONS: Final = (
    Operation(
        name="budgets.list", method="GET", path=f"{_ACCOUNT}/budgets",
        summary="Show how much money an account, its keys and members may cost, and what of it is spent.",
        access=(Permission.KEYS_READ, Permission.KEYS_WRITE, Permission.BILLING_READ), handler=_list,
        answer=BudgetsShown,
    ),
    Operation(
        name="budgets.set_of_account", method="PUT", path=f"{_ACCOUNT}/budgets",
        summary="Have exactly these budgets of an account, everywhere within a second; operators only.",
        access=Who.OPERATOR, scopes=(Permission.ACCOUNT_WRITE,), handler=_set_of_account, body=BudgetsBody,
        answer=BudgetsShown, problems=("bad_budgets",),
    ),
    Operation(
        name="budgets.set_of_key", method="PUT", path=f"{_ACCOUNT}/keys/{{key_id}}/budgets",
        summary="Have exactly these budgets of a key, everywhere within a second.",
        access=(Permission.KEYS_WRITE,), handler=_set_of_key, body=BudgetsBody, answer=BudgetsShown,
        problems=("bad_budgets", "key_ended"),
    ),
    Operation(
        name="budgets.set_of_member", method="PUT", path=f"{_ACCOUNT}/members/{{person_id}}/budgets",
        summary="Have exactly these budgets of a member's own keys together, everywhere within a second.",
        access=(Permission.KEYS_WRITE,), handler=_set_of_member, body=BudgetsBody, answer=BudgetsShown,
        problems=("bad_budgets",),
    ),
    Operation(
        name="budgets.set_of_label", method="PUT", path=f"{_ACCOUNT}/labels/{{label}}/{{label_value}}/budgets",
        summary="Have exactly these budgets of the keys that carry a label, everywhere within a second.",
        access=(Permission.KEYS_WRITE,), handler=_set_of_label, body=BudgetsBody, answer=BudgetsShown,
        problems=("bad_budgets",),
    ),
    Operation(
        name="budgets.set_time_zone", method="PUT", path=f"{_ACCOUNT}/time-zone",
        summary="Say when days and months of an account's budgets begin; operators only.",
        access=Who.OPERATOR, scopes=(Permission.ACCOUNT_WRITE,), handler=_set_time_zone, body=TimeZoneBody,
        answer=TimeZoneShown, problems=("bad_time_zone",),
    ),
)  # fmt: skip
