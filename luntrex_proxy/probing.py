"""Probes upstreams beside the requests, where the configuration wants it; what they find joins their health."""

import asyncio
import random
from collections.abc import Callable

import aiohttp
import structlog

from luntrex_proxy.core.retrying import credentials_are_wrong
from luntrex_proxy.gateway.probe import Probe
from luntrex_proxy.gateway.route import Routing, Upstream

_LOOK_EVERY_S = 0.25
_SPREAD = 0.2  # processes that started together must not probe together
_FIRST_WITHIN_S = 2.0
_TOO_MANY = 429  # it lives and knows us

log = structlog.get_logger()


class Probing:
    """Asks each upstream when it is its turn. What a reload changes counts from its next turn on."""

    def __init__(self, routing: Callable[[], Routing]) -> None:
        self._routing = routing
        self._due_s: dict[str, float] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    async def follow(self) -> None:
        """Probe until cancelled."""
        loop = asyncio.get_running_loop()
        connector = aiohttp.TCPConnector(force_close=True)  # a new connection each time: names and certificates count
        async with aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False
        ) as session:
            try:
                while True:
                    self._begin_due(session, loop.time())
                    await asyncio.sleep(_LOOK_EVERY_S)
            finally:
                for task in self._running.values():
                    task.cancel()
                await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _begin_due(self, session: aiohttp.ClientSession, now_s: float) -> None:
        routing = self._routing()
        self._running = {name: task for name, task in self._running.items() if not task.done()}
        for name, upstream in routing.upstreams.items():
            probe = upstream.probe
            if probe is None or name in routing.closed.everyone:  # nothing may be sent there, a probe neither
                self._due_s.pop(name, None)
                continue
            due_s = self._due_s.setdefault(name, now_s + _spread(min(probe.every_s, _FIRST_WITHIN_S)))
            if now_s >= due_s and name not in self._running:
                self._due_s[name] = now_s + _spread(probe.every_s)
                self._running[name] = asyncio.ensure_future(self._probe(session, upstream, probe))

    async def _probe(self, session: aiohttp.ClientSession, upstream: Upstream, probe: Probe) -> None:
        error = await _ask(session, probe)
        now = self._routing().upstreams.get(upstream.name)
        if now is not None and now.probe is not None:  # else a reload ended it, and nobody would find it well again
            _take_in(upstream, probe, error)


def _take_in(upstream: Upstream, probe: Probe, error: str) -> None:
    health, loop = upstream.health, asyncio.get_running_loop()
    failing = health.failing
    if error.startswith("probe_http_") and credentials_are_wrong(int(error.rpartition("_")[2])):
        health.credentials_refused += 1
    health.probed(loop.time(), passed=not error, fails=probe.fails, passes=probe.passes, error=error)
    if health.failing is not failing:
        log.warning("luntrex.probe_fails" if health.failing else "luntrex.probe_passes", upstream=upstream.name)


async def _ask(session: aiohttp.ClientSession, probe: Probe) -> str:
    """What went wrong, in a word; "" when nothing did. Of the answer only its status is looked at."""
    timeout = aiohttp.ClientTimeout(total=probe.timeout_s)
    tls = True if probe.tls is None else probe.tls
    try:
        async with session.get(
            probe.url, headers=probe.headers, ssl=tls, proxy=probe.proxy, timeout=timeout, allow_redirects=False
        ) as answer:
            passed = 200 <= answer.status < 300 or answer.status == _TOO_MANY
            return "" if passed else f"probe_http_{answer.status}"
    except TimeoutError:
        return "probe_timeout"
    except (aiohttp.ClientError, OSError, ValueError):
        return "probe_unreachable"


def _spread(period_s: float) -> float:
    return period_s * random.uniform(1 - _SPREAD, 1 + _SPREAD)  # noqa: S311 -- spreads load, guards nothing
