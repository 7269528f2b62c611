"""`luntrex-proxy rights ...`: what people may ask for by right, by the operator; the work is in `control/rights.py`.

A running daemon carries out erasures whose time to think is over, and warns when half and four fifths of the time for
an answer are gone.
"""

import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from luntrex_proxy.cli.holds import hold, holds, lift_hold
from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.options import NamedPath, new_private_file
from luntrex_proxy.cli.people import person_of
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.control import acts
from luntrex_proxy.control import rights as control
from luntrex_proxy.control.rights import Law, Request
from luntrex_proxy.store.exporting import write_export

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_law = click.option(
    "--law",
    type=click.Choice([each.value for each in Law]),
    default="gdpr",
    show_default=True,
    help="Whose clock runs.",
)
_lift = click.option("--lift", is_flag=True, help="End it again.")
_CHANNEL = "operator"


@click.group()
def rights() -> None:
    """What people may ask for by right."""


for _verb in (hold, lift_hold, holds):
    rights.add_command(_verb)


@rights.command()
@click.argument("person")
@_law
@click.pass_context
def access(context: click.Context, person: str, law: str) -> None:
    """Print, as JSON, what is kept of PERSON (an address or id), why, how long, and who else gets it."""

    async def body(opened: Opened) -> dict[str, Any]:
        person_id, days = await person_of(opened, person), opened.settings.retention.by_class()
        _, report = await control.access(opened.pool, person_id, _now(), days, law=Law(law), channel=_CHANNEL)
        return report

    print_json(run_verb(context, body))


@rights.command()
@click.argument("person")
@click.argument("file", type=NamedPath(path_type=Path, dir_okay=False))
@_law
@_json
@click.pass_context
def export(context: click.Context, person: str, file: Path, law: str, as_json: bool) -> None:
    """Write everything that is kept of PERSON into FILE, a new zip of JSON and CSV with mode 0600."""

    async def body(opened: Opened, person_id: uuid.UUID) -> Request:
        days = opened.settings.retention.by_class()
        with new_private_file(file) as out:
            await write_export(opened.dsn, person_id, days, out)
        return await control.noted_export(opened.pool, person_id, law=Law(law), channel=_CHANNEL)

    _ask(context, person, body, as_json)


@rights.command()
@click.argument("person")
@click.option("--name", help="What the person is called.")
@click.option("--request", "request_id", type=click.UUID, help="A request of its usage to write a note about.")
@click.option("--note", help="What is wrong about that record.")
@_law
@_json
@click.pass_context
def correct(
    context: click.Context,
    person: str,
    name: str | None,
    request_id: uuid.UUID | None,
    note: str | None,
    law: str,
    as_json: bool,
) -> None:
    """Correct the name of PERSON (an address or id), or write a note beside a record of its usage.

    Records are never changed. An address is changed by its person, with a letter to the new one.
    """
    if (name is None) == (request_id is None) or (request_id is None) != (note is None):
        raise click.UsageError("Give --name, or --request together with --note.")

    async def body(opened: Opened, person_id: uuid.UUID) -> Request:
        if name is not None:
            return await control.correct_name(opened.pool, person_id, name, law=Law(law), channel=_CHANNEL)
        if request_id is None or note is None:
            raise AssertionError
        return await control.annotate(opened.pool, person_id, request_id, note, law=Law(law), channel=_CHANNEL)

    _ask(context, person, body, as_json)


@rights.command()
@click.argument("person")
@_lift
@_law
@_json
@click.pass_context
def restrict(context: click.Context, person: str, lift: bool, law: str, as_json: bool) -> None:
    """Only store the data of PERSON: its keys answer 403, within a second."""
    _ask(
        context,
        person,
        lambda opened, who: control.restrict(opened.pool, who, on=not lift, law=Law(law), channel=_CHANNEL),
        as_json,
    )


@rights.command("object")
@click.argument("person")
@_lift
@_law
@_json
@click.pass_context
def object_(context: click.Context, person: str, lift: bool, law: str, as_json: bool) -> None:
    """From now on, new usage does not lead to PERSON in analytics."""
    _ask(
        context,
        person,
        lambda opened, who: control.object_to_analytics(opened.pool, who, on=not lift, law=Law(law), channel=_CHANNEL),
        as_json,
    )


