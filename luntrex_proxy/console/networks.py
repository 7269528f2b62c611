"""From where a request to the control plane comes, as much of it as may be kept: a network, no address."""

from typing import Final

from aiohttp import web

from luntrex_proxy.console.keys import SERVICES
from luntrex_proxy.core.attempts import network_of
from luntrex_proxy.gateway.http.addresses import Clients, plain_address

_FORWARDED: Final = "x_forwarded_for"


def network_of_client(request: web.Request) -> str:
    """The client's network; behind a proxy of gateway.trusted_proxies, the one that it names."""
    peer = plain_address(request.remote or "")
    gateway = request.app[SERVICES].settings.gateway
    if gateway.client_address != _FORWARDED:
        return network_of(peer)
    clients = Clients(gateway.trusted_proxies, gateway.client_address)
    if not clients.trusts(peer):
        return network_of(peer)
    return network_of(clients.origin(", ".join(request.headers.getall("X-Forwarded-For", ())).encode()) or peer)
