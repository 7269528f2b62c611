"""What accounts are charged by month: shown to who may see bills, closed by who runs the installation."""

from datetime import date

from luntrex_proxy.control import accounts
from luntrex_proxy.store import statements as table
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.statements import Closed, Line, Statement
from luntrex_proxy.store.usage import micros

__all__ = ["Closed", "Line", "Statement", "close", "get", "list_page", "micros"]
list_page = table.list_page


async def get(pool: Pool, account_id: int, month: date) -> Statement:
    """The statement of a month, frozen or as it would be now."""
    return await table.get(pool, (await accounts.get(pool, account_id)).name, month)


async def close(pool: Pool, account_id: int, month: date) -> Statement:
    """Freeze the statement of a month that is over; one that is frozen stays as it is."""
    return (await table.close(pool, (await accounts.get(pool, account_id)).name, month))[0]
