"""How a new connection to an upstream is made: addresses from a cache, a CONNECT proxy if there is one, then TLS.

Nothing of the request is sent here, so whatever fails is an OSError and the next target may have the request. A proxy
is trusted with nothing: its answer opens the tunnel or not, and no byte of it is read as the upstream's.
"""

import asyncio
import contextlib
import ipaddress
import re
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohappyeyeballs

Address = tuple[Any, Any, int, str, Any]  # as getaddrinfo has it
P = TypeVar("P", bound=asyncio.Protocol)

MAX_ADDRESSES = 16
NEXT_ADDRESS_AFTER_S = 0.25  # RFC 8305 section 8: how long the earlier address is tried alone
_MAX_PROXY_HEAD_BYTES = 16384
_TUNNEL_OPEN = re.compile(rb"HTTP/1\.[01] 2[0-9][0-9][ \r]")


class DialError(OSError):
    """The upstream can't be reached this way; says nothing of what the other side sent."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A CONNECT proxy. `credentials` is user:password, or nothing."""

    host: str
    port: int
    credentials: str

    def __repr__(self) -> str:
        return "Proxy(***)"


class Addresses:
    """A host's addresses, looked up at most once per `ttl_s`; the last good answer is kept for when DNS fails."""

    __slots__ = ("_host", "_known", "_lookup", "_loop", "_port", "_stale_at_s", "_ttl_s")

    def __init__(self, host: str, port: int, ttl_s: float, loop: asyncio.AbstractEventLoop) -> None:
        self._host = host
        self._port = port
        self._ttl_s = ttl_s
        self._loop = loop
        self._known: list[Address] = []
        self._stale_at_s = 0.0
        self._lookup: asyncio.Task[None] | None = None  # one for all who wait
        with contextlib.suppress(ValueError):
            family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
            self._known = [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
            self._stale_at_s = float("inf")

    async def get(self) -> list[Address]:
        """The addresses, the one that worked last first. Raises OSError when there never were any."""
        now = self._loop.time()
        if now >= self._stale_at_s:
            if self._lookup is None:
                self._lookup = self._loop.create_task(self._look_up())
            # Up to twice its age an answer is good enough not to wait for the next one.
            if not self._known or now >= self._stale_at_s + self._ttl_s:
                await asyncio.shield(self._lookup)
        if not self._known:
            raise DialError("the host has no address")
        return self._known

    def worked(self, address: Address) -> None:
        """Begin with this one next time."""
        if len(self._known) > 1:
            self._known.sort(key=lambda known: known != address)

    def failed(self, address: Address) -> None:
        """Try the others first next time."""
        self._known.sort(key=lambda known: known == address)

    async def _look_up(self) -> None:
        try:
            found = await self._loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):  # no host name after all
            found = []
        finally:
            self._lookup = None
        if found:
            known = self._known[:1]
            self._known = sorted(found[:MAX_ADDRESSES], key=lambda address: [address] != known)
        # After a failure the old answer serves, and is asked about again soon.
        self._stale_at_s = self._loop.time() + (self._ttl_s if found else min(self._ttl_s, 1.0))


class Dialer:
    """Makes connections to one host and port."""

    __slots__ = ("_addresses", "_connect_s", "_host", "_loop", "_port", "_proxy", "_tls")

    def __init__(
        self,
        *,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        loop: asyncio.AbstractEventLoop,
        proxy: Proxy | None = None,
        connect_s: float = 10,
        dns_ttl_s: float = 60,
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._loop = loop
        self._proxy = proxy
        self._connect_s = connect_s
        at = (host, port) if proxy is None else (proxy.host, proxy.port)
        self._addresses = Addresses(*at, dns_ttl_s, loop)

    async def connect(self, make: Callable[[], P]) -> P:
        """A new connection with the protocol that `make` makes. Raises OSError, timeouts and TLS failures included.

        An address counts as good only with all that stands behind it: a node that accepts and then breaks tunnel or
        TLS is left for the next one. `make` may be called once for each address.
        """
        async with asyncio.timeout(self._connect_s):
            left = list(await self._addresses.get())
            while True:
                sock = await aiohappyeyeballs.start_connection(
                    left, happy_eyeballs_delay=NEXT_ADDRESS_AFTER_S, loop=self._loop
                )
                address = _address_of(sock, left)
                try:
                    protocol = await self._speak(sock, make)
                except BaseException as error:
                    # Also when nobody waits any longer: who hangs is not the first to be asked again.
                    self._addresses.failed(address)
                    left = [other for other in left if other != address]
                    if not left or not isinstance(error, OSError):
                        raise
                else:
                    self._addresses.worked(address)
                    return protocol

    async def _speak(self, sock: socket.socket, make: Callable[[], P]) -> P:
        """Tunnel and TLS over a connected socket, which is closed if they fail."""
        if self._proxy is not None:
            try:
                await self._open_tunnel(sock, self._proxy)
            except BaseException:
                sock.close()
                raise
        # From here on the loop closes the socket, whatever happens: nobody else may.
        _, protocol = await self._loop.create_connection(
            make, sock=sock, ssl=self._tls, server_hostname=self._host if self._tls else None
        )
        return protocol

    async def _open_tunnel(self, sock: socket.socket, proxy: Proxy) -> None:
        host = f"[{self._host}]" if ":" in self._host else self._host
        lines = [f"CONNECT {host}:{self._port} HTTP/1.1", f"Host: {host}:{self._port}"]
        if proxy.credentials:
            lines.append(f"Proxy-Authorization: Basic {b64encode(proxy.credentials.encode()).decode()}")
        await self._loop.sock_sendall(sock, "\r\n".join((*lines, "", "")).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            data = await self._loop.sock_recv(sock, _MAX_PROXY_HEAD_BYTES)
            head += data
            if not data or len(head) > _MAX_PROXY_HEAD_BYTES:
                raise DialError("the proxy did not answer")
        # In a tunnel the client speaks first: what comes after the head was not sent by the upstream.
        if _TUNNEL_OPEN.match(head) is None or not head.endswith(b"\r\n\r\n") or head.count(b"\r\n\r\n") != 1:
            raise DialError("the proxy refused")


def _address_of(sock: socket.socket, candidates: list[Address]) -> Address:
    """Which of the addresses a socket is connected to."""
    try:
        peer = sock.getpeername()[:2]
    except OSError:  # closed by the other side already
        peer = ()
    # Unknown: the first one was certainly tried, and did not serve.
    return next((address for address in candidates if address[4][:2] == peer), candidates[0])
