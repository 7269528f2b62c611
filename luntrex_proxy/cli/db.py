"""`luntrex-proxy db ...`: the schema of the database; what happens is in `store/migrate.py`."""

from dataclasses import asdict

import click

from luntrex_proxy.cli.opening import run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.store import migrate as schema

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def db() -> None:
    """The database's schema."""


@db.command()
@click.option(
    "--post", is_flag=True, help="Also what the previous release cannot run on; first stop all its processes."
)
@_json
@click.pass_context
def migrate(context: click.Context, post: bool, as_json: bool) -> None:
    """Bring the schema up to this release."""
    done = run_verb(context, lambda opened: schema.migrate(opened.pool, post=post), needs_schema=False)
    if as_json:
        print_json(asdict(done))
        return
    click.echo("\n".join(f"applied {label}" for label in done.applied) or "Nothing to do.")
    _warn_ahead(done.ahead)


@db.command()
@_json
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Show which migrations the database has and lacks."""
    state = run_verb(context, lambda opened: schema.status(opened.pool), needs_schema=False)
    if as_json:
        print_json(asdict(state))
        return
    rows = [(label, "applied") for label in state.applied] + [(label, "pending") for label in state.pending]
    print_table(("MIGRATION", "STATE"), rows)
    _warn_ahead(state.ahead)


def _warn_ahead(ahead: tuple[str, ...]) -> None:
    if ahead:
        click.echo(
            f"A newer release migrated this database ({', '.join(ahead)}); this one still works on it.", err=True
        )
