"""`luntrex-proxy retention ...`: what is kept, what is next to go, and letting it go now; the work is in `store/`.

A running daemon does this by itself every hour; `run` is for when none runs, or for now.
"""

import datetime
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.store import retention as table

if TYPE_CHECKING:
    from luntrex_proxy.settings.model import Settings

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def retention() -> None:
    """How long usage is kept."""


@retention.command()
@_json
@click.pass_context
def show(context: click.Context, as_json: bool) -> None:
    """Show the periods, what the tables hold, and what the next run drops."""

    async def body(opened: Opened) -> tuple[table.Periods, table.Kept, table.Dropped]:
        periods = _periods(opened.settings)
        return periods, await table.kept(opened.pool), await table.due(opened.pool, _today(), periods)

    periods, kept, due = run_verb(context, body)
    if as_json:
        print_json({"periods": asdict(periods), "kept": asdict(kept), "due": asdict(due)})
        return
    rows = (
        ("single requests", periods.usage_days, kept.oldest_usage_day, f"{due.requests} in {len(due.days)} days"),
        ("hourly sums", periods.usage_days, kept.oldest_hourly_sum, due.hourly_sums),
        ("daily sums", periods.totals_days, kept.oldest_daily_sum, due.daily_sums),
    )
    print_table(("WHAT", "KEPT DAYS", "OLDEST", "DUE"), rows)


@retention.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be dropped.")
@_json
@click.pass_context
def run(context: click.Context, dry_run: bool, as_json: bool) -> None:
    """Drop what is older than the periods. Doing it twice changes nothing."""

    async def body(opened: Opened) -> table.Dropped:
        periods = _periods(opened.settings)
        if dry_run:
            return await table.due(opened.pool, _today(), periods)
        done = table.Dropped()
        await table.drop_old(opened.pool, _today(), periods, done)
        return done

    dropped = run_verb(context, body)
    if as_json:
        print_json(asdict(dropped) | {"dry_run": dry_run})
    else:
        click.echo(
            f"{'would drop' if dry_run else 'dropped'} {dropped.requests} requests in {len(dropped.days)} days, "
            f"{dropped.hourly_sums} hourly and {dropped.daily_sums} daily sums, {dropped.positions} spool positions"
        )
    if not dropped.finished and not dry_run:
        raise click.ClickException("Another process does this just now, or reads what is old; run it again later.")


def _periods(settings: "Settings") -> table.Periods:
    return table.Periods(settings.retention.usage_days, settings.retention.totals_days)


def _today() -> datetime.date:
    return datetime.datetime.fromtimestamp(time.time(), datetime.UTC).date()
