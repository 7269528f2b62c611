"""`luntrex-proxy privacy ...`: what is kept about people, and why."""

from dataclasses import asdict

import click

from luntrex_proxy.cli.opening import run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.store import inventory as schema


@click.group()
def privacy() -> None:
    """What is kept about people, and why."""


@privacy.command()
@click.option("--personal", is_flag=True, help="Only what belongs to a person or an account.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def inventory(context: click.Context, personal: bool, as_json: bool) -> None:
    """List every table and column there is, with its purpose, legal basis, retention class and subject."""
    items = run_verb(context, lambda opened: schema.inventory(opened.pool))
    shown = [item for item in items if item.subject != "none" or not personal]
    if as_json:
        print_json([asdict(item) for item in shown])
        return
    print_table(
        ("TABLE", "COLUMN", "PURPOSE", "BASIS", "KEPT", "SUBJECT"),
        [(i.table, i.column or None, i.purpose, i.basis, i.retention, i.subject) for i in shown],
    )
