"""Limits and budgets of an account: what is set, used and left; and the form that changes limits."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web

from luntrex_proxy.console.pages import whose
from luntrex_proxy.console.pages.menu import ACCOUNT, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route, WrongFieldsError
from luntrex_proxy.control import budgets, limits
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.control.budgets import BudgetInfo
from luntrex_proxy.control.limits import Limited
from luntrex_proxy.core.limits import CLOSED, OPEN, WHATS, BadLimitError, check_amount
from luntrex_proxy.core.roles import Permission
from luntrex_proxy.core.scope import MODEL

_LIMITS_READ: Final = (Permission.KEYS_READ, Permission.KEYS_WRITE)
READ: Final = (*_LIMITS_READ, Permission.BILLING_READ)
_DIGITS_MAX: Final = 16
DONE: Final = {
    "limits_set": "The limits are changed; they hold everywhere within a second.",
    "time_zone_set": "Days and months of the budgets begin in the new zone from now on.",
}


async def _list(page: Page) -> Mapping[str, Any]:
    pool, account_id = page.services.pool, page.account.account_id
    sees_limits = any(page.may(each) for each in _LIMITS_READ)
    found = await limits.list_all(pool, account_id) if sees_limits else []
    used = await limits.used(pool, account_id) if sees_limits else {}
    names_members = page.may(Permission.MEMBERS_READ)
    return {
        "sees_limits": sees_limits,
        "limited": [(each, _word(each), _rows(each, used)) for each in found if any(each.limits.values())],
        "budgets": [(each, *_named(each, names_members)) for each in await budgets.list_all(pool, account_id)],
        "may_set": page.may(Permission.KEYS_WRITE),
        "limit_choices": await whose.choices(page),
        "budget_choices": await whose.budget_choices(page),
    }


async def _form(page: Page) -> Mapping[str, Any]:
    chosen, model = _chosen(page)
    found = await _limited(page, chosen)
    return {
        "words": await whose.words(page, chosen),
        "query": f"whose={chosen.word}&model={quote(model)}" if model else f"whose={chosen.word}",
        "model": model,
        "others": sorted(each for each in (found.limits if found else ()) if each != model),
        "whats": [(word, word.replace("/", "_per_"), what.words) for word, what in WHATS.items()],
        "amounts": found.limits.get(model, {}) if found else {},
        "when_away": found.when_away if found else OPEN,
        "word": chosen.word,
    }


async def _set(page: Page) -> web.StreamResponse:
    chosen, _ = _chosen(page)
    pool, account_id = page.services.pool, page.account.account_id
    model, amounts, when_away = page.field("model").strip(), _amounts(page), page.field("when_away")
    if model and not MODEL.fullmatch(model):
        raise WrongFieldsError(model="Give a name as clients write it, or its beginning and *; nothing: all models.")
    if when_away not in (OPEN, CLOSED):
        raise WrongFieldsError(when_away="Choose one of them.")
    first = next((word.replace("/", "_per_") for word in amounts), "model")
    with page.beside(bad_limits=first):
        if chosen.key_id is None:
            await limits.set_of_account(pool, account_id, model, amounts, when_away)
        else:
            await limits.set_of_key(pool, account_id, chosen.key_id, model, amounts, when_away)
    return page.go(f"/accounts/{account_id}/limits?done=limits_set")


async def _set_zone(page: Page) -> web.StreamResponse:
    if not page.person.operator:
        raise NotFoundError
    account_id = page.account.account_id
    with page.beside(bad_time_zone="time_zone"):
        await budgets.set_time_zone(page.services.pool, account_id, page.field("time_zone").strip())
    return page.go(f"/accounts/{account_id}/limits?done=time_zone_set")


def _chosen(page: Page) -> tuple[whose.Whose, str]:
    chosen, model = whose.read(page), page.query("model")
    if chosen.person_id or chosen.label or (model and not MODEL.fullmatch(model)):
        raise NotFoundError
    return chosen, model


async def _limited(page: Page, chosen: whose.Whose) -> Limited | None:
    found = await limits.list_all(page.services.pool, page.account.account_id)
    return next((each for each in found if each.key_id == chosen.key_id), None)


def _amounts(page: Page) -> dict[str, int]:
    amounts, wrong = {}, {}
    for word in WHATS:
        name = word.replace("/", "_per_")
        given = page.field(name).strip()
        try:
            if given:
                amounts[word] = _whole(given)
                check_amount(word, amounts[word])
        except ValueError:
            wrong[name] = "Give a whole number without points or commas, such as 1000; nothing: no limit."
        except BadLimitError as error:
            wrong[name] = str(error)
    if wrong:
        raise WrongFieldsError(**wrong)
    return amounts


def _whole(given: str) -> int:
    if not given.isascii() or not given.isdigit() or len(given) > _DIGITS_MAX:
        raise ValueError
    return int(given)


def _word(limited: Limited) -> str:
    return whose.Whose(limited.key_id).word


def _rows(limited: Limited, used: limits.Used) -> list[tuple[str, str, int, int]]:
    """Each limit: its model ("": all together), what it counts, how much there may be, how much is used now."""
    return [
        (model, WHATS[word].words, amount, min(amount, used.get((limited.key_id, model, word), 0)))
        for model, amounts in sorted(limited.limits.items())
        for word, amount in sorted(amounts.items(), key=lambda each: list(WHATS).index(each[0]))
    ]


def _named(each: BudgetInfo, names_members: bool) -> tuple[str, str]:
    """What a budget is of, for the address and in words."""
    if each.key_id is not None:
        return f"key:{each.key_id}", f"key {each.key_name}"
    if each.person_id is not None:
        return f"member:{each.person_id}", f"member {each.email}" if names_members else "a member"
    return (f"label:{each.label}", f"label {each.label}") if each.label else (whose.ACCOUNT, "the account")


_LIMITS: Final = "/accounts/{account_id}/limits"
ROUTES: Final = (
    Route(_LIMITS, "limits.html", _list, None, Access.MEMBER, READ, Menu("Limits and budgets", ACCOUNT, 30)),
    Route(f"{_LIMITS}/edit", "limits_edit.html", _form, _set, Access.MEMBER, (Permission.KEYS_WRITE,)),
    Route(f"{_LIMITS}/time-zone", "limits.html", _list, _set_zone, Access.MEMBER, READ),
)