@rights.command()
@click.argument("person")
@click.option("--now", "at_once", is_flag=True, help="Without the days in which it can be withdrawn.")
@_law
@_json
@click.pass_context
def erase(context: click.Context, person: str, at_once: bool, law: str, as_json: bool) -> None:
    """Erase PERSON, and accounts that are nobody else's, when the time to withdraw it is over.

    What stays, why and until when is in the receipt: `rights status REFERENCE`.
    """

    async def body(opened: Opened, person_id: uuid.UUID) -> Request:
        grace = timedelta(days=0 if at_once else opened.settings.privacy.erasure_grace_days)
        made = await control.ask_erasure(opened.pool, person_id, _now(), grace, law=Law(law), channel=_CHANNEL)
        if not at_once:
            return made
        days = opened.settings.retention.audit_days
        return await control.carry_out(opened.pool, opened.state_directory, made, _now(), days)

    _ask(context, person, body, as_json)


@rights.command()
@click.argument("reference")
@_json
@click.pass_context
def withdraw(context: click.Context, reference: str, as_json: bool) -> None:
    """Take back a request that was not carried out yet."""
    _print(run_verb(context, lambda opened: control.withdraw(opened.pool, reference)), as_json)


@rights.command()
@click.argument("reference")
@click.option("--refuse", is_flag=True, help="Refuse it.")
@click.option("--outcome", required=True, metavar="WORD", help="How, in one word such as identity_not_proven.")
@_json
@click.pass_context
def close(context: click.Context, reference: str, refuse: bool, outcome: str, as_json: bool) -> None:
    """Close a request that was answered, or refused, outside this program."""
    if not outcome.replace("_", "").isalpha() or not outcome.islower() or len(outcome) > 40:
        raise click.UsageError("--outcome is one word of small letters and _.")
    done = run_verb(context, lambda opened: control.answer(opened.pool, reference, refused=refuse, outcome=outcome))
    _print(done, as_json)


@rights.command()
@click.argument("reference")
@_json
@click.pass_context
def extend(context: click.Context, reference: str, as_json: bool) -> None:
    """Take the longer time that the law allows. Tell the person why, within the first."""
    _print(run_verb(context, lambda opened: control.extend(opened.pool, reference)), as_json)


@rights.command("list")
@click.option("--all", "with_closed", is_flag=True, help="Closed ones too.")
@_json
@click.pass_context
def list_(context: click.Context, with_closed: bool, as_json: bool) -> None:
    """List open requests, the oldest first."""

    async def body(opened: Opened) -> list[Request]:
        await acts.record_read(opened.pool, "rights.list")
        return await control.listed(opened.pool, only_open=not with_closed)

    found, now = run_verb(context, body), _now()
    shown = [control.shown(each, now) | {"address": each.address} for each in found]
    if as_json:
        print_json(shown)
        return
    print_table(
        ("REFERENCE", "ADDRESS", "RIGHT", "STATE", "LAW", "RECEIVED", "DUE", "CLOCK"),
        [
            tuple(
                each[name]
                for name in ("reference", "address", "right", "state", "law", "received_at", "due_at", "stage")
            )
            for each in shown
        ],
    )


@rights.command()
@click.argument("reference", required=False)
@_json
@click.pass_context
def status(context: click.Context, reference: str | None, as_json: bool) -> None:
    """Show a request with its clock and receipt; without REFERENCE how many are open, and how near their ends."""
    if reference is not None:
        _print(run_verb(context, lambda opened: control.by_reference(opened.pool, reference)), as_json)
        return
    found = run_verb(context, lambda opened: control.clocks(opened.pool, _now()))
    count = sum(found.stages.values())
    if as_json:
        print_json({"open": count, "clocks": found.stages, "nearest": found.nearest})
        return
    print_table(("OPEN", *(stage.upper() for stage in found.stages)), [(count, *found.stages.values())])
    for law, due in sorted(found.nearest.items()):
        click.echo(f"The next answer by {law.upper()} is due by {due:%Y-%m-%d %H:%M}Z.")


def _ask(
    context: click.Context, person: str, body: Callable[[Opened, uuid.UUID], Awaitable[Request]], as_json: bool
) -> None:
    async def found(opened: Opened) -> Request:
        return await body(opened, await person_of(opened, person))

    _print(run_verb(context, found), as_json)


def _print(request: Request, as_json: bool) -> None:
    shown = control.shown(request, _now())
    if as_json:
        print_json(shown)
        return
    receipt = shown.pop("receipt")
    print_table(tuple(name.upper() for name in shown), [tuple(shown.values())])
    for kept in (receipt or {}).get("kept", ()):
        click.echo(f"stays: {kept['what']} ({kept['why']}), until {kept['until'] or 'it is needed no more'}")


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)
