"""`billing reprice`: what records would cost at the prices of now, and changing them to that."""

import time
from datetime import UTC, date, datetime
from typing import Any

import click
import orjson

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import count_bar, print_json, print_table
from luntrex_proxy.cli.usage import dollars
from luntrex_proxy.control.repricing import Selection, Tallies, Tally, days_of, reprice
from luntrex_proxy.store import accounts, reconciling

_DAY = click.DateTime(["%Y-%m-%d"])


@click.command("reprice")
@click.option("--since", type=_DAY, required=True, help="The first UTC day.")
@click.option("--until", type=_DAY, required=True, help="The last UTC day.")
@click.option("--account", metavar="NAME", help="Only records of this account.")
@click.option("--model", metavar="MODEL", help="Only records of this model, as usage names it.")
@click.option("--apply", "applied", is_flag=True, help="Change the records and their sums; without it nothing changes.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, to the pico-dollar.")
@click.pass_context
def reprice_records(
    context: click.Context,
    since: datetime,
    until: datetime,
    account: str | None,
    model: str | None,
    applied: bool,
    as_json: bool,
) -> None:
    """Show what records would cost at the prices of now, and with --apply change them to that.

    Prices are those of this configuration and the shipped list; what is not known now stays as it is. Each day changes
    as a whole, its sums with it. Budgets keep what was charged at the time; of a closed month the next statement has
    the difference. Days of which only sums are left stay as they are.
    """
    today = datetime.fromtimestamp(time.time(), UTC).date()
    first, last = since.date(), until.date()
    if first > last:
        raise click.UsageError("--until must not be before --since.")
    if last > today:
        raise click.UsageError("--until lies ahead; give a day that has begun, in UTC.")

    async def body(opened: Opened) -> tuple[Tallies, dict[int, str], list[date]]:
        known = None if account is None else (await accounts.get(opened.pool, account)).account_id
        selection, total = Selection(first, last, known, model), Tallies()
        days = await days_of(opened.pool, selection)
        with count_bar("pricing", len(days)) as show:
            done = 0
            async for tallies in reprice(opened.pool, opened.settings, selection, apply=applied):
                for whose, tally in tallies.items():
                    total.setdefault(whose, Tally()).add(tally)
                done += 1
                show(done)
        return total, await reconciling.names_of(opened.pool), days

    total, names, days = run_verb(context, body)
    rows = [(names.get(account_id), of, total[account_id, of]) for account_id, of in sorted(total)]
    if as_json:
        print_json({"applied": applied, "days_with_records": len(days), "totals": [_as_object(*row) for row in rows]})
    else:
        _print(rows, applied, len(days), (last - first).days + 1)


def _as_object(account: str | None, model: str, tally: Tally) -> dict[str, Any]:
    money = {"before_pico": tally.before_pico, "after_pico": tally.after_pico}
    return {
        "account": account,
        "model": model,
        "requests": tally.requests,
        "changed": tally.changed,
        "unknown": tally.unknown,
        **{name: orjson.Fragment(str(pico)) for name, pico in money.items()},
    }


def _print(rows: list[tuple[str | None, str, Tally]], applied: bool, days: int, wanted: int) -> None:
    whole = Tally()
    for _, _, tally in rows:
        whole.add(tally)
    print_table(
        ("ACCOUNT", "MODEL", "REQUESTS", "CHANGED", "UNKNOWN", "USD BEFORE", "USD AFTER", "DIFFERENCE"),
        [
            (
                account,
                model,
                tally.requests,
                tally.changed,
                tally.unknown,
                dollars(tally.before_pico),
                dollars(tally.after_pico),
                dollars(tally.after_pico - tally.before_pico),
            )
            for account, model, tally in [*rows, (None, "TOTAL", whole)]
        ],
    )
    if days < wanted:
        click.echo(f"{wanted - days} of the days have no records (any more); their sums stay as they are.")
    if applied:
        click.echo(f"{whole.changed} records are changed.")
    elif whole.changed:
        click.echo(f"{whole.changed} records would be changed; nothing is, without --apply.")
    else:
        click.echo("No record would be changed.")
