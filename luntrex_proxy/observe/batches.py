"""Outcomes on their way to those who count, write or note them: many at a time, so that each request makes one call."""

from collections.abc import Callable, Sequence

from luntrex_proxy.core.outcome import Outcome

BATCH = 256  # taken by all in well below a millisecond: a busy second is many short stalls and no long one

Take = Callable[[Sequence[Outcome]], None]


class Batches:
    """Sink that hands outcomes on once there are `BATCH` of them; who wants to know of all calls `hand_on` before."""

    def __init__(self, on_bug: Callable[[BaseException], None]) -> None:
        self.takers: Sequence[Take] = ()
        self._on_bug = on_bug
        self._pending: list[Outcome] = []

    def __call__(self, outcome: Outcome) -> None:
        self._pending.append(outcome)
        if len(self._pending) >= BATCH:
            self.hand_on()

    def hand_on(self) -> None:
        """Give those who take them all that came since the last time."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        for take in self.takers:
            try:
                take(pending)
            except Exception as bug:  # noqa: BLE001 -- one that breaks must not cost the others what they count
                self._on_bug(bug)
