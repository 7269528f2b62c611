"""What SIGHUP changes while requests run: everything new is built first, then put in place at once, or nothing is.

Upstreams, models, prices, certificates, limits, timeouts and trusted proxies change; the rest is named for a restart.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import BaseModel

from luntrex_proxy import systemd
from luntrex_proxy.gateway.http.addresses import Clients
from luntrex_proxy.gateway.http.listener import Entrance, GatewayRunner
from luntrex_proxy.gateway.overload import Sampler, memory_limit_of_cgroup
from luntrex_proxy.gateway.pipeline import Pipeline
from luntrex_proxy.gateway.route import Routing
from luntrex_proxy.gateway.upstreams import UnusableUpstreamError
from luntrex_proxy.observe import logs
from luntrex_proxy.settings.errors import ConfigError
from luntrex_proxy.settings.listeners import TlsFiles
from luntrex_proxy.settings.model import Gateway, Settings
from luntrex_proxy.sockets.tls import Tls, TlsError, build_context

_CHANGEABLE = (
    "policy.",
    "upstreams",
    "models",
    "prices.",
    "gateway.limits.",
    "gateway.timeouts.",
    "gateway.retries.",
    "gateway.trusted_proxies",
    "gateway.response_headers",
)
_TLS = ("gateway.tls", "control.tls")

log = structlog.get_logger()


@dataclass(slots=True)
class Changeable:
    """The running parts that a reload reaches."""

    settings: Settings  # those of the start: what differs from them and cannot change needs a restart
    build_routing: Callable[[Settings, Routing], Routing]  # from what is in force
    pipeline: Pipeline
    runner: GatewayRunner
    entrance: Entrance
    sampler: Sampler
    control_tls: Tls | None
    current: Settings | None = None  # those of the last reload

    def apply(self, settings: Settings) -> list[str]:
        """Put `settings` in force and name the keys that need a restart. Raises before anything has changed."""
        contexts = [
            (tls, build_context(plane.tls))
            for tls, plane in ((self.entrance.tls, settings.gateway), (self.control_tls, settings.control))
            if tls is not None and isinstance(plane.tls, TlsFiles)
        ]
        clients = Clients(settings.gateway.trusted_proxies, self.settings.gateway.client_address)
        routing = self.build_routing(settings, self.pipeline.routing)
        # Nothing below fails.
        for tls, context in contexts:
            tls.context = context
        self.entrance.clients = self.pipeline.clients = clients
        self._apply_bounds(settings.gateway)
        old, self.pipeline.routing = self.pipeline.routing, routing
        routing.take_over()
        old.close(routing)
        self.current = settings
        return [key for key in _differences(self.settings, settings) if not self._took(key, settings)]

    def renew_routing(self) -> None:
        """The same configuration with secrets that have changed. Raises before anything has changed."""
        routing = self.build_routing(self.current or self.settings, self.pipeline.routing)
        old, self.pipeline.routing = self.pipeline.routing, routing
        routing.take_over()
        old.close(routing)

    def _apply_bounds(self, gateway: Gateway) -> None:
        self.pipeline.set_limits(gateway.limits)
        self.pipeline.told = frozenset(gateway.response_headers)
        self.pipeline.timeouts = gateway.timeouts
        self.runner.set_drain(gateway.timeouts.drain_s)
        self.entrance.connections.limit = gateway.limits.connections_per_address
        self.sampler.memory_limit_bytes = gateway.limits.memory_bytes or memory_limit_of_cgroup()
        for tls in (self.entrance.tls, self.control_tls):
            if tls is not None:
                tls.handshake_s = gateway.timeouts.tls_handshake_s

    def _took(self, key: str, settings: Settings) -> bool:
        if key.startswith(_TLS):  # other files are taken, but a listener does not begin or cease to speak TLS
            plane = key.partition(".")[0]
            return all(isinstance(getattr(one, plane).tls, TlsFiles) for one in (self.settings, settings))
        return key.startswith(_CHANGEABLE)


async def reload_when_asked(
    asked: asyncio.Event, load: Callable[[], Settings], running: Changeable, is_ready: Callable[[], bool]
) -> None:
    """Reload each time `asked` is set (if set meanwhile: once more); what serves now goes on whatever happens."""
    while True:
        await asked.wait()
        asked.clear()
        if not is_ready():
            continue
        systemd.reloading()
        try:
            # Reading takes a while and touches nothing that runs: in a thread.
            restart = running.apply(await asyncio.to_thread(load))
        except (ConfigError, UnusableUpstreamError, TlsError) as error:
            lines = error.lines if isinstance(error, ConfigError) else [str(error)]
            log.warning("luntrex.reload_refused", hint=[line[:256] for line in lines[:16]])
        except Exception as bug:  # noqa: BLE001 -- what serves now must go on
            log.warning("luntrex.reload_failed", **logs.describe(bug))
        else:
            hint = f"These changes need a restart: {', '.join(restart)}." if restart else ""
            log.info("luntrex.reloaded", hint=hint)
            systemd.ready("serving")
            continue
        systemd.ready("serving; the last reload was refused, run `luntrex-proxy config check`")


def _differences(old: Any, new: Any, key: str = "") -> Iterator[str]:
    """The keys that have another value; a list counts as one."""
    if isinstance(old, BaseModel) and type(old) is type(new):
        for name in type(old).model_fields:
            yield from _differences(getattr(old, name), getattr(new, name), f"{key}.{name}" if key else name)
    elif old != new:
        yield key
