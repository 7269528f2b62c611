"""`luntrex-proxy registry ...`: who else gets data, what is agreed with them, and which accounts object."""

import datetime
import time
from dataclasses import asdict
from typing import Any, Final

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.core.registry import BadEntryError, Entry, checked
from luntrex_proxy.store import registry as table
from luntrex_proxy.store.errors import RefusedError

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_day = click.DateTime(["%Y-%m-%d"])
_OPTIONS: Final = {"hosts": "host", "kept": "retention"}  # where they are called otherwise


@click.group()
def registry() -> None:
    """Who else gets data: sub-processors, and objections to them."""


@registry.command("list")
@_json
@click.pass_context
def list_places(context: click.Context, as_json: bool) -> None:
    """Show every remote place of the configuration, and what the register says of it."""
    from luntrex_proxy.control import registry as control  # noqa: PLC0415 -- pydantic is slow and --help needs none

    found = run_verb(context, lambda opened: control.places(opened.pool, opened.settings, _now()))
    rows = [{"for" if name == "purpose" else name: said for name, said in asdict(each).items()} for each in found]
    if as_json:
        print_json(rows)
        return
    print_table(
        ("PLACE", "FOR", "SUB-PROCESSOR", "STATE", "USED", "WHY"),
        [
            (row["place"], row["for"], row["subprocessor"], row["state"], "yes" if row["used"] else "no", row["why"])
            for row in rows
        ],
    )


@registry.command()
@click.argument("name")
@_json
@click.pass_context
def show(context: click.Context, name: str, as_json: bool) -> None:
    """Show all versions of an entry, the oldest first."""
    found = run_verb(context, lambda opened: table.entries(opened.pool, name))
    if not found:
        raise RefusedError("There is no entry of this name; `luntrex-proxy registry list` shows all.")
    if as_json:
        print_json([asdict(entry) | {"missing": entry.missing()} for entry in found])
        return
    print_table(
        ("VERSION", "HOLDS FROM", "HOSTS", "PURPOSE", "REGION", "KEPT", "TRAINING", "AGREEMENT", "REVIEW", "MISSING"),
        [
            (e.entry_version, e.effective_at, ", ".join(e.hosts), e.purpose, e.region, e.kept, e.training,
             f"{e.agreement} ({e.agreed_on})", e.next_review, ", ".join(e.missing()) or None)
            for e in found
        ],
    )  # fmt: skip


@registry.command("set")
@click.argument("name")
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="A host that is theirs; .example.com: any below.")
@click.option("--purpose", help="What they do for you.")
@click.option("--region", help="Where they process data, in the word that upstreams[].region has.")
@click.option("--retention", "kept", metavar="WORDS", help="What they keep: none, or as in abuse_monitoring:30.")
@click.option("--training", type=click.Choice(["never", "unless_opted_out", "yes"]), help="Whether they train on it.")
@click.option("--agreement", metavar="REFERENCE", help="The data processing agreement.")
@click.option("--agreed-on", type=_day, help="Its date.")
@click.option("--commitments", help="What they are bound to: confidentiality, security.")
@click.option("--evidence", help="Where that can be read.")
@click.option("--next-review", type=_day, help="Until when the entry counts: 12 months at most.")
@click.option("--in-use", is_flag=True, help="Accounts' data goes there already: it holds at once.")
@_json
@click.pass_context
def set_entry(context: click.Context, /, name: str, in_use: bool, as_json: bool, **given: Any) -> None:
    """Make an entry, or a new version of it; what is left out stays. Incomplete entries get nothing.

    A change that lets them do more holds after 30 days, so that accounts can object before.
    """
    changes = {field: value for field, value in given.items() if value not in (None, ())}
    if not changes:
        raise click.UsageError("Say what of the entry to set.")
    changes = _checked(changes)
    entry = run_verb(context, lambda opened: table.change(opened.pool, name.lower(), changes, in_use=in_use))
    _print(entry, as_json)


@registry.command()
@click.argument("name")
@_json
@click.pass_context
def retire(context: click.Context, name: str, as_json: bool) -> None:
    """Let a sub-processor get nothing any more, within seconds."""
    entry = run_verb(context, lambda opened: table.change(opened.pool, name, {"retired": True}))
    if as_json:
        _print(entry, as_json)
    else:
        click.echo(f"{name} is retired and gets nothing any more.")


@registry.command("object")
@click.argument("account")
@click.argument("name")
@click.option("--withdraw", is_flag=True, help="Take the objection back.")
@click.pass_context
def object_to(context: click.Context, account: str, name: str, withdraw: bool) -> None:
    """Note that an account objects to a sub-processor: nothing of the account goes there, within seconds."""
    from luntrex_proxy.settings.registry import SHIPPED  # noqa: PLC0415 -- see above

    async def body(opened: Opened) -> None:
        known = {known.name for known in SHIPPED} | {entry.name for entry in await table.entries(opened.pool)}
        if name not in known:
            raise RefusedError("There is no sub-processor of this name; `luntrex-proxy registry list` shows all.")
        await (table.withdraw_objection if withdraw else table.object_to)(opened.pool, account, name)

    run_verb(context, body)
    click.echo(f"{account} {'does not object to' if withdraw else 'objects to'} {name}{' any more' * withdraw}.")


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    """The values in the form that the table has them. Raises UsageError."""
    days = {name: value.date() for name, value in given.items() if isinstance(value, datetime.datetime)}
    try:
        return checked(given | days, _now().date())
    except BadEntryError as error:
        raise click.UsageError(f"--{_OPTIONS.get(error.field, error.field).replace('_', '-')} {error}.") from None


def _print(entry: Entry, as_json: bool) -> None:
    if as_json:
        print_json(asdict(entry) | {"missing": entry.missing()})
        return
    click.echo(f"Version {entry.entry_version} of {entry.name} holds from {entry.effective_at:%Y-%m-%d %H:%M}Z on.")
    if entry.missing():
        click.echo(f"It gets nothing until somebody says: {', '.join(entry.missing())}.")


def _now() -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
