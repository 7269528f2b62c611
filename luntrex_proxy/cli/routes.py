"""`luntrex-proxy routes ...`: where requests go, and why. What is said comes from the gateway's own stations."""

import asyncio
import dataclasses
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import click
import msgspec

from luntrex_proxy.cli.live import Live, ask_daemon
from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.control import routes as control
from luntrex_proxy.control.upstreams import ORIGIN
from luntrex_proxy.core.accountroutes import AccountRoutes, BadRoutesError, OwnTarget, read_target
from luntrex_proxy.core.buckets import Limits
from luntrex_proxy.core.explanation import Explanation, Question
from luntrex_proxy.gateway.route import Routing
from luntrex_proxy.store import accountroutes as table
from luntrex_proxy.store import accounts
from luntrex_proxy.store import limits as limits_table
from luntrex_proxy.store.accountroutes import Routed
from luntrex_proxy.store.budgeting import BudgetBook
from luntrex_proxy.store.maintenance import MaintenanceBook
from luntrex_proxy.store.registry import RegisterBook

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_MARKS: Final = {True: "yes", False: "NO"}


@click.group()
def routes() -> None:
    """Where requests go, and why."""


@routes.command("list")
@click.option("--account", metavar="NAME", help="Only what this account has of its own.")
@_json
@click.pass_context
def list_routes(context: click.Context, account: str | None, as_json: bool) -> None:
    """Show the models of the configuration file, and what accounts have of their own."""

    async def body(opened: Opened) -> tuple[list[_Model], list[Routed]]:
        found = None if account is None else await accounts.get(opened.pool, account)
        shared = [] if account is not None else _of_the_file(opened)
        return shared, await table.list_all(opened.pool, None if found is None else found.account_id)

    shared, own = run_verb(context, body)
    listed = shared + [
        _Model("database", each.account, name, targets) for each in own for name, targets in each.routes.targets.items()
    ]
    allowed = {each.account: each.routes.models for each in own if each.routes.models is not None}
    if as_json:
        print_json({"models": msgspec.to_builtins(listed), "allowed": allowed})
        return
    print_table(
        ("ORIGIN", "ACCOUNT", "MODEL", "TARGETS"),
        [(each.origin, each.account, each.model, ", ".join(map(_in_words, each.targets))) for each in listed],
    )
    for name, models in allowed.items():
        click.echo(f"{name} may use {', '.join(models)} only.")


@routes.command("set")
@click.argument("targets", metavar="[WEIGHT*]UPSTREAM[/MODEL]...", nargs=-1, required=True)
@click.option("--account", required=True, metavar="NAME", help="Whose targets.")
@click.option("--model", required=True, metavar="NAME", help="As clients name it, or a beginning and *.")
@click.pass_context
def set_targets(context: click.Context, targets: tuple[str, ...], account: str, model: str) -> None:
    """Give an account targets of its own for a model, instead of the configuration's; it holds within a second.

    A weight of 0 is asked only when the others have failed. Without /MODEL the name there is the same.

    \b
    luntrex-proxy routes set --account team-a --model gpt-4o eu-provider/gpt-4o
    luntrex-proxy routes set --account team-a --model fast 99*openai/gpt-4o-mini 1*trial/new-model
    """
    try:
        wanted = tuple(read_target(model, words) for words in targets)
    except BadRoutesError as error:
        raise click.UsageError(str(error)) from None

    def becomes(before: AccountRoutes) -> AccountRoutes:
        return AccountRoutes(before.models, {**before.targets, model: wanted})

    _change(context, account, becomes)
    click.echo(f"{model} of {account} goes to {', '.join(map(_in_words, wanted))}.")


@routes.command()
@click.option("--account", required=True, metavar="NAME", help="Whose targets.")
@click.option("--model", metavar="NAME", help="Only of this model. Default: of all.")
@click.pass_context
def clear(context: click.Context, account: str, model: str | None) -> None:
    """Take an account's own targets away: the configuration's count again."""

    def becomes(before: AccountRoutes) -> AccountRoutes:
        if model is not None and model not in before.targets:
            raise BadRoutesError(f"The account has no targets of its own for {model}.")
        kept = {} if model is None else {name: each for name, each in before.targets.items() if name != model}
        return AccountRoutes(before.models, kept)

    left = _change(context, account, becomes).targets
    click.echo(f"{account} has targets of its own for {', '.join(sorted(left)) or 'no model'}.")


