"""`luntrex-proxy db ...`: the database as a whole; what happens is in `store/migrate.py`, `backup.py`, `upgrade.py`."""

import asyncio
import datetime
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import msgspec

from luntrex_proxy import __version__
from luntrex_proxy.cli.opening import Opened, located, run_verb
from luntrex_proxy.cli.options import NamedPath
from luntrex_proxy.cli.printing import byte_bar, print_json, print_table
from luntrex_proxy.store import audit as auditlog
from luntrex_proxy.store import backup as backups
from luntrex_proxy.store import billing, erasing
from luntrex_proxy.store import migrate as schema
from luntrex_proxy.store import upgrade as moving
from luntrex_proxy.store.binaries import find_clients
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.wrapping import WRAPPING_FILE

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def db() -> None:
    """The database: schema, backup, upgrade."""


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


@db.command()
@click.argument("file", type=NamedPath(path_type=Path, dir_okay=False))
@_json
@click.pass_context
def backup(context: click.Context, file: Path, as_json: bool) -> None:
    """Write all of the database into FILE, with daemons running or not.

    FILE is new, of mode 0600, and has its name only when it is whole. The pepper is not in it, nor is a key that
    wraps sealed secrets.
    """

    from luntrex_proxy.store import secretfiles  # noqa: PLC0415 -- pydantic is slow and --help needs none

    async def body(opened: Opened) -> dict[str, Any]:
        clients = find_clients(await backups.server_major(opened.pool))
        about = await backups.describe(opened.pool, clients, __version__, _now())
        with byte_bar("backing up") as show:
            script = backups.dump(_direct_dsn(opened), clients)
            size = await asyncio.to_thread(backups.write_backup, file, about, script, show)
        pepper = opened.state_directory / "pepper"
        wrapped_by = await backups.wrapped_by(opened.pool)
        place = opened.settings.sealing.key_file or opened.state_directory / WRAPPING_FILE
        keepers = (wrapped_by, secretfiles.sealed_by(opened.state_directory).get("pepper", ""))
        wrapped = {
            "wrapping_key": str(place) if any(by.startswith(("file:", "credential:")) for by in keepers) else None
        }
        return {"file": str(file), "bytes": size, "pepper_file": str(pepper), **wrapped, **msgspec.to_builtins(about)}

    made = run_verb(context, body)
    if as_json:
        print_json(made)
    else:
        click.echo(f"{made['bytes']} bytes in {file}")
    click.echo(
        f"The pepper is not in it: keep a copy of {made['pepper_file']} (fingerprint {made['pepper_fingerprint']}) in "
        "another safe place; the keys of this backup work with no other.",
        err=True,
    )
    if made["wrapping_key"]:
        click.echo(
            f"The key that wraps its sealed secrets is not in it either: keep a copy of {made['wrapping_key']}; "
            "without it they have to be set again, and a pepper that it seals is lost.",
            err=True,
        )


@db.command()
@click.argument("file", type=NamedPath(path_type=Path, dir_okay=False))
@click.option("--replace", is_flag=True, help="Drop what the database holds now, in the same transaction.")
@click.option("--other-pepper", is_flag=True, help="Restore although no key of the backup will work.")
@_json
@click.pass_context
def restore(context: click.Context, file: Path, replace: bool, other_pepper: bool, as_json: bool) -> None:
    """Bring back a backup, whole or not at all. Stop all daemons first.

    What was decided since it was made is undone, revocations too. Requests still in the spool are stored at the next
    start; those stored after the backup and gone from the spool do not come back.
    """

    size = backups.size_of(file)

    async def body(opened: Opened) -> dict[str, Any]:
        with byte_bar("checking", size) as show:  # first: a damaged file can say anything
            await asyncio.to_thread(backups.check_backup, file, show)
        about = backups.read_about(file)
        if not other_pepper:
            backups.require_fitting_pepper(about, opened.state_directory)
        drop = await backups.require_room(opened.pool, about, replace=replace)
        clients = find_clients(await backups.server_major(opened.pool))
        with byte_bar("restoring", size) as show:
            script = backups.read_backup(file, show)
            await asyncio.to_thread(backups.load, _direct_dsn(opened), clients, script, drop)
        migrated = await schema.migrate(opened.pool, post=opened.settings.database.url is None)
        # Whoever was erased since the backup does not come back.
        await billing.ensure_role(opened.pool)
        days = opened.settings.retention.audit_days
        erased = await erasing.catch_up(opened.pool, opened.state_directory, _clock(), days)
        async with opened.pool.acquire() as connection, connection.transaction():
            await auditlog.record(connection, "database.restored", "database", facts={"made_at": about.made_at})
        again = {"migrated": migrated.applied, "erased_again": erased}
        return {"file": str(file), **again, **msgspec.to_builtins(about)}

    done = run_verb(context, body, needs_schema=False)
    if as_json:
        print_json(done)
    else:
        click.echo(f"The database is as it was at {done['made_at']}.")
    click.echo("Keys revoked or suspended since then work again: revoke again those that must not.", err=True)


@db.command()
@click.option(
    "--old-bin",
    metavar="DIRECTORY",
    type=NamedPath(path_type=Path, file_okay=False),
    help="Where `postgres` of the data's present version is.  [default: searched]",
)
@_json
@click.pass_context
def upgrade(context: click.Context, old_bin: Path | None, as_json: bool) -> None:
    """Move the embedded database to the newest PostgreSQL that is installed. Stop the daemon first.

    Needs room for the data a second time; the old data stays beside it. Changes somebody made to PostgreSQL's own
    configuration files are not taken over.
    """
    settings, state = located(context)
    if settings.database.url is not None:
        raise RefusedError("database.url is set: whoever runs that server upgrades it; nothing is embedded here.")
    with byte_bar("moving") as show:
        done = moving.upgrade(state.path, old_bin, show)
    if as_json:
        moved = {} if done is None else {**asdict(done), "old_data": str(done.old_data)}
        print_json({"upgraded": done is not None, **moved})
    elif done is None:
        click.echo("Nothing to do: the data is of the newest PostgreSQL installed.")
    else:
        click.echo(
            f"PostgreSQL {done.old_major} -> {done.new_major}. The old data is in {done.old_data}; "
            "delete it once all is well."
        )


def _direct_dsn(opened: Opened) -> str:
    """Around a pooler, which carries no session of pg_dump."""
    direct = opened.settings.database.direct_url
    return direct.reveal() if direct else opened.dsn


def _clock() -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time.time(), datetime.UTC)


def _now() -> str:
    return _clock().strftime("%Y-%m-%dT%H:%M:%SZ")


def _warn_ahead(ahead: tuple[str, ...]) -> None:
    if ahead:
        click.echo(
            f"A newer release migrated this database ({', '.join(ahead)}); this one still works on it.", err=True
        )
