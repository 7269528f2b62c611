"""`luntrex-proxy secrets ...`: what the installation keeps secret, and how it is replaced."""

import sys
from dataclasses import asdict

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.store import rotation, sealedsecrets, secretfiles
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.rotation import PepperState
from luntrex_proxy.store.sealing import open_sealer

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def secrets() -> None:
    """What the installation keeps secret."""


@secrets.command()
@_json
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Show by which pepper the live keys are told."""
    _print(run_verb(context, lambda opened: rotation.state_of(opened.pool)), as_json)


@secrets.command()
@click.argument("secret", type=click.Choice(["pepper", "data-key", "wrapping-key"]))
@click.option("--finish", is_flag=True, help="End a rotation of the pepper: forget the old one.")
@click.option("--lost", is_flag=True, help="Go on without it: no file that fits this database is left anywhere.")
@click.option("--force", is_flag=True, help="With --finish: although keys or processes still need the old one.")
@click.option("--to", type=click.Choice(["file", "kms"]), help="With wrapping-key: who keeps the new one.")
@_json
@click.pass_context
def rotate(
    context: click.Context, secret: str, finish: bool, lost: bool, force: bool, to: str | None, as_json: bool
) -> None:
    """Replace what keys and secrets depend on. Nothing stops working.

    pepper: once to begin, and with --finish when the keys have moved. It lies in the state directory. Where several
    machines share the database, copy `pepper` and `pepper.old` to each and restart the processes one after the other,
    at any time before --finish.

    data-key: seals every secret anew. wrapping-key: wraps the data keys anew, by the key of sealing.kms when that is
    set, else with a new wrapping.key in the state directory; sealed files of this machine as well (`secrets seal` does
    it on others). To go back from KMS, use --to file before you remove sealing.kms.
    """
    if to is not None and secret not in ("wrapping-key",):
        raise click.UsageError("--to goes with wrapping-key.")
    if secret in ("data-key", "wrapping-key"):
        if finish or lost or force:
            raise click.UsageError("--finish, --lost and --force go with the pepper.")
        _rotate_sealing(context, secret, to, as_json)
        return
    if finish and lost:
        raise click.UsageError("--finish and --lost contradict each other.")
    if force and not finish:
        raise click.UsageError("--force goes with --finish.")

    async def body(opened: Opened) -> PepperState:
        if lost:
            return await rotation.lose(opened.pool, opened.state_directory, opened.wrappings)
        if finish:
            return await rotation.finish(opened.pool, opened.state_directory, opened.wrappings, force=force)
        return await rotation.rotate(opened.pool, opened.state_directory, opened.wrappings)

    state = run_verb(context, body)
    if not as_json:
        click.echo(f"The {secret} is {'replaced' if not finish else 'the only one now'}; back up its file.", err=True)
        if not finish:
            click.echo("Restart the daemons, one after the other, so that they use it.", err=True)
    _print(state, as_json)


@secrets.command("set")
@click.argument("name")
@click.pass_context
def set_secret(context: click.Context, name: str) -> None:
    """Set a secret from stdin, sealed; upstreams use it as api_key: {sealed: NAME}. Running daemons follow at once."""
    value = click.prompt("Secret", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.read()

    async def body(opened: Opened) -> None:
        await sealedsecrets.put(opened.pool, await open_sealer(opened.pool, opened.wrappings), name, value.strip())

    run_verb(context, body)
    click.echo(f"The secret {name} is set.")


@secrets.command()
@click.option("--undo", is_flag=True, help="Make plain files of them again, such as for an earlier release.")
@_json
@click.pass_context
def seal(context: click.Context, undo: bool, as_json: bool) -> None:
    """Let the wrapping key encrypt the secret files of this machine: the pepper and audit.key.

    Their wrapping key is that of sealing.kms, or sealing.key_file, such as a systemd credential; from then on daemons
    and verbs need it to start. Where AWS KMS is set before the first start, they are made so. Copies made before and
    the disk itself may hold the plain bytes: rotate the pepper afterwards, and those are worth nothing.
    """

    async def body(opened: Opened) -> dict[str, str]:
        if undo:
            return dict.fromkeys(await secretfiles.unseal(opened.pool, opened.state_directory, opened.wrappings), "")
        return await secretfiles.seal(opened.pool, opened.state_directory, opened.wrappings)

    found = run_verb(context, body)
    if as_json:
        print_json({"files": [{"name": name, "sealed_by": by or None} for name, by in found.items()]})
    for name, by in () if as_json else found.items():
        click.echo(f"{name} is sealed by {by}." if by else f"{name} is a plain file again.")
    if not found and not as_json:
        click.echo("There is no such file here.")


@secrets.command("list")
@_json
@click.pass_context
def list_secrets(context: click.Context, as_json: bool) -> None:
    """Show the names of secrets, never their values."""
    found = run_verb(context, lambda opened: sealedsecrets.list_all(opened.pool))
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        print_table(("NAME", "SET", "DATA KEY"), [(one.name, one.set_at, one.data_key_id) for one in found])


@secrets.command()
@click.argument("name")
@click.pass_context
def remove(context: click.Context, name: str) -> None:
    """Forget a secret. Daemons that use it refuse to reload and to start until it is set again."""
    run_verb(context, lambda opened: sealedsecrets.remove(opened.pool, name))
    click.echo(f"The secret {name} is forgotten.")


def _rotate_sealing(context: click.Context, what: str, to: str | None, as_json: bool) -> None:
    async def body(opened: Opened) -> tuple[int, bool]:
        wrappings = opened.wrappings
        if what == "wrapping-key":
            if to == "kms" and not wrappings.is_remote:
                raise RefusedError("sealing.kms.key_id names no key of AWS KMS; set it first.")
            if to == "file" or not wrappings.is_elsewhere:
                secretfiles.require_plain(opened.state_directory)
            count = await wrappings.rotate(to_file=to == "file")
            if secretfiles.sealed_by(opened.state_directory):
                await secretfiles.seal(opened.pool, opened.state_directory, wrappings, only_again=True)
            return count, wrappings.is_remote and to != "file"
        return await sealedsecrets.rotate_data_key(opened.pool, wrappings), False

    count, in_kms = run_verb(context, body)
    if as_json:
        print_json({what.replace("-", "_"): count})
    elif what == "data-key":
        click.echo(f"{count} secrets are sealed anew.")
    elif in_kms:
        click.echo(f"{count} data keys are wrapped anew by AWS KMS; an old key serves backups made before only.")
    else:
        click.echo(f"{count} data keys are wrapped anew; back up wrapping.key.")


def _print(state: PepperState, as_json: bool) -> None:
    if as_json:
        print_json(asdict(state))
        return
    print_table(
        ("LIVE KEYS", "BY THE PRESENT PEPPER", "BY THE OLD ONE ONLY", "BY BCRYPT ONLY"),
        [(state.live_keys, state.present_keys, state.old_keys, state.unproven_keys)],
    )
    if state.rotating:
        click.echo("A rotation is under way.")
    if state.lagging_processes:
        click.echo(f"{state.lagging_processes} running processes do not have the present pepper.")
    if state.old_passwords:
        click.echo(f"{state.old_passwords} people have not signed in since; until they do the old pepper is needed.")
    if state.lost_passwords:
        click.echo(
            f"{state.lost_passwords} people have to set another password: luntrex-proxy people reset ADDRESS "
            "(`people list` shows all)."
        )
    if state.unproven_keys:
        click.echo("`luntrex-proxy doctor` says how long proving them takes.")
