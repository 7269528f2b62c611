"""The form that changes budgets of an account, a key, a member or a label. What is set is on the page of limits."""

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages import whose
from luntrex_proxy.console.pages.page import Access, Page, Route, WrongFieldsError
from luntrex_proxy.console.pages.whose import Whose
from luntrex_proxy.control import budgets
from luntrex_proxy.control.budgets import BudgetInfo, Terms, Wanted
from luntrex_proxy.core.budgets import (
    CLOSED,
    DEFAULT_ALERTS,
    OPEN,
    PERIODS,
    BadBudgetError,
    dollars,
    read_alerts,
    read_dollars,
)
from luntrex_proxy.core.roles import Permission

DONE: Final = {"budgets_set": "The budgets are changed; they hold everywhere within a second."}
_HARD: Final = ("yes", "no")
_HEADINGS: Final = {"day": "Each day", "month": "Each month", "total": "In total"}


async def _form(page: Page) -> Mapping[str, Any]:
    chosen = whose.read(page)
    found = await budgets.list_all(page.services.pool, page.account.account_id)
    known = {each.period: each for each in found if _is_of(each, chosen)}
    return {
        "words": await whose.words(page, chosen),
        "word": chosen.word,
        "headings": _HEADINGS,
        "known": known,
        "amounts": {period: dollars(each.amount_pico) for period, each in known.items()},
        "alerts": ", ".join(map(str, DEFAULT_ALERTS)),
    }


async def _set(page: Page) -> web.StreamResponse:
    chosen, wanted = whose.read(page), _wanted(page)
    pool, account_id = page.services.pool, page.account.account_id
    first = next(iter(wanted), PERIODS[0])
    with page.beside(bad_budgets=f"{first}_dollars"):
        if chosen.key_id is not None:
            await budgets.set_of_key(pool, account_id, chosen.key_id, wanted)
        elif chosen.person_id is not None:
            await budgets.set_of_member(pool, account_id, chosen.person_id, wanted)
        elif chosen.label is not None:
            await budgets.set_of_label(pool, account_id, *chosen.label, wanted)
        else:
            await budgets.set_of_account(pool, account_id, wanted)
    return page.go(f"/accounts/{account_id}/limits?done=budgets_set")


def _wanted(page: Page) -> Wanted:
    """What the form says. WrongFieldsError: all that is wrong with it, field by field."""
    wanted: dict[str, tuple[int, Terms]] = {}
    wrong: dict[str, str] = {}
    for period in PERIODS:
        given = page.field(f"{period}_dollars").strip()
        for name, words in ((f"{period}_hard", _HARD), (f"{period}_away", (OPEN, CLOSED))):
            if page.field(name) not in (*words, ""):
                wrong[name] = "Choose one of them."
        if not given:
            continue
        amount_pico, is_hard = 0, page.field(f"{period}_hard") == "yes"
        alerts: tuple[int, ...] = ()
        try:
            amount_pico = read_dollars(given)
        except BadBudgetError as error:
            wrong[f"{period}_dollars"] = str(error)
        try:
            alerts = read_alerts(page.field(f"{period}_alerts"))
            if not alerts and not is_hard:
                wrong[f"{period}_alerts"] = "Say when to tell you: a budget that neither stops nor tells does nothing."
        except BadBudgetError as error:
            wrong[f"{period}_alerts"] = str(error)
        wanted[period] = amount_pico, Terms(is_hard, alerts, OPEN if page.field(f"{period}_away") == OPEN else CLOSED)
    if wrong:
        raise WrongFieldsError(**wrong)
    return wanted


def _is_of(each: BudgetInfo, chosen: Whose) -> bool:
    label = None if chosen.label is None else "=".join(chosen.label)
    person_id = None if chosen.person_id is None else str(chosen.person_id)
    return (each.key_id, each.person_id, each.label) == (chosen.key_id, person_id, label)


ROUTES: Final = (
    Route("/accounts/{account_id}/limits/budgets", "budgets_edit.html", _form, _set, Access.MEMBER,
          (Permission.KEYS_WRITE,)),
)  # fmt: skip
