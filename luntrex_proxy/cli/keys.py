"""`luntrex-proxy keys ...`: reads arguments, prints results; what happens is in `store/apikeys.py`.

A new key goes to stdout only, once; hints go to stderr where stdout is for a program.
"""

import datetime
from dataclasses import asdict
from typing import Any, Final

import click

from luntrex_proxy.cli.environment import environment_lines, gateway_url
from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.store import apikeys as table
from luntrex_proxy.store.apikeys import KeyInfo, NewKey
from luntrex_proxy.store.pepper import Lookup, load_pepper, open_lookup

_HINT: Final = "This is the only time the key is shown; keep it in a safe place."
_DEFAULT_OVERLAP_HOURS: Final = 24.0
_LONGEST_OVERLAP_HOURS: Final = 24.0 * 7
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_base_url = click.option("--base-url", metavar="URL", help="Where clients reach the gateway, for the printed lines.")


@click.group()
def keys() -> None:
    """API keys of accounts."""


@keys.command()
@click.option("--account", required=True, metavar="NAME", help="The account the key belongs to.")
@click.option("--name", required=True, help="Your name for the key.")
@click.option(
    "--expires",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"]),
    help="When the key ends, in UTC. Default: never.",
)
@_base_url
@_json
@click.pass_context
def create(
    context: click.Context,
    account: str,
    name: str,
    expires: datetime.datetime | None,
    base_url: str | None,
    as_json: bool,
) -> None:
    """Make a key and print it, this once."""
    expires_at = expires.replace(tzinfo=datetime.UTC) if expires else None

    async def body(opened: Opened) -> tuple[NewKey, str]:
        lookup = await _lookup(opened)
        made = await table.create(opened.pool, lookup, account, name, expires_at=expires_at)
        return made, base_url or gateway_url(opened.settings)

    _print_new(*run_verb(context, body), as_json)


@keys.command("list")
@click.option("--account", metavar="NAME", help="Only this account's keys.")
@_json
@click.pass_context
def list_keys(context: click.Context, account: str | None, as_json: bool) -> None:
    """Show keys, without their secrets."""
    found = run_verb(context, lambda opened: table.list_all(opened.pool, account))
    if as_json:
        print_json([_as_object(key) for key in found])
        return
    rows = [(k.key_id, k.account, k.name, k.state, k.created_at, k.expires_at, k.rotated_from) for k in found]
    print_table(("ID", "ACCOUNT", "NAME", "STATE", "CREATED", "EXPIRES", "REPLACES"), rows)


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option(
    "--overlap-hours",
    type=click.FloatRange(0, _LONGEST_OVERLAP_HOURS),
    default=_DEFAULT_OVERLAP_HOURS,
    show_default=True,
    help="How long the old key still works.",
)
@_base_url
@_json
@click.pass_context
def rotate(context: click.Context, key_id: str, overlap_hours: float, base_url: str | None, as_json: bool) -> None:
    """Replace a key; the old one works on for the overlap."""

    async def body(opened: Opened) -> tuple[NewKey, str]:
        made = await table.rotate(opened.pool, await _lookup(opened), key_id, overlap_s=overlap_hours * 3600)
        return made, base_url or gateway_url(opened.settings)

    _print_new(*run_verb(context, body), as_json)


@keys.command()
@click.argument("key_id", metavar="ID")
@_json
@click.pass_context
def revoke(context: click.Context, key_id: str, as_json: bool) -> None:
    """End a key for good."""
    key = run_verb(context, lambda opened: table.revoke(opened.pool, key_id))
    if as_json:
        print_json(_as_object(key))
    else:
        click.echo(f"Key {key.key_id} ({key.name} of {key.account}) is revoked.")


async def _lookup(opened: Opened) -> Lookup:
    return await open_lookup(opened.pool, load_pepper(opened.state_directory))


def _print_new(made: NewKey, base_url: str, as_json: bool) -> None:
    if as_json:
        info = _as_object(made.info)
        print_json({"id": info.pop("id"), "key": made.key, **info, "base_url": base_url})
        click.echo(_HINT, err=True)
        return
    click.echo(f"id:  {made.info.key_id}\nkey: {made.key}\n\n{_HINT}\n")
    click.echo(environment_lines(base_url, made.key))


def _as_object(key: KeyInfo) -> dict[str, Any]:
    fields = asdict(key)
    return {"id": fields.pop("key_id"), **fields}
