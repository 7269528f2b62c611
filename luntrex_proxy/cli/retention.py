"""`luntrex-proxy retention ...`: what is kept, what is next to go, and letting it go now; the work is in `store/`.

A running daemon does this by itself, usage every hour and everything else once a day; `run` is for when none runs, or
for now.
"""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.store import aging, idle, keeping
from luntrex_proxy.store import retention as table
from luntrex_proxy.store.keeping import Run

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def retention() -> None:
    """How long data is kept."""


@retention.command()
@_json
@click.pass_context
def show(context: click.Context, as_json: bool) -> None:
    """Show the periods, what the tables hold, and what the next run drops."""

    async def body(opened: Opened) -> dict[str, Any]:
        days = opened.settings.retention.by_class()
        due = await keeping.due(opened.pool, opened.state_directory, _now(), days)
        return {
            "periods": opened.settings.retention.model_dump(),
            "kept": asdict(await table.kept(opened.pool)),
            "oldest": await aging.oldest(opened.pool),
            "due": _shown(due),
            "idle_accounts": [
                asdict(each)
                for each in await idle.listed(opened.pool, _now(), opened.settings.retention.idle_account_days)
            ],
            "succeeded_at": await keeping.succeeded_at(opened.pool),
        }

    shown = run_verb(context, body)
    if as_json:
        print_json(shown)
        return
    periods, kept, due = shown["periods"], shown["kept"], shown["due"]
    rows = [
        ("single requests", periods["usage_days"], kept["oldest_usage_day"], _days_due(due)),
        ("hourly sums", periods["usage_days"], kept["oldest_hourly_sum"], due["hourly_sums"]),
        ("daily sums", periods["totals_days"], kept["oldest_daily_sum"], due["daily_sums"]),
        ("audit log", periods["audit_days"], shown["oldest"].get("audit"), due["audit_entries"]),
    ]
    rows += [(name, None, None, count) for name, count in due["rows"].items()]
    rows += [("idle account", periods["idle_account_days"], None, each["name"]) for each in shown["idle_accounts"]]
    print_table(("WHAT", "KEPT DAYS", "OLDEST", "DUE"), rows)


@retention.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be dropped.")
@click.option("--clock-is-right", is_flag=True, help="Drop although the last run is more than two days ago.")
@_json
@click.pass_context
def run(context: click.Context, dry_run: bool, clock_is_right: bool, as_json: bool) -> None:
    """Drop what is older than the periods. Doing it twice changes nothing."""

    async def body(opened: Opened) -> Run:
        days = opened.settings.retention.by_class()
        if dry_run:
            return await keeping.due(opened.pool, opened.state_directory, _now(), days)
        return await keeping.run(opened.pool, opened.state_directory, _now(), days, clock_is_right=clock_is_right)

    done = run_verb(context, body)
    shown = _shown(done)
    if as_json:
        print_json(shown | {"dry_run": dry_run})
    else:
        click.echo(
            f"{'would drop' if dry_run else 'dropped'} {_days_due(shown).replace(' in', ' requests in')}, "
            f"{shown['hourly_sums']} hourly and {shown['daily_sums']} daily sums, "
            f"{shown['positions']} spool positions, {done.audit_entries} audit entries, "
            f"{sum(done.rows.values())} other rows"
        )
    if not done.finished and not dry_run:
        raise click.ClickException("Another process does this just now, or reads what is old; run it again later.")


def _shown(done: Run) -> dict[str, Any]:
    more = {"audit_entries": done.audit_entries, "rows": done.rows, "finished": done.finished}
    return asdict(done.usage) | more


def _days_due(due: dict[str, Any]) -> str:
    return f"{due['requests']} in {len(due['days'])} days"


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)
