"""What accounts are charged by month: shown to who may see bills, closed by who runs the installation."""

import uuid
from datetime import date

from luntrex_proxy.control import accounts, work
from luntrex_proxy.store import accounts as account_table
from luntrex_proxy.store import statements as table
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.statements import Closed, Line, Statement
from luntrex_proxy.store.usage import micros

__all__ = ["Closed", "Line", "Statement", "begin_closing", "close", "due", "get", "list_page", "micros"]
list_page = table.list_page


async def get(pool: Pool, account_id: int, month: date) -> Statement:
    """The statement of a month, frozen or as it would be now."""
    return await table.get(pool, (await accounts.get(pool, account_id)).name, month)


async def close(pool: Pool, account_id: int, month: date) -> Statement:
    """Freeze the statement of a month that is over; one that is frozen stays as it is."""
    return (await table.close(pool, (await accounts.get(pool, account_id)).name, month))[0]


async def due(pool: Pool, month: date) -> list[tuple[str, date]]:
    """Accounts and months to close with this month: all of this one, and what was missed when an earlier one was."""
    names = [one.name for one in await account_table.list_all(pool)]
    return [*await table.missed(pool, month), *((name, month) for name in names)]


async def begin_closing(pool: Pool, month: date) -> uuid.UUID:
    """Close a month that is over for all accounts, beside whoever asks; the id of the work. RefusedError."""

    async def job(progress: work.Progress) -> None:
        wanted = await due(pool, month)
        closed, cost_pico = 0, 0
        for number, (name, of) in enumerate(wanted, 1):
            try:
                statement, is_new = await table.close(pool, name, of, although_empty=False)
            except RefusedError as refused:
                if refused.code != "no_account":  # which was erased meanwhile
                    raise
            else:
                closed += is_new
                cost_pico += statement.cost_pico if is_new else 0
            progress.to(number, len(wanted))
            progress.result = {"closed": closed, "cost_pico": str(cost_pico)}

    return await work.start(pool, "closing", {"month": month.isoformat()}, job)
