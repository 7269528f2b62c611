"""/accounts/{account_id}/invoices: what an account is billed, as far as invoices are written down."""

import uuid
from datetime import date
from decimal import Decimal
from typing import Final

from pydantic import Field

from luntrex_proxy.console.api.operations import Call, Listed, Operation, PageQuery, Shown, page
from luntrex_proxy.control import billing
from luntrex_proxy.control.billing import Invoice
from luntrex_proxy.core.roles import Permission


class InvoiceShown(Shown):
    """An invoice."""

    id: uuid.UUID
    number: str
    recipient: str
    country: str = Field(description="Whose law says how long it is kept: two capital letters.")
    amount: Decimal
    currency: str
    issued_on: date
    paid_on: date | None = Field(description="null: it is still to be paid.")
    keep_until: date = Field(description="The last day on which the law wants it kept.")
    month: date | None = Field(description="First day of the month whose statement it bills; null: something else.")


async def _list(call: Call) -> Listed:
    after = None if call.after is None else (date.fromisoformat(call.after[0]), uuid.UUID(call.after[1]))
    found = await billing.list_page(call.services.pool, call.account_id, after, call.rows)
    return page(call, found, _shown, lambda one: (one.issued_on.isoformat(), str(one.invoice_id)))


async def _get(call: Call) -> InvoiceShown:
    return _shown(await billing.get(call.services.pool, call.account_id, uuid.UUID(call.place["invoice_id"])))


def _shown(invoice: Invoice) -> InvoiceShown:
    fields = {name: getattr(invoice, name) for name in InvoiceShown.model_fields if name != "id"}
    return InvoiceShown(id=invoice.invoice_id, **fields)


OPERATIONS: Final = (
    Operation(
        name="invoices.list", method="GET", path="/accounts/{account_id}/invoices",
        summary="List an account's invoices, newest first.",
        access=(Permission.BILLING_READ,), handler=_list, query=PageQuery, answer=InvoiceShown,
    ),
    Operation(
        name="invoices.get", method="GET", path="/accounts/{account_id}/invoices/{invoice_id}",
        summary="Show an invoice.", access=(Permission.BILLING_READ,), handler=_get, answer=InvoiceShown,
    ),
)  # fmt: skip
