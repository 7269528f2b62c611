"""`luntrex-proxy keys ...`: reads arguments, prints results; what happens is in `store/apikeys.py`.

A new key goes to stdout only, once; hints go to stderr where stdout is for a program.
"""

import datetime
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, BinaryIO, Final

import click

from luntrex_proxy.cli.labels import label_key, labels_in_words, labels_of
from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.options import FiniteRange
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.control.clients import environment_lines, gateway_url
from luntrex_proxy.core.scope import ENDPOINTS, BadScopeError, Scope, read_scope
from luntrex_proxy.store import apikeys as table
from luntrex_proxy.store import keytransfer as transfer
from luntrex_proxy.store.apikeys import NewKey
from luntrex_proxy.store.keyrows import KeyInfo, Terms

_HINT: Final = "This is the only time the key is shown; keep it in a safe place."
_DEFAULT_OVERLAP_HOURS: Final = 24.0
_LONGEST_OVERLAP_HOURS: Final = table.LONGEST_OVERLAP_S / 3600
_TIME: Final = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"])
_KINDS: Final = Scope.__struct_fields__
_OPTIONS: Final = ("endpoint", "model", "region", "network")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _check_url(_: click.Context, __: click.Parameter, url: str | None) -> str | None:
    if url is not None and not url.startswith(("http://", "https://")):
        raise click.BadParameter("write it as https://gateway.example.")
    return url


_base_url = click.option(
    "--base-url", metavar="URL", callback=_check_url, help="Where clients reach the gateway, for the printed lines."
)


