"""`luntrex-proxy billing ...`: statements of months, and the invoices that are written down. Nothing is issued here."""

from dataclasses import asdict
from typing import Any

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.cli.repricing import reprice_records
from luntrex_proxy.cli.statements import close, reconcile, statement, statements
from luntrex_proxy.control import acts
from luntrex_proxy.store import accounts
from luntrex_proxy.store import billing as table
from luntrex_proxy.store.billing import Invoice
from luntrex_proxy.store.errors import RefusedError

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_COLUMNS = (
    "number",
    "account",
    "recipient",
    "country",
    "amount",
    "currency",
    "issued_on",
    "paid_on",
    "keep_until",
    "month",
)


@click.group()
def billing() -> None:
    """What accounts are billed."""


for _verb in (statement, statements, close, reconcile, reprice_records):
    billing.add_command(_verb)


@billing.command("list")
@click.option("--account", metavar="NAME", help="Only this account.")
@_json
@click.pass_context
def list_invoices(context: click.Context, account: str | None, as_json: bool) -> None:
    """List the invoices, the newest first; those of erased accounts too, which have no name any more."""

    async def body(opened: Opened) -> list[dict[str, Any]]:
        account_id = None if account is None else (await accounts.get(opened.pool, account)).account_id
        await acts.record_read(opened.pool, "invoices.list", account_id)
        return await _named(opened, await table.list_page(opened.pool, account_id))

    _print(run_verb(context, body), as_json)


@billing.command()
@click.argument("number")
@_json
@click.pass_context
def show(context: click.Context, number: str, as_json: bool) -> None:
    """Show the invoice NUMBER, whether it is paid, and until when it is kept."""

    async def body(opened: Opened) -> list[dict[str, Any]]:
        found = await table.find(opened.pool, number=number)
        if found is None:
            raise RefusedError("There is no invoice of this number; `luntrex-proxy billing list` shows all.")
        await acts.record_read(opened.pool, "invoices.get", found.account_id)
        return await _named(opened, [found])

    (invoice,) = run_verb(context, body)
    if as_json:
        print_json(invoice)
    else:
        _print([invoice], as_json)


async def _named(opened: Opened, invoices: list[Invoice]) -> list[dict[str, Any]]:
    """With the accounts' names. The role that reads invoices cannot see them."""
    names = {one.account_id: one.name for one in await accounts.list_all(opened.pool)} if invoices else {}
    return [
        asdict(one)
        | {"invoice_id": str(one.invoice_id), "account": names.get(one.account_id), "amount": str(one.amount)}
        for one in invoices
    ]


def _print(invoices: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(invoices)
    else:
        print_table([name.upper() for name in _COLUMNS], [tuple(one[name] for name in _COLUMNS) for one in invoices])
