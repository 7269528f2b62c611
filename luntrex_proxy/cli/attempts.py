"""`luntrex-proxy attempts ...`: requests that were refused for their key."""

from dataclasses import asdict

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.control import acts
from luntrex_proxy.store import accounts
from luntrex_proxy.store import attempts as table
from luntrex_proxy.store.attempts import AttemptCount
from luntrex_proxy.store.errors import RefusedError


@click.group()
def attempts() -> None:
    """Requests that were refused for their key."""


@attempts.command("list")
@click.option("--account", metavar="NAME", help="Only those that named a key of this account.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def list_counts(context: click.Context, account: str | None, limit: int, as_json: bool) -> None:
    """Show how many there were by minute, key and network (IPv4 /24, IPv6 /48)."""

    async def body(opened: Opened) -> list[AttemptCount]:
        found = await accounts.find(opened.pool, account) if account is not None else None
        if account is not None and found is None:
            raise RefusedError("There is no account of this name; `luntrex-proxy accounts list` shows all.")
        account_id = found.account_id if found is not None else None
        await acts.record_read(opened.pool, "attempts.list", account_id)
        return await table.list_page(opened.pool, account_id, None, limit)

    counts = run_verb(context, body)
    if as_json:
        print_json([asdict(one) for one in counts])
    else:
        print_table(
            ("AT", "NETWORK", "REFUSED AS", "COUNT", "KEY", "ACCOUNT"),
            [(one.at, one.network, one.code, one.count, one.key_id, one.account) for one in counts],
        )