@routes.command()
@click.argument("models", metavar="[MODEL]...", nargs=-1)
@click.option("--account", required=True, metavar="NAME", help="Whose models.")
@click.option("--all", "everything", is_flag=True, help="All models there are.")
@click.pass_context
def allow(context: click.Context, models: tuple[str, ...], account: str, everything: bool) -> None:
    """Let an account use these models and no other: names, or beginnings and *. Keys may be limited further."""
    if bool(models) is everything:
        raise click.UsageError("Name the models that the account may use, or give --all.")
    wanted = None if everything else tuple(dict.fromkeys(models))
    _change(context, account, lambda before: AccountRoutes(wanted, before.targets))
    click.echo(f"{account} may use {'all models' if everything else ', '.join(models)}.")


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
def explain(context: click.Context, /, model: str, as_json: bool, **words: str | None) -> None:
    """Say what would happen to a request and why, step by step. Nothing is sent.

    The configuration, key, account and limits are those of now; health is that of a running daemon that can be asked at
    its control listener, else it is not known. Exit status 1 when the request would be refused.

    \b
    luntrex-proxy routes explain --key KEY_ID --model gpt-4o
    luntrex-proxy routes explain --account team-a --model gpt-4o --region eu
    """
    if (words["key_id"] is None) == (words["account"] is None):
        raise click.UsageError("Say whose request: --key ID or --account NAME, one of them.")
    asked = control.Asked(model, **words)
    found, live = run_verb(context, lambda opened: _explain(opened, asked))
    if as_json:
        print_json({**dataclasses.asdict(found), "health_of": None if live is None else live.listener})
    else:
        _print(found, live)
    if found.code:
        raise click.exceptions.Exit(1)


def _change(context: click.Context, account: str, becomes: Callable[[AccountRoutes], AccountRoutes]) -> AccountRoutes:
    async def body(opened: Opened) -> AccountRoutes:
        known = [upstream.name for upstream in opened.settings.upstreams]

        def checked(before: AccountRoutes) -> AccountRoutes:
            after = becomes(before)
            changed = {name: each for name, each in after.targets.items() if before.targets.get(name) != each}
            control.refuse_unknown_upstreams(AccountRoutes(None, changed), known)
            return after

        return await table.change(opened.pool, account, checked)

    return run_verb(context, body)


@dataclasses.dataclass(frozen=True, slots=True)
class _Model:
    origin: str  # file: only the configuration file changes it; database: these verbs do
    account: str | None
    model: str
    targets: tuple[OwnTarget, ...]


def _of_the_file(opened: Opened) -> list[_Model]:
    dialects = {upstream.name: upstream.dialect for upstream in opened.settings.upstreams}
    return [
        _Model(
            ORIGIN,
            None,
            model.name,
            tuple(OwnTarget(each.upstream, each.model, each.weight) for each in model.weighted(dialects)),
        )
        for model in opened.settings.models
    ]


def _in_words(target: OwnTarget) -> str:
    weight = "" if target.weight == 1 else f"{target.weight}*"
    return f"{weight}{target.upstream}/{target.model}"


async def _explain(opened: Opened, asked: control.Asked) -> tuple[Explanation, Live | None]:
    from luntrex_proxy.gateway.explain import explain as ask_stations  # noqa: PLC0415 -- pydantic is slow to import

    question = await control.question(opened.pool, asked)
    routing = await _routing(opened)
    live = await ask_daemon(opened.settings, _names_there(routing, question))
    for condition in [] if live is None else live.conditions:
        upstream = routing.upstreams.get(condition.name)
        if upstream is not None:
            upstream.health.take_on(condition, upstream.origin.now)
    limits, budgets = await _limits(opened, question), BudgetBook(opened.pool)
    await budgets.refresh()
    return ask_stations(question, routing, limits, budgets.budgets, health_known=live is not None), live


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
    routing.own = {each.account_id: each.routes for each in await table.list_all(opened.pool)}
    return routing


def _names_there(routing: Routing, question: Question) -> set[str]:
    """What the upstreams call the model: a Retry-After is for one model."""
    from luntrex_proxy.core.call import Dialect  # noqa: PLC0415 -- see above

    names = routing.names(question.caller.account_id)
    found = (names.resolve(question.model, dialect) for dialect in Dialect)
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
