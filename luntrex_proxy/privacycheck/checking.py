"""The check from its beginning to its end: account, daemon, requests, search, and nothing left of it."""

import asyncio
import contextlib
import gzip
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from luntrex_proxy.core.canaries import Marks
from luntrex_proxy.core.consents import Purpose
from luntrex_proxy.privacycheck import searching
from luntrex_proxy.privacycheck.daemon import (
    ASKED_MODEL,
    CheckedDaemon,
    Paths,
    add_upstream,
    configuration,
    copy_pepper,
    new_paths,
    private_directory,
)
from luntrex_proxy.privacycheck.saying import Saying, everything
from luntrex_proxy.privacycheck.searching import Place
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.simulator.misbehaving import Misbehaving
from luntrex_proxy.simulator.server import Simulator, start_simulator
from luntrex_proxy.store import accounts, apikeys, consents
from luntrex_proxy.store.checkjournal import CheckJournal, Made
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.everything import write_files
from luntrex_proxy.store.pepper import lookup_of
from luntrex_proxy.store.wrappings import Wrappings

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
    """Check an installation with a daemon of its program. Whatever happens, nothing of it stays but audit entries:
    what a check that was killed has left, the next one removes first.
    """
    asked = _model_of(installation.settings, upstream) if upstream is not None else ""
    journal = await CheckJournal.open(installation.state_directory)
    try:
        if await journal.remove_leftovers(installation.pool):
            tell("removed what a check has left that was ended before its end")
        return await _Check(installation, tell, journal, upstream or "", asked).run(program)
    finally:
        journal.close()


@dataclass(slots=True)
class _Check:
    """One check while it runs."""

    installation: Installation
    tell: Progress
    journal: CheckJournal
    upstream: str  # of the installation, to ask in place of the built-in one; "": none
    asked: str  # its model
    said: Marks = field(default_factory=lambda: _marks("zq"))
    planted: Marks = field(default_factory=lambda: _marks("zp"))
    since: datetime = field(default_factory=searching.now)
    verdict: Verdict = field(default_factory=Verdict)

    async def run(self, program: Sequence[str]) -> Verdict:
        """All of it."""
        pool, verdict, paths = self.installation.pool, self.verdict, new_paths()
        # The account's name is what the search has to find in the tables.
        name = f"privacy-check-{self.planted('account')}"
        made = Made.of(name, paths.root)
        self.journal.note(made)
        try:
            key = await self._account(name)
            with private_directory(paths):
                copy_pepper(self.installation.state_directory, paths)
                async with _upstreams(self.said) as (simulator, failing):
                    daemon = CheckedDaemon(
                        program, paths, self._configured(paths, simulator, failing), simulator.secret, self.journal
                    )
                    (paths.temporary / "planted.gz").write_bytes(gzip.compress(self.planted("file").encode()))
                    async with daemon.running():
                        made = replace(made, boot_ids=[each.name for each in (paths.state / "spool").glob("*-*")])
                        self.journal.note(made)
                        answers = await self._speak(daemon, key)
                    again = await self._files("its files after the stop", paths.root, self.planted)
                    log = searching.search_text("log", paths.output.read_bytes(), self.said, b'"luntrex.request"')
                    refusals = searching.search_text("refusals", b"\n".join(answers), self.said, b"HTTP/1.1 4")
                    verdict.places += [log, refusals, *again]
            await self._search_installation()
            verdict.places += searching.unreadable(embedded=self.installation.embedded, upstream=self.upstream)
            verdict.planted = len(self.said.planted)
        finally:
            await made.remove(pool)
            self.journal.clear()
        return verdict

    async def _account(self, name: str) -> str:
        """Make the throw-away account; its key."""
        pool = self.installation.pool
        directory, sealing = self.installation.state_directory, self.installation.settings.sealing
        lookup = await lookup_of(pool, directory, Wrappings(pool, directory, sealing))
        account = await accounts.create(pool, name)
        if self.upstream:  # whoever asks has seen what it is and said yes
            await consents.give(pool, name, Purpose.TRAINING)
        return (await apikeys.create(pool, lookup, account.name, "check")).key

    def _configured(self, paths: Paths, simulator: Simulator, failing: Misbehaving) -> dict[str, Any]:
        here = self.installation
        configured = configuration(here.settings, here.dsn, paths, simulator, failing.url, here.state_directory)
        if self.upstream:
            add_upstream(configured, here.settings, self.upstream, self.asked)
        return configured

    async def _speak(self, daemon: CheckedDaemon, key: str) -> list[bytes]:
        """Say everything and search what is there while the daemon runs; its own answers that must quote nothing."""
        sayings = list(everything(self.said, key, ASKED_MODEL if self.asked else ""))
        answers = await _say_all(daemon, sayings, self.verdict, self.tell)
        await _settled(daemon)
        metrics = await daemon.ask_control("/metrics")
        files = await self._files("files of the daemon", daemon.paths.root, self.planted)
        self.tell("searching the tables")
        async for place in searching.search_tables(self.installation.pool, self.said, self.planted, self.since):
            self.verdict.places.append(place)
        self.verdict.places += [
            *files,
            searching.search_text("metrics", metrics, self.said, b"luntrex_build_info"),
        ]
        return answers

    async def _files(self, name: str, root: Path, planted: Marks | None) -> list[Place]:
        return await searching.search_files_beside(name, root, self.said, planted, self.since)

    async def _search_installation(self) -> None:
        self.tell("searching the files of the installation")
        with contextlib.suppress(StoreError):  # PostgreSQL writes them soon anyway; not everybody may ask for it
            await write_files(self.installation.pool)
        expected = self.planted if self.installation.embedded else None
        self.verdict.places += await self._files("state directory", self.installation.state_directory, expected)


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
