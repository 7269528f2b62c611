"""The security log of refused keys: few lines whatever comes, and their counts add up to every refusal there was."""

import time
from typing import Final

import structlog

_EVERY_S: Final = 10.0
_LINES_MAX: Final = 20
_NETWORKS_MAX: Final = 1_000  # held apart between two rounds; more are counted together
_OTHERS: Final = "others"

log = structlog.get_logger()


class RefusedKeys:
    """Counts refusals by client network and code; `flush` says them every 10 s, the most frequent one by one."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._due = 0.0

    def note(self, network: str, code: str) -> None:
        """One refusal."""
        place = (network, code)
        if place not in self._counts and len(self._counts) >= _NETWORKS_MAX:
            place = (_OTHERS, code)
        self._counts[place] = self._counts.get(place, 0) + 1

    def flush(self, *, last: bool = False) -> None:
        """Write what was counted, when it is time (or `last`)."""
        now = time.monotonic()
        if not self._counts or (now < self._due and not last):
            return
        self._due = now + _EVERY_S
        counts, self._counts = self._counts, {}
        ordered = sorted(counts.items(), key=lambda item: item[1], reverse=True)
        rest: dict[str, int] = {}
        for (_, code), count in ordered[_LINES_MAX:]:
            rest[code] = rest.get(code, 0) + count
        for (network, code), count in [*ordered[:_LINES_MAX], *(((_OTHERS, code), rest[code]) for code in rest)]:
            log.warning("luntrex.keys_refused", network=network, code=code, count=count)
