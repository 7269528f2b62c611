"""What accounts and keys may still use: their limits and budgets, followed, and shared with the other processes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from uuid import UUID

import structlog

from luntrex_proxy.control.alerts import raise_budgets
from luntrex_proxy.core.buckets import Limits
from luntrex_proxy.core.leases import Budgets
from luntrex_proxy.observe.metrics import Metrics
from luntrex_proxy.settings.alerts import Alerts
from luntrex_proxy.store.book import Book
from luntrex_proxy.store.budgeting import BudgetBook
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.leasing import Lessee
from luntrex_proxy.store.limiting import LimitBook
from luntrex_proxy.store.telling import Telling

_ALERTS_EVERY_S = 2.0

log = structlog.get_logger()


class Allowances:
    """Limits and budgets of this process. `pool_source` gives the pool, or None while there is no database."""

    def __init__(self, direct: Pool, pool_source: Callable[[], Pool | None], boot_id: UUID, alerts: Alerts) -> None:
        self._pool = direct
        self._alerts = alerts
        self._alerts_raised = 0
        self._limit_book, self._budget_book = LimitBook(direct), BudgetBook(direct)
        self.lessee = Lessee(pool_source, boot_id, self.budgets)
        self.telling = Telling(pool_source, boot_id, self.limits)

    @property
    def limits(self) -> Limits:
        """As they are now."""
        return self._limit_book.limits

    @property
    def budgets(self) -> Budgets:
        """As they are now."""
        return self._budget_book.budgets

    @property
    def away(self) -> bool:
        """Whether nobody can say what is left: each limit and budget goes by its declared direction."""
        return self.lessee.away or self.telling.away

    @property
    def books(self) -> tuple[Book, ...]:
        """What the key ring keeps current, so that no key is used before its limits are known."""
        return self._limit_book, self._budget_book

    async def begin(self) -> None:
        """Read what is allowed. Raises StoreError."""
        await self._limit_book.refresh()
        await self._budget_book.refresh()

    @contextlib.asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Borrow and tell. It ends before the spool directory is closed, whose leases end with it."""
        async with contextlib.AsyncExitStack() as stack:
            for rounds in (self.lessee, self.telling):
                rounds.start()
                stack.push_async_callback(rounds.stop)
            yield

    def show_in(self, metrics: Metrics) -> None:
        """What a scrape tells of them."""
        metrics.watch("luntrex_allowances_away", lambda: int(self.away))
        metrics.watch("luntrex_budget_unchecked_total", lambda: self.budgets.unchecked)
        metrics.watch("luntrex_budget_unpriced_total", lambda: self.budgets.unpriced)
        metrics.watch("luntrex_budget_alerts_total", lambda: self._alerts_raised)

    async def raise_alerts(self) -> None:
        """Tell when a budget has reached a part of its amount: once, whichever process sees it first."""
        while True:
            await asyncio.sleep(_ALERTS_EVERY_S)
            with contextlib.suppress(StoreError):
                for one in await raise_budgets(self._pool, self._alerts):
                    self._alerts_raised += 1
                    log.warning(
                        "luntrex.budget_reached",
                        account_id=one.account_id,
                        key_id=one.key_id,
                        period=one.period,
                        percent=one.percent,
                    )
