"""`luntrex-proxy audit ...`: who did what, and whether the log is as it was written."""

import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.control import acts
from luntrex_proxy.store import audit as table
from luntrex_proxy.store.anchors import ANCHOR_FILE, Anchor, AnchorKey, append_anchor, own_public_key, read_anchors
from luntrex_proxy.store.audit import Shown, Verdict

_PUBLIC_KEY_HEX: Final = 64
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def audit() -> None:
    """Who did what, and whether the log is whole."""


@audit.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many, newest first.")
@click.option("--account", metavar="NAME", help="Only what concerns this account.")
@click.option("--act", metavar="ACT", help="Only this act, such as key.revoked.")
@_json
@click.pass_context
def list_entries(context: click.Context, limit: int, account: str | None, act: str | None, as_json: bool) -> None:
    """Show the newest entries."""

    async def body(opened: Opened) -> list[Shown]:
        found = await table.newest(opened.pool, limit, account, act)
        await acts.record_read(opened.pool, "audit.list")
        return found

    found = run_verb(context, body)
    if as_json:
        print_json([asdict(entry) for entry in found])
        return
    print_table(
        ("NUMBER", "AT", "ACT", "OF", "ACCOUNT", "BY", "FACTS"),
        [
            (e.sequence, e.at, e.act, e.object_id, e.account, f"{e.actor} {e.personal.get('actor', '')}",
             ", ".join(f"{name} {_said(value)}" for name, value in e.facts.items()))
            for e in found
        ],
    )  # fmt: skip


@audit.command()
@click.option(
    "--anchors", "files", type=click.Path(path_type=Path, exists=True, dir_okay=False), multiple=True,
    help="A file of anchors, or of the log lines luntrex.audit_anchored; a copy from another machine proves most. "
    "Default: the one in the state directory.",
)  # fmt: skip
@click.option("--key", "keys", metavar="HEX", multiple=True, help="A public key to trust besides this machine's own.")
@_json
@click.pass_context
def verify(context: click.Context, files: tuple[Path, ...], keys: tuple[str, ...], as_json: bool) -> None:
    """Read the whole log and compare it with the anchors; exit status 1 when anything was changed."""
    trusted = [_public_key(key) for key in keys]

    async def body(opened: Opened) -> Verdict:
        own = opened.state_directory / ANCHOR_FILE
        key = own_public_key(opened.state_directory)
        public_keys = [*trusted, *([] if key is None else [key])]
        paths = files or ((own,) if own.exists() else ())
        anchors = [anchor for path in paths for anchor in read_anchors(path, public_keys)]
        line = datetime.fromtimestamp(time.time(), UTC) - timedelta(days=opened.settings.retention.audit_days)
        return await table.verify(opened.pool, anchors, line)

    verdict = run_verb(context, body)
    if as_json:
        print_json(asdict(verdict) | {"unprotected": verdict.unprotected})
    else:
        for fault in verdict.faults:
            click.echo(fault)
        click.echo(
            f"{verdict.entries} entries, {verdict.anchors} anchors. "
            + (f"Up to entry {verdict.anchored} the log is as it was anchored. " if not verdict.faults else "")
            + f"{verdict.unprotected} entries after the last anchor could have been made anew."
        )
    if verdict.faults:
        raise click.exceptions.Exit(1)


@audit.command()
@_json
@click.pass_context
def anchor(context: click.Context, as_json: bool) -> None:
    """Sign the log's present end, and print the line; a daemon does it every hour."""

    async def body(opened: Opened) -> Anchor:
        sequence, hashed = await table.head(opened.pool)
        key = await AnchorKey.open(opened.state_directory, opened.wrappings)
        made = key.sign(sequence, hashed, datetime.fromtimestamp(time.time(), UTC))
        append_anchor(opened.state_directory, made)
        return made

    made = run_verb(context, body)
    shown = made.as_text()
    if as_json:
        print_json(shown)
    else:
        print_table(tuple(name.upper() for name in shown), [tuple(shown.values())])


def _public_key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) * 2 != _PUBLIC_KEY_HEX:
        raise click.UsageError(f"--key is {_PUBLIC_KEY_HEX} hexadecimal digits, as `audit anchor` prints them.")
    return key


def _said(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
