"""`luntrex-proxy routes ...`: where requests go, and why. What is said comes from the gateway's own stations."""

import asyncio
import dataclasses
import time
from datetime import UTC, datetime
from typing import Final

import click

from luntrex_proxy.cli.live import Live, ask_daemon
from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.control import routes as control
from luntrex_proxy.core.buckets import Limits
from luntrex_proxy.core.explanation import Explanation, Question
from luntrex_proxy.gateway.route import Routing
from luntrex_proxy.store import limits as limits_table
from luntrex_proxy.store.maintenance import MaintenanceBook
from luntrex_proxy.store.registry import RegisterBook

_MARKS: Final = {True: "yes", False: "NO"}


@click.group()
def routes() -> None:
    """Where requests go, and why."""


@routes.command()
@click.option("--key", "key_id", metavar="ID", help="Of this key: its id, never the key.")
@click.option("--account", metavar="NAME", help="Of a key of this account that nothing limits.")
@click.option("--model", required=True, metavar="NAME", help="The model as the client names it.")
@click.option("--endpoint", metavar="NAME", help="Such as messages or embeddings. Default: one that knows the model.")
@click.option("--region", metavar="WORDS", help="The request asks for these regions, as in eu,ch.")
@click.option("--policy", metavar="WORDS", help="The request's x-luntrex-policy header.")
@click.option("--address", metavar="IP", help="The client's address. Default: one from which the key may be used.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def explain(context: click.Context, as_json: bool, **words: str | None) -> None:
    """Say what would happen to a request and why, step by step. Nothing is sent.

    The configuration, key, account and limits are those of now; health is that of a running daemon that can be asked at
    its control listener, else it is not known. Exit status 1 when the request would be refused.

    \b
    luntrex-proxy routes explain --key KEY_ID --model gpt-4o
    luntrex-proxy routes explain --account team-a --model gpt-4o --region eu
    """
    if (words["key_id"] is None) == (words["account"] is None):
        raise click.UsageError("Say whose request: --key ID or --account NAME, one of them.")
    asked = control.Asked(**{**words, "model": words["model"] or ""})
    found, live = run_verb(context, lambda opened: _explain(opened, asked))
    if as_json:
        print_json({**dataclasses.asdict(found), "health_of": None if live is None else live.listener})
    else:
        _print(found, live)
    if found.code:
        raise click.exceptions.Exit(1)


async def _explain(opened: Opened, asked: control.Asked) -> tuple[Explanation, Live | None]:
    from luntrex_proxy.gateway.explain import explain as ask_stations  # noqa: PLC0415 -- pydantic is slow to import

    question = await control.question(opened.pool, asked)
    routing = await _routing(opened)
    live = await ask_daemon(opened.settings, _names_there(routing, question))
    for condition in [] if live is None else live.conditions:
        upstream = routing.upstreams.get(condition.name)
        if upstream is not None:
            upstream.health.take_on(condition, upstream.origin.now)
    limits = await _limits(opened, question)
    return ask_stations(question, routing, limits, health_known=live is not None), live


async def _routing(opened: Opened) -> Routing:
    """The configuration's, with what the tables say of upstreams and of who objects to them."""
    from luntrex_proxy.gateway.http.ticker import Ticker  # noqa: PLC0415 -- see above
    from luntrex_proxy.gateway.upstreams import sketch_routing  # noqa: PLC0415 -- see above
    from luntrex_proxy.settings.registry import SHIPPED, closed  # noqa: PLC0415 -- see above

    loop = asyncio.get_running_loop()
    routing = sketch_routing(opened.settings, Ticker(loop), loop)
    register, maintenance = RegisterBook(opened.pool, SHIPPED), MaintenanceBook(opened.pool)
    await register.refresh()
    await maintenance.refresh()
    now = datetime.fromtimestamp(time.time(), UTC)
    routing.closed = closed(opened.settings, register.register, register.objections, now)
    routing.maintain(maintenance.upstreams)
    return routing


def _names_there(routing: Routing, question: Question) -> set[str]:
    """What the upstreams call the model: a Retry-After is for one model."""
    from luntrex_proxy.core.call import Dialect  # noqa: PLC0415 -- see above

    found = (routing.catalogue.resolve(question.model, dialect) for dialect in Dialect)
    return {candidate.model or question.model for each in found if each is not None for candidate in each.candidates}


async def _limits(opened: Opened, question: Question) -> Limits:
    limits, caller, now_ns = Limits(), question.caller, time.perf_counter_ns()
    for limited in await limits_table.list_all(opened.pool, caller.account_id):
        if limited.key_id is None or limited.key_id == caller.key_id:
            limits.say(limited.key_id or caller.account_id, limited.limits, now_ns)
    return limits


def _print(found: Explanation, live: Live | None) -> None:
    print_table(("STATION", "GOOD", "WHAT"), [(step.station, _MARKS[step.good], step.says) for step in found.steps])
    if found.targets:
        click.echo()
        print_table(
            ("UPSTREAM", "MODEL THERE", "FIRST", "ASKED", "REGION", "RETENTION", "TRAINING", "HEALTH", "PRICE", "WHY"),
            [
                (
                    each.upstream, each.model, "by load" if each.share is None else f"{each.share:.1%}",
                    _MARKS[each.asked], each.region, each.retention, each.training, each.standing, each.price,
                    each.says or None,
                )
                for each in found.targets
            ],
        )  # fmt: skip
    click.echo()
    click.echo(
        f"Refused: {found.status} {found.code}. {found.sentence}" if found.code else f"Sent, as {found.endpoint}."
    )
    if live is None:
        click.echo("No running daemon could be asked: health is not known.", err=True)
