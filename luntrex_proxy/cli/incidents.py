"""`luntrex-proxy incidents ...`: the register of incidents, who is affected, the notices, and the exercise."""

import datetime
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.options import PublicText
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.core.incidents import Incident, Reach, clocks
from luntrex_proxy.store import incidents as table
from luntrex_proxy.store.affected import Affected
from luntrex_proxy.store.incidents import Notice

_TIME: Final = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%SZ"])
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_number = click.argument("number", type=click.IntRange(1))
_keys = click.option("--key", "keys", multiple=True, metavar="ID", help="A key it reached.")
_upstreams = click.option("--upstream", "upstreams", multiple=True, metavar="NAME", help="An upstream it reached.")
_tables = click.option("--table", "tables", multiple=True, metavar="NAME", help="A table it reached.")
_from = click.option("--from", "begins_at", type=_TIME, help="From when it reached them, in UTC.")
_to = click.option("--to", "ends_at", type=_TIME, help="Until when. Default: now.")
_nature = click.option("--nature", type=PublicText(), help="What happened, for the notices.")
_consequences = click.option("--consequences", type=PublicText(), help="What may follow, for the notices.")
_measures = click.option("--measures", type=PublicText(), help="What was and is done, for the notices.")


@click.group()
def incidents() -> None:
    """Breaches of personal data: the register, who is affected, the notices."""


@incidents.command("open")
@click.argument("title", type=PublicText())
@click.option("--aware-at", type=_TIME, help="When somebody knew, in UTC: the clocks begin. Default: now.")
@_keys
@_upstreams
@_tables
@_from
@_to
@_nature
@_consequences
@_measures
@_json
@click.pass_context
def open_incident(context: click.Context, /, title: str, as_json: bool, **given: Any) -> None:
    """Enter an incident. 72 hours after --aware-at the authority has to know."""
    reaches = _reaches(given)
    aware_at = _utc(given["aware_at"]) or _now()
    texts = {name: given[name] for name in ("nature", "consequences", "measures") if given[name]}
    incident = run_verb(context, lambda opened: table.open_(opened.pool, title, aware_at, reaches, texts))
    _print_one(incident, reaches, [], as_json)


@incidents.command("list")
@_json
@click.pass_context
def list_incidents(context: click.Context, as_json: bool) -> None:
    """Show all incidents and how near their deadlines are."""
    found = run_verb(context, lambda opened: table.list_all(opened.pool))
    if as_json:
        print_json([_as_object(incident) for incident in found])
        return
    print_table(
        ("NUMBER", "TITLE", "AWARE", "AUTHORITY BY", "IS", "AUTHORITY TOLD", "CLOSED"),
        [
            (i.incident_id, ("EXERCISE: " if i.drill else "") + i.title, i.aware_at, clocks(i.aware_at)[1].due,
             _stage(i), i.authority_notified_at, i.closed_at)
            for i in found
        ],
    )  # fmt: skip


@incidents.command()
@_number
@_json
@click.pass_context
def show(context: click.Context, number: int, as_json: bool) -> None:
    """Show an incident, its clocks, what it reached, and who was told and how that ended."""

    from luntrex_proxy.control import incidents as control  # noqa: PLC0415 -- pydantic is slow and --help needs none

    async def body(opened: Opened) -> tuple[Incident, list[Reach], list[Notice]]:
        return *await table.get(opened.pool, number), await control.notices(opened.pool, number)

    _print_one(*run_verb(context, body), as_json)


@incidents.command()
@_number
@click.option("--title", type=PublicText(), help="What it is called.")
@_nature
@_consequences
@_measures
@click.option("--authority-notified", "authority_notified_at", type=_TIME, help="When the authority was told, in UTC.")
@_keys
@_upstreams
@_tables
@_from
@_to
@_json
@click.pass_context
def change(context: click.Context, /, number: int, as_json: bool, **given: Any) -> None:
    """State more of an incident, or that it reached more."""
    reaches = _reaches(given)
    changes = {name: given[name] for name in table.FIELDS if given[name]}
    if not changes and not reaches:
        raise click.UsageError("Say what to change.")
    if "authority_notified_at" in changes:
        changes["authority_notified_at"] = _utc(changes["authority_notified_at"])

    from luntrex_proxy.control import incidents as control  # noqa: PLC0415 -- pydantic is slow and --help needs none

    done = run_verb(context, lambda opened: control.change(opened.pool, number, changes, reaches))
    _print_one(*done, [], as_json)


@incidents.command()
@_number
@_json
@click.pass_context
def affected(context: click.Context, number: int, as_json: bool) -> None:
    """List the accounts and people it reached. That somebody looked goes into the audit log."""
    from luntrex_proxy.control import incidents as control  # noqa: PLC0415 -- pydantic is slow and --help needs none

    found = run_verb(context, lambda opened: control.affected(opened.pool, opened.settings, number, _now()))
    if as_json:
        print_json(_affected(found))
        return
    print_table(("ACCOUNT", "RECORDS"), [(account.name, account.records) for account in found.accounts])
    print_table(("PERSON", "OF ACCOUNTS"), [(person.email, ", ".join(person.accounts)) for person in found.people])
    for why in found.wider:
        click.echo(f"More may be listed than was reached: {why}.")
    if found.erased_accounts:
        click.echo(
            f"{found.erased_accounts} accounts with records were erased since; nobody of them is known any more."
        )


