"""Limits and budgets as a file of `apply` has them. What they mean: core/limits.py, core/budgets.py.

limits: {requests/minute: 60, tokens/day: 1000000}
model_limits: {"gpt-4o*": {tokens/hour: 500000}}
budgets: {month: 500, day: {dollars: "2.50", hard: false, alerts: [50, 80], when_away: open}}
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from luntrex_proxy.core.budgets import (
    DEFAULT_ALERTS,
    BadBudgetError,
    BudgetTerms,
    check_alerts,
    check_terms,
    read_dollars,
)
from luntrex_proxy.core.limits import WHATS, BadLimitError, Terms
from luntrex_proxy.core.limits import check_terms as check_limits
from luntrex_proxy.settings.scopes import Model
from luntrex_proxy.settings.section import Section, fault

_NO_DOLLARS = "must be dollars, more than 0 and at most 1000000000, with at most six digits after the point"


def _check_dollars(given: Any) -> str:
    text = str(given) if isinstance(given, str | int | float) and not isinstance(given, bool) else ""
    try:
        read_dollars(text)
    except BadBudgetError:
        raise fault(_NO_DOLLARS) from None
    return text


def _check_word(word: str) -> str:
    if word not in WHATS:
        raise fault(f"must be one of {', '.join(WHATS)}")
    return word


def _entry(given: Any) -> Any:
    return given if isinstance(given, dict) else {"dollars": given}


class BudgetEntry(Section):
    """A budget of one period: its amount alone, or with what else it says."""

    dollars: Annotated[str, BeforeValidator(_check_dollars)]
    hard: bool = True
    alerts: tuple[Annotated[int, Field(ge=1, le=1_000)], ...] = DEFAULT_ALERTS
    when_away: Literal["open", "closed"] = "closed"


Amount = Annotated[int, Field(ge=1)]
Word = Annotated[str, AfterValidator(_check_word)]


class Allowances(Section):
    """What accounts and keys of a file share. What is not given is left alone; {} takes all away."""

    limits: dict[Word, Amount] = Field(default_factory=dict)
    model_limits: dict[Model, dict[Word, Amount]] = Field(default_factory=dict)
    budgets: dict[Literal["day", "month", "total"], Annotated[BudgetEntry, BeforeValidator(_entry)]] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _can_be(self) -> "Allowances":
        try:
            check_limits(self.limit_terms())
            check_terms(self.budget_terms())
        except (BadLimitError, BadBudgetError) as error:
            raise fault(str(error)) from None
        return self

    def limit_terms(self) -> Terms:
        """All limits, by model."""
        found: dict[str, dict[str, int]] = {model: {**amounts} for model, amounts in self.model_limits.items()}
        found[""] = {**self.limits}
        return {model: amounts for model, amounts in found.items() if amounts}

    def budget_terms(self) -> dict[str, BudgetTerms]:
        """All budgets, by period."""
        return {
            period: BudgetTerms(read_dollars(each.dollars), each.hard, check_alerts(each.alerts), each.when_away)
            for period, each in self.budgets.items()
        }
