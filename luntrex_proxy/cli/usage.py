"""`luntrex-proxy usage`: what was used and what it cost, from the tables: the last fraction of a second may miss.

`--json` prints a list: of totals by account, key, model and upstream, or with `--by` by what is asked for, or with
`--requests` of single requests. `--csv` prints the same as lines.
"""

import dataclasses
import datetime
import time
from collections.abc import Sequence
from typing import Any

import click
import orjson

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_csv, print_json, print_table
from luntrex_proxy.control import acts
from luntrex_proxy.control.usage import record_look
from luntrex_proxy.store import accounts
from luntrex_proxy.store import usage as table
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.usage import UsageRequest, UsageTotal, micros
from luntrex_proxy.store.usagegroups import GROUPS, Group, check_groups, grouped


@click.command()
@click.option("--requests", "single", is_flag=True, help="Single requests, newest first, instead of totals.")
@click.option(
    "--by",
    metavar="WORDS",
    help=f"Group by any of {', '.join(GROUPS)} and labels, with commas between, such as label:project,model.",
)
@click.option("--account", metavar="NAME", help="Only this account.")
@click.option("--days", type=click.IntRange(1, 36_500), default=30, show_default=True, help="How far back, in days.")
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000_000),
    default=100,
    show_default=True,
    help="How many requests, with --requests.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; times are RFC 3339 in UTC.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a head, to the pico-dollar.")
@click.pass_context
def usage(
    context: click.Context,
    single: bool,
    by: str | None,
    account: str | None,
    days: int,
    limit: int,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show usage and cost by key, model and upstream, or as --by says.

    The upstream is the one that answered, or the last one asked; `attempts` of a single request counts them all, those
    before are not on record. Usage of a UTC day counts for the labels that its key carried on that day; of a key that
    was erased it counts for none. Single requests by members' own keys are shown only where the account agreed to that
    (`consents texts member_requests`), from then on; looking at them is recorded.
    """
    if as_json and as_csv:
        raise click.UsageError("Choose --json or --csv, one of them.")
    if single and by is not None:
        raise click.UsageError("Single requests are not grouped; leave out --requests or --by.")
    words = _words(by)
    until = datetime.datetime.fromtimestamp(time.time() + 3600, datetime.UTC)  # a clock ahead of ours hides nothing
    since = until - datetime.timedelta(days=days, hours=1)

    async def body(opened: Opened) -> Sequence[UsageTotal | UsageRequest | Group]:
        if single:
            known = None if account is None else await accounts.find(opened.pool, account)
            await acts.record_read(opened.pool, "usage.requests", None if known is None else known.account_id)
            found = await table.requests(opened.pool, since, until, limit, account=account)
            await record_looks(opened, found)
            return found
        if words is not None:
            return await grouped(opened.pool, since, until, words, account)
        return await table.totals(opened.pool, since, until, account)

    found = run_verb(context, body)
    if as_json:
        print_json([as_object(entry, words) for entry in found])
    elif as_csv:
        print_csv([_as_line(entry, words) for entry in found])
    elif words is not None:
        print_table(*_groups_table([entry for entry in found if isinstance(entry, Group)], words))
    elif single:
        print_table(*_requests_table([entry for entry in found if isinstance(entry, UsageRequest)]))
    else:
        print_table(*_totals_table([entry for entry in found if isinstance(entry, UsageTotal)]))


async def record_looks(opened: Opened, found: Sequence[UsageRequest]) -> None:
    """Write down in each account whose members' own requests were looked at."""
    for name in sorted({each.account for each in found if each.account is not None and each.member_id is not None}):
        account = await accounts.find(opened.pool, name)
        theirs = [each for each in found if each.account == name]
        await record_look(opened.pool, None if account is None else account.account_id, theirs)


def _words(by: str | None) -> list[str] | None:
    if by is None:
        return None
    words = by.split(",")
    try:
        check_groups(words)
    except RefusedError as error:
        raise click.UsageError(str(error)) from None
    return words


def _fields(entry: UsageTotal | UsageRequest | Group, words: list[str] | None) -> dict[str, Any]:
    if isinstance(entry, Group):
        return {**dict(zip(words or (), entry.place, strict=True)), **entry.sums, "cost_pico": entry.cost_pico}
    known = {"price_known": entry.price_known} if isinstance(entry, UsageRequest) else {}
    return {**dataclasses.asdict(entry), **known}


def as_object(entry: UsageTotal | UsageRequest | Group, words: list[str] | None = None) -> dict[str, Any]:
    """As JSON has it: money in micro-dollars and exactly."""
    fields = _fields(entry, words)
    pico = fields.pop("cost_pico")
    # Sums may outgrow the 64 bits orjson takes; JSON itself has no such bound.
    return {**fields, "cost_micros": orjson.Fragment(str(micros(pico))), "cost_pico": orjson.Fragment(str(pico))}


def _as_line(entry: UsageTotal | UsageRequest | Group, words: list[str] | None) -> dict[str, Any]:
    """Labels as one cell: which there are is not the same in each line."""
    fields = _fields(entry, words)
    labels = fields.get("labels")
    if isinstance(labels, dict):
        fields["labels"] = ";".join(f"{name}={labels[name]}" for name in sorted(labels))
    return fields


def _groups_table(groups: list[Group], words: list[str]) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    columns = (*(word.upper() for word in words), "REQUESTS", "ERRORS", "INPUT", "CACHED", "OUTPUT", "REASONING", "USD")
    counted = ("requests", "errors", "input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens")
    return columns, [
        (*(value or None for value in group.place), *(group.sums[name] for name in counted), dollars(group.cost_pico))
        for group in groups
    ]


def _totals_table(totals: list[UsageTotal]) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    columns = ("ACCOUNT", "KEY", "MODEL", "UPSTREAM", "REQUESTS", "ERRORS")
    return (*columns, "INPUT", "CACHED", "OUTPUT", "REASONING", "USD"), [
        (
            total.account,
            total.key_name or total.key_id,
            total.model,
            total.upstream or "-",
            total.requests,
            total.errors,
            total.input_tokens,
            total.cached_input_tokens,
            total.output_tokens,
            total.reasoning_tokens,
            dollars(total.cost_pico),
        )
        for total in totals
    ]


def _requests_table(requests: list[UsageRequest]) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    columns = ("STARTED", "REQUEST", "ACCOUNT", "KEY", "MODEL", "UPSTREAM", "STATUS", "CODE")
    return (*columns, "INPUT", "OUTPUT", "SOURCE", "USD"), [
        (
            request.started_at,
            request.request_id,
            request.account,
            request.key_name or request.key_id,
            request.model,
            request.upstream or "-",
            request.status,
            request.code,
            request.input_tokens,
            request.output_tokens,
            request.usage_source,
            dollars(request.cost_pico),
        )
        for request in requests
    ]


def dollars(pico: int) -> str:
    """For display, rounded half to even."""
    sign, pico = ("-", -pico) if pico < 0 else ("", pico)
    whole, fraction = divmod(micros(pico), 1_000_000)
    return f"{sign}{whole}.{fraction:06d}"
