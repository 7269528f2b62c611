"""`luntrex-proxy accounts ...`: reads arguments, prints results; what happens is in `store/accounts.py`."""

from dataclasses import asdict
from typing import Any

import click

from luntrex_proxy.cli.labels import labels
from luntrex_proxy.cli.members import members
from luntrex_proxy.cli.opening import run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.store import accounts as table
from luntrex_proxy.store import budgets
from luntrex_proxy.store.accounts import Account

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def accounts() -> None:
    """Who keys and usage belong to."""


accounts.add_command(labels)
accounts.add_command(members)


@accounts.command()
@click.argument("name")
@_json
@click.pass_context
def create(context: click.Context, name: str, as_json: bool) -> None:
    """Make an account."""
    account = run_verb(context, lambda opened: table.create(opened.pool, name))
    _print_one(
        account, as_json, f"Account {name} is made; next: luntrex-proxy keys create --account {name} --name main"
    )


@accounts.command("list")
@_json
@click.pass_context
def list_accounts(context: click.Context, as_json: bool) -> None:
    """Show all accounts."""
    found = run_verb(context, lambda opened: table.list_all(opened.pool))
    if as_json:
        print_json([_as_object(account) for account in found])
    else:
        print_table(
            ("ID", "NAME", "STATUS", "CREATED", "POLICY"),
            [(a.account_id, a.name, a.status, a.created_at, a.policy or "default") for a in found],
        )


@accounts.command()
@click.argument("name")
@_json
@click.pass_context
def suspend(context: click.Context, name: str, as_json: bool) -> None:
    """Stop all keys of an account."""
    account = run_verb(context, lambda opened: table.suspend(opened.pool, name))
    _print_one(account, as_json, f"Account {name} is suspended; its keys are refused from now on.")


@accounts.command()
@click.argument("name")
@_json
@click.pass_context
def resume(context: click.Context, name: str, as_json: bool) -> None:
    """Let the keys of a suspended account work again."""
    account = run_verb(context, lambda opened: table.resume(opened.pool, name))
    _print_one(account, as_json, f"Account {name} is active.")


@accounts.command()
@click.argument("name")
@click.argument("policy", required=False)
@click.option("--default", "to_default", is_flag=True, help="No policy of its own: the configuration's.")
@_json
@click.pass_context
def policy(context: click.Context, name: str, policy: str | None, to_default: bool, as_json: bool) -> None:
    """Say what upstreams may do with an account's requests, instead of the configuration's default.

    POLICY reads like 'region=eu,ch; retention=abuse_monitoring:30; training=never'. Keys and requests can narrow it.
    """
    if (policy is None) != to_default:
        raise click.UsageError("Give a policy or --default.")
    account = run_verb(context, lambda opened: table.set_policy(opened.pool, name, policy))
    _print_one(account, as_json, f"The policy of {name} is {policy or 'the default'}.")


@accounts.command("time-zone")
@click.argument("name")
@click.argument("zone")
@click.pass_context
def time_zone(context: click.Context, name: str, zone: str) -> None:
    """Say when days and months of an account's budgets begin: ZONE is a name such as Europe/Berlin, or UTC."""
    run_verb(context, lambda opened: budgets.set_time_zone(opened.pool, name, zone))
    click.echo(f"Days and months of the budgets of {name} begin as in {zone}.")


def _print_one(account: Account, as_json: bool, sentence: str) -> None:
    if as_json:
        print_json(_as_object(account))
    else:
        click.echo(sentence)


def _as_object(account: Account) -> dict[str, Any]:
    fields = asdict(account)
    del fields["version"]
    return {"id": fields.pop("account_id"), **fields}
