"""`luntrex-proxy apply`: reads the file, prints what was done; what that is, others decide (core/declared.py)."""

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_json

if TYPE_CHECKING:
    from luntrex_proxy.control.applying import Change, NewKey

_LEFT_ALONE = "What the file does not name is left alone."
_HINT = "This is the only time a key is shown; keep them in a safe place."


@click.command()
@click.option("-f", "--file", "file", type=click.File("rb"), required=True, help="The file, in YAML; - is stdin.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def apply(context: click.Context, file: BinaryIO, dry_run: bool, as_json: bool) -> None:
    """Bring accounts, members and keys to what FILE says: all of it, or nothing. Doing it twice changes nothing.

    What the file does not name is left alone: other accounts, members, keys, and fields that are not given. A key that
    has ended is made anew; `status: revoked` ends one, `role: none` ends a membership. New keys are printed, this once.
    """
    from luntrex_proxy.control.applying import ImpossibleError, bring_about  # noqa: PLC0415 -- --help needs none
    from luntrex_proxy.settings.declared import read_declared  # noqa: PLC0415 -- as above
    from luntrex_proxy.settings.documents import MAX_FILE_BYTES  # noqa: PLC0415 -- as above

    declared = read_declared(str(getattr(file, "name", "<stdin>")), file.read(MAX_FILE_BYTES + 1))

    async def body(opened: Opened) -> "tuple[list[Change], dict[tuple[str, str], NewKey]]":
        now = datetime.fromtimestamp(time.time(), UTC)
        return await bring_about(opened.pool, await opened.lookup(), declared.wanted, now, dry_run=dry_run)

    try:
        changes, made = run_verb(context, body)
    except ImpossibleError as error:
        for fault in error.faults:
            click.echo(declared.line(fault.loc, fault.sentence), err=True)
        raise click.ClickException("Nothing was changed.") from None
    if as_json:
        print_json({"dry_run": dry_run, "changes": [_as_object(change, made) for change in changes]})
    else:
        _print(changes, made, dry_run)
    if made:
        click.echo(_HINT, err=True)


def _print(changes: "list[Change]", made: "dict[tuple[str, str], NewKey]", dry_run: bool) -> None:
    for change in changes:
        what = f"{change.account}/{change.name}" if change.name else change.account
        steps = (
            ""
            if change.before is None and change.after is None
            else f": {_said(change.before)} -> {_said(change.after)}"
        )
        click.echo(f"{change.act:20} {what}{steps}")
        new = made.get((change.account, change.name))
        if change.act == "key.created" and new is not None:
            click.echo(f"  id:  {new.info.key_id}\n  key: {new.key}")
    would = "would be " if dry_run else ""
    click.echo(f"{len(changes)} changes {would}made. {_LEFT_ALONE}" if changes else f"Nothing to change. {_LEFT_ALONE}")


def _said(value: str | None) -> str:
    return "-" if value is None else value


def _as_object(change: "Change", made: "dict[tuple[str, str], NewKey]") -> dict[str, Any]:
    fields: dict[str, Any] = {
        "act": change.act,
        "account": change.account,
        "name": change.name or None,
        "before": change.before,
        "after": change.after,
    }
    new = made.get((change.account, change.name))
    if change.act == "key.created" and new is not None:
        return fields | {"id": new.info.key_id, "key": new.key}
    return fields
