"""`luntrex-proxy people ...`: who may sign in. Reads arguments, prints results; what happens is in `control`."""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.control import acts
from luntrex_proxy.control import people as control
from luntrex_proxy.control.people import Handover, PersonInfo
from luntrex_proxy.control.services import Services
from luntrex_proxy.core.roles import Role
from luntrex_proxy.store import people as table
from luntrex_proxy.store.errors import RefusedError

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
role_option = click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default="owner",
    show_default=True,
    help="In the account.",
)


@click.group()
def people() -> None:
    """Who may sign in."""


@people.command()
@click.argument("address")
@click.option("--name", default="", help="What the person is called.")
@click.option("--affirm-16", "affirmed_16", is_flag=True, help="The person is 16 years old or older. Needed.")
@click.option("--operator", is_flag=True, help="The person runs this installation.")
@click.option("--account", help="Make the person a member of this account.")
@role_option
@_json
@click.pass_context
def create(
    context: click.Context,
    address: str,
    name: str,
    affirmed_16: bool,
    operator: bool,
    account: str | None,
    role: str,
    as_json: bool,
) -> None:
    """Make a person, who sets a password by a link: sent by mail, or printed here when none is sent."""

    async def body(opened: Opened) -> Handover:
        services = await services_of(opened)
        return await control.create(
            services, address, name, affirmed_16=affirmed_16, operator=operator, account=account, role=Role(role)
        )

    print_handover(run_verb(context, body), as_json, "is made")


@people.command()
@click.argument("address")
@click.option(
    "--second-factor", is_flag=True, help="Ask for no code any more: the app and the recovery codes are lost."
)
@_json
@click.pass_context
def reset(context: click.Context, address: str, second_factor: bool, as_json: bool) -> None:
    """Let a person set another password, by a link as with `create`."""

    async def body(opened: Opened) -> Handover:
        return await control.reset(await services_of(opened), address, second_factor=second_factor)

    print_handover(run_verb(context, body), as_json, "can set another password")


@people.command("list")
@_json
@click.pass_context
def list_people(context: click.Context, as_json: bool) -> None:
    """Show everybody."""

    async def body(opened: Opened) -> list[PersonInfo]:
        await acts.record_read(opened.pool, "people.list")
        return await table.list_all(opened.pool)

    found = run_verb(context, body)
    if as_json:
        print_json([_as_object(person) for person in found])
        return
    print_table(
        ("ADDRESS", "NAME", "STATUS", "ACCOUNTS", "SECOND FACTOR", "OPERATOR", "LAST SEEN"),
        [
            (
                one.email, one.name, one.status,
                ", ".join(f"{account} ({role})" for account, role in sorted(one.roles.items())) or "-",
                "yes" if one.has_totp else "no", "yes" if one.operator else "no",
                one.last_seen_at.date() if one.last_seen_at else None,
            )
            for one in found
        ],
    )  # fmt: skip


@people.command()
@click.argument("address")
@click.option("--end", is_flag=True, help="No more.")
@_json
@click.pass_context
def operator(context: click.Context, address: str, end: bool, as_json: bool) -> None:
    """Let a person run this installation."""

    async def act(opened: Opened, person: PersonInfo) -> None:
        await table.set_operator(opened.pool, person.person_id, operator=not end)

    _change(context, address, act, as_json, "is no operator any more" if end else "is an operator")


@people.command()
@click.argument("address")
@_json
@click.pass_context
def suspend(context: click.Context, address: str, as_json: bool) -> None:
    """Let a person in no more: sessions, links, tokens and the person's own API keys stop. Refused to a last owner."""
    _change(
        context, address, lambda opened, person: table.suspend(opened.pool, person.person_id), as_json, "is suspended"
    )


@people.command()
@click.argument("address")
@_json
@click.pass_context
def resume(context: click.Context, address: str, as_json: bool) -> None:
    """Let a suspended person sign in again. The person's API keys stay suspended: `keys resume` wakes each."""
    _change(
        context,
        address,
        lambda opened, person: table.resume(opened.pool, person.person_id),
        as_json,
        "may sign in again",
    )


async def services_of(opened: Opened) -> Services:
    """What `control` works with."""
    return Services(opened.settings, opened.pool, await opened.lookup(), opened.state_directory)


def print_handover(made: Handover, as_json: bool, what: str) -> None:
    """Where the link is: in a letter, or here, on stdout only."""
    if as_json:
        print_json({"email": made.email, "link": made.link})
    elif made.link is None:
        click.echo(f"{made.email} {what}. A letter with a link is on its way.")
    else:
        click.echo(f"{made.email} {what}. Hand this link on; it works once and is shown this once:\n{made.link}")


def _change(
    context: click.Context,
    address: str,
    act: Callable[[Opened, PersonInfo], Awaitable[None]],
    as_json: bool,
    what: str,
) -> None:
    async def body(opened: Opened) -> PersonInfo:
        person = await table.find(opened.pool, address)
        await act(opened, person)
        return await table.find(opened.pool, address)

    person = run_verb(context, body)
    if as_json:
        print_json(_as_object(person))
    else:
        click.echo(f"{person.email} {what}.")


def _as_object(person: PersonInfo) -> dict[str, Any]:
    fields = asdict(person)
    return {"id": str(fields.pop("person_id")), **fields}


async def person_of(opened: Opened, given: str) -> uuid.UUID:
    """The person of an address or id. RefusedError."""
    try:
        person_id = uuid.UUID(given)
    except ValueError:
        return (await table.find(opened.pool, given)).person_id
    if await table.by_id(opened.pool, person_id) is None:
        raise RefusedError("There is no person of this id; `luntrex-proxy people list` shows all.", "not_found")
    return person_id
