"""What a budget says: how much money an account, a key, a member or a label may cost in which time.

read_budgets(["month=100", "day=2.50"]) -> {"month": 100 * 10**12, ...} in pico-dollars, or BadBudgetError

How it is kept: core/leases.py.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

PICO_PER_DOLLAR: Final = 10**12
_PICO_PER_MICRO: Final = 10**6
AMOUNT_MAX_DOLLARS: Final = 10**9
PERIODS: Final = ("day", "month", "total")
ALERTS_MAX: Final = 8
PERCENT_MAX: Final = 1_000
DEFAULT_ALERTS: Final = (80, 100)
OPEN, CLOSED = "open", "closed"  # while nobody can say what is left: let in, or refuse
_DOLLARS: Final = re.compile(r"(\d{1,12})(?:\.(\d{1,6}))?", re.ASCII)
_PERIOD_WORDS: Final = {"day": " per day", "month": " per month", "total": " in total"}


class BadBudgetError(Exception):
    """One sentence that says what is wrong with a budget."""


class Budget(msgspec.Struct, frozen=True, eq=False):
    """A hard budget as a process keeps to it."""

    budget_id: int
    account_id: int
    key_ids: frozenset[str]  # of these keys, which replaced each other or carry the label; empty: not of keys
    person: bytes  # of this member, the id's 16 bytes; b"": not of a member
    period: str
    amount_pico: int
    is_open: bool  # whether requests are let in while nobody can say what is left
    label: str = ""  # of the keys that carry it, as project=search; "": not of a label

    @property
    def words(self) -> str:
        """As it reads in a sentence."""
        whose = "the key" if self.key_ids else "the member" if self.person else "the account"
        whose = f"the label {self.label}" if self.label else whose
        return f"${dollars(self.amount_pico)}{_PERIOD_WORDS[self.period]} of {whose}"

    @property
    def whose(self) -> Iterable[str | bytes]:
        """The ids of keys, or the member's, whose requests count; "" for all of the account."""
        return self.key_ids if self.key_ids or self.label else (self.person or "",)


class BudgetTerms(NamedTuple):
    """All that a budget says of one period."""

    amount_pico: int
    is_hard: bool
    alert_percents: tuple[int, ...]
    when_away: str  # open or closed

    @property
    def words(self) -> str:
        """As it reads."""
        percents = ", ".join(f"{percent}%" for percent in self.alert_percents)
        kind = f"hard, {self.when_away} when away" if self.is_hard else "soft"
        return f"${dollars(self.amount_pico)} {kind}{f'; told at {percents}' if percents else ''}"


def read_dollars(text: str) -> int:
    """Pico-dollars of an amount in dollars, such as 2.50. Raises BadBudgetError."""
    match = _DOLLARS.fullmatch(text.removeprefix("$"))
    if match is None:
        raise BadBudgetError(
            "An amount is in dollars, more than 0, with at most six digits after the point, such as 100 or 2.50."
        )
    pico = int(match[1]) * PICO_PER_DOLLAR + int((match[2] or "").ljust(6, "0")) * _PICO_PER_MICRO
    check_amount(pico)
    return pico


def check_amount(pico: int) -> None:
    """Raise BadBudgetError when a budget cannot have this amount (in pico-dollars)."""
    if not 0 < pico <= AMOUNT_MAX_DOLLARS * PICO_PER_DOLLAR:
        raise BadBudgetError(
            f"A budget is more than 0 and at most {AMOUNT_MAX_DOLLARS} dollars; to stop a key or account, suspend it."
        )


def dollars(pico: int) -> str:
    """An amount in dollars, to the micro-dollar, rounded down: 2.50, 0.000001, -1.25."""
    whole, micro = divmod(abs(pico) // _PICO_PER_MICRO, 10**6)
    fraction = f".{micro:06d}".rstrip("0").ljust(3, "0") if micro else ""
    return f"{'-' * (pico < 0)}{whole}{fraction}"


def read_budgets(words: Iterable[str]) -> dict[str, int]:
    """Budgets as `month=100`. Raises BadBudgetError: unknown, given twice, no amount, out of bounds."""
    amounts: dict[str, int] = {}
    for given in words:
        period, equals, amount = given.partition("=")
        if period not in PERIODS or not equals:
            raise BadBudgetError(f"{given!r} is no budget; write one as month=100, with {', '.join(PERIODS)}.")
        if period in amounts:
            raise BadBudgetError(f"{period} is given twice; give it once.")
        amounts[period] = read_dollars(amount)
    return amounts


def check_together(hard: Mapping[str, int]) -> None:
    """Raise BadBudgetError when one of the hard budgets of the same whose can never be reached."""
    shorter = ""
    for period in (each for each in PERIODS if each in hard):
        if shorter and hard[shorter] > hard[period]:
            raise BadBudgetError(
                f"{shorter}={dollars(hard[shorter])} can never be reached: {period} is {dollars(hard[period])}; lower "
                "the first or raise the second."
            )
        shorter = period


def check_terms(budgets: Mapping[str, BudgetTerms]) -> None:
    """Raise BadBudgetError when these (by period) cannot be the budgets of somebody."""
    for period, each in budgets.items():
        check_amount(each.amount_pico)
        check_alerts(each.alert_percents)
        if not each.is_hard and not each.alert_percents:
            raise BadBudgetError(f"The budget {period} would do nothing: it neither stops nor tells.")
    check_together({period: each.amount_pico for period, each in budgets.items() if each.is_hard})


def check_alerts(percents: Iterable[int]) -> tuple[int, ...]:
    """Percentages in their order. Raises BadBudgetError."""
    found = sorted(set(percents))
    if len(found) > ALERTS_MAX or any(not 1 <= percent <= PERCENT_MAX for percent in found):
        raise BadBudgetError(
            f"Alerts are at most {ALERTS_MAX} percentages, each 1 to {PERCENT_MAX}, such as 50,80,100."
        )
    return tuple(found)


def read_alerts(text: str) -> tuple[int, ...]:
    """Percentages as 50,80,100; an empty text is none. Raises BadBudgetError."""
    words = [word.strip().removesuffix("%") for word in text.split(",")] if text.strip() else []
    if not all(word.isascii() and word.isdigit() and len(word) <= 6 for word in words):
        raise BadBudgetError("Alerts are whole percentages with commas between, such as 50,80,100.")
    return check_alerts(int(word) for word in words)
