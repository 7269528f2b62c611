"""`luntrex-proxy accounts members ...`: who is what in an account. What happens is in `control` and `store`."""

from dataclasses import asdict
from typing import Any

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.people import print_handover, role_option, services_of
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.control import acts
from luntrex_proxy.control import members as control
from luntrex_proxy.control.people import Handover
from luntrex_proxy.core.roles import Role
from luntrex_proxy.store import accounts, people
from luntrex_proxy.store import members as table
from luntrex_proxy.store.members import MemberInfo

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def members() -> None:
    """Who is what in an account."""


@members.command("list")
@click.argument("account")
@_json
@click.pass_context
def list_members(context: click.Context, account: str, as_json: bool) -> None:
    """Show the members of an account."""

    async def body(opened: Opened) -> list[MemberInfo]:
        known = await accounts.get(opened.pool, account)
        await acts.record_read(opened.pool, "members.list", known.account_id)
        return await table.list_page(opened.pool, known.account_id)

    found = run_verb(context, body)
    if as_json:
        print_json([_as_object(one) for one in found])
    else:
        print_table(
            ("ADDRESS", "NAME", "ROLE", "STATUS", "SINCE"),
            [(one.email, one.name, one.role, one.status, one.created_at) for one in found],
        )


@members.command("set")
@click.argument("account")
@click.argument("address")
@click.argument("role", type=click.Choice([role.value for role in Role]))
@_json
@click.pass_context
def set_member(context: click.Context, account: str, address: str, role: str, as_json: bool) -> None:
    """Make a person a member of an account, or another one. The last owner stays one."""

    async def body(opened: Opened) -> MemberInfo:
        known, person = await accounts.get(opened.pool, account), await people.find(opened.pool, address)
        return await table.put_person(opened.pool, known.account_id, person.person_id, role)

    member = run_verb(context, body)
    if as_json:
        print_json(_as_object(member))
    else:
        click.echo(f"{member.email} is {member.role} of {account}.")


@members.command()
@click.argument("account")
@click.argument("address")
@_json
@click.pass_context
def remove(context: click.Context, account: str, address: str, as_json: bool) -> None:
    """End a membership, and revoke the member's own keys in the account. The last owner stays."""

    async def body(opened: Opened) -> int:
        known, person = await accounts.get(opened.pool, account), await people.find(opened.pool, address)
        return await table.remove(opened.pool, known.account_id, person.person_id)

    keys = run_verb(context, body)
    if as_json:
        print_json({"keys_revoked": keys})
    else:
        click.echo(f"The membership has ended; {keys} keys are revoked.")


@members.command()
@click.argument("account")
@click.argument("address")
@role_option
@_json
@click.pass_context
def invite(context: click.Context, account: str, address: str, role: str, as_json: bool) -> None:
    """Ask somebody into an account, by a link: sent by mail, or printed here when none is sent."""

    async def body(opened: Opened) -> Handover:
        services = await services_of(opened)
        known = await accounts.get(opened.pool, account)
        _, made = await control.invite_for_operator(services, known.account_id, address, Role(role))
        return made

    print_handover(run_verb(context, body), as_json, "is invited")


def _as_object(member: MemberInfo) -> dict[str, Any]:
    fields = asdict(member)
    return {"person_id": str(fields.pop("person_id")), **fields}
