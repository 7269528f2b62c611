"""`luntrex-proxy usage`: what was used and what it cost, from the tables: the last fraction of a second may miss.

`--json` prints a list: of totals by account, key, model and upstream, or with `--requests` of single requests.
"""

import dataclasses
import datetime
import time
from typing import Any

import click
import orjson

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.store import usage as table
from luntrex_proxy.store.usage import UsageRequest, UsageTotal, micros


@click.command()
@click.option("--requests", "single", is_flag=True, help="Single requests, newest first, instead of totals.")
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
@click.pass_context
def usage(context: click.Context, single: bool, account: str | None, days: int, limit: int, as_json: bool) -> None:
    """Show usage and cost by key, model and upstream.

    The upstream is the one that answered, or the last one asked; `attempts` of a single request counts them all, those
    before are not on record.
    """
    until = datetime.datetime.fromtimestamp(time.time() + 3600, datetime.UTC)  # a clock ahead of ours hides nothing
    since = until - datetime.timedelta(days=days, hours=1)

    async def body(opened: Opened) -> list[UsageTotal] | list[UsageRequest]:
        if single:
            return await table.requests(opened.pool, since, until, limit, account=account)
        return await table.totals(opened.pool, since, until, account)

    found = run_verb(context, body)
    if as_json:
        print_json([_as_object(entry) for entry in found])
    elif single:
        print_table(*_requests_table([entry for entry in found if isinstance(entry, UsageRequest)]))
    else:
        print_table(*_totals_table([entry for entry in found if isinstance(entry, UsageTotal)]))


def _as_object(entry: UsageTotal | UsageRequest) -> dict[str, Any]:
    fields = dataclasses.asdict(entry)
    pico = fields.pop("cost_pico")
    # Sums may outgrow the 64 bits orjson takes; JSON itself has no such bound.
    return {**fields, "cost_micros": orjson.Fragment(str(micros(pico))), "cost_pico": orjson.Fragment(str(pico))}


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
            _dollars(total.cost_pico),
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
            _dollars(request.cost_pico),
        )
        for request in requests
    ]


def _dollars(pico: int) -> str:
    whole, fraction = divmod(micros(pico), 1_000_000)
    return f"{whole}.{fraction:06d}"
