"""The hard budgets in the memory of a process: read before READY, and followed. What is spent: leases.py."""

import asyncio
from typing import Any, Final

from luntrex_proxy.core.budgets import OPEN, Budget
from luntrex_proxy.core.leases import Budgets
from luntrex_proxy.store import budgets as table
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.silence import Silence

# Less than the ring waits for a silent connection and another one (following.py): budgets come no later than keys.
_ANSWER_WAIT_S: Final = 2.0
_AT_ONCE: Final = 100  # budgets, while requests wait


class BudgetBook:
    """Keeps `budgets` as the table says."""

    def __init__(self, pool: Pool) -> None:
        self.budgets = Budgets()
        self._pool = pool
        self._version = -1  # of the last change read
        self._readings = 1  # of the ring's, when all was read; at the start both read all

    async def refresh(self, readings: int = 1) -> None:
        """Read what has changed. Raises StoreError.

        `readings`: how often the ring has read all. Once more than before: the database may be an older one now, which
        knows nothing of what was borrowed since.
        """
        with store_errors("read the budgets"):
            async with self._pool.acquire(timeout=_ANSWER_WAIT_S) as connection:
                with Silence(connection, _ANSWER_WAIT_S) as silence:
                    version = await connection.fetchval("SELECT version FROM change_version")
                    silence.broken()
                    if version < self._version or readings != self._readings:
                        await self._read_all(connection, silence)
                    else:
                        await self._read(connection, self._version, silence)
                self._version, self._readings = max(version, 0), readings

    async def _read(self, connection: Connection, since: int, silence: Silence) -> set[int]:
        said: set[int] = set()
        async for rows in table.changed(connection, since):
            silence.broken()
            for number, row in enumerate(rows):
                if not number % _AT_ONCE:
                    await asyncio.sleep(0)
                self._say(row)
                said.add(row["budget_id"])
            await asyncio.sleep(0)
        return said

    async def _read_all(self, connection: Connection, silence: Silence) -> None:
        said = await self._read(connection, -1, silence)
        gone = []
        for number, purse in enumerate(self.budgets.purses()):  # nobody but us changes which there are
            if not number % _AT_ONCE:
                await asyncio.sleep(0)
            if purse.budget.budget_id not in said:
                gone.append(purse.budget)
        for budget in gone:
            self.budgets.say(budget.account_id, budget.budget_id, None)

    def _say(self, row: Any) -> None:
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
