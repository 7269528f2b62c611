"""What the control plane shows of the running process. The daemon implements it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from luntrex_proxy.core.health import Condition


class LiveState(Protocol):
    """How the process is doing now. Neither member waits for anything."""

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here. A lost database alone does not clear it: known keys keep working."""

    def upstreams(self, models: Collection[str]) -> Sequence[Condition]:
        """How the upstreams are, and for which of these models, by their names there, they are paused."""

    def checks(self) -> Mapping[str, bool]:
        """Named conditions, the ones that do not clear `ready` included. Names are fixed words of ours."""
