"""`luntrex-proxy budgets ...`: what accounts, keys, members and labels may cost; what happens: `store/budgets.py`."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.core.budgets import CLOSED, OPEN, PERIODS, BadBudgetError, dollars, read_alerts, read_budgets
from luntrex_proxy.core.labels import BadLabelError, read_labels
from luntrex_proxy.store import accounts, people
from luntrex_proxy.store import budgets as table
from luntrex_proxy.store.budgets import BudgetInfo, Terms, Whose

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_NEVER: Final = "never"


def _whose(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say whose budgets they are."""
    for option, metavar, text in (
        ("--label", "NAME=VALUE", "With --account: budgets of all of its keys that carry this label."),
        ("--member", "ADDRESS", "With --account: budgets of this member's own keys there, all together."),
        ("--key", "ID", "Budgets of this key, and of those that replace it."),
        ("--account", "NAME", "Budgets of this account: of all its keys together."),
    ):
        command = click.option(option, metavar=metavar, help=text)(command)
    return command


@click.group()
def budgets() -> None:
    """How much money accounts, keys, members and labels may cost."""


@budgets.command("set")
@click.argument("words", metavar="PERIOD=DOLLARS...", nargs=-1, required=True)
@_whose
@click.option(
    "--hard/--soft", "is_hard", default=None, help="Refuse what goes beyond it (default), or only tell of it."
)
@click.option("--alerts", metavar="PERCENTS", help="Tell at these parts of it, such as 50,80,100.  [default: 80,100]")
@click.option(
    "--when-away",
    type=click.Choice((CLOSED, OPEN)),
    help="Refuse, or let in, while the database is away and what is at hand is spent.  [default: closed]",
)
@_json
@click.pass_context
def set_budgets(
    context: click.Context,
    /,
    words: tuple[str, ...],
    is_hard: bool | None,
    alerts: str | None,
    when_away: str | None,
    as_json: bool,
    **whose: str | None,
) -> None:
    """Set budgets, such as day=10 month=100.50 total=1000, in dollars. Others stay; it holds within a second.

    Days and months begin in the account's time zone (`accounts time-zone`). What is not said of a budget that is there
    stays as it is.
    """
    try:
        amounts = read_budgets(words)
        terms = Terms(is_hard, None if alerts is None else read_alerts(alerts), when_away)
    except BadBudgetError as error:
        raise click.UsageError(str(error)) from None
    _print_all(_changed(context, whose, amounts, terms, ()), as_json)


@budgets.command("list")
@click.option("--account", metavar="NAME", help="Only this account, its keys, members and labels.")
@_json
@click.pass_context
def list_budgets(context: click.Context, account: str | None, as_json: bool) -> None:
    """Show budgets: what is spent, held by processes for what they spend next, and left; and when they begin anew."""

    async def body(opened: Opened) -> list[BudgetInfo]:
        found = None if account is None else await accounts.get(opened.pool, account)
        return await table.list_all(opened.pool, None if found is None else found.account_id)

    _print_all(run_verb(context, body), as_json)


@budgets.command()
@click.argument("periods", metavar="[PERIOD]...", nargs=-1, type=click.Choice(PERIODS))
@_whose
@_json
@click.pass_context
def clear(context: click.Context, /, periods: tuple[str, ...], as_json: bool, **whose: str | None) -> None:
    """Take budgets away, such as month; none named: all of this account, key or member."""
    found = _changed(context, whose, {}, Terms(), periods or PERIODS)
    if as_json or found:
        _print_all(found, as_json)
    else:
        click.echo(f"{whose['label'] or whose['member'] or whose['key'] or whose['account']} has no budget.")


def _changed(
    context: click.Context,
    whose: Mapping[str, str | None],
    amounts: dict[str, int],
    terms: Terms,
    cleared: tuple[str, ...],
) -> list[BudgetInfo]:
    account, key, member, label = (whose[name] for name in ("account", "key", "member", "label"))
    in_account = sum(each is not None for each in (member, label))
    if (account is None) == (key is None) or in_account > (account is not None):
        raise click.UsageError(
            "Say whose budgets: --key ID, --account NAME, or with it --member ADDRESS or --label NAME=VALUE."
        )
    try:
        labels = read_labels([] if label is None else [label])
    except BadLabelError as error:
        raise click.UsageError(str(error)) from None

    async def body(opened: Opened) -> list[BudgetInfo]:
        if key is not None:
            found = await table.whose_key(opened.pool, key)
        else:
            found = await table.whose_account(opened.pool, account or "")
        if member is not None:
            found = Whose(found.account_id, None, (await people.find(opened.pool, member)).person_id)
        for name, value in labels.items():
            found = Whose(found.account_id, label=(name, value))
        return await table.change(opened.pool, found, amounts, terms, cleared=cleared)

    return run_verb(context, body)


def _print_all(found: list[BudgetInfo], as_json: bool) -> None:
    if as_json:
        print_json([_as_object(each) for each in found])
        return
    print_table(
        ("ACCOUNT", "OF", "PERIOD", "DOLLARS", "SPENT", "HELD", "LEFT", "BEGINS ANEW", "KIND"),
        [
            (
                each.account,
                each.key_id or each.email or each.person_id or each.label or "all",
                each.period,
                *map(dollars, (each.amount_pico, each.spent_pico, each.held_pico, each.left_pico)),
                each.ends_at or _NEVER,
                each.terms.words.partition(" ")[2],
            )
            for each in found
        ],
    )


def _as_object(each: BudgetInfo) -> dict[str, Any]:
    fields = asdict(each)
    del fields["account_id"], fields["budget_id"]
    for name in ("amount", "spent", "held"):
        fields[f"{name}_dollars"] = dollars(fields.pop(f"{name}_pico"))
    return {**fields, "left_dollars": dollars(each.left_pico)}
