"""`luntrex-proxy requests ...`: what is on record of one request, and where its time went."""

import dataclasses

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.cli.usage import as_object, record_looks
from luntrex_proxy.control import acts
from luntrex_proxy.control.usage import timeline_of
from luntrex_proxy.core.trail import Passage
from luntrex_proxy.store import accounts
from luntrex_proxy.store import usage as table
from luntrex_proxy.store.usage import UsageRequest, micros


@click.group()
def requests() -> None:
    """What happened to one request."""


@requests.command()
@click.argument("request_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; times of the timeline in microseconds.")
@click.pass_context
def show(context: click.Context, request_id: str, as_json: bool) -> None:
    """Show a request by the x-request-id of its answer: upstreams, codes, where its time went, who was not asked.

    \b
    gateway  our own work until an upstream was asked (key, body, connect: waits of a millisecond and more)
    forward  an upstream that was asked, until the client had the first byte of the answer
    relay    the rest of the answer
    route    an upstream that was not asked, or only after the others, and why

    One by a member's own key is shown only where the account agreed to that before (`consents texts member_requests`).
    """

    async def body(opened: Opened) -> UsageRequest:
        found = await table.request(opened.pool, request_id)
        account = None if found.account is None else await accounts.find(opened.pool, found.account)
        await acts.record_read(opened.pool, "usage.request", None if account is None else account.account_id)
        await record_looks(opened, [found])
        return found

    found = run_verb(context, body)
    passages = timeline_of(found)
    if as_json:
        print_json({**as_object(found), "timeline": [dataclasses.asdict(each) for each in passages]})
        return
    _print(found, passages)


def _print(found: UsageRequest, passages: list[Passage]) -> None:
    key = f"{found.key_name or '-'} ({found.key_id})"
    click.echo(f"{found.request_id}  {found.started_at:%Y-%m-%d %H:%M:%S}Z  {found.account or '-'}  key {key}")
    click.echo(f"{found.route}  {found.model}  {found.status} {found.code}  {found.ending}")
    click.echo(
        f"{found.input_tokens} tokens in, {found.output_tokens} out ({found.usage_source}), "
        f"{micros(found.cost_pico) / 1_000_000:.6f} USD; {_ms(found.duration_us)} ms, {found.attempts} attempts"
    )
    click.echo()
    print_table(
        ("STATION", "UPSTREAM", "START MS", "TOOK MS", "CODE", "WHAT"),
        [
            (each.station, each.upstream or None, _ms(each.start_us), _ms(each.took_us), each.code or None, each.says)
            for each in passages
        ],
    )


def _ms(us: int | None) -> str | None:
    return None if us is None else f"{us / 1_000:.3f}"
