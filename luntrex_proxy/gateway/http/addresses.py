"""Whose connection or request it is, for the limits by address, and the counts. No address goes anywhere else."""

import ipaddress
import socket
from collections.abc import Iterable

from luntrex_proxy.settings.listeners import UNIX_PEERS

UNREADABLE = "unreadable"  # what all requests count as together whose client a trusted proxy does not name
_MAX_HOPS = 32  # of X-Forwarded-For, counted from our end: chains of more proxies do not exist
_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Addresses:
    """Counts what each address has at the same time. Only addresses that have something are in the table."""

    __slots__ = ("_counts", "limit")

    def __init__(self, limit: int | None) -> None:
        self._counts: dict[str, int] = {}
        self.limit = limit  # None: none, but counted, so that a limit may come by reload

    def __len__(self) -> int:
        return len(self._counts)

    def enter(self, address: str) -> bool:
        """Count one in; False, and not counted, when the address has as many as it may have."""
        count = self._counts.get(address, 0)
        if self.limit is not None and count >= self.limit:
            return False
        self._counts[address] = count + 1
        return True

    def leave(self, address: str) -> None:
        """Count one out that entered."""
        count = self._counts[address]
        if count == 1:
            del self._counts[address]
        else:
            self._counts[address] = count - 1


class Clients:
    """Which addresses count, and who is believed about them. Replaced whole by a reload."""

    __slots__ = ("_networks", "_trusts_unix", "source")

    def __init__(self, trusted_proxies: Iterable[str] = (), source: str = "peer") -> None:
        self._networks: list[_Network] = [ipaddress.ip_network(text) for text in trusted_proxies if text != UNIX_PEERS]
        self._trusts_unix = UNIX_PEERS in trusted_proxies
        self.source = source  # as gateway.client_address

    def trusts(self, peer: str) -> bool:
        """Whether a peer ("" is one on a Unix socket) is a proxy that may speak for others."""
        if not peer:
            return self._trusts_unix
        address = _read(peer)
        return address is not None and self._is_trusted(address)

    def identify(self, address: str) -> tuple[str, str]:
        """What `address` is counted as (itself, or its /64 network; "" when it is exempt from limits), and its one
        spelling as `plain_address` has it."""
        read = _read(address)
        if read is None:
            return "", ""
        plain = str(read)
        if read.is_loopback or self._is_trusted(read):
            return "", plain
        return _key(read) if read.version == 6 else plain, plain

    def forwarded(self, values: bytes) -> str:
        """What a request is counted as by X-Forwarded-For from a trusted proxy.

        Never "": who makes a proxy pass something unreadable on must not be without a limit.
        """
        farthest = self._farthest(values)
        return UNREADABLE if farthest is None else _key(farthest)

    def origin(self, values: bytes) -> str:
        """The client's whole address by X-Forwarded-For from a trusted proxy; "" when it names none."""
        farthest = self._farthest(values)
        return "" if farthest is None else str(farthest)

    def _farthest(self, values: bytes) -> _Ip | None:
        """The last address that is no trusted proxy."""
        farthest: _Ip | None = None
        for part in reversed(values.rsplit(b",", _MAX_HOPS)[-_MAX_HOPS:]):
            address = _read(_without_port(part.strip().decode("latin-1")))
            if address is None:  # what stands before it was written by nobody we trust
                break
            farthest = address
            if not self._is_trusted(address):
                break
        return farthest

    def _is_trusted(self, address: _Ip) -> bool:
        return any(address in network for network in self._networks)


def plain_address(text: str) -> str:
    """A peer's address in its one spelling: without a zone, IPv4 as IPv4; "" when it has none (a Unix socket)."""
    address = _read(text)
    return "" if address is None else str(address)


def _read(text: str) -> _Ip | None:
    try:
        return ipaddress.IPv4Address(socket.inet_pton(socket.AF_INET, text))  # the usual one, read in C
    except (OSError, ValueError):
        pass
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # A dual-stack listener shows IPv4 peers as ::ffff:1.2.3.4.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _key(address: _Ip) -> str:
    # One customer of a provider has a /64 at least, so its addresses are his to choose.
    if isinstance(address, ipaddress.IPv6Address):
        return f"{ipaddress.IPv6Address(int(address) >> 64 << 64)}/64"
    return str(address)


def _without_port(text: str) -> str:
    """Some balancers write 1.2.3.4:5678 and [::1]:5678."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
