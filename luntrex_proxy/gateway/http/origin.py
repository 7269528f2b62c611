"""Where an upstream is reached: its address, TLS settings and pool of connections. Counts are kept, not re-scanned."""

import asyncio
import ssl

from luntrex_proxy.gateway.http.ticker import Ticker
from luntrex_proxy.gateway.http.upstream import UpstreamConnection


class OriginFullError(Exception):
    """The upstream has as many connections as it may have."""


class Origin:
    """One upstream's address, TLS settings and pool. Counts are kept, never re-scanned."""

    __slots__ = (
        "_connecting", "_free", "_loop", "_ticker", "connect_s", "first_byte_s", "host", "idle_s", "max_open", "name",
        "open", "port", "tls",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 -- one value per setting, all by name
        self,
        *,
        name: str,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        ticker: Ticker,
        loop: asyncio.AbstractEventLoop,
        connect_s: float = 10,
        first_byte_s: float = 900,
        idle_s: float = 300,
        max_open: int = 2000,
    ) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.tls = tls
        self.connect_s = connect_s
        self.first_byte_s = first_byte_s
        self.idle_s = idle_s
        self.max_open = max_open
        self.open = 0
        self._connecting = 0
        self._free: list[UpstreamConnection] = []  # last in, first out: the warmest is used again
        self._ticker = ticker
        self._loop = loop

    def take(self) -> UpstreamConnection | None:
        """A pooled connection that is alive as far as the loop knows, or None."""
        while self._free:
            connection = self._free.pop()
            if connection.usable():
                return connection
        return None

    async def connect(self) -> UpstreamConnection:
        """A new connection. Raises OriginFullError, or OSError (timeouts and TLS failures included)."""
        if self.open + self._connecting >= self.max_open:
            raise OriginFullError
        self._connecting += 1  # at the decision, so that a burst can't pass the bound
        try:
            async with asyncio.timeout(self.connect_s):
                _, connection = await self._loop.create_connection(
                    lambda: UpstreamConnection(self, self._ticker),
                    self.host,
                    self.port,
                    ssl=self.tls,
                    server_hostname=self.host if self.tls else None,
                )
        finally:
            self._connecting -= 1
        return connection

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep a connection whose answer ended cleanly."""
        self._free.append(connection)

    def close(self) -> None:
        """Close the pooled connections."""
        for connection in self._free:
            connection.abandon()
        self._free.clear()
