"""`luntrex-proxy rights hold|lift-hold|holds`: what may not be deleted for now, because a court needs it."""

from dataclasses import asdict
from typing import Any

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.people import person_of
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.store import accounts
from luntrex_proxy.store import holds as table
from luntrex_proxy.store.holds import Hold

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@click.argument("case")
@click.option("--person", help="Address or id of a person.")
@click.option("--account", help="Name of an account.")
@_json
@click.pass_context
def hold(context: click.Context, case: str, person: str | None, account: str | None, as_json: bool) -> None:
    """Hold everything of a person or an account for the file number CASE."""
    if (person is None) == (account is None):
        raise click.UsageError("Give --person or --account.")

    async def body(opened: Opened) -> Hold:
        if person is not None:
            return await table.place(opened.pool, case, await person_of(opened, person))
        return await table.place(opened.pool, case, (await accounts.get(opened.pool, account or "")).account_id)

    _print([run_verb(context, body)], as_json)


@click.command("lift-hold")
@click.argument("hold_id", type=click.IntRange(1))
@_json
@click.pass_context
def lift_hold(context: click.Context, hold_id: int, as_json: bool) -> None:
    """End a hold: erasures that waited for it are carried out, and what is old goes."""
    _print([run_verb(context, lambda opened: table.lift(opened.pool, hold_id))], as_json)


@click.command()
@_json
@click.pass_context
def holds(context: click.Context, as_json: bool) -> None:
    """List all holds."""
    _print(run_verb(context, lambda opened: table.list_all(opened.pool)), as_json)


def _print(found: list[Hold], as_json: bool) -> None:
    rows: list[dict[str, Any]] = [asdict(each) for each in found]
    if as_json:
        print_json(rows)
    else:
        columns = ("hold_id", "person_id", "account", "case_reference", "placed_at")
        print_table([name.upper() for name in columns], [tuple(row[name] for name in columns) for row in rows])
