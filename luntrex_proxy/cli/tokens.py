"""`luntrex-proxy tokens ...`: personal access tokens for the API, made by whoever is at the terminal for a person."""

import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.control import acts
from luntrex_proxy.core.roles import Permission
from luntrex_proxy.core.tokens import LONGEST_DAYS
from luntrex_proxy.store import people
from luntrex_proxy.store import tokens as table
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.tokens import NewToken, TokenInfo

_HINT = "This is the only time the token is shown; keep it in a safe place."
_LIST_ROWS = 10_000
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_person = click.option("--person", required=True, metavar="ADDRESS", help="The person's mail address.")


@click.group()
def tokens() -> None:
    """What a person's programs send to the API."""


@tokens.command()
@_person
@click.option("--name", required=True, help="What it is for.")
@click.option(
    "--scope", "scopes", type=click.Choice([each.value for each in Permission]), multiple=True, required=True,
    help="What it may do at most; each again for more.",
)  # fmt: skip
@click.option("--days", type=click.IntRange(1, LONGEST_DAYS), default=90, show_default=True, help="How long it works.")
@_json
@click.pass_context
def create(context: click.Context, person: str, name: str, scopes: tuple[str, ...], days: int, as_json: bool) -> None:
    """Make a token and print it, this once. At each use the person's roles of that moment bound it further."""

    async def body(opened: Opened) -> NewToken:
        found = await people.find(opened.pool, person)
        until = datetime.fromtimestamp(time.time(), UTC) + timedelta(days=days) - timedelta(minutes=1)
        return await table.create(opened.pool, str(found.person_id), name, sorted(set(scopes)), until)

    made = run_verb(context, body)
    if as_json:
        fields = _as_object(made.info)
        print_json({"id": fields.pop("id"), "token": made.token, **fields})
        click.echo(_HINT, err=True)
        return
    click.echo(f"id:    {made.info.token_id}\ntoken: {made.token}\n\n{_HINT}")


@tokens.command("list")
@_person
@_json
@click.pass_context
def list_tokens(context: click.Context, person: str, as_json: bool) -> None:
    """Show a person's tokens, without their secrets."""

    async def body(opened: Opened) -> list[TokenInfo]:
        found = await people.find(opened.pool, person)
        await acts.record_read(opened.pool, "tokens.list", person_id=str(found.person_id))
        return await table.list_page(opened.pool, str(found.person_id), "", _LIST_ROWS)

    found = run_verb(context, body)
    if as_json:
        print_json([_as_object(token) for token in found])
        return
    print_table(
        ("ID", "NAME", "SCOPES", "CREATED", "EXPIRES", "LAST USED", "REVOKED"),
        [
            (t.token_id, t.name, ", ".join(t.scopes), t.created_at, t.expires_at, t.last_used_on, t.revoked_at)
            for t in found
        ],
    )


@tokens.command()
@click.argument("token_id", metavar="ID")
@_person
@_json
@click.pass_context
def revoke(context: click.Context, token_id: str, person: str, as_json: bool) -> None:
    """End a person's token for good."""

    async def body(opened: Opened) -> TokenInfo:
        found = await people.find(opened.pool, person)
        ended = await table.revoke(opened.pool, str(found.person_id), token_id)
        if ended is None:
            raise RefusedError("This person has no such token; `luntrex-proxy tokens list` shows all.")
        return ended

    ended = run_verb(context, body)
    if as_json:
        print_json(_as_object(ended))
    else:
        click.echo(f"Token {ended.token_id} is revoked.")


def _as_object(token: TokenInfo) -> dict[str, Any]:
    fields = asdict(token)
    return {"id": fields.pop("token_id"), **fields}
