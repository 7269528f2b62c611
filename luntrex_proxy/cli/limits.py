"""`luntrex-proxy limits ...`: how much accounts and keys may ask for; what happens is in `store/limits.py`."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.core.limits import CLOSED, OPEN, WHATS, BadLimitError, Terms, read_limits
from luntrex_proxy.store import accounts
from luntrex_proxy.store import limits as table
from luntrex_proxy.store.limits import Limited

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_EVERYTHING: Final = "any model"


def _whose(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say whose limits they are."""
    for option, metavar, text in (
        ("--model", "MODEL", "Only requests of this model; a name, or its beginning and *. Default: all together."),
        ("--key", "ID", "Limits of this key."),
        ("--account", "NAME", "Limits of this account: of all its keys together."),
    ):
        command = click.option(option, metavar=metavar, help=text)(command)
    return command


@click.group()
def limits() -> None:
    """How much accounts and keys may ask for: requests and tokens in a time, streams at once."""


@limits.command("set")
@click.argument("words", metavar="LIMIT=AMOUNT...", nargs=-1, required=True)
@_whose
@click.option(
    "--when-away",
    type=click.Choice((OPEN, CLOSED)),
    help="While the database is away, let in what each process alone may (default), or refuse; of all its limits.",
)
@_json
@click.pass_context
def set_limits(
    context: click.Context,
    words: tuple[str, ...],
    account: str | None,
    key: str | None,
    model: str | None,
    when_away: str | None,
    as_json: bool,
) -> None:
    """Set limits, such as requests/minute=60 tokens/day=1000000 streams=5. Others stay; it holds within a second.

    Requests and tokens are per minute, hour or day. A model that is not named has no limit of its own.
    """
    try:
        amounts = read_limits(words)
    except BadLimitError as error:
        raise click.UsageError(str(error)) from None
    _print_change(
        _changed(context, (account, key, model), amounts, (), when_away), account or key or "", model, as_json
    )


@limits.command("list")
@click.option("--account", metavar="NAME", help="Only this account and its keys.")
@_json
@click.pass_context
def list_limits(context: click.Context, account: str | None, as_json: bool) -> None:
    """Show limits, of accounts and of keys."""

    async def body(opened: Opened) -> list[Limited]:
        found = None if account is None else await accounts.get(opened.pool, account)
        return await table.list_all(opened.pool, None if found is None else found.account_id)

    found = run_verb(context, body)
    if as_json:
        print_json([_as_object(each) for each in found])
        return
    print_table(
        ("ACCOUNT", "KEY", "NAME", "MODEL", "LIMITS", "WHEN AWAY"),
        [
            (
                each.account,
                each.key_id,
                each.key_name,
                model or _EVERYTHING,
                _in_words(each.limits, model),
                each.when_away,
            )
            for each in found
            for model in sorted(each.limits)
        ],
    )


@limits.command()
@click.argument("words", metavar="[LIMIT]...", nargs=-1, type=click.Choice([*WHATS]))
@_whose
@_json
@click.pass_context
def clear(
    context: click.Context,
    words: tuple[str, ...],
    account: str | None,
    key: str | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Take limits away, such as requests/minute; none named: all of this account or key and this model."""
    _print_change(_changed(context, (account, key, model), {}, words or None), account or key or "", model, as_json)


def _changed(
    context: click.Context,
    whose: tuple[str | None, str | None, str | None],
    amounts: dict[str, int],
    cleared: tuple[str, ...] | None,
    when_away: str | None = None,
) -> Terms:
    account, key, model = whose
    if (account is None) == (key is None):
        raise click.UsageError("Say whose limits: --account NAME or --key ID, one of them.")
    if model == "":
        raise click.UsageError("An empty word is no model; leave out --model for all models together.")

    more: dict[str, Any] = {"cleared": cleared, "when_away": when_away}

    async def body(opened: Opened) -> Terms:
        if account is not None:
            return await table.of_account(opened.pool, account, model or "", amounts, **more)
        return await table.of_key(opened.pool, key or "", model or "", amounts, **more)

    return run_verb(context, body)


def _print_change(terms: Terms, whose: str, model: str | None, as_json: bool) -> None:
    if as_json:
        print_json(_listed(terms))
    else:
        words = _in_words(terms, model or "") or "nothing"
        click.echo(f"{whose} is limited to {words}{f', for {model}' if model else ''}.")


def _in_words(terms: Terms, model: str) -> str:
    return ", ".join(f"{word}={terms[model][word]}" for word in WHATS if word in terms.get(model, {}))


def _listed(terms: Terms) -> list[dict[str, Any]]:
    return [{"model": model or None, "limits": terms[model]} for model in sorted(terms)]


def _as_object(limited: Limited) -> dict[str, Any]:
    fields = asdict(limited)
    del fields["limits"], fields["account_id"]
    return {**fields, "models": _listed(limited.limits)}
