"""`luntrex-proxy privacy-check`: is anything of what was said anywhere?"""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from luntrex_proxy.cli.opening import Opened, run_verb
from luntrex_proxy.cli.policy_gaps import policy_gaps
from luntrex_proxy.cli.printing import print_json, print_table

if TYPE_CHECKING:
    from luntrex_proxy.privacycheck.checking import Verdict

_SHOWN = 20
_PROGRAM = (sys.executable, "-m", "luntrex_proxy")


@click.command("privacy-check")
@click.option("--upstream", metavar="NAME", help="Ask this upstream of yours in place of the built-in one.")
@click.option("--yes", is_flag=True, help="With --upstream: do not ask first.")
@click.option("--allow-unchecked", is_flag=True, help="Exit 0 although there are places that cannot be read.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def privacy_check(
    context: click.Context, upstream: str | None, yes: bool, allow_unchecked: bool, as_json: bool
) -> None:
    """Say secret words to this installation in every way, and look for them in all that it keeps.

    A daemon beside yours, on your database and with your pepper, gets requests of a throw-away account: good ones,
    refused ones, and such whose upstream fails. Then every table, file, log and metric is searched for what was said,
    in every encoding, and for what was planted there: a search that does not find that is worth nothing. At the end
    all of it is removed, but for entries of the audit log.

    Exit status 1: something was found, or a place could not be read.
    """
    from luntrex_proxy.privacycheck.checking import Installation, check  # noqa: PLC0415 -- --help needs none of it

    if upstream is not None and not yes:
        click.confirm(
            "This sends test words to a provider, which may keep and charge for them. Go on?", abort=True, err=True
        )

    async def body(opened: Opened) -> "tuple[Verdict, list[str]]":
        embedded = opened.settings.database.url is None
        installation = Installation(opened.settings, opened.pool, opened.dsn, opened.state_directory, embedded)
        found = await check(installation, _PROGRAM, lambda what: click.echo(what, err=True), upstream)
        return found, list(policy_gaps(opened.settings, opened.state_directory))

    verdict, short = run_verb(context, body)
    if as_json:
        print_json(_plain(verdict) | {"policy_shortfalls": short})
    else:
        _print(verdict, short)
    if verdict.leaks or not verdict.proven or (verdict.unchecked and not allow_unchecked):
        raise click.exceptions.Exit(1)


def _plain(verdict: "Verdict") -> dict[str, Any]:
    return {
        "leaks": verdict.leaks,
        "proven": verdict.proven,
        "requests": verdict.said,
        "kinds_of_content": verdict.planted,
        "unexpected": verdict.unexpected,
        "places": [asdict(place) for place in verdict.places],
    }


def _print(verdict: "Verdict", short: list[str]) -> None:
    rows = [
        (
            place.name,
            (place.not_checked and "NOT CHECKED") or (f"{len(place.hits)} FOUND" if place.hits else "nothing found"),
            place.looked_at,
            place.not_checked or place.control,
        )
        for place in verdict.places
    ]
    print_table(("PLACE", "WHAT WAS SAID", "BYTES", "WHAT WAS PLANTED"), rows)
    hits = [hit for place in verdict.places for hit in place.hits]
    for hit in hits[:_SHOWN]:
        click.echo(f"FOUND in {hit.where}, as {hit.form}.")
    for sentence in verdict.unexpected:
        click.echo(f"Not as expected, so not everything was said: {sentence}.")
    for sentence in short:
        click.echo(sentence)
    said = f"{verdict.said} requests with {verdict.planted} kinds of content"
    if verdict.leaks:
        click.echo(f"{said}: something of it was KEPT.")
    elif not verdict.proven:
        click.echo(f"{said}: the check itself did not work, so it says nothing.")
    else:
        click.echo(f"{said}: nothing of it was found.")
