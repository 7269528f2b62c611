"""How clients come in: what stands before a connection's first request, and the drain. aiohttp's runner carries it.

accepted -> Arrival: overload, limit by address, PROXY protocol, TLS -> ClientConnection
"""

import asyncio
from typing import Any, Protocol, cast

from aiohttp import web

from luntrex_proxy.gateway.http.addresses import Addresses, Clients
from luntrex_proxy.gateway.http.client import ClientConnection, Handler
from luntrex_proxy.gateway.http.proxyprotocol import BadProxyHeaderError, parse_proxy_header
from luntrex_proxy.gateway.http.ticker import NEVER, Ticker
from luntrex_proxy.gateway.overload import CLOSED, Overload
from luntrex_proxy.sockets.tls import Tls, Waiting, hand_over

# After the listeners closed, for the requests of those who came a moment before; of those who said nothing, at most.
_LAST_WORD_S = 0.1
_LAST_WORD_MAX_S = 1.0
_CUT_GRACE_S = 1.0  # for the error events of cut answers to leave
# Connections beyond the limit that are still told so; more are closed without a word, or telling would be the flood.
_TOLD = 100


class Draining(Handler, Protocol):
    """A handler that can also end what runs."""

    inflight: int

    def cut_all(self) -> None:
        """End every running answer truthfully."""


class Entrance:
    """What decides about a new connection. Its parts are replaced by a reload and hold for connections after it."""

    __slots__ = ("clients", "connections", "overload", "tls")

    def __init__(
        self,
        clients: Clients | None = None,
        connections: Addresses | None = None,
        overload: Overload | None = None,
        tls: Tls | None = None,
    ) -> None:
        self.clients = clients or Clients()
        self.connections = Addresses(None) if connections is None else connections
        self.overload = overload or Overload()
        self.tls = tls


class ServedConnection(ClientConnection):
    """A client connection that knows whom it counts for, until it is gone."""

    __slots__ = ("_counts",)

    def __init__(self, server: "_Server", address: str, peer: str, *, forwards: bool) -> None:
        super().__init__(server.handler, server.ticker, server.loop)
        self._counts = server.entrance.connections
        self.address = address  # as counted; "" when it is exempt
        self.peer = peer
        self.forwards = forwards  # a trusted proxy whose X-Forwarded-For is believed

    def connection_lost(self, exc: Exception | None) -> None:
        """As always, and one less."""
        super().connection_lost(exc)
        if self.address:
            self._counts.leave(self.address)


