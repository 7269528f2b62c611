"""The check from its beginning to its end: account, daemon, requests, search, and nothing left of it."""

import asyncio
import contextlib
import gzip
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from luntrex_proxy.core.canaries import Marks
from luntrex_proxy.privacycheck import searching
from luntrex_proxy.privacycheck.daemon import (
    ASKED_MODEL,
    CheckedDaemon,
    add_upstream,
    configuration,
    copy_pepper,
    private_directory,
)
from luntrex_proxy.privacycheck.saying import Saying, everything
from luntrex_proxy.privacycheck.searching import Place
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.simulator.misbehaving import Misbehaving
from luntrex_proxy.simulator.server import Simulator, start_simulator
from luntrex_proxy.store import accounts, apikeys
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.everything import remove_traces, write_files
from luntrex_proxy.store.pepper import lookup_of

_AT_ONCE: Final = 8
_SETTLE_S: Final = 30.0
Progress = Callable[[str], None]


@dataclass(slots=True)
class Verdict:
    """What came of it."""

    places: list[Place] = field(default_factory=list)
    said: int = 0  # requests
    planted: int = 0  # kinds of content
    unexpected: list[str] = field(default_factory=list)  # requests that came to something else: the check is incomplete

    @property
    def leaks(self) -> bool:
        """Whether anything that was said is anywhere."""
        return any(place.hits for place in self.places)

    @property
    def proven(self) -> bool:
        """Whether the search found all that was planted, after requests that did what they should."""
        return not self.unexpected and all(place.control != "NOT FOUND" for place in self.places)

    @property
    def unchecked(self) -> list[Place]:
        """The places that were not looked into."""
        return [place for place in self.places if place.not_checked]


@dataclass(frozen=True, slots=True)
class Installation:
    """What is checked."""

    settings: Settings
    pool: Pool
    dsn: str
    state_directory: Path
    embedded: bool


async def check(
    installation: Installation, program: Sequence[str], tell: Progress, upstream: str | None = None
) -> Verdict:
    """Check an installation with a daemon of its program. Whatever happens, nothing of it stays but audit entries."""
    asked = _model_of(installation.settings, upstream) if upstream is not None else ""
    said, planted = _marks("zq"), _marks("zp")
    since, verdict = searching.now(), Verdict()
    lookup = await lookup_of(installation.pool, installation.state_directory)
    # The account's name is what the search has to find in the tables.
    account = await accounts.create(installation.pool, f"privacy-check-{planted('account')}")
    boot_ids: list[str] = []
    try:
        key = (await apikeys.create(installation.pool, lookup, account.name, "check")).key
        with private_directory() as paths:
            copy_pepper(installation.state_directory, paths)
            async with _upstreams(said) as (simulator, failing):
                configured = configuration(
                    installation.settings, installation.dsn, paths, simulator, failing.url, installation.state_directory
                )
                if upstream is not None:
                    add_upstream(configured, installation.settings, upstream, asked)
                daemon = CheckedDaemon(program, paths, configured, simulator.secret)
                (paths.temporary / "planted.gz").write_bytes(gzip.compress(planted("file").encode()))
                async with daemon.running():
                    answers = await _say_all(
                        daemon, list(everything(said, key, ASKED_MODEL if asked else "")), verdict, tell
                    )
                    await _settled(daemon)
                    metrics = await daemon.ask_control("/metrics")
                    boot_ids += [each.name for each in (paths.state / "spool").glob("*-*")]
                    spool = await searching.search_files_beside("files of the daemon", paths.root, said, planted, since)
                    tell("searching the tables")
                    async for place in searching.search_tables(installation.pool, said, planted, since):
                        verdict.places.append(place)
                verdict.places += [
                    spool,
                    searching.search_text("metrics", metrics, said, b"luntrex_build_info"),
                    searching.search_text("log", paths.output.read_bytes(), said, b'"luntrex.request"'),
                    searching.search_text("refusals", b"\n".join(answers), said, b"HTTP/1.1 4"),
                ]
                again = await searching.search_files_beside(
                    "its files after the stop", paths.root, said, planted, since
                )
                verdict.places.append(again)
        await _search_installation(installation, said, planted, since, verdict, tell)
        verdict.places += searching.unreadable(embedded=installation.embedded, upstream=upstream or "")
        verdict.planted = len(said.planted)
    finally:
        await remove_traces(installation.pool, account.account_id, boot_ids)
    return verdict


async def _search_installation(
    installation: Installation, said: Marks, planted: Marks, since: datetime, verdict: Verdict, tell: Progress
) -> None:
    tell("searching the files of the installation")
    with contextlib.suppress(StoreError):  # PostgreSQL writes them soon anyway; not everybody may ask for it
        await write_files(installation.pool)
    expected = planted if installation.embedded else None
    place = await searching.search_files_beside("state directory", installation.state_directory, said, expected, since)
    verdict.places.append(place)


@contextlib.asynccontextmanager
async def _upstreams(said: Marks) -> AsyncIterator[tuple[Simulator, Misbehaving]]:
    simulator = await start_simulator(token_gap_seconds=0.002)
    failing = Misbehaving(said)
    await failing.start()
    try:
        yield simulator, failing
    finally:
        await failing.stop()
        await simulator.stop()


async def _say_all(daemon: CheckedDaemon, sayings: list[Saying], verdict: Verdict, tell: Progress) -> list[bytes]:
    """Say everything, a few at once; the answers of our own that must quote nothing."""
    refusals: list[bytes] = []
    turn = asyncio.Semaphore(_AT_ONCE)

    async def one(saying: Saying) -> None:
        async with turn:
            answer = await daemon.ask(saying.request, leave_after=saying.leave_after)
        verdict.said += 1
        status = int(answer[9:12]) if answer[9:12].isdigit() else 0
        if saying.status and status != saying.status:
            verdict.unexpected.append(f"{saying.name}: {status} instead of {saying.status}")
        if status >= 400 and not saying.name.startswith("upstream"):
            refusals.append(answer)

    tell(f"saying {len(sayings)} requests")
    await asyncio.gather(*(one(saying) for saying in sayings))
    return refusals


async def _settled(daemon: CheckedDaemon) -> None:
    """Until all records are in the tables."""
    deadline = asyncio.get_running_loop().time() + _SETTLE_S
    while asyncio.get_running_loop().time() < deadline:
        if b"\nluntrex_ledger_spooled_total 0\n" in await daemon.ask_control("/metrics"):
            break
        await asyncio.sleep(0.1)
    await asyncio.sleep(2.5)  # counts of refused keys are written every two seconds


def _model_of(settings: Settings, upstream: str) -> str:
    """A model that this upstream serves, by a name that has no wildcard."""
    for model in settings.models:
        if "*" not in model.name and any(target.upstream == upstream for target in model.targets):
            return model.name
    raise RefusedError(f"No model without a * in its name has {upstream} among its targets; name another upstream.")


def _marks(prefix: str) -> Marks:
    return Marks(prefix + secrets.token_hex(6))
