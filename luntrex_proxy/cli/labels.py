"""`accounts labels ...` and `keys label`: what keys can carry, and what each carries; see `store/labels.py`."""

import datetime
from typing import Any, Final

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.core.labels import BadLabelError, check_name, read_labels
from luntrex_proxy.store import accounts
from luntrex_proxy.store import labels as table
from luntrex_proxy.store.labels import Declaration

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_ANY: Final = "any"


@click.group()
def labels() -> None:
    """Which labels keys of an account can carry, such as project or cost_centre: up to five."""


@labels.command("list")
@click.argument("account")
@_json
@click.pass_context
def list_labels(context: click.Context, account: str, as_json: bool) -> None:
    """Show the labels of an account, their values, and how many keys carry them."""

    async def body(opened: Opened) -> list[Declaration]:
        return await table.list_declared(opened.pool, (await accounts.get(opened.pool, account)).account_id)

    found = run_verb(context, body)
    if as_json:
        print_json([_as_object(each) for each in found])
    else:
        print_table(("LABEL", "VALUES", "KEYS"), [(each.name, _values(each), each.keys) for each in found])


@labels.command()
@click.argument("account")
@click.argument("label")
@click.argument("values", metavar="[VALUE]...", nargs=-1)
@_json
@click.pass_context
def declare(context: click.Context, account: str, label: str, values: tuple[str, ...], as_json: bool) -> None:
    """Let keys of ACCOUNT carry LABEL, with one of these values; without any, with every word."""
    found = run_verb(context, lambda opened: table.declare(opened.pool, account, label, values or None))
    if as_json:
        print_json(_as_object(found))
    else:
        click.echo(f"Keys of {account} can carry the label {label}; its values: {_values(found)}.")


@labels.command()
@click.argument("account")
@click.argument("label")
@_json
@click.pass_context
def remove(context: click.Context, account: str, label: str, as_json: bool) -> None:
    """Take back a label that no key carries any more. Usage of before keeps it."""
    run_verb(context, lambda opened: table.remove(opened.pool, account, label))
    if as_json:
        print_json({"removed": label})
    else:
        click.echo(f"Keys of {account} cannot carry the label {label} any more.")


@click.command("label")
@click.argument("key_id", metavar="ID")
@click.argument("words", metavar="[LABEL=VALUE]...", nargs=-1)
@click.option("--clear", "cleared", metavar="LABEL", multiple=True, help="Take this label away.")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d"]),
    help="The first UTC day whose usage counts for it. Default: today; a day that has passed changes what was counted.",
)
@_json
@click.pass_context
def label_key(
    context: click.Context,
    key_id: str,
    words: tuple[str, ...],
    cleared: tuple[str, ...],
    since: datetime.datetime | None,
    as_json: bool,
) -> None:
    """Give a key labels that its account declares, such as project=search. Labels that are not named stay.

    Usage of a day counts for the label of that day: days before stay as they were.
    """
    wanted: dict[str, str | None] = {**labels_of(words)}
    for name in cleared:
        try:
            check_name(name)
        except BadLabelError as error:
            raise click.UsageError(str(error)) from None
        if name in wanted:
            raise click.UsageError(f"--clear {name} and a new value of it contradict each other.")
        wanted[name] = None
    if not wanted:
        raise click.UsageError("Say what to change: LABEL=VALUE or --clear LABEL.")
    day = None if since is None else since.date()
    key = run_verb(context, lambda opened: table.of_key(opened.pool, key_id, wanted, since=day))
    if as_json:
        print_json({"id": key.key_id, "labels": key.labels})
    else:
        click.echo(f"Key {key.key_id} carries {labels_in_words(key.labels) or 'no label'}.")


def labels_of(words: tuple[str, ...]) -> dict[str, str]:
    """Labels as somebody wrote them; UsageError: they are none."""
    try:
        return read_labels(words)
    except BadLabelError as error:
        raise click.UsageError(str(error)) from None


def labels_in_words(labels: dict[str, str]) -> str:
    """As they are written."""
    return ", ".join(f"{name}={labels[name]}" for name in sorted(labels))


def _values(declaration: Declaration) -> str:
    return _ANY if declaration.allowed is None else ", ".join(sorted(declaration.allowed))


def _as_object(declaration: Declaration) -> dict[str, Any]:
    values = None if declaration.allowed is None else sorted(declaration.allowed)
    return {"label": declaration.name, "values": values, "keys": declaration.keys}
