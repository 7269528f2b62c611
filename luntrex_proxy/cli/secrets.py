"""`luntrex-proxy secrets ...`: what the installation keeps secret, and how it is replaced. So far: the pepper."""

from dataclasses import asdict

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.store import rotation
from luntrex_proxy.store.rotation import PepperState

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
@click.argument("secret", type=click.Choice(["pepper"]))
@click.option("--finish", is_flag=True, help="End a rotation: forget the old one.")
@click.option("--lost", is_flag=True, help="Go on without it: no file that fits this database is left anywhere.")
@click.option("--force", is_flag=True, help="With --finish: although keys or processes still need the old one.")
@_json
@click.pass_context
def rotate(context: click.Context, secret: str, finish: bool, lost: bool, force: bool, as_json: bool) -> None:
    """Replace the pepper: once to begin, and with --finish when the keys have moved. No key stops working.

    It lies in the state directory. Where several machines share the database, copy `pepper` and `pepper.old` to each
    and restart the processes one after the other, at any time before --finish.
    """
    if finish and lost:
        raise click.UsageError("--finish and --lost contradict each other.")
    if force and not finish:
        raise click.UsageError("--force goes with --finish.")

    async def body(opened: Opened) -> PepperState:
        if lost:
            return await rotation.lose(opened.pool, opened.state_directory)
        if finish:
            return await rotation.finish(opened.pool, opened.state_directory, force=force)
        return await rotation.rotate(opened.pool, opened.state_directory)

    state = run_verb(context, body)
    if not as_json:
        click.echo(f"The {secret} is {'replaced' if not finish else 'the only one now'}; back up its file.", err=True)
        if not finish:
            click.echo("Restart the daemons, one after the other, so that they use it.", err=True)
    _print(state, as_json)


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
    if state.unproven_keys:
        click.echo("`luntrex-proxy doctor` says how long proving them takes.")
