"""What an account is billed: its invoices, as far as they are written down."""

import uuid

from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.store import billing as table
from luntrex_proxy.store.billing import Invoice
from luntrex_proxy.store.database import Pool

__all__ = ["Invoice", "get", "list_page"]
list_page = table.list_page


async def get(pool: Pool, account_id: int, invoice_id: uuid.UUID) -> Invoice:
    """An invoice of the account; any other raises NotFoundError."""
    found = await table.find(pool, invoice_id=invoice_id)
    if found is None or found.account_id != account_id:
        raise NotFoundError
    return found