def _limits(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say what a key is limited to; each may be given several times."""
    for option, kind, text in (
        ("--network", "networks", "Only clients in this network, such as 192.0.2.0/24."),
        ("--region", "regions", "Only upstreams of this region."),
        ("--model", "models", "Only this model; a name, or its beginning and *."),
        ("--endpoint", "endpoints", f"Only this endpoint: {', '.join(ENDPOINTS)}."),
    ):
        command = click.option(option, kind, multiple=True, metavar=option[2:].upper(), help=text)(command)
    return command


@click.group()
def keys() -> None:
    """API keys of accounts."""


keys.add_command(label_key)


@keys.command()
@click.option("--account", required=True, metavar="NAME", help="The account the key belongs to.")
@click.option("--name", required=True, help="Your name for the key.")
@click.option("--not-before", type=_TIME, help="When the key begins to work, in UTC. Default: at once.")
@click.option("--expires", type=_TIME, help="When the key ends, in UTC. Default: never.")
@click.option("--label", "labels", metavar="LABEL=VALUE", multiple=True, help="A label that the account declares.")
@_limits
@_base_url
@_json
@click.pass_context
def create(
    context: click.Context,
    /,
    account: str,
    name: str,
    not_before: datetime.datetime | None,
    expires: datetime.datetime | None,
    labels: tuple[str, ...],
    base_url: str | None,
    as_json: bool,
    **limits: tuple[str, ...],
) -> None:
    """Make a key and print it, this once."""
    terms = Terms(_utc(not_before), _utc(expires), _scope(limits), labels_of(labels))

    async def body(opened: Opened) -> tuple[NewKey, str]:
        lookup = await opened.lookup()
        made = await table.create(opened.pool, lookup, account, name, terms)
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
    print_table(
        ("ID", "ACCOUNT", "NAME", "STATE", "CREATED", "LAST USED", "EXPIRES", "LIMITED TO", "REPLACES", "LABELS"),
        [
            (k.key_id, k.account, k.name, k.state, k.created_at, k.last_used_at, k.expires_at, _limited_to(k),
             k.rotated_from, labels_in_words(k.labels) or None)
            for k in found
        ],
    )  # fmt: skip


@keys.command()
@click.argument("key_id", metavar="ID")
@_limits
@click.option("--no-limit", "freed", type=click.Choice(_KINDS), multiple=True, help="Take a kind of limit away.")
@_json
@click.pass_context
def limit(
    context: click.Context, /, key_id: str, freed: tuple[str, ...], as_json: bool, **limits: tuple[str, ...]
) -> None:
    """Change what a key is limited to. Kinds that are not named stay; requests under way are not touched."""
    kinds = {kind for kind in _KINDS if limits[kind]} | set(freed)
    if not kinds:
        raise click.UsageError(f"Say what to change: --{', --'.join(_OPTIONS)} or --no-limit.")
    both = sorted(kind for kind in freed if limits[kind])
    if both:
        raise click.UsageError(f"--no-limit {both[0]} and a new limit of that kind contradict each other.")
    scope = _scope(limits)
    key = run_verb(context, lambda opened: table.limit(opened.pool, key_id, scope, kinds))
    _print_one(key, as_json, f"Key {key.key_id} is limited to {_limited_to(key) or 'nothing'}.")


@keys.command()
@click.argument("key_id", metavar="ID")
@_json
@click.pass_context
def suspend(context: click.Context, key_id: str, as_json: bool) -> None:
    """Stop a key until it is resumed; what runs with it is cut."""
    key = run_verb(context, lambda opened: table.suspend(opened.pool, key_id))
    _print_one(key, as_json, f"Key {key.key_id} ({key.name} of {key.account}) is suspended.")


@keys.command()
@click.argument("key_id", metavar="ID")
@_json
@click.pass_context
def resume(context: click.Context, key_id: str, as_json: bool) -> None:
    """Let a suspended key work again."""
    key = run_verb(context, lambda opened: table.resume(opened.pool, key_id))
    _print_one(key, as_json, f"Key {key.key_id} ({key.name} of {key.account}) is {key.state}.")


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option(
    "--overlap-hours",
    type=FiniteRange(0, _LONGEST_OVERLAP_HOURS),
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
        made = await table.rotate(opened.pool, await opened.lookup(), key_id, overlap_s=overlap_hours * 3600)
        return made, base_url or gateway_url(opened.settings)

    _print_new(*run_verb(context, body), as_json)


@keys.command()
@click.argument("key_id", metavar="ID")
@_json
@click.pass_context
def revoke(context: click.Context, key_id: str, as_json: bool) -> None:
    """End a key for good."""
    key = run_verb(context, lambda opened: table.revoke(opened.pool, key_id))
    _print_one(key, as_json, f"Key {key.key_id} ({key.name} of {key.account}) is revoked.")


@keys.command("export")
@click.option("--account", metavar="NAME", help="Only this account's keys.")
@click.pass_context
def export_keys(context: click.Context, account: str | None) -> None:
    """Print keys that work as JSON lines, for `keys import` elsewhere: bcrypt hashes, never a key.

    A member's key names its owner by e-mail address: keep the lines as you keep such addresses. Keys that are
    suspended, by themselves or with their account, or whose person asked that data only be stored, are left out, and
    so are limits and budgets: they are this installation's.
    """
    exported = run_verb(context, lambda opened: transfer.export_lines(opened.pool, account))
    for line in exported.lines:
        click.echo(line)
    if exported.stopped:
        click.echo(
            f"{exported.stopped} keys are left out: they or their account are suspended (`luntrex-proxy keys list`), "
            "or their person asked that data only be stored.",
            err=True,
        )


@keys.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--account", metavar="NAME", help="Put all of them into this account, not those of the same names.")
@_json
@click.pass_context
def import_keys(context: click.Context, file: BinaryIO, account: str | None, as_json: bool) -> None:
    """Take over keys of another installation, all or none; FILE - is stdin. bcrypt checks each at its first use."""
    lines = file.read().splitlines()
    taken = run_verb(context, lambda opened: transfer.import_lines(opened.pool, lines, account))
    if as_json:
        print_json({"imported": taken.keys, "without_member": taken.without_member})
        return
    click.echo(f"{taken.keys} keys are taken over.")
    if taken.without_member:
        click.echo(f"{taken.without_member} of them were members' keys and are the account's own here.")


def _utc(time: datetime.datetime | None) -> datetime.datetime | None:
    return time.replace(tzinfo=datetime.UTC) if time else None


def _scope(limits: Mapping[str, tuple[str, ...]]) -> Scope:
    try:
        return read_scope(**limits)
    except BadScopeError as error:
        raise click.UsageError(str(error)) from None


def _limited_to(key: KeyInfo) -> str | None:
    words = [f"{kind}: {', '.join(given)}" for kind in _KINDS if (given := getattr(key, kind))]
    return "; ".join(words) or None


def _print_one(key: KeyInfo, as_json: bool, sentence: str) -> None:
    if as_json:
        print_json(_as_object(key))
    else:
        click.echo(sentence)


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
    del fields["account_id"], fields["version"]
    return {"id": fields.pop("key_id"), **fields}