@incidents.command()
@_number
@click.option("--into", type=click.Path(path_type=Path, file_okay=False), help="Write both into this directory.")
@_json
@click.pass_context
def draft(context: click.Context, number: int, into: Path | None, as_json: bool) -> None:
    """Draft the notices to the authority (GDPR article 33) and to people (article 34), from what is known."""
    from luntrex_proxy.control import incidents as control  # noqa: PLC0415 -- as above

    drafts = run_verb(context, lambda opened: control.draft(opened.pool, opened.settings, number, _now()))
    if into is not None:
        into.mkdir(parents=True, exist_ok=True)
        for name, text in asdict(drafts).items():
            (into / f"incident-{number}-{name.replace('_', '-')}.md").write_text(text)
    if as_json:
        print_json(asdict(drafts))
    else:
        click.echo(drafts.to_authority + "\n---\n\n" + drafts.to_people)


@incidents.command()
@_number
@_json
@click.pass_context
def notify(context: click.Context, number: int, as_json: bool) -> None:
    """Tell everybody affected who was not told before: by mail, or without mail by a banner and a list of addresses."""
    from luntrex_proxy.control import incidents as control  # noqa: PLC0415 -- as above

    async def body(opened: Opened) -> tuple[int, list[Notice]]:
        told = await control.notify(opened.pool, opened.settings, number, _now())
        return told, await control.notices(opened.pool, number)

    told, notices = run_verb(context, body)
    addresses = [notice.email for notice in notices if notice.by_banner and notice.email]
    if as_json:
        print_json({"told": told, "addresses": addresses, "notices": [asdict(notice) for notice in notices]})
        return
    click.echo(f"{told} more people are told; `luntrex-proxy incidents show {number}` says how each letter ended.")
    if addresses:
        click.echo("No letter goes to these people. They see it when they sign in; write to them as well:")
        click.echo("\n".join(addresses))


@incidents.command()
@_number
@click.option("--conclusion", required=True, help="Why it can be closed.")
@_json
@click.pass_context
def close(context: click.Context, number: int, conclusion: str, as_json: bool) -> None:
    """Close an incident. It stays in the register."""
    incident = run_verb(context, lambda opened: table.close(opened.pool, number, conclusion))
    _print_one(incident, [], [], as_json)


@incidents.command()
@_keys
@_upstreams
@_tables
@_from
@_to
@_json
@click.pass_context
def drill(context: click.Context, /, as_json: bool, **given: Any) -> None:
    """Exercise: enter an incident, find who is affected, draft both notices and close it. Nobody is told."""
    from luntrex_proxy.control import incidents as control  # noqa: PLC0415 -- as above

    reaches = _reaches(given)
    if not reaches:
        raise click.UsageError("Say what the exercise reaches: --key, --upstream or --table, and --from.")

    done = run_verb(context, lambda opened: control.drill(opened.pool, opened.settings, reaches, _now()))
    if as_json:
        print_json(done)
    else:
        click.echo(
            f"Exercise {done.number}: {done.accounts} accounts and {done.people} people found, both notices "
            f"drafted, in {done.seconds} seconds; {done.gaps} places in them are for people to fill."
        )


def _reaches(given: dict[str, Any]) -> list[Reach]:
    named = [("key", given["keys"]), ("upstream", given["upstreams"]), ("table", given["tables"])]
    if any(objects for _, objects in named) != (given["begins_at"] is not None):
        raise click.UsageError("--key, --upstream and --table go with --from, so that it is clear what was reached.")
    begins_at, ends_at = _utc(given["begins_at"]), _utc(given["ends_at"]) or _now()
    if begins_at is None:
        return []
    if ends_at <= begins_at:
        raise click.UsageError("--to has to be later than --from.")
    return [Reach(kind, name, begins_at, ends_at) for kind, names in named for name in names]


def _print_one(incident: Incident, reaches: list[Reach], notices: list[Notice], as_json: bool) -> None:
    if as_json:
        print_json(
            _as_object(incident)
            | {"reaches": [asdict(reach) for reach in reaches], "notices": [asdict(notice) for notice in notices]}
        )
        return
    decision, authority = clocks(incident.aware_at)
    click.echo(f"Incident {incident.incident_id}: {incident.title}")
    click.echo(
        f"Decide by {decision.due:%Y-%m-%d %H:%M}Z; the authority has to know by {authority.due:%Y-%m-%d %H:%M}Z."
    )
    for reach in reaches:
        click.echo(f"Reached: {reach}")
    if notices:
        print_table(
            ("PERSON", "BY", "SINCE", "ENDED", "HOW"),
            [(n.email or "erased", n.way, n.queued_at, n.ended_at, n.outcome) for n in notices],
        )


def _stage(incident: Incident) -> str:
    return incident.stage(_now()) or "done"


def _as_object(incident: Incident) -> dict[str, Any]:
    decision, authority = clocks(incident.aware_at)
    return asdict(incident) | {
        "decide_by": decision.due, "authority_by": authority.due, "stage": _stage(incident),
    }  # fmt: skip


def _affected(found: Affected) -> dict[str, Any]:
    return asdict(found) | {
        "records": found.records,
        "people": [asdict(person) | {"person_id": str(person.person_id)} for person in found.people],
    }


def _utc(time_: datetime.datetime | None) -> datetime.datetime | None:
    return None if time_ is None else time_.replace(tzinfo=datetime.UTC)


def _now() -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
