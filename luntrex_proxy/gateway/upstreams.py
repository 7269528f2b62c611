"""Builds what `route` and `forward` use from the configured upstreams: origins, TLS contexts, constant headers."""

import asyncio
import ssl

from luntrex_proxy import __version__
from luntrex_proxy.core.call import Dialect
from luntrex_proxy.gateway.http.origin import Origin
from luntrex_proxy.gateway.http.ticker import Ticker
from luntrex_proxy.gateway.route import Upstream
from luntrex_proxy.settings import upstreams as configured


class UnusableUpstreamError(Exception):
    """An upstream's files can't be used; the text is one sentence."""


def build_upstream(upstream: configured.Upstream, ticker: Ticker, loop: asyncio.AbstractEventLoop) -> Upstream:
    """The running form of one configured upstream. Raises UnusableUpstreamError."""
    endpoint = upstream.endpoint
    origin = Origin(
        name=upstream.name,
        host=endpoint.host,
        port=endpoint.port,
        tls=_tls_context(upstream) if endpoint.tls else None,
        ticker=ticker,
        loop=loop,
        connect_s=upstream.timeouts.connect_s,
        first_byte_s=upstream.timeouts.first_byte_s,
        idle_s=upstream.timeouts.idle_s,
        max_open=upstream.max_connections,
    )
    return Upstream(
        name=upstream.name,
        origin=origin,
        base_path=endpoint.path.encode(),
        fixed_headers=_fixed_headers(upstream),
        inject_usage=upstream.inject_usage,
    )


def _tls_context(upstream: configured.Upstream) -> ssl.SSLContext:
    """Certificates are verified, always; `ca_file` replaces the system's authorities."""
    try:
        context = ssl.create_default_context(cafile=upstream.ca_file)
    except (OSError, ssl.SSLError):
        raise UnusableUpstreamError(
            f"The ca_file of upstream {upstream.name} ({upstream.ca_file}) cannot be read as PEM certificates."
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _fixed_headers(upstream: configured.Upstream) -> bytes:
    endpoint = upstream.endpoint
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    if endpoint.port != (443 if endpoint.tls else 80):
        host = f"{host}:{endpoint.port}"
    lines = [f"Host: {host}", f"User-Agent: luntrex-proxy/{__version__}"]
    if upstream.api_key is not None:
        key = upstream.api_key.reveal()
        lines.append(f"x-api-key: {key}" if upstream.dialect is Dialect.ANTHROPIC else f"Authorization: Bearer {key}")
    lines += ["Accept: application/json, text/event-stream", "Accept-Encoding: identity"]
    return "".join(line + "\r\n" for line in lines).encode()
