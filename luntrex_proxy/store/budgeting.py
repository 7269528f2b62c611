"""The hard budgets in the memory of a process. What is spent: leases.py."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from luntrex_proxy.core.budgets import OPEN, Budget
from luntrex_proxy.core.leases import Budgets
from luntrex_proxy.store import budgets as table
from luntrex_proxy.store.book import Book
from luntrex_proxy.store.database import Connection, Pool


class BudgetBook(Book):
    """Keeps `budgets` as the table says."""

    what = "budgets"

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.budgets = Budgets()

    def changed(self, connection: Connection, since: int) -> AsyncIterator[Sequence[Any]]:
        """Of all that are budgets or were."""
        return table.changed(connection, since)

    def say(self, row: Any) -> tuple[int, int]:
        """Of a budget that only alerts, and of one that was cleared, nothing is known here."""
        budget = None
        if row["amount_pico"] is not None and row["is_hard"]:
            budget = Budget(
                row["budget_id"],
                row["account_id"],
                frozenset(row["key_ids"]),
                row["person"] or b"",
                row["period"],
                int(row["amount_pico"]),
                row["when_away"] == OPEN,
                row["label"] or "",
            )
        self.budgets.say(row["account_id"], row["budget_id"], budget)
        return row["account_id"], row["budget_id"]

    def known(self) -> Iterator[tuple[int, int]]:
        """Accounts' ids and budgets'."""
        return ((purse.budget.account_id, purse.budget.budget_id) for purse in self.budgets.purses())

    def forget(self, ident: tuple[int, int]) -> None:
        """Nothing is held of it any more."""
        self.budgets.say(*ident, None)
