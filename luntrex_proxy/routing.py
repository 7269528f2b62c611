"""The routing of this process: built from its configuration, and changed by what is said of it while it runs.

Said while it runs are the maintenance of upstreams, accounts' own targets and the register of sub-processors.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from typing import Final

import structlog

from luntrex_proxy.core.wire.endusers import derive_key
from luntrex_proxy.gateway.http.ticker import Ticker
from luntrex_proxy.gateway.route import Routing
from luntrex_proxy.gateway.upstreams import build_routing
from luntrex_proxy.probing import Probing
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.registry import SHIPPED
from luntrex_proxy.store.accountroutes import RouteBook
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.maintenance import MaintenanceBook
from luntrex_proxy.store.newest import Seen
from luntrex_proxy.store.registry import RegisterBook
from luntrex_proxy.vetting import Vetting

_FOLLOW_EVERY_S: Final = 0.25
log = structlog.get_logger()


class Operated:
    """Builds routings. `secrets` gives those that were sealed; pseudonyms of end users come from `pepper`."""

    def __init__(self, pool: Pool, secrets: Callable[[], Mapping[str, str]], pepper: bytes) -> None:
        self.ticker = Ticker(asyncio.get_running_loop())
        self.vetting = Vetting(RegisterBook(pool, SHIPPED))
        self._secrets = secrets
        self._pseudonym_key = derive_key(pepper)
        self._maintenance = MaintenanceBook(pool)
        self._routes = RouteBook(pool)

    async def begin(self, settings: Settings) -> None:
        """Read what was said before. Raises StoreError, and ConfigError when nothing could be sent anywhere."""
        await self.vetting.begin(settings)
        await self._maintenance.refresh()
        await self._routes.refresh()

    def build(self, settings: Settings, replaces: Routing | None) -> Routing:
        """The routing of a configuration. Raises UnusableUpstreamError."""
        loop = asyncio.get_running_loop()
        routing = build_routing(settings, self.ticker, loop, self._pseudonym_key, replaces, self._secrets())
        routing.closed = self.vetting.closed(settings)
        self._operate(routing)
        return routing

    def loops(
        self, changes: Callable[[], Seen], running: Callable[[], Routing], settings: Callable[[], Settings]
    ) -> tuple[Coroutine[None, None, None], ...]:
        """What keeps the `running` routing to what is said, until the end; `settings` are those in force."""

        def close_upstreams() -> None:
            running().closed = self.vetting.closed(settings())

        return self.vetting.follow(changes, close_upstreams), self._follow(changes, running), Probing(running).follow()

    async def _follow(self, changes: Callable[[], Seen], running: Callable[[], Routing]) -> None:
        """Go by maintenance and accounts' own targets; what was read last holds without a database."""
        seen: Seen | None = None
        while True:
            if changes() != seen:
                now = changes()
                with contextlib.suppress(StoreError):
                    await self._maintenance.refresh()
                    await self._routes.refresh(now.readings)
                    self._operate(running())
                    seen = now
            await asyncio.sleep(_FOLLOW_EVERY_S)

    def _operate(self, routing: Routing) -> None:
        routing.maintain(self._maintenance.upstreams)
        if routing.own is not self._routes.routes:
            routing.own = self._routes.routes
            for account_id, routes in routing.own.items():
                for upstream in sorted(routes.upstreams() - routing.upstreams.keys()):
                    log.warning(
                        "luntrex.own_target_lost",
                        account_id=account_id,
                        upstream=upstream,
                        hint="The configuration has no such upstream any more: its targets there serve nothing.",
                    )
