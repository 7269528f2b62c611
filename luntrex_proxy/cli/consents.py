"""`luntrex-proxy consents ...`: what accounts' owners agreed to. The words themselves are in core/consents.py."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.core.consents import Purpose, text_of, version_of
from luntrex_proxy.store import accounts
from luntrex_proxy.store import consents as table
from luntrex_proxy.store.consents import Consent
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError

_Change = Callable[[Pool, str, Purpose], Awaitable[Consent]]
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_purpose = click.argument("purpose", type=click.Choice([purpose.value for purpose in Purpose]))
_owner = click.option(
    "--owner", metavar="EMAIL", help="The owner for whom you say so; an account of nobody needs none."
)


@click.group()
def consents() -> None:
    """What accounts' owners agreed to: nothing, unless they say so."""


@consents.command("list")
@click.argument("account")
@_json
@click.pass_context
def list_consents(context: click.Context, account: str, as_json: bool) -> None:
    """Show what an account agreed to and what it withdrew, the newest first."""

    async def body(opened: Opened) -> list[Consent]:
        found = await accounts.get(opened.pool, account)
        return await table.history(opened.pool, found.account_id)

    found = run_verb(context, body)
    if as_json:
        print_json([asdict(one) | {"text": text_of(Purpose(one.purpose), one.text_version)} for one in found])
        return
    print_table(
        ("PURPOSE", "TEXT", "GIVEN", "BY", "WITHDRAWN", "BY"),
        [(c.purpose, c.text_version, c.given_at, c.given_by, c.withdrawn_at, c.withdrawn_by) for c in found],
    )


@consents.command()
@click.argument("purpose", type=click.Choice([purpose.value for purpose in Purpose]), required=False)
@_json
def texts(purpose: str | None, as_json: bool) -> None:
    """Show the words that a consent is given to."""
    shown = [each for each in Purpose if purpose in (None, each.value)]
    if as_json:
        print_json([{"purpose": each, "text_version": version_of(each), "text": text_of(each)} for each in shown])
        return
    print_table(("PURPOSE", "TEXT", "WORDS"), [(each, version_of(each), text_of(each)) for each in shown])


@consents.command()
@click.argument("account")
@_purpose
@_owner
@_json
@click.pass_context
def give(context: click.Context, account: str, purpose: str, owner: str | None, as_json: bool) -> None:
    """Note that an account's owner agrees to a purpose, in the present words (`consents texts`)."""
    consent = _changed(context, table.give, account, purpose, owner)
    _print(consent, as_json, f"{account} agrees: {text_of(Purpose(purpose))}")


@consents.command()
@click.argument("account")
@_purpose
@_owner
@_json
@click.pass_context
def withdraw(context: click.Context, account: str, purpose: str, owner: str | None, as_json: bool) -> None:
    """Note that an account's owner agrees no more; it counts everywhere within a second."""
    consent = _changed(context, table.withdraw, account, purpose, owner)
    _print(consent, as_json, f"{account} does not agree to {purpose} any more.")


def _changed(context: click.Context, change: _Change, account: str, purpose: str, owner: str | None) -> Consent:
    async def body(opened: Opened) -> Consent:
        await _check_owner(opened, account, owner)
        return await change(opened.pool, account, Purpose(purpose))

    return run_verb(context, body)


async def _check_owner(opened: Opened, account: str, owner: str | None) -> None:
    """Only an owner agrees. Whoever is at the terminal says for whom; there may be nobody else than who is there."""
    owners = await table.owners(opened.pool, account)
    if owners and (owner or "").lower() not in owners:
        raise RefusedError("Only an owner of the account can agree or disagree; name the one who does with --owner.")
    if owner and not owners:
        raise RefusedError(f"The account {account} has no owner among people; leave out --owner.")


def _print(consent: Consent, as_json: bool, sentence: str) -> None:
    if as_json:
        print_json(asdict(consent))
    else:
        click.echo(sentence)
