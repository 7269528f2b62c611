"""Budgets of an account, its keys, members and labels: the account's own are set by operators, others by itself."""

import uuid
from collections.abc import Mapping

from luntrex_proxy.control import accounts
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.core.budgets import PERIODS
from luntrex_proxy.core.labels import BadLabelError, check_labels
from luntrex_proxy.store import apikeys, labels, members
from luntrex_proxy.store import budgets as table
from luntrex_proxy.store.budgets import BudgetInfo, Terms, Whose
from luntrex_proxy.store.database import Pool

__all__ = [
    "BudgetInfo",
    "Terms",
    "list_all",
    "set_of_account",
    "set_of_key",
    "set_of_label",
    "set_of_member",
    "set_time_zone",
]
Wanted = Mapping[str, tuple[int, Terms]]  # by period: pico-dollars, and what else it says


async def list_all(pool: Pool, account_id: int) -> list[BudgetInfo]:
    """The budgets of the account, of its keys and of its members."""
    return await table.list_all(pool, (await accounts.get(pool, account_id)).account_id)


async def set_of_account(pool: Pool, account_id: int, wanted: Wanted) -> list[BudgetInfo]:
    """Have exactly these budgets of the account; how they stand then."""
    return await _set(pool, Whose((await accounts.get(pool, account_id)).account_id), wanted)


async def set_of_key(pool: Pool, account_id: int, key_id: str, wanted: Wanted) -> list[BudgetInfo]:
    """Have exactly these budgets of a key of the account; how they stand then."""
    if await apikeys.find(pool, account_id, key_id) is None:
        raise NotFoundError
    return await _set(pool, Whose(account_id, key_id), wanted)


async def set_of_member(pool: Pool, account_id: int, person_id: uuid.UUID, wanted: Wanted) -> list[BudgetInfo]:
    """Have exactly these budgets of a member's own keys in the account; how they stand then."""
    if await members.role_of(pool, account_id, person_id) is None:
        raise NotFoundError
    return await _set(pool, Whose(account_id, None, person_id), wanted)


async def set_of_label(pool: Pool, account_id: int, name: str, value: str, wanted: Wanted) -> list[BudgetInfo]:
    """Have exactly these budgets of the account's keys that carry a label; how they stand then.

    NotFoundError: the account declares no such label or value.
    """
    await accounts.get(pool, account_id)
    declared = {each.name: each.allowed for each in await labels.list_declared(pool, account_id)}
    try:
        check_labels({name: value}, declared)
    except BadLabelError:
        raise NotFoundError from None
    return await _set(pool, Whose(account_id, label=(name, value)), wanted)


async def set_time_zone(pool: Pool, account_id: int, zone: str) -> None:
    """Have days and months of the account's budgets begin in this zone."""
    await table.set_time_zone(pool, (await accounts.get(pool, account_id)).name, zone)


async def _set(pool: Pool, whose: Whose, wanted: Wanted) -> list[BudgetInfo]:
    amounts = {period: amount for period, (amount, _) in wanted.items()}
    terms = {period: each for period, (_, each) in wanted.items()}
    return await table.change(pool, whose, amounts, terms, cleared=PERIODS)
