"""Builds, starts and stops the control plane."""

from collections.abc import Callable, Iterable

import aiohttp
from aiohttp import http_parser, web

from luntrex_proxy.control.ports import LiveState
from luntrex_proxy.control.probes import add_probes
from luntrex_proxy.control.quiet import QuietRunner
from luntrex_proxy.observe.metrics import Metrics
from luntrex_proxy.sockets.opening import InheritedSockets, Manner, Opened, open_listeners
from luntrex_proxy.sockets.tls import Securing, Tls

_OLDEST_AIOHTTP = (3, 14, 5)
_STOP_TIMEOUT_S = 2.0  # probes and scrapes take milliseconds; a client that does not read must not hold up the end


class UnfitInstallError(Exception):
    """A library is not what this program was tested with; the text is one sentence for the operator."""


class ControlPlane:
    """The running control plane."""

    def __init__(self, runner: web.AppRunner, opened: Opened) -> None:
        self.addresses = opened.addresses
        self._opened = opened
        self._runner = runner

    async def stop(self) -> None:
        """Close the listeners and finish or cut the open requests."""
        self._opened.remove_files()  # first: while we listen, nobody else's file can have the number of ours
        await self._runner.cleanup()


def check_aiohttp() -> None:
    """Raise UnfitInstallError unless aiohttp is new enough and parses with its C extension."""
    version = tuple(int(part) for part in aiohttp.__version__.split(".")[:3] if part.isdigit())
    if version < _OLDEST_AIOHTTP:
        raise UnfitInstallError(
            f"aiohttp {aiohttp.__version__} is too old: install a newer one (pip install --upgrade 'aiohttp>=3.14.5')."
        )
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise UnfitInstallError(
            "aiohttp runs without its C parser: install a binary wheel of it and unset AIOHTTP_NO_EXTENSIONS."
        )


async def start_control(
    listen: Iterable[str],
    live: LiveState,
    metrics: Metrics,
    manner: Manner | None = None,
    inherited: InheritedSockets | None = None,
    tls: Tls | None = None,
    add: Callable[[web.Application], None] | None = None,
) -> ControlPlane:
    """Start on every entry of `listen`, with what `add` adds. Raises ListenError or UnfitInstallError."""
    check_aiohttp()
    app = web.Application()
    add_probes(app, live, metrics, with_signpost=add is None)
    if add is not None:
        add(app)
    runner = QuietRunner(app, shutdown_timeout_s=_STOP_TIMEOUT_S)
    await runner.setup()
    wrap = None if tls is None else lambda factory: lambda: Securing(tls, factory)
    try:
        return ControlPlane(runner, await open_listeners(runner, listen, manner or Manner(), inherited, wrap))
    except BaseException:
        await runner.cleanup()
        raise