class _Arrival(Waiting):
    """A connection until it is served: it may be closed at once, wait for a PROXY header, shake hands."""

    def __init__(self, server: "_Server") -> None:
        super().__init__()
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._address = ""
        self._peer = ""
        self._forwards = False
        self.deadline = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Decide what the peer has to do before it is served."""
        server = self._server
        self._transport = cast(asyncio.Transport, transport)
        server.arrivals.add(self)
        if server.is_full():
            self._transport.abort()
            return
        name = transport.get_extra_info("peername")
        peer = str(name[0]) if isinstance(name, tuple) else ""
        clients = server.entrance.clients
        if clients.source == "proxy_protocol":
            if clients.trusts(peer):
                self.deadline = server.ticker.now + server.handler.timeouts.tls_handshake_s
                server.ticker.members.add(self)
            else:
                self._transport.abort()
            return
        self._forwards = clients.source == "x_forwarded_for" and clients.trusts(peer)
        self._admit(peer)

    def data_received(self, data: bytes) -> None:
        """A PROXY header, or the first bytes of what follows while a handshake is being prepared."""
        super().data_received(data)
        if self.deadline == NEVER or self._transport is None:
            return
        received = self.take()
        try:
            header = parse_proxy_header(received)
        except BadProxyHeaderError:
            self._transport.abort()
            return
        super().data_received(received[header.length :] if header else received)
        if header:
            self._leave_ticker()
            self._admit(header.address)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature; the text may quote a peer
        """The peer left before it was served."""
        self._end()

    def expire(self) -> None:
        """The PROXY header did not come."""
        self.close()

    def close(self) -> None:
        """Nobody is served any more."""
        if self._transport is not None:
            self._transport.abort()

    def _admit(self, address: str) -> None:
        entrance = self._server.entrance
        key, peer = entrance.clients.identify(address)
        if key and not entrance.connections.enter(key):
            self.close()
            return
        self._address, self._peer = key, peer
        if entrance.tls is None:
            self._serve(self._transport)
        else:
            self._task = self._server.loop.create_task(self._secure(entrance.tls))

    async def _secure(self, tls: Tls) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._serve(await tls.start(self._transport, self))

    def _serve(self, transport: asyncio.Transport | None) -> None:
        """Hand over to a connection that reads requests; from then on it holds the count."""
        if transport is None or transport.is_closing():
            self._end()
            return
        server = self._server
        connection = ServedConnection(server, self._address, self._peer, forwards=self._forwards)
        self._address = ""  # the connection's now
        received = self.take()
        self._end()
        hand_over(transport, connection, received)

    def _leave_ticker(self) -> None:
        self.deadline = NEVER
        self._server.ticker.members.discard(self)

    def _end(self) -> None:
        self._leave_ticker()
        self._server.arrivals.discard(self)
        if self._address:
            self._server.entrance.connections.leave(self._address)
            self._address = ""


class _Server:
    """What aiohttp's runner takes for a server: a protocol factory that can be shut down."""

    def __init__(self, handler: Draining, ticker: Ticker, entrance: Entrance) -> None:
        self.handler = handler
        self.ticker = ticker
        self.entrance = entrance
        self.loop = asyncio.get_running_loop()
        self.arrivals: set[_Arrival] = set()

    def __call__(self) -> _Arrival:
        return _Arrival(self)

    def is_full(self) -> bool:
        """Whether a new connection is closed without a word."""
        handler = self.handler
        known = len(handler.connections) + len(self.arrivals)
        return self.entrance.overload.stage >= CLOSED or known > handler.limits.connections + _TOLD

    def pre_shutdown(self) -> None:
        """Stop keep-alive and close what is idle."""
        self.handler.draining = True
        for arrival in list(self.arrivals):
            arrival.close()
        close_idle(self.handler)

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- aiohttp's signature
        """Let running answers end within `timeout` seconds, then cut them."""
        deadline = self.loop.time() + (timeout or 0)
        await self._wait_until_idle(deadline)
        if self.handler.connections:
            self.handler.cut_all()
            await self._wait_until_idle(self.loop.time() + _CUT_GRACE_S)
        for connection in list(self.handler.connections):
            connection.transport.abort()
        await asyncio.sleep(0)

    async def _wait_until_idle(self, deadline: float) -> None:
        # A connection is gone once its client has all of the answer: nothing is left in our buffers.
        while self.handler.connections and self.loop.time() < deadline:  # noqa: ASYNC110 -- once per process, at its end
            await asyncio.sleep(0.02)


class GatewayRunner(web.BaseRunner):
    """aiohttp's runner around our protocols; `cleanup` drains."""

    def __init__(self, handler: Draining, ticker: Ticker, drain_s: float, entrance: Entrance | None = None) -> None:
        super().__init__(shutdown_timeout=drain_s)
        self._handler = handler
        self._ticker = ticker
        self._entrance = entrance or Entrance()

    def set_drain(self, drain_s: float) -> None:
        """Seconds that running answers get at the end."""
        self._shutdown_timeout = drain_s

    async def cleanup(self) -> None:
        """Stop listening, hear out who was let in last, then drain."""
        listened = self.sites
        for site in listened:
            await site.stop()
        if listened:
            await self._hear_out()
        await super().cleanup()

    async def _hear_out(self) -> None:
        """Wait for the first request of connections that have none yet: closed now, it would be lost unanswered."""
        await asyncio.sleep(_LAST_WORD_S)
        loop = asyncio.get_running_loop()
        until = loop.time() + _LAST_WORD_MAX_S
        while (  # noqa: ASYNC110 -- once per process, at its end
            any(each.is_unheard() for each in self._handler.connections) and loop.time() < until
        ):
            await asyncio.sleep(0.02)

    async def _make_server(self) -> web.Server:
        return cast(web.Server, cast(Any, _Server(self._handler, self._ticker, self._entrance)))

    async def shutdown(self) -> None:
        """Nothing of ours hangs on this hook."""

    async def _cleanup_server(self) -> None:
        """Nothing is left to clean."""


def close_idle(handler: Handler) -> None:
    """Close the connections that wait for a request that may never come."""
    for connection in list(handler.connections):
        connection.close_if_idle()
