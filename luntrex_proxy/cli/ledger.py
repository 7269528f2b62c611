"""`luntrex-proxy ledger ...`: what lies in the spool, and storing what dead processes left there.

A running daemon ships its own directory and adopts those of dead ones by itself; `replay` is for when none runs.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.options import FiniteRange
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.store.ledger import LedgerStatus, database_now_us, status_of
from luntrex_proxy.store.quarantine import retry_quarantined
from luntrex_proxy.store.shipper import Shipper
from luntrex_proxy.store.state import file_errors

_LOOK_S = 0.2
_FAILURES_MAX = 10


@click.group()
def ledger() -> None:
    """The list of requests on its way into the database."""


@ledger.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Show every spool directory. Directories of running daemons are `live`."""

    async def body(opened: Opened) -> LedgerStatus:
        return await status_of(opened.pool, opened.state_directory / "spool")

    found = run_verb(context, body)
    if as_json:
        print_json(dataclasses.asdict(found))
        return
    columns = ("BOOT", "STATE", "SEGMENTS", "BYTES", "UNSETTLED", "STORED TO")
    print_table(
        columns,
        [
            (
                each.boot_id,
                "live" if each.live else "dead",
                each.segments,
                each.bytes,
                each.unsettled,
                None if each.stored_segment is None else f"{each.stored_segment}:{each.stored_offset}",
            )
            for each in found.directories
        ],
    )
    damaged = [str(each.boot_id) for each in found.directories if each.damaged and not each.live]
    if damaged:
        click.echo(f"damaged: {', '.join(damaged)}; the sound records are stored, the rest is set aside.")
    if found.quarantine_files:
        click.echo(
            f"quarantine: {found.quarantine_files} files, {found.quarantine_bytes} bytes; "
            "`luntrex-proxy ledger replay --quarantine` tries them once more."
        )


@ledger.command()
@click.option(
    "--wait", "wait_s", type=FiniteRange(0.1, 31_536_000), default=3600.0, help="Give up after this many seconds."
)
@click.option("--quarantine", is_flag=True, help="Try the records in quarantine once more, say after an upgrade.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def replay(context: click.Context, wait_s: float, quarantine: bool, as_json: bool) -> None:
    """Store what dead processes left and remove their directories. Doing it twice changes nothing."""
    tried: dict[str, int] = {}

    async def body(opened: Opened) -> tuple[Shipper, bool]:
        root = opened.state_directory / "spool"
        if quarantine:
            now_us = await database_now_us(opened.pool)  # the clock of this machine may be what was wrong
            with file_errors(root):
                tried["retried"], tried["unreadable"] = await asyncio.to_thread(retry_quarantined, root, now_us)
        shipper = Shipper(lambda: opened.pool, root, None, failures_max=_FAILURES_MAX)
        task = asyncio.ensure_future(shipper.drain(wait_s))
        with _progress() as show:
            while not task.done():
                await asyncio.wait({task}, timeout=_LOOK_S)
                show(shipper)
        return shipper, task.result()

    shipper, finished = run_verb(context, body)
    counts = tried | {
        "stored": shipper.stored - shipper.interrupted,
        "interrupted": shipper.interrupted,
        "quarantined": shipper.quarantined,
        "damaged_stretches": shipper.damaged_stretches,
        "torn_tails": shipper.torn_tails,
        "expired": shipper.expired,
        "positions_refused": shipper.positions_refused,
        "finished": finished,
    }
    if as_json:
        print_json(counts)
    else:
        click.echo(", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items()))
    if not finished:
        raise click.ClickException(
            f"Not everything could be stored ({_reason(shipper)}); nothing is lost; mend it and run this again."
        )


def _reason(shipper: Shipper) -> str:
    if shipper.unreadable_directories:
        return f"{shipper.unreadable_directories} spool directories belong to another user"
    return shipper.last_error_code or "the time is up"


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[Shipper], None]]:
    """A bar on stderr while it is a terminal."""
    from rich.console import Console  # noqa: PLC0415 -- slow to import, and most verbs show no bar
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn  # noqa: PLC0415 -- as above

    console = Console(stderr=True)
    columns = (TextColumn("storing"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        line = bar.add_task("storing", total=None)

        def show(shipper: Shipper) -> None:
            total = shipper.adopted_bytes
            bar.update(line, total=total or None, completed=total - shipper.backlog_bytes)

        yield show
