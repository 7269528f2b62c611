"""The two planes' listeners: opened here, closed when their context ends, the gateway's requests drained first."""

import contextlib
import functools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from luntrex_proxy.console.application import add_console
from luntrex_proxy.control.application import start_control
from luntrex_proxy.control.ports import LiveState
from luntrex_proxy.control.services import Services
from luntrex_proxy.gateway.http.addresses import Addresses, Clients
from luntrex_proxy.gateway.http.listener import Entrance, GatewayRunner
from luntrex_proxy.gateway.http.ticker import Ticker
from luntrex_proxy.gateway.pipeline import Pipeline
from luntrex_proxy.observe.metrics import Metrics
from luntrex_proxy.settings.listeners import Tls as TlsSetting
from luntrex_proxy.settings.listeners import TlsFiles
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.sockets.opening import InheritedSockets, Manner, Opened, open_listeners
from luntrex_proxy.sockets.tls import Tls


@dataclass(frozen=True, slots=True)
class Control:
    """The control plane and what of it a reload changes."""

    url: str
    tls: Tls | None


NO_CONTROL: Final = Control("", None)


@dataclass(frozen=True, slots=True)
class Gateway:
    """The gateway's plane and what of it a reload changes."""

    url: str
    runner: GatewayRunner
    entrance: Entrance


@contextlib.asynccontextmanager
async def control_plane(
    settings: Settings, live: LiveState, metrics: Metrics, services: Services, inherited: InheritedSockets
) -> AsyncIterator[Control]:
    """Console, API, probes and metrics."""
    control = settings.control
    tls = _tls(control.tls, settings)
    manner = Manner(unix_mode=int(control.unix_mode, 8), guarded=control.tls is not None)
    add = functools.partial(add_console, services=services)
    running = await start_control(control.listen, live, metrics, manner, inherited, tls, add)
    try:
        yield Control(_url(running.addresses[0], tls), tls)
    finally:
        await running.stop()


@contextlib.asynccontextmanager
async def gateway_plane(
    settings: Settings, pipeline: Pipeline, ticker: Ticker, inherited: InheritedSockets, *, listens: bool
) -> AsyncIterator[Gateway]:
    """The inference API. It ends when its requests have ended, or when they were cut at the end of the drain."""
    gateway = settings.gateway
    entrance = Entrance(
        Clients(gateway.trusted_proxies, gateway.client_address),
        Addresses(gateway.limits.connections_per_address),
        pipeline.overload,
        _tls(gateway.tls, settings) if listens else None,
    )
    runner = GatewayRunner(pipeline, ticker, gateway.timeouts.drain_s, entrance)
    pipeline.clients = entrance.clients
    ticker.start()
    await runner.setup()
    opened = Opened()
    try:
        if listens:
            manner = Manner(
                gateway.backlog, int(gateway.unix_mode, 8), gateway.reuse_port, guarded=gateway.tls is not None
            )
            opened = await open_listeners(runner, gateway.listen, manner, inherited)
        url = gateway.public_url or (_url(opened.addresses[0], entrance.tls) if opened.addresses else "")
        yield Gateway(url, runner, entrance)
    finally:
        opened.remove_files()  # first: while we listen, nobody else's file can have the number of ours
        await runner.cleanup()
        pipeline.routing.close()
        ticker.stop()


def _tls(setting: TlsSetting, settings: Settings) -> Tls | None:
    return Tls(setting, settings.gateway.timeouts.tls_handshake_s) if isinstance(setting, TlsFiles) else None


def _url(address: str, tls: Tls | None) -> str:
    """What a client would use; a socket that systemd opened may have no other name than its own."""
    if address.startswith(("unix:", "systemd")):
        return address
    return f"{'http' if tls is None else 'https'}://{address}"
