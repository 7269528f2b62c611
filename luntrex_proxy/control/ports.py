"""What the control plane shows of the running process. The daemon implements it."""

from collections.abc import Mapping
from typing import Protocol


class LiveState(Protocol):
    """How the process is doing now. Neither member waits for anything."""

    @property
    def ready(self) -> bool:
        """Whether requests should be sent here. A lost database alone does not clear it: known keys keep working."""

    def checks(self) -> Mapping[str, bool]:
        """Named conditions, the ones that do not clear `ready` included. Names are fixed words of ours."""
