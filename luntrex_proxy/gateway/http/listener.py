"""Carries the gateway's protocols under aiohttp's runner and sites, which bring TCP and Unix sockets and TLS."""

import asyncio
from typing import Any, Protocol, cast

from aiohttp import web

from luntrex_proxy.gateway.http.client import ClientConnection, Handler
from luntrex_proxy.gateway.http.ticker import Ticker

_CUT_GRACE_S = 1.0  # for the error events of cut answers to leave


class Draining(Handler, Protocol):
    """A handler that can also end what runs."""

    inflight: int

    def cut_all(self) -> None:
        """End every running answer truthfully."""


class _Server:
    """What aiohttp's runner takes for a server: a protocol factory that can be shut down."""

    def __init__(self, handler: Draining, ticker: Ticker) -> None:
        self._handler = handler
        self._ticker = ticker
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> ClientConnection:
        return ClientConnection(self._handler, self._ticker, self._loop)

    def pre_shutdown(self) -> None:
        """Stop keep-alive and close what is idle."""
        self._handler.draining = True
        for connection in list(self._handler.connections):
            connection.close_if_idle()

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 -- aiohttp's signature
        """Let running answers end within `timeout` seconds, then cut them."""
        deadline = self._loop.time() + (timeout or 0)
        await self._wait_until_idle(deadline)
        if self._handler.connections:
            self._handler.cut_all()
            await self._wait_until_idle(self._loop.time() + _CUT_GRACE_S)
        for connection in list(self._handler.connections):
            connection.transport.abort()
        await asyncio.sleep(0)

    async def _wait_until_idle(self, deadline: float) -> None:
        # A connection is gone once its client has all of the answer: nothing is left in our buffers.
        while self._handler.connections and self._loop.time() < deadline:  # noqa: ASYNC110 -- once per process, at its end
            await asyncio.sleep(0.02)


class GatewayRunner(web.BaseRunner):
    """aiohttp's runner around our protocols; `cleanup` drains."""

    def __init__(self, handler: Draining, ticker: Ticker, drain_s: float) -> None:
        super().__init__(shutdown_timeout=drain_s)
        self._handler = handler
        self._ticker = ticker

    async def _make_server(self) -> web.Server:
        return cast(web.Server, cast(Any, _Server(self._handler, self._ticker)))

    async def shutdown(self) -> None:
        """Nothing of ours hangs on this hook."""

    async def _cleanup_server(self) -> None:
        """Nothing is left to clean."""
