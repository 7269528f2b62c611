"""Goes by the register of sub-processors while the daemon runs: what gets nothing, and who is told of it."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from luntrex_proxy.core.registry import Closed, State
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.registry import closed, due_soon, judge, refuse_unvetted, warnings
from luntrex_proxy.store.database import DRIVER_ERRORS
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.registry import RegisterBook

_EVERY_S = 1.0
_DAYS_PASS_EVERY_S = 60.0
_DUE_SOON = "due_soon"

log = structlog.get_logger()


class Vetting:
    """The register as this process knows it, applied to its configuration."""

    def __init__(self, book: RegisterBook) -> None:
        self.counts = dict.fromkeys((*State, _DUE_SOON), 0.0)  # remote places by state, for the metric
        self._book = book
        self._told: set[str] = set()

    async def begin(self, settings: Settings) -> None:
        """Read the register before anything is sent. Raises ConfigError when nothing could be done without a place."""
        await self._book.refresh()
        refuse_unvetted(judge(settings, self._book.register, _now()))

    def closed(self, settings: Settings) -> Closed:
        """The upstreams that get nothing by now. Says each sentence once, and again after it was mended meanwhile."""
        register, now = self._book.register, _now()
        judged, soon = judge(settings, register, now), due_soon(settings, register, now)
        states = Counter(each.listing.state for each in judged)
        self.counts = {**{state: float(states[state]) for state in State}, _DUE_SOON: float(len(soon))}
        sentences = {*warnings(judged), *soon}
        for sentence in sorted(sentences - self._told):
            log.warning("luntrex.subprocessor", hint=sentence[:256])
        self._told = sentences
        return closed(settings, register, self._book.objections, now)

    async def follow(self, changes: Callable[[], object], apply: Callable[[], None]) -> None:
        """Read anew after each change, and look again as days pass, until cancelled."""
        seen, looked_s = changes(), time.monotonic()
        while True:
            await asyncio.sleep(_EVERY_S)
            if changes() == seen and time.monotonic() - looked_s < _DAYS_PASS_EVERY_S:
                continue
            seen, looked_s = changes(), time.monotonic()
            try:
                await self._book.refresh()
            except (StoreError, *DRIVER_ERRORS):
                seen = None  # the next round asks again; what was read last holds
            apply()


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)
