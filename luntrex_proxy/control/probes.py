"""The control plane's pages for machines: liveness, readiness, metrics; a signpost at `/` where there are no pages."""

from dataclasses import asdict

import orjson
from aiohttp import web

from luntrex_proxy.control.ports import LiveState
from luntrex_proxy.core.listening import is_loopback_address
from luntrex_proxy.observe.exposition import CONTENT_TYPE
from luntrex_proxy.observe.metrics import Metrics

_MODELS_MAX = 100
_SIGNPOST = """\
luntrex-proxy: control plane

/livez    the process answers
/readyz   requests may be sent here
/metrics  Prometheus text (loopback and Unix sockets only)
/statusz  how the upstreams are, as JSON (loopback and Unix sockets only)

The inference API is the other listener: gateway.listen in the configuration, 127.0.0.1:8080 by default.
"""


def add_probes(app: web.Application, live: LiveState, metrics: Metrics, *, with_signpost: bool = True) -> None:
    """Add the pages to `app`."""

    async def signpost(_request: web.Request) -> web.Response:
        return web.Response(text=_SIGNPOST)

    async def livez(_request: web.Request) -> web.Response:
        return _json(200, {"status": "alive"})

    async def readyz(_request: web.Request) -> web.Response:
        # Only whether: a probe needs no key, so it says no names, addresses or numbers of the installation.
        ready = live.ready
        checks = {name: bool(good) for name, good in live.checks().items()}
        return _json(200 if ready else 503, {"status": "ready" if ready else "not_ready", "checks": checks})

    async def statusz(request: web.Request) -> web.Response:
        # For the verbs of whoever is on this machine; what it says is in /metrics as well, but for the last errors.
        if not _is_local(request):
            raise web.HTTPForbidden
        models = frozenset(request.query.getall("model", ())[:_MODELS_MAX])
        return _json(200, {"upstreams": [asdict(each) for each in live.upstreams(models)]})

    async def scrape(request: web.Request) -> web.Response:
        # Model names and volumes are the operator's business; a listener of its own or a token comes with the console.
        if not _is_local(request):
            raise web.HTTPForbidden
        return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    if with_signpost:
        app.router.add_get("/", signpost)
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/statusz", statusz)
    app.router.add_get("/metrics", scrape)


def _is_local(request: web.Request) -> bool:
    return arrived_locally(request.transport.get_extra_info("sockname") if request.transport else None)


def arrived_locally(socket_name: object) -> bool:
    """Whether a connection whose own end is `socket_name` came over a Unix socket or a loopback address."""
    match socket_name:
        case str() | bytes():
            return True
        case (str(host), *_):
            return is_loopback_address(host)
    return False


def _json(status: int, value: object) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")
