"""`luntrex-proxy children ...`: reports that somebody here is under 16, and what is decided on them."""

import datetime
import time
import uuid
from dataclasses import asdict
from typing import Any

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.store import childreports as table
from luntrex_proxy.store.childreports import ChildReport

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_report = click.argument("report", type=click.UUID)


@click.group()
def children() -> None:
    """Reports that somebody here is under 16."""


@children.command("list")
@click.option("--open", "open_only", is_flag=True, help="Only those that have not ended.")
@_json
@click.pass_context
def list_reports(context: click.Context, open_only: bool, as_json: bool) -> None:
    """Show the reports, the newest first."""
    from luntrex_proxy.control import acts  # noqa: PLC0415 -- as below

    async def body(opened: Opened) -> list[ChildReport]:
        await acts.record_read(opened.pool, "child_reports.list")
        return await table.list_all(opened.pool, open_only=open_only)

    found = run_verb(context, body)
    if as_json:
        print_json([_as_object(report) for report in found])
        return
    print_table(
        ("REPORT", "ADDRESS", "IS HERE", "BY", "RECEIVED", "DECISION", "ERASED BY", "CLOCK", "ENDED"),
        [
            (r.report_id, r.reported_address, "yes" if r.is_known else "no", r.relation, r.received_at, r.decision,
             r.erase_due_at, r.stage(_now()), r.ended_at)
            for r in found
        ],
    )  # fmt: skip


@children.command()
@_report
@_json
@click.pass_context
def confirm(context: click.Context, report: uuid.UUID, as_json: bool) -> None:
    """It is so: the person is suspended at once, and erased a day later, within 72 hours at most."""
    from luntrex_proxy.control import children as control  # noqa: PLC0415 -- pydantic is slow and --help needs none

    found = run_verb(context, lambda opened: control.confirm(opened.pool, report, _now()))
    if as_json:
        print_json(_as_object(found))
    else:
        click.echo(f"The person is suspended, and everything about them goes by {found.erase_due_at:%Y-%m-%d %H:%M}Z.")


@children.command()
@_report
@click.pass_context
def dismiss(context: click.Context, report: uuid.UUID) -> None:
    """It is not so, or nobody has that address."""
    run_verb(context, lambda opened: table.dismiss(opened.pool, report))
    click.echo("The report is dismissed; the addresses in it are forgotten.")


@children.command("take-back")
@_report
@click.pass_context
def take_back(context: click.Context, report: uuid.UUID) -> None:
    """It was a mistake to confirm it: until the person is erased, that can be stopped."""
    from luntrex_proxy.control import children as control  # noqa: PLC0415 -- as above

    run_verb(context, lambda opened: control.take_back(opened.pool, report))
    click.echo("Nobody is erased by it. The person stays suspended until `luntrex-proxy people resume ADDRESS`.")


def _as_object(report: ChildReport) -> dict[str, Any]:
    return asdict(report) | {
        "report_id": str(report.report_id),
        "person_id": None if report.person_id is None else str(report.person_id),
        "clock": report.stage(_now()),
    }


def _now() -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
