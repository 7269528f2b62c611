"""`billing statement|statements|close|reconcile`: what accounts are charged by month, and whether it adds up."""

import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import click
import orjson

from luntrex_proxy.cli.labels import labels_in_words
from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.options import NamedPath
from luntrex_proxy.cli.printing import count_bar, print_csv, print_json, print_table
from luntrex_proxy.cli.usage import dollars
from luntrex_proxy.control import acts
from luntrex_proxy.control.statements import due
from luntrex_proxy.core.months import BadMonthError, in_words, month_of, next_month, read_month
from luntrex_proxy.store import accounts, reconciling
from luntrex_proxy.store import statements as table
from luntrex_proxy.store.reconciling import Account, Comparison, Drifted
from luntrex_proxy.store.statements import Closed, Line, Statement
from luntrex_proxy.store.usage import micros

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, to the pico-dollar.")
_DRIFTED_MAX: Final = 20
_SHOWN: Final = ("requests", "input_tokens", "cached_input_tokens", "output_tokens")


def _read(_: click.Context, __: click.Parameter, text: str | None) -> date | None:
    try:
        return None if text is None else read_month(text)
    except BadMonthError as error:
        raise click.BadParameter(str(error)) from None


def month_option(*, required: bool, text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option `--month YYYY-MM`, as the first day of the month."""
    return click.option("--month", metavar="YYYY-MM", required=required, callback=_read, help=text)


@click.command()
@click.option("--account", required=True, metavar="NAME", help="Whose statement.")
@month_option(required=True, text="Which month, in UTC.")
@_json
@click.option(
    "--csv", "csv_file", type=NamedPath(dir_okay=False), help="Write the lines to this file as CSV; - is stdout."
)
@click.pass_context
def statement(context: click.Context, account: str, month: date, as_json: bool, csv_file: str | None) -> None:
    """Show what an account is charged for a month, by model and labels.

    A month that is not closed is shown as it would be if it were closed now. Lines of earlier months are what came late
    or was priced anew since they were closed; they can be negative.
    """
    if as_json and csv_file:
        raise click.UsageError("Choose --json or --csv, one of them.")

    async def body(opened: Opened) -> Statement:
        found = await table.get(opened.pool, account, month)
        await acts.record_read(opened.pool, "statements.get", found.account_id)
        return found

    found = run_verb(context, body)
    if as_json:
        print_json(statement_as_object(found))
    elif csv_file is not None:
        with click.open_file(csv_file, "w") as file:
            print_csv([_as_line(found, line) for line in found.lines], file)
    else:
        _print(found)


@click.command()
@click.option("--account", required=True, metavar="NAME", help="Whose statements.")
@_json
@click.pass_context
def statements(context: click.Context, account: str, as_json: bool) -> None:
    """List the closed months of an account, the newest first."""

    async def body(opened: Opened) -> list[Closed]:
        known = await accounts.get(opened.pool, account)
        await acts.record_read(opened.pool, "statements.list", known.account_id)
        return await table.list_page(opened.pool, known.account_id)

    found = run_verb(context, body)
    if as_json:
        print_json([{"month": in_words(each.month), "closed_at": each.closed_at, "requests": each.requests,
                     **_money(each.cost_pico)} for each in found])  # fmt: skip
    else:
        print_table(
            ("MONTH", "CLOSED", "REQUESTS", "USD"),
            [(in_words(each.month), each.closed_at, each.requests, dollars(each.cost_pico)) for each in found],
        )


@click.command()
@month_option(required=True, text="Which month, in UTC; it has to be over.")
@click.option(
    "--account", metavar="NAME", help="Only this account. Default: all that have something to be charged for."
)
@_json
@click.pass_context
def close(context: click.Context, month: date, account: str | None, as_json: bool) -> None:
    """Freeze the statements of a month. One that is frozen stays as it is, however often this is done.

    What comes late, or is priced anew, is charged in the statement that is closed next. An account that had used
    nothing when an earlier month was closed for the others, and has by now, gets the statement of that month first.
    Each account is done by itself: after an interruption do it again.
    """

    async def body(opened: Opened) -> list[tuple[Statement, bool]]:
        wanted = [(account, month)] if account is not None else await due(opened.pool, month)
        done = []
        with count_bar("closing", len(wanted)) as show:
            for number, (name, of) in enumerate(wanted, 1):
                done.append(await table.close(opened.pool, name, of, although_empty=account is not None))
                show(number)
        return [each for each in done if each[0].closed_at is not None]

    done = run_verb(context, body)
    if as_json:
        print_json([{"closed_now": now, **statement_as_object(each)} for each, now in done])
    else:
        print_table(
            ("ACCOUNT", "MONTH", "REQUESTS", "USD", "CLOSED"),
            [(each.account, in_words(each.month), each.requests, dollars(each.cost_pico),
              "now" if now else each.closed_at) for each, now in done],
        )  # fmt: skip


@click.command()
@month_option(required=False, text="Which month, in UTC. Default: this one, up to now.")
@click.option("--account", metavar="NAME", help="Only this account.")
@_json
@click.pass_context
def reconcile(context: click.Context, month: date | None, account: str | None, as_json: bool) -> None:
    """Prove that records, hourly sums, daily sums and statements say the same, to the pico-dollar.

    Sums of whole accounts and of keys, which the console shows, are compared as well. Exit status 1 with the difference
    when they do not. What came late after a month was closed is such a difference until the next closing charges it.
    """
    today = datetime.fromtimestamp(time.time(), UTC).date()
    first = month or month_of(today)
    if first > today:
        raise click.UsageError("This month lies ahead; give one that has begun.")
    days = reconciling.days_between(first, min(today, next_month(first) - timedelta(days=1)))

    async def body(opened: Opened) -> Comparison:
        known = None if account is None else (await accounts.get(opened.pool, account)).account_id
        found = Comparison()
        with count_bar("comparing", len(days)) as show:
            for number, day in enumerate(days, 1):
                await reconciling.compare_day(opened.pool, day, known, found)
                show(number)
        await reconciling.compare_statements(opened.pool, first, known, found)
        names = await reconciling.names_of(opened.pool)
        of_accounts: list[Account | Drifted] = [*found.accounts.values(), *found.drifted]
        for each in of_accounts:
            each.name = names.get(each.account_id)
        return found

    found = run_verb(context, body)
    if as_json:
        print_json(_comparison_as_object(first, found))
    else:
        _print_comparison(found)
    if not found.is_right:
        raise click.exceptions.Exit(1)


def statement_as_object(statement: Statement) -> dict[str, Any]:
    """For programs; money to the pico-dollar."""
    return {
        "account": statement.account,
        "month": in_words(statement.month),
        "closed_at": statement.closed_at,
        "invoices": statement.invoices,
        "requests": statement.requests,
        **_money(statement.cost_pico),
        "lines": [
            {"usage_month": in_words(line.usage_month), "model": line.model, "labels": line.labels, **line.sums,
             **_money(line.cost_pico)}
            for line in statement.lines
        ],
    }  # fmt: skip


def _money(pico: int) -> dict[str, Any]:
    # Sums may outgrow the 64 bits orjson takes; JSON itself has no such bound.
    return {"cost_micros": orjson.Fragment(str(micros(pico))), "cost_pico": orjson.Fragment(str(pico))}


def _as_line(statement: Statement, line: Line) -> dict[str, Any]:
    return {
        "account": statement.account,
        "month": in_words(statement.month),
        "usage_month": in_words(line.usage_month),
        "model": line.model,
        "labels": labels_in_words(line.labels).replace(", ", ";"),
        **line.sums,
        "cost_pico": line.cost_pico,
    }


def _print(statement: Statement) -> None:
    rows = [
        (
            in_words(line.usage_month),
            line.model,
            labels_in_words(line.labels) or None,
            *(line.sums[name] for name in _SHOWN),
            dollars(line.cost_pico),
        )
        for line in statement.lines
    ]
    total = (None, "TOTAL", None, *(sum(line.sums[name] for line in statement.lines) for name in _SHOWN))
    print_table(
        ("USAGE OF", "MODEL", "LABELS", "REQUESTS", "INPUT", "CACHED", "OUTPUT", "USD"),
        [*rows, (*total, dollars(statement.cost_pico))],
    )
    state = "open" if statement.closed_at is None else f"closed {statement.closed_at:%Y-%m-%d %H:%M:%SZ}"
    invoices = f"; invoices: {', '.join(statement.invoices)}" if statement.invoices else ""
    click.echo(f"{statement.account}, {in_words(statement.month)}: {state}{invoices}.")


def _print_comparison(found: Comparison) -> None:
    print_table(
        ("ACCOUNT", "REQUESTS", "RECORDS", "HOURLY", "DAILY", "OLDER DAYS", "CHARGED", "DIFFERENCE"),
        [
            (
                _name(each),
                each.requests,
                *(dollars(pico) for pico in (each.records_pico, each.hourly_pico, each.daily_pico)),
                dollars(each.without_records_pico) if each.without_records_pico else None,
                None if each.charged_pico is None else dollars(each.charged_pico),
                _difference(each),
            )
            for each in sorted(found.accounts.values(), key=lambda each: each.account_id)
        ],
    )
    if found.days_without_records:
        click.echo(f"{found.days_without_records} days have no records any more: of them only the daily sums are left.")
    for day, groups in sorted(found.differing_days.items()):
        click.echo(f"{day}: {groups} keys, models or upstreams differ.")
    for each in found.drifted[:_DRIFTED_MAX]:
        click.echo(_drifted_in_words(each))
    if len(found.drifted) > _DRIFTED_MAX:
        click.echo(f"And {len(found.drifted) - _DRIFTED_MAX} more such sums; --json names all.")
    click.echo("Everything adds up." if found.is_right else "Not everything adds up; differences are in pico-dollars.")


def _name(of: Account | Drifted) -> str:
    return of.name or (str(of.account_id) if of.account_id else "erased")


def _drifted_in_words(one: Drifted) -> str:
    whose = one.key_id or f"{one.model} at {one.upstream}"
    by = ", ".join(f"{column} {value:+d}" for column, value in one.by.items())
    return f"{one.table} of {one.at:%Y-%m-%d %H:%M} UTC, {_name(one)}, {whose}: differs from its parts by {by}."


def _drifted_as_object(one: Drifted) -> dict[str, Any]:
    by = {column: orjson.Fragment(str(value)) for column, value in one.by.items()}
    return {"sums": one.table, "at": one.at, "account": one.name, "key_id": one.key_id or None,
            "model": one.model or None, "upstream": one.upstream or None, "by": by}  # fmt: skip


def _difference(account: Account) -> str | None:
    """In pico-dollars, of what differs."""
    said = []
    if account.records_pico != account.hourly_pico:
        said.append(f"hourly {account.hourly_pico - account.records_pico:+d}")
    if account.records_pico != account.daily_pico:
        said.append(f"daily {account.daily_pico - account.records_pico:+d}")
    if account.charged_pico is not None and account.charged_pico != account.used_pico:
        said.append(f"not charged {account.used_pico - account.charged_pico:+d}")
    if account.unexplained_pico:
        said.append(f"statement {account.unexplained_pico:+d}")
    if account.differing and not said:
        said.append(f"{account.differing} groups in their counts")
    return "; ".join(said) or None


def _comparison_as_object(month: date, found: Comparison) -> dict[str, Any]:
    return {
        "month": in_words(month),
        "right": found.is_right,
        "days_without_records": found.days_without_records,
        "drifted": [_drifted_as_object(each) for each in found.drifted],
        "differing_days": {day.isoformat(): groups for day, groups in sorted(found.differing_days.items())},
        "accounts": [
            {
                "account": each.name,
                "right": each.is_right,
                "requests": each.requests,
                "differing": each.differing,
                **{
                    name: None if value is None else orjson.Fragment(str(value))
                    for name, value in (
                        ("records_pico", each.records_pico),
                        ("hourly_pico", each.hourly_pico),
                        ("daily_pico", each.daily_pico),
                        ("without_records_pico", each.without_records_pico),
                        ("charged_pico", each.charged_pico),
                        ("used_pico", None if each.charged_pico is None else each.used_pico),
                    )
                },
            }
            for each in sorted(found.accounts.values(), key=lambda each: each.account_id)
        ],
    }
