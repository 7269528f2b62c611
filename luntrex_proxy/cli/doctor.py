"""`luntrex-proxy doctor`: looks at everything an operator can mend, and says what to do. It mends and makes nothing.

An embedded database that is there is started for the look when no daemon runs it, and stopped again.
"""

import asyncio
import enum
import resource
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from luntrex_proxy.cli.opening import address_of, opened
from luntrex_proxy.cli.policy_gaps import policy_gaps
from luntrex_proxy.cli.printing import print_json, print_table
from luntrex_proxy.core.registry import Register, State
from luntrex_proxy.store import checkjournal, migrate, pepper, rotation
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.datadirectory import has_data
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.ledger import status_of
from luntrex_proxy.store.pepper import is_present_here, stored_fingerprints
from luntrex_proxy.store.registry import entries

if TYPE_CHECKING:
    from luntrex_proxy.settings.model import Settings

_FEW_FILES: Final = 4096  # connections take two each


class Level(enum.StrEnum):
    """How a finding is to be taken. Only `bad` makes the exit status 1."""

    GOOD = "good"
    NOTE = "note"
    BAD = "bad"


_MAIL_SAYS = {
    "unreachable": "it does not answer; see mail.host, mail.port and the network",
    "certificate": "its certificate does not fit or is not trusted; see mail.host and mail.ca_file",
    "tls": "it does not speak TLS there; see mail.port and mail.security",
    "not_offered": "it offers no STARTTLS or no way to sign in; see mail.security",
    "sign_in_refused": "it refuses mail.user and mail.password",
    "not_now": "it refuses to talk now",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    what: str
    level: Level
    text: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Check this installation and say what to mend; exit status 1 when something is bad."""
    from luntrex_proxy.settings.loading import load  # noqa: PLC0415 -- pydantic is slow and --help needs none
    from luntrex_proxy.settings.state import find_state_directory  # noqa: PLC0415 -- as above

    settings = load(context.find_root().obj["config"]).settings
    directory = find_state_directory(settings.state).path
    findings = [
        *_look_at_settings(settings),
        *(Finding("privacy policy", Level.NOTE, sentence) for sentence in policy_gaps(settings, directory)),
        *_look_at_machine(settings, directory),
        *asyncio.run(_look_at_database(settings, directory)),
        asyncio.run(_look_at_mail(settings)),
    ]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_table(("WHAT", "IS", "WHY"), [(each.what, each.level, each.text) for each in findings])
    if any(finding.level is Level.BAD for finding in findings):
        raise click.exceptions.Exit(1)


def _look_at_settings(settings: "Settings") -> Iterator[Finding]:
    from luntrex_proxy.settings.policy import outsiders  # noqa: PLC0415 -- see above
    from luntrex_proxy.settings.privacy import contact_warnings  # noqa: PLC0415 -- see above

    yield Finding("configuration", Level.GOOD, f"{len(settings.upstreams)} upstreams, {len(settings.models)} models")
    for sentence in outsiders(settings):
        yield Finding("policy", Level.NOTE, sentence)
    for sentence in settings.keys.warnings():
        yield Finding("keys", Level.NOTE, sentence)
    for sentence in contact_warnings(settings):
        yield Finding("privacy contact", Level.NOTE, sentence)


def _look_at_machine(settings: "Settings", directory: Path) -> Iterator[Finding]:
    try:
        if checkjournal.has_leftovers(directory):
            text = "one that was killed has left an account or files; a daemon, or else the next check, removes them"
            yield Finding("privacy-check", Level.NOTE, text)
    except StoreError as error:
        yield Finding("privacy-check", Level.BAD, str(error))
    if directory.exists():
        free, bound = shutil.disk_usage(directory).free, settings.ledger.max_bytes
        text = f"{free >> 20} MiB are free where the spool lies; ledger.max_bytes lets it grow to {bound >> 20} MiB"
        yield Finding("disk", Level.GOOD if free >= bound else Level.NOTE, text)
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = files == resource.RLIM_INFINITY or files >= _FEW_FILES
    text = f"{files} may be open; a connection takes up to two" + ("" if enough else ": raise LimitNOFILE")
    yield Finding("files", Level.GOOD if enough else Level.NOTE, text)


async def _look_at_database(settings: "Settings", directory: Path) -> list[Finding]:
    url = address_of(settings)
    found: list[Finding] = []
    try:
        if url is None and not has_data(directory):
            return [Finding("database", Level.NOTE, f"none yet; the first start makes one in {directory}")]
        async with opened(directory, url, needs_schema=False) as (pool, _):
            found.append(Finding("database", Level.GOOD, "embedded" if url is None else "reached"))
            async for finding in _look_at_tables(pool, directory, settings):
                found.append(finding)
            if all(finding.what != "schema" or finding.level is not Level.BAD for finding in found):
                found += await _look_at_register(settings, pool)
    except StoreError as error:
        found.append(Finding("database", Level.BAD, str(error)))
    return found


async def _look_at_register(settings: "Settings", pool: Pool) -> list[Finding]:
    from luntrex_proxy.settings import registry  # noqa: PLC0415 -- see above

    now = datetime.fromtimestamp(time.time(), UTC)
    register = Register(await entries(pool), registry.SHIPPED)
    judged = registry.judge(settings, register, now)
    found = [
        Finding("sub-processors", Level.NOTE if each.usable else Level.BAD, each.sentence)
        for each in judged
        if each.listing.state is not State.COMPLETE
    ]
    found += [Finding("sub-processors", Level.NOTE, text) for text in registry.due_soon(settings, register, now)]
    return found or [Finding("sub-processors", Level.GOOD, f"{len(judged)} remote places, all vetted")]


async def _look_at_tables(pool: Pool, directory: Path, settings: "Settings") -> AsyncIterator[Finding]:
    state = await migrate.status(pool)
    pending = [label for label in state.pending if "_pre_" in label]
    if pending:
        yield Finding("schema", Level.BAD, f"It lacks {', '.join(pending)}; run `luntrex-proxy db migrate`.")
        return
    yield Finding("schema", Level.GOOD, f"{len(state.applied)} migrations")
    yield await _look_at_secrets(pool, directory, settings)
    if (await stored_fingerprints(pool))[0] is None:
        yield Finding("pepper", Level.NOTE, "none yet; the first start or key makes it")
        return
    yield await _look_at_pepper(pool, directory, settings)
    yield await _look_at_keys(pool)
    yield await _look_at_ledger(pool, directory)


async def _look_at_pepper(pool: Pool, directory: Path, settings: "Settings") -> Finding:
    from luntrex_proxy.store import secretfiles  # noqa: PLC0415 -- see above
    from luntrex_proxy.store.wrappings import Wrappings  # noqa: PLC0415 -- see above

    try:
        is_present = await is_present_here(pool, directory)
        sealed_by = secretfiles.sealed_by(directory).get(pepper.PRESENT)
        if sealed_by is not None:
            await pepper.opened(
                directory / pepper.PRESENT, Wrappings(pool, directory, settings.sealing, only_look=True)
            )
    except StoreError as error:
        return Finding("pepper", Level.BAD, str(error))
    text = "fits the database" if is_present else "is the one before; copy the new files and restart"
    text += f"; sealed by {sealed_by}" if sealed_by else ""
    return Finding("pepper", Level.GOOD if is_present else Level.NOTE, text)


async def _look_at_secrets(pool: Pool, directory: Path, settings: "Settings") -> Finding:
    from luntrex_proxy.store.wrappings import Wrappings  # noqa: PLC0415 -- see above

    try:
        by, is_as_configured = await Wrappings(pool, directory, settings.sealing, only_look=True).look()
    except StoreError as error:
        return Finding("secrets", Level.BAD, str(error))
    if not by:
        return Finding("secrets", Level.GOOD, "none are set")
    text = f"opened; their data keys are wrapped by {by}"
    if is_as_configured:
        return Finding("secrets", Level.GOOD, text)
    return Finding("secrets", Level.NOTE, f"{text}, not as configured; run `luntrex-proxy secrets rotate wrapping-key`")


async def _look_at_keys(pool: Pool) -> Finding:
    state = await rotation.state_of(pool)
    text = f"{state.live_keys} live"
    if state.rotating:
        text += f"; a pepper rotation is under way, {state.old_keys} keys have only the old hash"
    if not state.unproven_keys:
        return Finding("keys", Level.GOOD, text)
    rate = await asyncio.to_thread(rotation.keys_per_second)
    text += (
        f"; {state.unproven_keys} can only be told by bcrypt, each at its first use: a process of this machine proves "
        f"{rate:.0f} keys per second, so {_duration(state.unproven_keys / rate)} when all come at once"
    )
    return Finding("keys", Level.NOTE, text)


async def _look_at_ledger(pool: Pool, directory: Path) -> Finding:
    status = await status_of(pool, directory / "spool")
    dead = [each for each in status.directories if not each.live and each.segments]
    damaged = [each for each in status.directories if each.damaged]
    faults = []
    if dead:
        faults.append(f"{len(dead)} spools of dead processes wait for a daemon or `luntrex-proxy ledger replay`")
    if damaged:
        faults.append(f"{len(damaged)} spools have unreadable stretches; the disk may be failing")
    if status.quarantine_files:
        faults.append(f"{status.quarantine_files} files are in quarantine: records that could not be read or stored")
    if not faults:
        return Finding("ledger", Level.GOOD, "nothing waits")
    return Finding("ledger", Level.BAD if damaged or status.quarantine_files else Level.NOTE, "; ".join(faults))


async def _look_at_mail(settings: "Settings") -> Finding:
    from luntrex_proxy.control import mailing  # noqa: PLC0415 -- only this verb and the daemon speak SMTP

    if settings.mail.host is None:
        return Finding("mail", Level.NOTE, "none is sent; links are shown to who may hand them on")
    try:
        reason = await mailing.look(settings)
    except StoreError as error:
        return Finding("mail", Level.BAD, str(error))
    if reason:
        return Finding("mail", Level.BAD, f"{settings.mail.host}:{settings.mail.port}: {_MAIL_SAYS[reason]}")
    return Finding("mail", Level.GOOD, "the server is reached, trusted, and lets us in")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.0f} hours"
