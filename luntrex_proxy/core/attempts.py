"""How many wrong keys a network may send before it has to wait, as pure arithmetic on a bounded table."""

import ipaddress
from typing import Final

WINDOW_S: Final = 60.0
BLOCK_S: Final = 60.0
NETWORKS_MAX: Final = 10_000
UNKNOWN_NETWORK: Final = "local"  # what clients without an address count as together: those of a Unix socket
_BITS: Final = {4: 24, 6: 48}  # as much of an address as may be written down anywhere


def network_of(address: str) -> str:
    """The network an address is counted and named as: its /24 (IPv4) or /48 (IPv6)."""
    try:
        read = ipaddress.ip_address(address)
    except ValueError:
        return UNKNOWN_NETWORK
    return str(ipaddress.ip_network((read, _BITS[read.version]), strict=False))


class Attempts:
    """Failed attempts by network: `limit` a minute on average, then a minute's pause. Times in seconds, any clock.

    For each network one number is kept, the time at which its debt of failures is paid off (GCRA), so that a flood
    costs no more memory than one failure. The table is bounded; who failed longest ago is forgotten first.
    """

    __slots__ = ("_blocked", "_paid_at", "limit")

    def __init__(self, limit: int | None) -> None:
        self.limit = limit  # None: nobody has to wait
        self._paid_at: dict[str, float] = {}
        self._blocked: dict[str, float] = {}  # network -> when it may try again

    def __len__(self) -> int:
        return len(self._paid_at) + len(self._blocked)

    def note(self, network: str, now: float) -> None:
        """One more failure."""
        if self.limit is None:
            return
        # Not beyond the window even when the clock went back.
        paid_at = min(max(self._paid_at.pop(network, now), now), now + WINDOW_S) + WINDOW_S / self.limit
        if paid_at - now > WINDOW_S + 1e-6:
            _put(self._blocked, network, now + BLOCK_S)
        else:
            _put(self._paid_at, network, paid_at)

    def forgive(self, network: str) -> None:
        """What was noted last was none. A pause that others have earned meanwhile stays."""
        if self.limit is not None and network in self._paid_at:
            self._paid_at[network] -= WINDOW_S / self.limit

    def owes(self, network: str, now: float) -> bool:
        """Whether a failure of the network is not paid off yet, or it has to wait."""
        return self._paid_at.get(network, now) > now or self.wait_s(network, now) > 0

    def wait_s(self, network: str, now: float) -> float:
        """Seconds until the network may try again; 0 when it may now."""
        until = self._blocked.get(network)
        if until is None:
            return 0.0
        if now >= until or until - now > BLOCK_S:  # over, or the clock went back
            del self._blocked[network]
            return 0.0
        return until - now


def _put(table: dict[str, float], network: str, value: float) -> None:
    table.pop(network, None)  # to the end of the order
    table[network] = value
    if len(table) > NETWORKS_MAX:
        del table[next(iter(table))]
