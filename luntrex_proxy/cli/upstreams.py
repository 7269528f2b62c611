"""`luntrex-proxy upstreams ...`: how they are, and which get nothing for a while. What they are the file says."""

from dataclasses import asdict
from typing import Any

import click

from luntrex_proxy.cli.live import Live, ask_daemon
from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.options import PublicText
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.control import upstreams as control
from luntrex_proxy.control.upstreams import ORIGIN, Seen


@click.group()
def upstreams() -> None:
    """How upstreams are, and which get nothing for a while."""


@upstreams.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def list_upstreams(context: click.Context, as_json: bool) -> None:
    """Show all upstreams of the configuration.

    Health, requests under way and the last error are those of one running daemon, asked at its control listener; with
    none that can be asked they are not known.
    """

    async def body(opened: Opened) -> tuple[list[Seen], Live | None]:
        live = await ask_daemon(opened.settings)
        names = [upstream.name for upstream in opened.settings.upstreams]
        return await control.list_all(opened.pool, names, None if live is None else live.conditions), live

    found, live = run_verb(context, body)
    if as_json:
        print_json([_as_object(each) for each in found])
        return
    print_table(
        ("UPSTREAM", "ORIGIN", "STANDING", "IN FLIGHT", "LAST ERROR", "MAINTENANCE SINCE", "REASON"),
        [_row(each) for each in found],
    )
    click.echo(
        "No running daemon could be asked: health is not known." if live is None else f"As seen at {live.listener}.",
        err=True,
    )


@upstreams.command()
@click.argument("name")
@click.argument("switch", type=click.Choice(["on", "off"]))
@click.option("--reason", type=PublicText(), default="", metavar="WORDS", help="With on: why, for who looks here.")
@click.pass_context
def maintenance(context: click.Context, name: str, switch: str, reason: str) -> None:
    """Let nothing new go to an upstream (on), in all processes within a second, or let requests go there again (off).

    Running answers go on. Where all upstreams of a model are in maintenance, its requests get 503.
    """
    if reason and switch == "off":
        raise click.UsageError("--reason goes with on.")

    async def body(opened: Opened) -> bool:
        names = [upstream.name for upstream in opened.settings.upstreams]
        if switch == "on":
            await control.begin_maintenance(opened.pool, names, name, reason)
            return True
        return await control.end_maintenance(opened.pool, names, name)

    changed = run_verb(context, body)
    if switch == "on":
        click.echo(f"{name} is in maintenance: nothing new goes there.")
    else:
        click.echo(f"{name} gets requests again." if changed else f"{name} was not in maintenance.")


def _as_object(seen: Seen) -> dict[str, Any]:
    condition = {} if seen.condition is None else asdict(seen.condition)
    maintained = seen.maintained
    for known in ("name", "maintenance"):
        condition.pop(known, None)
    return {
        "name": seen.name,
        "origin": ORIGIN,
        "health_known": seen.condition is not None,
        **condition,
        "maintenance": None if maintained is None else {"since": maintained.since, "reason": maintained.reason},
    }


def _row(seen: Seen) -> tuple[object, ...]:
    condition, maintained = seen.condition, seen.maintained
    error = "" if condition is None else condition.last_error
    if condition is not None and error:
        error = f"{error} ({condition.last_error_age_s} s ago)"
    return (
        seen.name,
        ORIGIN,
        "maintenance" if maintained is not None else "not known" if condition is None else condition.standing,
        None if condition is None else condition.in_flight,
        error or None,
        None if maintained is None else maintained.since,
        None if maintained is None else maintained.reason or None,
    )
